"""``botmilter abuse``: what one would write to the owner of a bot's network."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from botmilter import abuse, mailbox, received
from botmilter.cli import build, kept
from botmilter.cli.common import config_options, json_option, print_json, settings
from botmilter.config import Settings
from botmilter.errors import InputError
from botmilter.holders import HOLDER
from botmilter.model import (
    Hop,
    HopKind,
    HopSource,
    IPAddress,
    Label,
    Observation,
    Origin,
    OriginWhy,
    Verdict,
)
from botmilter.net import parse_ip, printable
from botmilter.received import origin
from botmilter.store.by_host import by_host

#: Exit code where there is nothing to report.
NOTHING_TO_REPORT = 1

#: What says nothing of the host itself: the one belongs to a mail, the other is a note of ours.
_NOT_OF_THE_HOST = frozenset({"senderhost", HOLDER})

_UNITS_S = {"m": 60, "h": 3600, "d": 86400}
_ADDRESS = re.compile(r"[!-~]{1,64}@[A-Za-z0-9.-]{1,255}")


def _since(ctx: click.Context, param: click.Parameter, given: str | None) -> float | None:
    if given is None:
        return None
    found = re.fullmatch(r"(\d{1,5})([mhd])", given)
    if found is None:
        raise click.BadParameter("expected a number and m, h or d, such as 36h or 1d")
    return float(found[1]) * _UNITS_S[found[2]]


def _address(ctx: click.Context, param: click.Parameter, given: str) -> str:
    if given and not _ADDRESS.fullmatch(given):
        raise click.BadParameter("expected an address such as abuse@isp.example")
    return given


@click.command()
@click.argument("ip", required=False)
@click.option("--since", callback=_since, metavar="1d", help="Every bot looked at since then.")
@click.option(
    "--mail", type=click.Path(readable=False), help="A mail from IP, whose header is enclosed."
)
@click.option("--from", "sender", callback=_address, default="", help="postmaster@ this host.")
@click.option("--to", "recipient", callback=_address, default="", help="The network's owner.")
@config_options
@json_option
def command(
    ip: str | None,
    since: float | None,
    mail: str | None,
    sender: str,
    recipient: str,
    config_file: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print an abuse report about a host, from what is stored; nothing is sent.

    The report is a mail in the Abuse Reporting Format (RFC 5965), judged anew by the weights in
    force. Report what sent you mail: what `probe` and the survey measured is stored, too. With
    --since they come as an mbox, one for each bot. The owner's address is for you to
    find, by RDAP or whois. A mail given with --mail tells the owner to whom it went: cut out what
    he need not know.

    Exit code 0: printed; 1: nothing to report; 66: no address, or a mail of another host; 69: no
    store; 78: the configuration.

    \b
    Examples:
      $ botmilter abuse 198.51.100.7 --to abuse@isp.example --mail spam.eml
      $ botmilter abuse --since 1d > reports.mbox
    """
    if (ip is None) == (since is None) or (mail is not None and ip is None):
        raise click.UsageError("expected IP, with or without --mail, or --since")
    chosen = settings(config_file, overrides)
    parties = _parties(chosen, sender, recipient)
    header = _header(mail, _ip(ip), chosen) if mail is not None and ip is not None else b""
    printed = 0
    for reported in _hosts(chosen, ip, since):
        text = abuse.report(*reported, parties, time.time(), header).as_string()
        _print(reported, text, as_json, as_mbox=since is not None)
        printed += 1
    if not printed:
        raise SystemExit(NOTHING_TO_REPORT)


def _parties(chosen: Settings, sender: str, recipient: str) -> abuse.Parties:
    host = chosen.header.host or socket.getfqdn()
    return abuse.Parties(sender or f"postmaster@{host}", host, recipient)


def _ip(text: str) -> IPAddress:
    found = parse_ip(text)
    if found is None:
        raise InputError(f"{printable(text)}: expected an IPv4 or IPv6 address")
    return found


def _header(file: str, ip: IPAddress, chosen: Settings) -> bytes:
    """The header of the first mail in *file*, which has to be from *ip*."""
    first = next(iter(mailbox.messages(file)), None)
    if first is None:
        raise InputError(f"{printable(file)}: there is no mail in it")
    found = origin.find(received.parse(first.header), chosen.trust).ip
    if found != ip:
        raise InputError(f"{printable(file)}: its origin is {found or 'unknown'}, not {ip}")
    return first.header


Reported = tuple[IPAddress, Verdict, Sequence[Observation]]


def _hosts(chosen: Settings, ip: str | None, since: float | None) -> Iterator[Reported]:
    """Those to be reported.  Says of the one that was named why it is not."""
    machine = build.machine(chosen, build.probes(chosen))
    now = time.time()
    network = kept.network(str(_ip(ip))) if ip is not None else None
    found = False
    with kept.opened(chosen) as store:
        rows = (row for row in store.rows(network) if row.expires_at > now)
        for host, kept_rows in by_host(rows):
            seen = [row.seen for row in kept_rows if row.seen.probe not in _NOT_OF_THE_HOST]
            seen.sort(key=lambda one: one.taken_at)
            verdict = machine.engine.rejudge(_origin(host), seen)
            is_recent = since is None or (bool(seen) and seen[-1].taken_at >= now - since)
            if verdict.label is Label.BOT and seen and is_recent:
                found = True
                yield host, verdict, seen
            elif ip is not None:
                found = True
                click.echo(f"{host} is judged {verdict.label}: nothing to report", err=True)
    if not found:
        whom = f"of {ip}" if ip is not None else "of a bot"
        click.echo(f"nothing is known {whom}", err=True)


def _origin(ip: IPAddress) -> Origin:
    return Origin(OriginWhy.CLIENT, ip, Hop(0, HopSource.CONNECTION, HopKind.RELAY, ip=ip))


def _print(reported: Reported, text: str, as_json: bool, as_mbox: bool) -> None:
    if as_json:
        print_json(_json(reported, text))
    else:
        click.echo(_as_mbox(text) if as_mbox else text, nl=False)


def _json(reported: Reported, text: str) -> dict[str, object]:
    ip, verdict, seen = reported
    return {
        "ip": str(ip),
        "verdict": verdict.label.value,
        "score": verdict.score,
        "reasons": [reason.signal.name for reason in verdict.reasons],
        "first_taken_at": seen[0].taken_at,
        "last_taken_at": seen[-1].taken_at,
        "mail": text,
    }


def _as_mbox(text: str) -> str:
    """RFC 4155, with the lines quoted that would begin another mail."""
    date = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime())
    return f"From botmilter {date}\n" + re.sub(r"(?m)^(>*From )", r">\1", text) + "\n"

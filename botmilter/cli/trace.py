"""``botmilter trace``: the chain of a saved mail and its origin.  Sends no packet.

The table is for people, ``--json`` for programs: one object per mail, hops in header order from
the top, addresses as canonical text, null where there is none.  In both, text out of the mail is
shown as printable ASCII only.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from botmilter import kinds
from botmilter.cli.common import (
    config_options,
    console,
    each,
    json_option,
    mails,
    print_json,
    settings,
    shown,
)
from botmilter.mailbox import Mail
from botmilter.model import Chain, Hop, HopRole, IPNetwork, Origin, OriginWhy, Signal, Trust
from botmilter.net import printable
from botmilter.received import parse
from botmilter.received.forgery import signals
from botmilter.received.origin import find

_STYLES = {HopRole.TRUSTED: "green", HopRole.BORDER: "bold yellow", HopRole.CLAIMED: "dim"}
#: Longest raw line in the JSON; nobody needs a 1 MB header back.
_RAW_LIMIT = 4000


@click.command("trace")
@click.argument("files", nargs=-1, required=True, metavar="FILE…|-")
@click.option(
    "--trust",
    "networks",
    multiple=True,
    callback=each(kinds.relays),
    metavar="NETWORK",
    help="Believe the lines of these relays, besides the configured ones; may be repeated.",
)
@click.option("--own-relays", type=click.IntRange(0, 50), help="This many relays on top are ours.")
@click.option(
    "--own-name",
    "own_names",
    multiple=True,
    callback=each(kinds.own_name),
    help="A name our own hosts write after by.",
)
@config_options
@json_option
def trace(
    files: tuple[str, ...],
    networks: tuple[IPNetwork, ...],
    own_relays: int | None,
    own_names: tuple[str, ...],
    config_file: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show the chain of saved mails: who wrote each line, whom to believe, where the mail is from.

    FILE is a mail, an mbox, a Maildir, a folder, or - for standard input; .gz is unpacked.
    No packet is sent.

    Exit code 0: shown; 66: a file cannot be read; 78: the configuration is wrong.

    \b
    Example:
      $ botmilter trace --trust 192.0.2.0/24 --trust 203.0.113.25 spam.eml
    """
    configured = settings(config_file, overrides).trust
    trust = replace(
        configured,
        networks=(*configured.networks, *networks),
        own_relays=configured.own_relays if own_relays is None else own_relays,
        own_names=(*configured.own_names, *own_names),
    )
    screen = console()
    for mail in mails(files):
        _show(mail, trust, screen, as_json)


command = trace


def _show(mail: Mail, trust: Trust, screen: Console, as_json: bool) -> None:
    chain = parse(mail.header)
    origin = find(chain, trust)
    found = signals(chain, origin, trust)
    if as_json:
        print_json(as_plain(mail.name, chain, origin, found))
    else:
        _draw(mail.name, chain, origin, found, screen)


# -- for programs -------------------------------------------------------------------------------


def as_plain(name: str, chain: Chain, origin: Origin, found: tuple[Signal, ...]) -> dict[str, Any]:
    """The object of ``--json``; its fields are listed in docs/received.md."""
    roles = origin.roles or (None,) * len(chain.hops)
    return {
        "file": printable(name, _RAW_LIMIT),
        "hops": [_plain_hop(hop, role) for hop, role in zip(chain.hops, roles, strict=True)],
        "origin": {
            "ip": None if origin.ip is None else str(origin.ip),
            "why": origin.why.value,
            "hop": None if origin.hop is None else origin.hop.index,
            "note": printable(origin.note, _RAW_LIMIT),
        },
        "defects": [printable(defect) for defect in chain.defects],
        "signals": [
            {"name": one.name, "strength": one.strength, "detail": printable(one.detail)}
            for one in found
        ],
    }


def _plain_hop(hop: Hop, role: HopRole | None) -> dict[str, Any]:
    return {
        "index": hop.index,
        "source": hop.source.value,
        "kind": hop.kind.value,
        "ip": None if hop.ip is None else str(hop.ip),
        "rdns": _text(hop.rdns),
        "rdns_verified": hop.rdns_verified,
        "helo": _text(hop.helo),
        "by": _text(hop.by),
        "ident": _text(hop.ident),
        "protocol": _text(hop.protocol),
        "authenticated": hop.authenticated,
        "tls": hop.tls,
        "id": _text(hop.id),
        "for": _text(hop.envelope_for),
        "envelope_from": _text(hop.envelope_from),
        "at": None if hop.at is None else hop.at.isoformat(),
        "at_defect": hop.at_defect,
        "trusted": role in (HopRole.TRUSTED, HopRole.BORDER),
        "role": None if role is None else role.value,
        "dialect": hop.dialect or None,
        "raw": printable(hop.raw, _RAW_LIMIT),
    }


def _text(value: str | None) -> str | None:
    return None if value is None else printable(value, _RAW_LIMIT)


# -- for people ---------------------------------------------------------------------------------


def _draw(
    name: str, chain: Chain, origin: Origin, found: tuple[Signal, ...], screen: Console
) -> None:
    screen.print(shown(name, 400, "bold"))
    if chain.hops:
        screen.print(_table(chain, origin))
    where = str(origin.ip) if origin.ip is not None else "none"
    style = "bold red" if origin.why is OriginWhy.ASSUMED else ""
    screen.print(shown(f"origin: {where} ({origin.why.value})", style="bold"))
    if origin.note:
        screen.print(shown(f"  {origin.note}", 400, style))
    for one in found:
        screen.print(shown(f"  suspicious: {one.name}: {one.detail}", 400, "yellow"))
    for defect in chain.defects:
        screen.print(shown(f"  defect: {defect}", 400, "dim"))
    screen.print()


def _table(chain: Chain, origin: Origin) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("hop", "", "peer, name", "greeted as", "written by, with", "time, delay"):
        table.add_column(title, overflow="fold")
    roles = origin.roles or (HopRole.CLAIMED,) * len(chain.hops)
    for hop, role, delay in zip(chain.hops, roles, _delays(chain), strict=True):
        is_origin = origin.hop is hop and origin.ip is not None
        table.add_row(
            str(hop.index),
            f"{role.value}\n= origin" if is_origin else role.value,
            _cell(hop.ip or f"({hop.kind.value})", _name(hop)),
            _cell(hop.helo or "-"),
            _cell(hop.by or "-", (hop.protocol or "") + (" (login)" if hop.authenticated else "")),
            _cell(f"{hop.at:%Y-%m-%d %H:%M:%S %z}" if hop.at else hop.at_defect or "-", delay),
            style=_STYLES[role],
        )
    return table


def _cell(first: object, second: str = "") -> Text:
    lines = [shown(first, 80), shown(second, 80)] if second else [shown(first, 80)]
    return Text("\n").join(lines)


def _name(hop: Hop) -> str:
    if hop.rdns is None:
        return ""
    return f"{hop.rdns} (may be forged)" if hop.rdns_verified is False else hop.rdns


def _delays(chain: Chain) -> list[str]:
    """How long each hop came after the next older one that has a time."""
    delays: list[str] = []
    older: datetime | None = None
    for hop in reversed(chain.hops):
        delays.append("" if older is None or hop.at is None else _span(hop.at, older))
        older = hop.at or older
    return delays[::-1]


def _span(at: datetime, older: datetime) -> str:
    seconds = int((at - older).total_seconds())
    sign, seconds = ("-" if seconds < 0 else "", abs(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{sign}{seconds // size} {unit}"
    return f"{sign}{seconds} s"

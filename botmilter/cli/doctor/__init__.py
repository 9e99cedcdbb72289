"""``botmilter doctor``: what is set up wrong, before mail finds out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from botmilter.cli.common import config_options, effective_path, json_option, print_json, settings
from botmilter.cli.doctor import machine, network, postfix, reach, running, sendmail
from botmilter.cli.doctor.findings import Finding, Findings, State, ok, unchecked, wrong
from botmilter.config import Settings
from botmilter.errors import ConfigError
from botmilter.interfaces import own_addresses
from botmilter.lookup import Resolver
from botmilter.milter.privileged import CAP_NET_RAW, permitted
from botmilter.net import printable

#: Exit code where something is wrong.
SOMETHING_WRONG = 1

_MARKS = {State.OK: "ok", State.WRONG: "WRONG", State.UNCHECKED: "-"}
_TEXT_AT_MOST = 500


@click.command()
@click.option(
    "--port25-host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="Mail server to try port 25 with, beside [probe] control_hosts; may be repeated.",
)
@click.option(
    "--mta-config",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="Postfix' folder or Sendmail's sendmail.cf, if not the usual one.",
)
@config_options
@json_option
def command(
    hosts: tuple[str, ...],
    mta_config: Path | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find what is set up wrong, and say what to do about it.

    Looks at the configuration, the privilege for ping and nmap, the resolver and the lists, the
    way out, the store, the MTA's settings and the running filter. Best run as root, after the
    filter was started. Packets go to this machine, the resolver and hosts you name; to nobody else.

    Exit code 0: nothing is wrong; 1: something is.

    \b
    Examples:
      $ botmilter doctor
      $ botmilter doctor --port25-host mail.example.net
      $ botmilter doctor --json
    """
    found = []
    for finding in _examine(config_file, overrides, hosts, mta_config):
        found.append(finding)
        if not as_json:
            _show(finding)
    count = sum(finding.state is State.WRONG for finding in found)
    if as_json:
        print_json({"wrong": count, "findings": [asdict(finding) for finding in found]})
    if count:
        raise SystemExit(SOMETHING_WRONG)


def _examine(
    config_file: Path | None,
    overrides: tuple[str, ...],
    hosts: tuple[str, ...],
    mta_config: Path | None,
) -> Iterator[Finding]:
    path = effective_path(config_file)
    try:
        chosen = settings(config_file, overrides)
    except ConfigError as error:
        for problem in error.problems:
            yield wrong("config", f"{error.path}: {problem}", "correct it; nothing else is checked")
        return
    yield ok("config", f"{path} has no problem" if path else "no file: the defaults hold")
    user = running.user_of(chosen)
    yield from machine.raw_packets(chosen, user)  # first: it forks
    yield from _network(chosen, hosts)
    yield from machine.trust(chosen, own_addresses())
    # with [milter] user it starts as root
    starts_as = None if chosen.milter.user else reach.User.named(user or "root")
    yield from machine.key(chosen, starts_as)
    if known := reach.User.named(user or "root"):
        yield from machine.store(chosen, known)
    else:
        yield wrong("user", f"there is no user {user}", f"useradd --system {user}")
    yield from running.stopping(chosen)
    yield from running.forgeries(chosen)
    yield from _mta(chosen, mta_config)


def _network(chosen: Settings, hosts: tuple[str, ...]) -> Findings:
    named = (*hosts, *map(str, chosen.probe.control_hosts))
    resolver = Resolver(chosen.probe.nameservers)
    may_ping = os.geteuid() == 0 or CAP_NET_RAW in permitted()
    yield from network.resolver(resolver, own_addresses())
    yield from network.zones(resolver, chosen)
    yield from network.port_25(chosen, named)
    yield from network.icmp(chosen, named, may_ping)


def _mta(chosen: Settings, place: Path | None) -> Findings:
    """Postfix if there is one, else Sendmail."""
    if (place is None or place.is_dir()) and (found := postfix.gather(place)):
        yield from postfix.check(chosen, found)
        yield from running.access(chosen, reach.User.named(found.user))
    elif read := sendmail.gather(place or sendmail.DEFAULT_PATH):
        yield from sendmail.check(chosen, read)
        yield from running.access(chosen, reach.User.named(read.user))
    else:
        yield unchecked(
            "mta",
            "neither postconf nor a readable sendmail.cf is here",
            "if the MTA is on this machine, name its files: --mta-config",
        )


def _show(finding: Finding) -> None:
    found = printable(finding.found, _TEXT_AT_MOST)
    click.echo(f"{_MARKS[finding.state]:<6} {finding.check:<9} {found}")
    if finding.do:
        click.echo(f"{'':<16} -> {printable(finding.do, _TEXT_AT_MOST)}")

"""``botmilter probe``: everything that can be seen of an address."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from botmilter.cli import build, explain
from botmilter.cli.build import Machine
from botmilter.cli.common import (
    FACTS_AT_MOST,
    config_options,
    console,
    json_option,
    print_json,
    settings,
    shown,
    whole,
)
from botmilter.errors import InputError
from botmilter.inquiry import Ticket
from botmilter.model import Hop, HopKind, HopSource, IPAddress, Origin, OriginWhy, Verdict
from botmilter.net import parse_ip, printable

#: Added to the longest probe's limit: for what is queued behind it.
_GRACE_S = 2.0


@click.command()
@click.argument("addresses", nargs=-1, required=True, metavar="IP...")
@config_options
@click.option("--helo", help="What the host greeted with, for the probes that compare names.")
@click.option("--sender-domain", help="Domain of the envelope sender.")
@json_option
def command(
    addresses: tuple[str, ...],
    config_file: Path | None,
    overrides: tuple[str, ...],
    helo: str | None,
    sender_domain: str | None,
    as_json: bool,
) -> None:
    """Look at hosts with every probe, and say what the answers mean.

    Sends packets to the hosts; private, reserved, trusted and opted-out addresses are refused.
    What is still fresh in the store is not asked again.

    Exit code 0: looked at; 66: one is no address, the others are looked at; 78: the configuration.

    \b
    Examples:
      $ botmilter probe 198.51.100.7
      $ botmilter probe --helo mail.example.org --json 198.51.100.7 2001:db8::25
    """
    chosen = settings(config_file, overrides)
    hosts = [(text, parse_ip(text)) for text in addresses]
    machine = build.machine(chosen, build.probes(chosen))
    longest_s = max((probe.limit_s for probe in machine.probes), default=0.0)
    policy = replace(machine.policy(chosen, 2 * longest_s + _GRACE_S), thorough=True)
    for ip in (ip for _, ip in hosts if ip is not None):
        ticket = machine.engine.begin(_origin(ip, helo), policy, sender_domain)
        verdict = machine.engine.result(ticket)
        if as_json:
            print_json(_json(machine, ticket, verdict))
        else:
            _show(console(), machine, ticket, verdict)
    if strange := [printable(text) for text, ip in hosts if ip is None]:
        raise InputError("\n".join(f"{text}: expected an IPv4 or IPv6 address" for text in strange))


def _origin(ip: IPAddress, helo: str | None) -> Origin:
    hop = Hop(0, HopSource.CONNECTION, HopKind.RELAY, ip=ip, helo=helo)
    return Origin(OriginWhy.CLIENT, ip, hop)


def _json(machine: Machine, ticket: Ticket, verdict: Verdict) -> dict[str, object]:
    missing = explain.gaps(verdict, machine.probes, machine.rules)
    seen = [one.to_json() for one in ticket.observations]
    return {**explain.to_json(verdict, missing), "observations": seen}


def _show(out: Console, machine: Machine, ticket: Ticket, verdict: Verdict) -> None:
    names = (Column(title, no_wrap=True) for title in ("probe", "status", "took"))
    table = Table(*names, whole("facts"), title=str(verdict.origin.ip), box=SIMPLE_HEAD)
    for seen in ticket.observations:
        facts = json.dumps(dict(seen.facts)) if seen.facts else seen.reason
        told = shown(facts, FACTS_AT_MOST)
        table.add_row(shown(seen.probe), shown(seen.status), f"{seen.took_s:.2f} s", told)
    out.print(table)
    explain.show(out, verdict, explain.gaps(verdict, machine.probes, machine.rules))

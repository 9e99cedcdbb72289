"""``botmilter optout``: networks whose owners do not want our packets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from botmilter.cli import kept
from botmilter.cli.common import config_options, json_option, print_json, settings
from botmilter.model import IPNetwork
from botmilter.net import printable
from botmilter.store.base import OptOut

#: Exit code where the network was not on the list.
NOT_LISTED = 1


@click.group()
def command() -> None:
    """Say which networks get no packet from us, for all filters that share the store.

    Running filters look at the list every second. Mail from there is judged by what DNS says.
    """


@command.command()
@click.argument("network", metavar="NETWORK")
@click.option("--note", default="", metavar="TEXT", help="Who asked, a ticket's number.")
@config_options
@json_option
def add(
    network: str,
    note: str,
    config_file: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Send NETWORK, or an address, no packet any more.

    Added once more it keeps the day it was added on, and its note where none is given.

    What is stored about it stays until it expires or `botmilter store forget NETWORK`. nmap, where
    it runs at that moment, ends within its limit.

    Exit code 0: on the list; 66: no network; 69: no store; 78: the configuration.

    \b
    Example:
      $ botmilter optout add 198.51.100.0/24 --note "abuse ticket 4711"
    """
    entry = OptOut(kept.network(network), printable(note), time.time())
    with kept.opened(settings(config_file, overrides), may_create=True) as store:
        entry = store.opt_out(entry)
    if as_json:
        print_json(_json(entry))
    else:
        click.echo(f"{entry.network} gets no packet any more")


@command.command(name="list")
@config_options
@json_option
def list_(config_file: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """List the networks, with the day each was added and its note.

    Exit code 0: listed; 69: no store; 78: the configuration.

    \b
    Example:
      $ botmilter optout list
    """
    with kept.opened(settings(config_file, overrides)) as store:
        entries = sorted(store.opt_outs(), key=lambda entry: _order(entry.network))
    for entry in entries:
        if as_json:
            print_json(_json(entry))
        else:
            click.echo(f"{entry.network!s:<43} {_day(entry.added_at)}  {entry.note}".rstrip())


@command.command()
@click.argument("network", metavar="NETWORK")
@config_options
@json_option
def remove(
    network: str, config_file: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Take NETWORK off the list; it has to be named as it stands there.

    Exit code 0: taken off; 1: it was not on the list; 66: no network; 69: no store; 78: the
    configuration.

    \b
    Example:
      $ botmilter optout remove 198.51.100.0/24
    """
    meant = kept.network(network)
    with kept.opened(settings(config_file, overrides)) as store:
        was_listed = store.opt_in(meant)
        near = (
            [] if was_listed else [e.network for e in store.opt_outs() if _meet(e.network, meant)]
        )
    if as_json:
        print_json({"network": str(meant), "removed": was_listed})
    elif was_listed:
        click.echo(f"{meant} may get packets again")
    if not was_listed:
        if not as_json:
            click.echo(_not_listed(meant, near), err=True)
        raise SystemExit(NOT_LISTED)


def _not_listed(meant: IPNetwork, near: Sequence[IPNetwork]) -> str:
    listed = f"; listed: {', '.join(map(str, near))}" if near else ""
    return f"{meant} is not on the list{listed}"


def _meet(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _order(network: IPNetwork) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def _day(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return "unknown"


def _json(entry: OptOut) -> dict[str, object]:
    return {"network": str(entry.network), "note": entry.note, "added_at": entry.added_at}

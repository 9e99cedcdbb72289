"""``botmilter store``: what is kept about hosts; see it, have it forgotten."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from botmilter.cli import build, kept
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
from botmilter.holders import HOLDER
from botmilter.model import IPAddress
from botmilter.net import printable
from botmilter.store.base import Row
from botmilter.store.by_host import by_host

#: Exit code where nothing is kept about the host.
NOTHING_KNOWN = 1


@click.group()
def command() -> None:
    """See, and have forgotten, what is stored about hosts.

    The store is that of the configuration: an SQLite file or Redis.
    """


@command.command(name="list")
@click.argument("network", required=False)
@config_options
@json_option
def list_(
    network: str | None, config_file: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """List the hosts, all or those of NETWORK, with what is known of them.

    A line for each: address, age of the newest observation, time until the last one expires, and
    the probes.

    Exit code 0: listed; 66: no network; 69: no store; 78: the configuration.

    \b
    Examples:
      $ botmilter store list
      $ botmilter store list --json 198.51.100.0/24
    """
    wanted = kept.network(network) if network is not None else None
    with kept.opened(settings(config_file, overrides)) as store:
        hosts = _living(store.rows(wanted))
        first = list(islice(hosts, 1))  # a store that is away says so before anything is printed
        if not as_json:
            click.echo(_LINE.format("host", "age", "left", "probes"))
        for ip, rows in chain(first, hosts):
            observed = _observed(rows)
            if not observed:
                continue
            if as_json:
                print_json(_host_json(ip, observed))
            else:
                click.echo(_host_line(ip, observed))


_LINE = "{:<39} {:>8} {:>8}  {}"


def _living(rows: Iterator[Row]) -> Iterator[tuple[IPAddress, Sequence[Row]]]:
    """Hosts of which something is known now, with all that is kept of them."""
    now = time.time()
    return by_host(row for row in rows if row.expires_at > now)


def _observed(rows: Iterable[Row]) -> list[Row]:
    """What probes saw: who held the address is a note of ours."""
    return [row for row in rows if row.seen.probe != HOLDER]


def _host_json(ip: IPAddress, rows: Sequence[Row]) -> dict[str, object]:
    return {
        "ip": str(ip),
        "probes": sorted({row.seen.probe for row in rows}),
        "observations": len(rows),
        "first_taken_at": min(row.seen.taken_at for row in rows),
        "last_taken_at": max(row.seen.taken_at for row in rows),
        "expires_at": max(row.expires_at for row in rows),
    }


def _host_line(ip: IPAddress, rows: Sequence[Row]) -> str:
    now = time.time()
    age = kept.span(now - max(row.seen.taken_at for row in rows))
    left = kept.span(max(row.expires_at for row in rows) - now)
    return _LINE.format(
        str(ip), age, left, printable(" ".join(sorted({r.seen.probe for r in rows})))
    )


@command.command()
@click.argument("ip")
@config_options
@json_option
def show(ip: str, config_file: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show every observation of a host (or network) with its facts, and who held the address.

    Exit code 0: shown; 1: nothing is known; 66: no address; 69: no store; 78: the configuration.

    \b
    Examples:
      $ botmilter store show 198.51.100.7
      $ botmilter store show --json 198.51.100.7
    """
    wanted = kept.network(ip)
    found = False
    with kept.opened(settings(config_file, overrides)) as store:
        for host, rows in _living(store.rows(wanted)):
            found = True
            if as_json:
                for row in rows:
                    print_json(_row_json(host, row))
            else:
                console().print(_observations(host, rows))
    if not found:
        if not as_json:
            click.echo(f"nothing is known of {kept.shown_network(wanted)}")
        raise SystemExit(NOTHING_KNOWN)


def _row_json(ip: IPAddress, row: Row) -> dict[str, object]:
    if row.seen.probe != HOLDER:
        return {**row.seen.to_json(), "expires_at": row.expires_at}
    kept_s = {"taken_at": row.seen.taken_at, "expires_at": row.expires_at}
    return {"ip": str(ip), "held_by": row.seen.facts.get("holder"), **kept_s}


def _observations(ip: IPAddress, rows: Sequence[Row]) -> Table:
    now = time.time()
    titles = ("probe", "status", "age", "left")
    columns = (Column(title, no_wrap=True) for title in titles)
    table = Table(*columns, whole("about"), whole("facts"), title=str(ip), box=SIMPLE_HEAD)
    for row in rows:
        seen = row.seen
        if seen.probe == HOLDER:
            holder = seen.facts.get("holder") or "nobody whom the DNS names"
            table.caption = shown(f"held by {holder}", 2000)
            continue
        table.add_row(
            shown(seen.probe),
            shown(seen.status),
            kept.span(now - seen.taken_at),
            kept.span(row.expires_at - now),
            shown(seen.key.partition(" ")[2], 400),
            shown(json.dumps(dict(seen.facts)) if seen.facts else seen.reason, FACTS_AT_MOST),
        )
    return table


@command.command()
@click.argument("network", metavar="IP|NETWORK")
@config_options
@json_option
def forget(
    network: str, config_file: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Drop all that is stored about a host or network; running filters drop their copies.

    They look every second. Statistics lose the host's name and keep the number of mails. A mail
    from there that comes later is looked at anew: who wants no packets is for `botmilter optout
    add`.

    Exit code 0: done, whether something was stored or not; 66: no address or network; 69: no
    store; 78: the configuration.

    \b
    Examples:
      $ botmilter store forget 198.51.100.7
      $ botmilter store forget 198.51.100.0/24
    """
    meant = kept.network(network)
    chosen = settings(config_file, overrides)
    with kept.opened(chosen) as store:
        dropped = store.forget_network(meant)
        kept.forget_counts(chosen, store, meant)
    if as_json:
        print_json({"network": str(meant), "forgotten": dropped})
    else:
        click.echo(f"forgotten: {dropped} observations of {kept.shown_network(meant)}")


@command.command()
@config_options
@json_option
def purge(config_file: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Drop what has expired, and what is older than [store] keep_days; of `botmilter stats`, too.

    The filter does that by itself every ten minutes, and Redis does it at once.

    Exit code 0: done; 69: no store; 78: the configuration.

    \b
    Example:
      $ botmilter store purge
    """
    chosen = settings(config_file, overrides)
    with kept.opened(chosen) as store:
        now = time.time()
        dropped = store.purge(now, build.lifetimes(chosen.store).keep_s)
        kept.purge_counts(chosen, store, now)
    if as_json:
        print_json({"purged": dropped})
    else:
        click.echo(f"purged: {dropped} observations")

"""``botmilter stats``: what the filter has seen lately."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from botmilter.cli import kept
from botmilter.cli.common import (
    config_options,
    console,
    json_option,
    print_json,
    settings,
    shown,
    whole,
)
from botmilter.config import Settings
from botmilter.errors import SetupError
from botmilter.model import Label
from botmilter.store.tally import Tally
from botmilter.summary import Summary, summarise

_SPANS_S = {"last hour": 3600.0, "last day": 86400.0}
_REDRAW_S = 2.0
_SYSTEMS_SHOWN = 10


@click.command()
@click.option("--watch", is_flag=True, help="Show it anew every two seconds, until interrupted.")
@config_options
@json_option
def command(
    watch: bool, config_file: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Show what the filter has seen in the last hour and day.

    Mails by verdict, the busiest hosts, the systems of bots, and how often a host was known
    already; over all workers and, with Redis, all hosts that share it. Workers write every ten
    seconds; spans end at full ten minutes.

    Exit code 0: shown; 69: no store that other processes can read; 78: the configuration;
    130: interrupted, as --watch always is.

    \b
    Examples:
      $ botmilter stats
      $ botmilter stats --watch
      $ botmilter stats --json
    """
    tally = _tally(settings(config_file, overrides))
    try:
        _show(tally, as_json)
        while watch:
            time.sleep(_REDRAW_S)
            if not as_json:
                console().clear()  # does nothing where it is no terminal
            _show(tally, as_json)
    finally:
        tally.close()


def _show(tally: Tally, as_json: bool) -> None:
    if as_json:
        print_json({span: _plain(_of(tally, span)) for span in _SPANS_S})
    else:
        console().print(_tables(tally))


def _tally(chosen: Settings) -> Tally:
    """Raises SetupError where nothing is kept that this process could read."""
    with kept.opened(chosen) as store:
        tally = kept.counts(chosen, store)
    if tally is None:
        raise SetupError("nothing was counted yet: the filter writes ten seconds after a mail")
    return tally


def _of(tally: Tally, span: str) -> Summary:
    since = time.time() - _SPANS_S[span]
    return summarise(tally.rows(since), since)


def _plain(summary: Summary) -> dict[str, Any]:
    return {
        "mails": {label.value: summary.mails[label] for label in Label},
        "origins": {host: dict(labels) for host, labels in summary.busiest},
        "systems": dict(summary.systems.most_common()),
        "lookups": dict(summary.lookups),
    }


def _tables(tally: Tally) -> Group:
    spans = {span: _of(tally, span) for span in _SPANS_S}
    return Group(_mails(spans), _origins(spans["last day"]), _systems(spans["last day"]))


def _mails(spans: dict[str, Summary]) -> Table:
    table = Table("", *Label, "mails", "known", title="Mails by verdict", box=SIMPLE_HEAD)
    for span, summary in spans.items():
        known = "-" if summary.known_share is None else f"{summary.known_share:.0%}"
        counts = (str(summary.mails[label]) for label in Label)
        table.add_row(span, *counts, str(summary.total), known)
    return table


def _origins(summary: Summary) -> Table:
    labels = [label for label in Label if label is not Label.EXEMPT]
    table = Table(whole("host"), *labels, title="Busiest hosts, last day", box=SIMPLE_HEAD)
    for host, counted in summary.busiest:
        table.add_row(shown(host), *(str(counted[label]) for label in labels))
    return table


def _systems(summary: Summary) -> Table:
    table = Table(whole("system"), "mails", title="Systems of bots, last day", box=SIMPLE_HEAD)
    for system, mails in summary.systems.most_common(_SYSTEMS_SHOWN):
        table.add_row(shown(system), str(mails))
    return table

"""``botmilter report``: what surveys found, as tables, CSV and one page with pictures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from botmilter.cli.common import config_options, console, settings, shown, whole
from botmilter.config.tables import Survey as SurveyTable
from botmilter.errors import SetupError
from botmilter.net import parse_ip, printable
from botmilter.survey import analyse, records, report
from botmilter.survey.analyse import Place, Seen, Share
from botmilter.survey.writing import writing


@click.command()
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR..."
)
@click.option("--csv", "csv_to", type=click.Path(path_type=Path), metavar="DIR", help="CSV files.")
@click.option(
    "--html", "html_to", type=click.Path(path_type=Path), metavar="FILE", help="One page."
)
@config_options
def command(
    folders: tuple[Path, ...],
    csv_to: Path | None,
    html_to: Path | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Show what one or several surveys found.

    DIR is the folder of a survey; of each host its newest record counts.  Of several, in the order
    given, it is also shown what became of the hosts.

    Countries and networks are told where [survey] names local MaxMind files.

    Exit code 0: shown; 66: no survey in a DIR; 69: a package is missing (contrib/install --with
    survey for pictures, geo for countries), or a file cannot be written; 78: the configuration.

    \b
    Examples:
      $ botmilter report august
      $ botmilter report august october --html report.html --csv tables/
    """
    with _place_of(settings(config_file, overrides).survey) as place:
        surveys = [(_name(folder), _hosts(folder, place)) for folder in folders]
    out = console()
    for name, hosts in surveys:
        out.print(shown(f"{name}: {len(hosts)} hosts", style="bold"))
        show_survey(out, hosts)
    _show_study(out, surveys)
    for (first, before), (second, after) in itertools.pairwise(surveys):
        _show_churn(out, f"{first} to {second}", analyse.churn(before, after))
    _show_places(out, surveys)
    _show_flagged(out, surveys)
    if csv_to is not None or html_to is not None:
        _write(surveys, csv_to, html_to)


def _name(folder: Path) -> str:
    return printable(folder.name or str(folder))


def _hosts(folder: Path, place: Callable[[str], Place]) -> list[Seen]:
    known = records.latest(folder)
    return [analyse.seen(record.to_json(), place(ip)) for ip, record in known.items()]


@contextmanager
def _place_of(configured: SurveyTable) -> Iterator[Callable[[str], Place]]:
    """What tells the place of an address.  Raises ConfigError and SetupError."""
    if not configured.country_database and not configured.network_database:
        yield lambda ip: Place()
        return
    try:
        from botmilter.geo import Atlas
    except ImportError as error:
        problem = f"countries and networks need the package {error.name}"
        raise SetupError.without("geo", problem) from error

    def place(ip: str) -> Place:
        address = parse_ip(ip)
        if address is None:
            return Place()
        return Place(atlas.country(address), atlas.network(address))

    with Atlas(configured.country_database, configured.network_database) as atlas:
        yield place


def _write(
    surveys: Sequence[tuple[str, Sequence[Seen]]], csv_to: Path | None, html_to: Path | None
) -> None:
    all_of_them = [report.Survey(name, tuple(hosts)) for name, hosts in surveys]
    if csv_to is not None:
        with writing(csv_to):
            report.write_csv(all_of_them, csv_to)
    if html_to is not None:
        try:
            page = report.page(all_of_them)
        except ImportError as error:
            problem = f"the pictures need the package {error.name}"
            raise SetupError.without("survey", problem) from error
        with writing(html_to):
            html_to.write_text(page, encoding="utf-8")


def show_survey(out: Console, hosts: Sequence[Seen]) -> None:
    """The tables of shares of one survey."""
    for title, found in (
        ("operating system", analyse.os_shares(hosts)),
        ("verdict", analyse.label_shares(hosts)),
        ("port 25", analyse.smtp_shares(hosts)),
        ("name", analyse.name_shares(hosts)),
    ):
        out.print(_share_table(title, found))


def _share_table(title: str, found: Iterable[Share]) -> Table:
    table = Table(title, box=SIMPLE_HEAD)
    for name in ("hosts", "share", "95 % interval"):
        table.add_column(name, justify="right")
    for one in found:
        interval = f"{one.low:.1%} - {one.high:.1%}"
        table.add_row(shown(one.row), str(one.count), f"{one.share:.1%}", interval)
    return table


def _show_study(out: Console, surveys: Iterable[tuple[str, Sequence[Seen]]]) -> None:
    table = Table("run", box=SIMPLE_HEAD, title="As the study counted: hosts that nmap could name")
    for column in (*analyse.STUDY_COLUMNS, "total"):
        table.add_column(column, justify="right")
    for name, hosts in surveys:
        table.add_row(shown(name), *map(str, analyse.study_row(hosts).values()))
    out.print(table)


def _show_churn(out: Console, title: str, moves: dict[tuple[str, str], int]) -> None:
    table = Table("before", "after", box=SIMPLE_HEAD, title=title)
    table.add_column("hosts", justify="right")
    for (before, after), count in sorted(moves.items(), key=lambda move: -move[1]):
        table.add_row(before, after, str(count))
    out.print(table)
    summary = analyse.churn_summary(moves)
    out.print(", ".join(f"{count} {what}" for what, count in summary.items()))


def _show_places(out: Console, surveys: Sequence[tuple[str, Sequence[Seen]]]) -> None:
    for title, of in analyse.PLACES:
        found = analyse.place_table([hosts for _, hosts in surveys], of)
        if not found:
            continue
        table = Table(title.lower(), box=SIMPLE_HEAD)
        for name, _ in surveys:
            for what in ("hosts", "mails"):
                table.add_column(shown(f"{name}: {what}"), justify="right")
        for row, counts in found:
            table.add_row(shown(row), *map(str, counts))
        out.print(table)


def _show_flagged(out: Console, surveys: Sequence[tuple[str, Sequence[Seen]]]) -> None:
    titles = ("address", "run", "verdict", "ping", "operating system", "port 25")
    table = Table(*map(whole, titles), box=SIMPLE_HEAD, title="Bots and suspects")
    for ip, seen in analyse.flagged([hosts for _, hosts in surveys]):
        for (name, _), host in zip(surveys, seen, strict=True):
            if host is None:
                table.add_row(ip, shown(name), "not measured", "", "", "")
            else:
                system = shown(host.system or "N/A", 40)
                table.add_row(ip, shown(name), host.label, host.ping, system, host.smtp)
    out.print(table)

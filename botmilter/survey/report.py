"""The report: CSV files and one self-contained HTML page, which loads nothing from anywhere.

All text in the page is escaped; what came from mails or hosts has been made printable before.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from html import escape
from pathlib import Path
from string import Template

from botmilter.net import printable
from botmilter.survey import analyse
from botmilter.survey.analyse import Seen, Share
from botmilter.survey.page import PAGE


@dataclass(frozen=True, slots=True)
class Survey:
    """One folder's hosts, as the tables need them."""

    name: str
    hosts: tuple[Seen, ...]


#: Title, rows in order, and what counts for each table of shares.
_TABLES = (
    ("Operating systems", analyse.os_shares),
    ("Verdicts", analyse.label_shares),
    ("Port 25", analyse.smtp_shares),
    ("Names", analyse.name_shares),
)

Row = Sequence[object]

_SHARE = re.compile(r"[0-9.]+%")


def share_tables(survey: Survey) -> Iterator[tuple[str, tuple[Share, ...]]]:
    for title, of in _TABLES:
        yield title, of(survey.hosts)


def flagged_rows(surveys: Sequence[Survey]) -> Iterator[tuple[str, ...]]:
    """The study's side-by-side table: address, run, label, ping, system, port 25, name."""
    for ip, seen in analyse.flagged([survey.hosts for survey in surveys]):
        for survey, host in zip(surveys, seen, strict=True):
            if host is None:
                yield (ip, survey.name, "not measured", "", "", "", "")
            else:
                system = printable(host.system, 60) or "N/A"
                yield (ip, survey.name, host.label, host.ping, system, host.smtp, host.name)


FLAGGED_HEAD = ("address", "run", "verdict", "ping", "operating system", "port 25", "name")
STUDY_HEAD = ("run", *analyse.STUDY_COLUMNS, "total")


def study_rows(surveys: Iterable[Survey]) -> Iterator[tuple[object, ...]]:
    for survey in surveys:
        yield (survey.name, *analyse.study_row(survey.hosts).values())


def place_tables(surveys: Sequence[Survey]) -> Iterator[tuple[str, list[str], list[Row]]]:
    """Title, head and rows of countries and of networks, where they were looked up."""
    for title, of in analyse.PLACES:
        found = analyse.place_table([survey.hosts for survey in surveys], of)
        if found:
            head = [f"{survey.name}: {what}" for survey in surveys for what in ("hosts", "mails")]
            yield title, [title.lower(), *head], [(row, *counts) for row, counts in found]


# -- CSV ----------------------------------------------------------------------------------------


def write_csv(surveys: Sequence[Survey], folder: Path) -> None:
    """``hosts.csv``, ``shares.csv``, ``study.csv``, ``flagged.csv``; of two and more surveys
    ``churn.csv``; with countries or networks ``places.csv``.  Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(Seen)]
    hosts = ((s.name, *astuple(host)[:-1], " ".join(map(str, host.hours)))
             for s in surveys for host in s.hosts)  # fmt: skip
    _csv(folder / "hosts.csv", ("run", *names), hosts)
    shares = (
        (survey.name, title, *astuple(share))
        for survey in surveys
        for title, found in share_tables(survey)
        for share in found
    )
    _csv(folder / "shares.csv", ("run", "table", "row", "count", "share", "low", "high"), shares)
    places = [
        (survey.name, title, *astuple(one))
        for survey in surveys
        for title, of in analyse.PLACES
        for one in analyse.places(survey.hosts, of)
    ]
    if places:
        _csv(folder / "places.csv", ("run", "table", "row", "hosts", "mails"), places)
    _csv(folder / "study.csv", STUDY_HEAD, study_rows(surveys))
    _csv(folder / "flagged.csv", FLAGGED_HEAD, flagged_rows(surveys))
    if len(surveys) > 1:
        _csv(folder / "churn.csv", ("first", "second", "before", "after", "hosts"),
             _churn_rows(surveys))  # fmt: skip


def _churn_rows(surveys: Sequence[Survey]) -> Iterator[Row]:
    for first, second in itertools.pairwise(surveys):
        for (before, after), count in sorted(analyse.churn(first.hosts, second.hosts).items()):
            yield first.name, second.name, before, after, count


def _csv(path: Path, head: Row, rows: Iterable[Row]) -> None:
    with path.open("w", newline="", encoding="ascii", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for row in rows:
            writer.writerow([_cell(value) for value in row])


def _cell(value: object) -> object:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


# -- HTML ---------------------------------------------------------------------------------------


def page(surveys: Sequence[Survey]) -> str:
    """The whole page.  Raises ImportError where matplotlib is missing."""
    return Template(PAGE).substitute(
        names=escape(", ".join(survey.name for survey in surveys)),
        intro=escape(_intro(surveys)),
        pictures="\n".join(_pictures(surveys)),
        study=_table(STUDY_HEAD, study_rows(surveys)),
        shares="\n".join(_share_html(survey) for survey in surveys),
        churn="\n".join(_churn_html(a, b) for a, b in itertools.pairwise(surveys)),
        places="\n".join(
            f"<h2>{escape(title)}</h2>{_table(head, rows)}"
            for title, head, rows in place_tables(surveys)
        ),
        flagged=_table(FLAGGED_HEAD, flagged_rows(surveys), "cards"),
    )


def _intro(surveys: Sequence[Survey]) -> str:
    return "; ".join(
        f"{survey.name}: {len(survey.hosts)} hosts, {sum(h.mails for h in survey.hosts)} mails"
        for survey in surveys
    )


def _pictures(surveys: Sequence[Survey]) -> Iterator[str]:
    from botmilter.survey import charts  # CSV files need no matplotlib

    os_runs = [(s.name, analyse.os_shares(s.hosts)) for s in surveys]
    yield _figure("Operating systems by run", charts.stacked("stacked", analyse.OS_ROWS, os_runs))
    for title, of in _TABLES:
        yield _figure(title, charts.bars(title, [(s.name, of(s.hosts)) for s in surveys]))
    by_hour = [(s.name, analyse.hours(s.hosts)) for s in surveys]
    yield _figure("Mails by time of day", charts.hours("hours", by_hour))


def _figure(title: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"


def _share_html(survey: Survey) -> str:
    head = ("table", "row", "hosts", "share", "95 % interval")
    rows = (
        (title, one.row, one.count, f"{one.share:.1%}", f"{one.low:.1%} to {one.high:.1%}")
        for title, found in share_tables(survey)
        for one in found
    )
    return f"<h3>{escape(survey.name)}</h3>{_table(head, rows)}"


def _churn_html(first: Survey, second: Survey) -> str:
    moves = analyse.churn(first.hosts, second.hosts)
    after = [row for row in (*analyse.OS_ROWS, analyse.MISSING) if any(m[1] == row for m in moves)]
    rows = (
        (before, *(moves.get((before, row), "") for row in after))
        for before in analyse.OS_ROWS
        if any(move[0] == before for move in moves)
    )
    summary = ", ".join(f"{n} {what}" for what, n in analyse.churn_summary(moves).items())
    title = f"<h3>{escape(first.name)} to {escape(second.name)}</h3>"
    return f"{title}<p>{escape(summary)}</p>{_table(('before', *after), rows)}"


def _table(head: Sequence[str], rows: Iterable[Row], shape: str = "") -> str:
    """Numbers to the right.  *shape* ``cards``: on a narrow screen each row stands as a list."""
    filled = [tuple(row) for row in rows]
    kinds = [_kind([row[at] for row in filled]) for at in range(len(head))]
    top = "".join(f"<th{k}>{escape(name)}</th>" for name, k in zip(head, kinds, strict=True))
    body = "".join(f"<tr>{_cells(head, kinds, row)}</tr>" for row in filled)
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="table {shape}">{table}</div>'


def _cells(head: Sequence[str], kinds: Sequence[str], row: Row) -> str:
    return "".join(
        f'<td{kind} data-head="{escape(name)}">{escape(str(value))}</td>'
        for name, kind, value in zip(head, kinds, row, strict=True)
    )


def _kind(column: Iterable[object]) -> str:
    """The attribute that marks a column of counts and shares."""
    filled = [value for value in column if value != ""]
    is_number = all(isinstance(one, int) or _SHARE.fullmatch(str(one)) for one in filled)
    return ' class="number"' if filled and is_number else ""

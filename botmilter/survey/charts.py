"""The report's pictures, as SVG to be put into a page.  The only module that imports matplotlib.

Drawn narrow, with text as text: on a telephone's 400 pixels the words stay as large as the page's,
on a wide screen several stand side by side.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from botmilter.survey.analyse import Share

#: Inches; the page shows an inch as about 85 pixels.
_WIDTH = 4.6
#: Colour-blind safe (P. Tol, "muted"), in the order of the tables' rows.
_COLOURS = (
    *("#cc6677", "#882255", "#ddcc77", "#88ccee", "#117733", "#44aa99"),
    *("#aa4499", "#999933", "#bbbbbb", "#dddddd", "#f0f0f0"),
)


def _style(salt: str) -> AbstractContextManager[None]:
    """*salt* makes the ids within one picture its own."""
    return mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": salt,
            "font.family": "sans-serif",
            "font.size": 10.0,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )


def stacked(title: str, rows: Sequence[str], runs: Sequence[tuple[str, Sequence[Share]]]) -> str:
    """One bar a run, stacked from *rows*, as the study drew its operating systems."""
    with _style(title):
        figure = Figure(figsize=(_WIDTH, 1.3 + 0.55 * len(runs)), layout="constrained")
        axes = figure.subplots()
        used = [row for row in rows if any(s.row == row for _, shares in runs for s in shares)]
        left = [0.0] * len(runs)
        for row in used:
            widths = [_share(row, shares) * 100 for _, shares in runs]
            colour = _COLOURS[rows.index(row) % len(_COLOURS)]
            axes.barh(range(len(runs)), widths, left=left, label=row, color=colour, height=0.6)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set_yticks(range(len(runs)), [name for name, _ in runs])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of the hosts")
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        return _svg(figure, title)


def bars(title: str, runs: Sequence[tuple[str, Sequence[Share]]]) -> str:
    """Shares with their 95 % intervals, the runs beside each other."""
    rows = list(dict.fromkeys(share.row for _, shares in runs for share in shares))
    with _style(title):
        height = 1.0 + 0.28 * max(1, len(rows)) * max(1, len(runs))
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        for number, (name, shares) in enumerate(runs):
            _bars_of_run(axes, rows, shares, name, number, len(runs))
        axes.set_yticks(range(len(rows)), rows)
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of the hosts, with 95 % interval")
        if len(runs) > 1:
            figure.legend(loc="outside lower center", ncols=2, frameon=False)
        return _svg(figure, title)


def _bars_of_run(
    axes: Axes, rows: Sequence[str], shares: Sequence[Share], name: str, number: int, runs: int
) -> None:
    thick = 0.8 / runs
    known = {share.row: share for share in shares}
    found = [(at, known[row]) for at, row in enumerate(rows) if row in known]
    where = [at + (number - (runs - 1) / 2) * thick for at, _ in found]
    widths = [share.share * 100 for _, share in found]
    # an interval ends at its share where that is all or nothing, but for rounding
    below = [max(0.0, share.share - share.low) * 100 for _, share in found]
    above = [max(0.0, share.high - share.share) * 100 for _, share in found]
    colour = _COLOURS[(3 + number) % len(_COLOURS)]
    axes.barh(
        where, widths, thick * 0.9, xerr=[below, above], label=name, color=colour,
        error_kw={"elinewidth": 0.8, "capsize": 2},
    )  # fmt: skip


def hours(title: str, runs: Sequence[tuple[str, Sequence[int]]]) -> str:
    """Mails by hour of the day, a line a run."""
    with _style(title):
        figure = Figure(figsize=(_WIDTH, 2.2), layout="constrained")
        axes = figure.subplots()
        for number, (name, counts) in enumerate(runs):
            colour = _COLOURS[(3 + number) % len(_COLOURS)]
            axes.step(range(24), counts, where="mid", label=name, color=colour)
        axes.set_xlim(-0.5, 23.5)
        axes.set_xticks(range(0, 24, 6))
        axes.set_xlabel("hour of the day")
        axes.set_ylabel("mails")
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="y", integer=True)
        if len(runs) > 1:
            figure.legend(loc="outside lower center", ncols=2, frameon=False)
        return _svg(figure, title)


def _share(row: str, shares: Sequence[Share]) -> float:
    return next((share.share for share in shares if share.row == row), 0.0)


def _svg(figure: Figure, title: str) -> str:
    """The picture as an element of a page: no prolog, no metadata, ids of its own."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(out, format="svg", metadata=nothing)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower())
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{slug}-", text)
    return re.sub(r'<svg\b([^>]*?) (?:width|height)="[^"]*"', r"<svg\1", text, count=1)

"""The status page: what the store's tally and the observer have counted, as one HTML document.

Pure but for :class:`StatusPage`, which asks the store.  Names of hosts, reasons and systems come
from the network: all text goes through :func:`_text`.
"""

from __future__ import annotations

import html
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from botmilter.errors import StoreError
from botmilter.milter.observer import Totals
from botmilter.milter.status_page import PAGE
from botmilter.model import Label, Status
from botmilter.net import printable
from botmilter.store.tally import SLOT_S, SYSTEM, Row, Tally

HOURS = 24
_HOUR_S = 3600
_BOTS_SHOWN = 20
_SYSTEMS_SHOWN = 10
_REASONS_SHOWN = 8
_KIND = "text/html; charset=utf-8"

#: From the bottom of a bar to its top.
_STACK = (Label.BOT, Label.SUSPECT, Label.UNKNOWN, Label.CLEAN, Label.EXEMPT)

#: Of the picture, in its own units; as large on a telephone's 400 pixels as the page's words.
_WIDTH, _HEIGHT, _LEFT, _BELOW, _TOP = 360, 170, 34, 18, 10


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store has."""

    rows: Sequence[Row]
    """Of the last ``HOURS`` or more."""
    bots: Mapping[str, Mapping[str, Any]]
    """The last bots by address, latest first, as :class:`botmilter.counters.Taken` has them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All that the page is made of.  Times are Unix times."""

    now: float
    began: float
    """When the observer began to count."""
    counts: Mapping[str, float]
    """By the words of :mod:`botmilter.counters`, since then."""
    gauges: Mapping[str, float]
    restarts: int
    kept: Kept | None
    """None where nothing is kept or the store is out of reach."""
    trouble: str = ""
    """Why the store said nothing; empty: it was not asked."""


class StatusPage:
    """Made in the observer; its calls come from any thread, and wait as long as the store does."""

    def __init__(self, totals: Totals, open_tally: Callable[[], Tally | None]) -> None:
        """*open_tally* raises StoreError, or gives None where no store keeps counts."""
        self._totals = totals
        self._open_tally = open_tally
        self._tally: Tally | None = None
        self._is_open = False
        self._began = time.time()

    def __call__(self, accept: str) -> tuple[str, bytes]:
        now = time.time()
        kept, trouble = None, ""
        try:
            kept = self._kept(now)
        except StoreError as error:
            trouble = str(error) or "no answer"
        seen = Seen(now, self._began, *self._totals.now(), kept, trouble)
        return _KIND, page(seen).encode()

    def _kept(self, now: float) -> Kept | None:
        if not self._is_open:
            self._tally = self._open_tally()
            self._is_open = True
        if self._tally is None:
            return None
        return Kept(self._tally.rows(now - HOURS * _HOUR_S), self._tally.bots())


def page(seen: Seen) -> str:
    """The whole document."""
    return Template(PAGE).substitute(
        now=_time(seen.now),
        note=_note(seen),
        verdicts=_verdicts(seen),
        systems=_systems(seen.kept),
        bots=_bots(seen.kept),
        began=_time(seen.began),
        probes=_probes(seen.counts),
        errors=_errors(seen),
        state=_state(seen.gauges),
    )


def by_hour(rows: Iterable[Row], now: float) -> list[Counter[str]]:
    """Mails by verdict, for each of the last ``HOURS`` hours of the clock, the present one last."""
    last = int(now // _HOUR_S)
    hours: list[Counter[str]] = [Counter() for _ in range(HOURS)]
    for row in rows:
        kind, _, label = row.word.partition(" ")
        place = HOURS - 1 - (last - row.slot * SLOT_S // _HOUR_S)
        if kind == "mails" and 0 <= place < HOURS:
            hours[place][label] += row.counted
    return hours


def _note(seen: Seen) -> str:
    if seen.trouble:
        return (
            '<p class="trouble">The store is out of reach, so nothing is shown over time:'
            f" {_text(seen.trouble)}</p>"
        )
    if seen.kept is None:
        return (
            "<p>Over time nothing is kept: the store is this machine's memory"
            " (<code>[store] kind</code>). What is shown was counted since"
            f" {_time(seen.began)}.</p>"
        )
    return ""


def _verdicts(seen: Seen) -> str:
    if seen.kept is None:
        mails = Counter({label: int(seen.counts.get(f"mails {label}", 0)) for label in _labels()})
        return f"<h2>Verdicts since {_time(seen.began)}</h2>{_legend(mails)}"
    hours = by_hour(seen.kept.rows, seen.now)
    mails = sum(hours, Counter())
    picture = _chart(hours, int(seen.now // _HOUR_S)) if mails else "<p>No mail.</p>"
    return f"<h2>Verdicts, last {HOURS} hours</h2>{_legend(mails)}{picture}"


def _labels() -> list[str]:
    return [label.value for label in _STACK]


def _legend(mails: Mapping[str, int]) -> str:
    items = (
        f'<li><i class="{label}"></i>{label} <b>{mails.get(label, 0):,}</b></li>'
        for label in _labels()
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _chart(hours: Sequence[Counter[str]], last: int) -> str:
    """One bar an hour, stacked; *last* is the last one's number since 1970."""
    most = max(1, *(hour.total() for hour in hours))
    high, step = _HEIGHT - _BELOW - _TOP, (_WIDTH - _LEFT) / HOURS
    drawn = []
    for share in (0.0, 0.5, 1.0) if most % 2 == 0 else (0.0, 1.0):
        y = _HEIGHT - _BELOW - high * share
        drawn.append(
            f'<path d="M{_LEFT} {y:.1f}H{_WIDTH}"/>'
            f'<text x="{_LEFT - 4}" y="{y + 3.5:.1f}" text-anchor="end">'
            f"{_short(int(most * share))}</text>"
        )
    for place, hour in enumerate(hours):
        x, y = _LEFT + place * step, float(_HEIGHT - _BELOW)
        clock = (last - HOURS + 1 + place) % 24
        told = ", ".join(f"{label} {hour[label]}" for label in _labels() if hour[label])
        drawn.append(f"<g><title>{clock:02}:00 UTC: {told or 'no mail'}</title>")
        for label in _labels():
            if tall := high * hour[label] / most:
                y -= tall
                drawn.append(
                    f'<rect class="{label}" x="{x + 1:.1f}" y="{y:.1f}"'
                    f' width="{step - 2:.1f}" height="{tall:.1f}"/>'
                )
        drawn.append("</g>")
        if clock % 6 == 0:
            middle = x + step / 2
            drawn.append(f'<text x="{middle:.1f}" y="{_HEIGHT - 4}">{clock:02}</text>')
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="Mails by verdict and hour">{"".join(drawn)}</svg>'
        "<figcaption>Mails by hour (UTC)</figcaption></figure>"
    )


def _short(count: int) -> str:
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)


def _systems(kept: Kept | None) -> str:
    if kept is None:
        return "<p>Not known.</p>"
    found: Counter[str] = Counter()
    for row in kept.rows:
        kind, _, name = row.word.partition(" ")
        if kind == SYSTEM:
            found[name] += row.counted
    if not found:
        return "<p>No bot.</p>"
    rows = found.most_common(_SYSTEMS_SHOWN)
    if others := found.total() - sum(mails for _, mails in rows):
        rows.append(("others", others))
    return _table(
        ("system", "#mails", ""),
        [(_long(name), str(mails), _bar(mails / found.total())) for name, mails in rows],
    )


def _bar(share: float) -> str:
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="bot" width="{100 * share:.1f}" height="8"/></svg>'
    )


def _bots(kept: Kept | None) -> str:
    if kept is None:
        return "<p>Not known.</p>"
    if not kept.bots:
        return "<p>No bot.</p>"
    rows = [
        (
            _time(float(one["at"])).removesuffix(" UTC"),
            _text(host),
            _text(f"{float(one['score']):.2f}"),
            _long(one["system"]),
            "<br>".join(
                f"{_text(name)} {float(points):+.2f}"
                + (f" <small>{_text(detail)}</small>" if detail else "")
                for name, points, detail in one["reasons"][:_REASONS_SHOWN]
            ),
        )
        for host, one in list(kept.bots.items())[:_BOTS_SHOWN]
    ]
    return _table(("last mail (UTC)", "host", "#score", "system", "reasons"), rows, "cards")


def _probes(counts: Mapping[str, float]) -> str:
    found: dict[str, Counter[str]] = {}
    for word, counted in counts.items():
        kind, *values = word.split(" ")
        if kind == "probes" and len(values) == 2:
            found.setdefault(values[0], Counter())[values[1]] += int(counted)
    if not found:
        return "<p>No measurement yet.</p>"
    states = [one.value for one in Status if any(by[one.value] for by in found.values())]
    rows = [
        (
            _text(probe),
            *(str(by[state]) for state in states),
            f"{counts.get(f'took_s {probe}', 0.0) / max(1, by.total()):.2f} s",
        )
        for probe, by in sorted(found.items())
    ]
    return _table(("probe", *(f"#{state}" for state in states), "#mean time"), rows)


def _errors(seen: Seen) -> str:
    """What went wrong or was left out."""
    rows = (
        ("store errors", seen.counts.get("store_errors", 0)),
        ("not measured for a rate limit", seen.counts.get("rate_refusals", 0)),
        ("mails passed because of a bug", seen.counts.get("failures", 0)),
        ("workers that died", seen.restarts),
    )
    return _pairs((name, str(int(count))) for name, count in rows)


def _state(gauges: Mapping[str, float]) -> str:
    def of(kind: str) -> str:
        words = sorted(word for word in gauges if word.startswith(f"{kind} ") and gauges[word])
        return ", ".join(f"{word.partition(' ')[2]} {int(gauges[word])}" for word in words)

    return _pairs(
        (
            ("workers", of("workers") or "none"),
            ("workers under load", str(int(gauges.get("under_load", 0)))),
            ("mails waiting", str(int(gauges.get("waiting", 0)))),
            ("jobs queued", of("queue") or "none"),
        )
    )


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    return _table(("", ""), [(_text(name), _text(value)) for name, value in rows])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], style: str = "") -> str:
    """*rows* are HTML already; a head that begins with ``#`` is a column of numbers."""
    names = [head.removeprefix("#") for head in heads]
    classes = [' class="number"' if head.startswith("#") else "" for head in heads]
    pairs = list(zip(names, classes, strict=True))
    head = "".join(f"<th{kind}>{name}</th>" for name, kind in pairs) if any(names) else ""
    body = "".join(
        "<tr>"
        + "".join(
            f'<td{kind} data-head="{name}">{cell}</td>'
            for (name, kind), cell in zip(pairs, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="table"><table class="{style}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _text(hostile: object) -> str:
    return html.escape(printable(str(hostile)))


def _long(hostile: object) -> str:
    """Text that breaks anywhere rather than push what stands beside it out of sight."""
    return f'<span class="long">{_text(hostile)}</span>'


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))

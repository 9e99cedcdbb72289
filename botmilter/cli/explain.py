"""A verdict laid open: every signal with its points, what is missing and what it could change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from botmilter import score
from botmilter.cli.common import shown, whole
from botmilter.model import Observation, Reason, Signal, Verdict
from botmilter.probes.base import Probe
from botmilter.score import Rules
from botmilter.signals import BY_NAME


@dataclass(frozen=True, slots=True)
class Gap:
    """A probe without evidence, and the labels its signals could still lead to."""

    seen: Observation
    could: tuple[tuple[str, str], ...]
    """(label, signal) for each signal that alone would change the label."""


def gaps(verdict: Verdict, probes: Iterable[Probe], rules: Rules) -> tuple[Gap, ...]:
    """What is missing in *verdict* and what each could have changed.  Pure."""
    by_name = {probe.name: probe for probe in probes}
    known = [reason.signal for reason in verdict.reasons]
    return tuple(
        Gap(
            seen,
            _could_change(known, verdict, sorted(by_name[seen.probe].signals), rules)
            if seen.probe in by_name and not verdict.origin.why.is_exempt
            else (),
        )
        for seen in verdict.missing
    )


def _could_change(
    known: Sequence[Signal], verdict: Verdict, possible: Iterable[str], rules: Rules
) -> tuple[tuple[str, str], ...]:
    labels = ((score.judge([*known, Signal(name)], rules).label, name) for name in possible)
    return tuple((label.value, name) for label, name in labels if label is not verdict.label)


def to_json(verdict: Verdict, missing: Sequence[Gap]) -> dict[str, Any]:
    """The verdict as plain data; the keys are listed in docs/check.md."""
    origin = verdict.origin
    return {
        "verdict": verdict.label.value,
        "score": None if origin.ip is None or origin.why.is_exempt else verdict.score,
        "why": verdict.why,
        "origin": {
            "ip": str(origin.ip) if origin.ip is not None else None,
            "why": origin.why.value,
            "note": origin.note,
        },
        "reasons": [_reason_json(reason) for reason in verdict.reasons],
        "missing": [
            {
                "probe": gap.seen.probe,
                "status": gap.seen.status.value,
                "reason": gap.seen.reason,
                "could": [{"label": label, "signal": name} for label, name in gap.could],
            }
            for gap in missing
        ],
        "spent_s": round(verdict.spent_s, 3),
    }


def _reason_json(reason: Reason) -> dict[str, Any]:
    return {
        "signal": reason.signal.name,
        "group": score.group_of(reason.signal.name).value,
        "strength": reason.signal.strength,
        "weight": reason.weight,
        "points": reason.points,
        "detail": reason.signal.detail,
    }


def show(out: Console, verdict: Verdict, missing: Sequence[Gap]) -> None:
    """Two tables and a line before them."""
    origin = verdict.origin
    judged = f", {verdict.score:g} points" if verdict.label.is_judged else ""
    out.print(shown(f"{verdict.label}{judged}, judged in {verdict.spent_s:.2f} s", style="bold"))
    if verdict.why:
        out.print(shown(f"because: {verdict.why}"))
    out.print(shown(f"origin: {origin.ip or 'none'} ({origin.why}) {origin.note}".rstrip(), 400))
    if verdict.reasons:
        out.print(_reasons_table(verdict.reasons))
    if missing:
        out.print(_missing_table(missing))


def _reasons_table(reasons: Sequence[Reason]) -> Table:
    names = (Column(title, no_wrap=True) for title in ("signal", "group"))
    numbers = (Column(title, justify="right") for title in ("weight", "strength", "points"))
    table = Table(*names, *numbers, whole("what was seen"), box=SIMPLE_HEAD)
    for reason in reasons:
        signal = reason.signal
        row = BY_NAME.get(signal.name)
        table.add_row(
            shown(signal.name),
            shown(score.group_of(signal.name)),
            f"{reason.weight:g}",
            f"{signal.strength:g}",
            f"{reason.points:+g}",
            shown(signal.detail or (row.meaning if row else ""), 400),
        )
    return table


def _missing_table(missing: Sequence[Gap]) -> Table:
    names = (Column(title, no_wrap=True) for title in ("missing", "status"))
    table = Table(*names, whole("why"), whole("could have made it"), box=SIMPLE_HEAD)
    for gap in missing:
        table.add_row(
            shown(gap.seen.probe),
            shown(gap.seen.status),
            shown(gap.seen.reason, 400),
            shown(_by_label(gap.could), 400),
        )
    return table


def _by_label(could: Sequence[tuple[str, str]]) -> str:
    """``bot (os.client), clean (smtp.banner, smtp.slow)``; ``nothing else`` where empty."""
    names: dict[str, list[str]] = {}
    for label, name in could:
        names.setdefault(label, []).append(name)
    texts = [f"{label} ({', '.join(signals)})" for label, signals in names.items()]
    return ", ".join(texts) or "nothing else"

"""What happened, counted: mails, measurements, look-ups, and what could not be done.

On a mail's way an event is noted, which is one ``append`` (0.2 us); a thread of the worker's adds
the events up later.  What comes out is a :class:`Taken`: plain numbers under plain words, to be
sent to another process or added to what a store has.

The words, *kind* first:

===========================  ========================================================
``mails LABEL``              verdicts given
``sealed``                   of these, taken over from another host of ours
``failures``                 mails that passed as unknown because judging them failed
``latency LE``               mails by the time we added, not cumulative; ``latency_s``
                             is the sum
``budget LE``                mails that waited, by the share of the budget they used;
                             ``budget_share`` is the sum
``lookups WHERE``            what was known of a host: in ``memory`` (this process),
                             in the ``store``, ``nowhere``; one for each probe
``probes PROBE STATUS``      measurements
``took PROBE LE``            measurements by duration; ``took_s PROBE`` is the sum
``missing PROBE WHY``        mails that were judged without this probe's evidence
``store_errors``             failed calls of the store; ``rate_refusals`` are
                             measurements not made for a rate limit's sake
===========================  ========================================================
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from botmilter import plan
from botmilter.model import Label, Observation, Status, Verdict
from botmilter.net import host_key, printable

#: Upper bounds in seconds; what is longer counts under ``inf``.
LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TOOK_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BUDGET_SHARE = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
BEYOND = "inf"

Where = Literal["memory", "store", "nowhere"]

#: So many events are kept until they are added up; the oldest goes first.
_EVENTS_AT_MOST = 200_000
#: So many are added up in one go, half a millisecond; then the mails have the interpreter.  The
#: thousands of two busy seconds took 30 ms, in which a mail waited 5 ms at each of its steps.
_IN_ONE_GO = 100
_BREATH_S = 0.001
_BOTS_AT_MOST = 20
_SYSTEM_AT_MOST = 60

#: Why a probe gave no evidence, by how its reason begins.
_WHY: tuple[tuple[str, str], ...] = (
    (plan.NOT_NEEDED, "not_needed"),
    (plan.NO_LIFE, "no_life"),
    (plan.RATE_LIMIT, "rate_limit"),
    ("queue full", "queue_full"),
    ("paused", "paused"),
)


class Recorder(Protocol):
    """Where events are noted.  Called from any thread; never waits, never raises."""

    def mail(self, label: str, verdict: Verdict | None, took_s: float) -> None:
        """A mail was judged within *took_s*; no *verdict*: another host of ours had."""

    def failure(self) -> None:
        """Judging a mail raised."""

    def measured(self, seen: Observation) -> None:
        """A host, or the DNS about it, was asked."""

    def recalled(self, where: Where, many: int) -> None:
        """For *many* probes it was looked up what is known; it was found *where*."""


class Unrecorded:
    """Notes nothing: for commands that end with their work."""

    def mail(self, label: str, verdict: Verdict | None, took_s: float) -> None: ...
    def failure(self) -> None: ...
    def measured(self, seen: Observation) -> None: ...
    def recalled(self, where: Where, many: int) -> None: ...


UNRECORDED = Unrecorded()


@dataclass(frozen=True, slots=True)
class Taken:
    """What happened since the last look."""

    counts: Mapping[str, float] = field(default_factory=dict)
    """By the words above."""
    origins: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Mails by origin (an IPv6 host is its /64) and label."""
    systems: Counter[str] = field(default_factory=Counter)
    """Mails of bots by operating system."""
    bots: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The latest bots by address: score, reasons, as plain data."""


class Journal:
    """Notes events until they are taken.  Safe for many threads, of which one takes."""

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._mails: deque[tuple[str, Verdict | None, float]] = deque(maxlen=_EVENTS_AT_MOST)
        self._measured: deque[Observation] = deque(maxlen=_EVENTS_AT_MOST)
        self._words: deque[tuple[str, int]] = deque(maxlen=_EVENTS_AT_MOST)

    def mail(self, label: str, verdict: Verdict | None, took_s: float) -> None:
        self._mails.append((label, verdict, took_s))

    def failure(self) -> None:
        self._words.append(("failures", 1))

    def measured(self, seen: Observation) -> None:
        self._measured.append(seen)

    def recalled(self, where: Where, many: int) -> None:
        if many:
            self._words.append((f"lookups {where}", many))

    def take(self, now: float) -> Taken:
        """What was noted since the last call; *now* in Unix time.

        Sleeps 1 ms for every hundred events.
        """
        counts: dict[str, float] = defaultdict(float)
        origins: Counter[tuple[str, str]] = Counter()
        systems: Counter[str] = Counter()
        bots: dict[str, Mapping[str, Any]] = {}
        for label, verdict, took_s in _drained(self._mails):
            counts[f"mails {label}"] += 1
            counts[f"latency {_bound(LATENCY_S, took_s)}"] += 1
            counts["latency_s"] += took_s
            if verdict is None:
                counts["sealed"] += 1
                continue
            self._count_waiting(counts, verdict)
            if verdict.origin.ip is None or verdict.label is Label.EXEMPT:
                continue
            host = host_key(verdict.origin.ip)
            origins[host, label] += 1
            if verdict.label is Label.BOT:
                systems[system_of(verdict)] += 1
                bots.pop(host, None)  # back to the end
                bots[host] = _entry(verdict, now)
        for seen in _drained(self._measured):
            counts[f"probes {seen.probe} {seen.status.value}"] += 1
            counts[f"took {seen.probe} {_bound(TOOK_S, seen.took_s)}"] += 1
            counts[f"took_s {seen.probe}"] += seen.took_s
        for word, many in _drained(self._words):
            counts[word] += many
        latest = dict(list(bots.items())[-_BOTS_AT_MOST:])
        return Taken(counts, origins, systems, latest)

    def _count_waiting(self, counts: dict[str, float], verdict: Verdict) -> None:
        if verdict.spent_s > 0:
            share = verdict.spent_s / self._budget_s
            counts[f"budget {_bound(BUDGET_SHARE, share)}"] += 1
            counts["budget_share"] += share
        for seen in verdict.missing:
            counts[f"missing {seen.probe} {_why(seen)}"] += 1


def _drained(events: deque[Any]) -> Iterator[Any]:
    """What is there now.  Taken one by one: swapped for an empty one, it could still be appended
    to by a thread that had looked it up before."""
    for place in range(1, len(events) + 1):
        yield events.popleft()
        if place % _IN_ONE_GO == 0:
            time.sleep(_BREATH_S)


def _bound(bounds: Sequence[float], value: float) -> str:
    place = bisect_left(bounds, value)
    return str(bounds[place]) if place < len(bounds) else BEYOND


def _why(seen: Observation) -> str:
    found = (why for begin, why in _WHY if seen.reason.startswith(begin))
    return next(found, "late" if seen.status is Status.LATE else seen.status.value)


def system_of(verdict: Verdict) -> str:
    """The operating system that speaks in *verdict*, without nmap's accuracy; ``unknown``."""
    for reason in verdict.reasons:
        if reason.signal.name.startswith("os.") and reason.signal.detail:
            return printable(reason.signal.detail.rpartition(" (")[0], _SYSTEM_AT_MOST)
    return "unknown"


def _entry(verdict: Verdict, now: float) -> Mapping[str, Any]:
    against = [one for one in verdict.reasons if one.points > 0]
    return {
        "at": round(now),
        "score": round(verdict.score, 2),
        "system": system_of(verdict),
        "reasons": [
            [one.signal.name, round(one.points, 2), printable(one.signal.detail, 120)]
            for one in against[:8]
        ],
    }

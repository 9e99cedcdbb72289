"""Which probes may and should run next, given what is known.  Pure.

Cheap probes start together.  One that *wants life* (nmap: 0.3 s of CPU, and 3 to 4.5 s to say
nothing about a silent host) waits for a sign of life, and a moment longer for the cheap ones,
which often make it needless; also for the mail itself, which the MTA may reject meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from botmilter.model import Observation, Status


class Traits(Protocol):
    """What a plan has to know of a probe."""

    @property
    def name(self) -> str: ...
    @property
    def shows_life(self) -> bool: ...
    @property
    def wants_life(self) -> bool: ...


P = TypeVar("P", bound=Traits)

NO_LIFE = "no sign of life"
#: How a reason begins where a measurement would have gone beyond a rate.
RATE_LIMIT = "rate limit"
NOT_NEEDED = "cannot change the verdict"

#: Why an observation is late where its answer will be there for the next mail.
MEASURING, ELSEWHERE = "still being measured", "another process measures it"
UNDER_WAY = frozenset({MEASURING, ELSEWHERE})


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now: probe names to start, and those that will not run, with the reason."""

    start: tuple[str, ...] = ()
    skip: tuple[tuple[str, str], ...] = ()


def next_step(
    probes: Collection[P],
    seen: Mapping[str, Observation],
    running: Collection[str],
    can_change: Callable[[], bool],
    settled: bool,
    awaited: bool = True,
    silent_too: bool = False,
) -> Step:
    """Decide about each of *probes* that is neither in *seen* nor *running*.

    *can_change* tells whether what is still outstanding can change the label (asked at most once
    and only where it matters); *settled* whether the cheap probes have had their moment;
    *awaited* whether somebody waits for the verdict by now; with *silent_too* those that want life
    do without.
    """
    waiting = [probe for probe in probes if probe.name not in seen and probe.name not in running]
    cheap = tuple(probe.name for probe in waiting if not probe.wants_life)
    dear = [probe.name for probe in waiting if probe.wants_life]
    if not dear:
        return Step(start=cheap)
    witnesses = [] if silent_too else [probe.name for probe in probes if probe.shows_life]
    if witnesses and not _alive(witnesses, seen):
        if all(name in seen for name in witnesses):
            return Step(start=cheap, skip=tuple((name, NO_LIFE) for name in dear))
        return Step(start=cheap)
    if not can_change():
        return Step(start=cheap, skip=tuple((name, NOT_NEEDED) for name in dear))
    may_become_needless = bool(cheap) or bool(running) or not awaited
    if may_become_needless and not settled:
        return Step(start=cheap)
    return Step(start=(*cheap, *dear))


def _alive(witnesses: Iterable[str], seen: Mapping[str, Observation]) -> bool:
    return any(name in seen and seen[name].status is Status.ANSWERED for name in witnesses)

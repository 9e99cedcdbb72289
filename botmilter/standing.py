"""Verdicts that still stand.

A host that sends much is judged by the same remembered facts each time.  What was concluded from
them, which probes were needless included, is kept beside them, and holds for the next mail as
long as memory has the very same observations and the mail itself says the same.  Nothing here has
a lifetime of its own: an observation that expires, is forgotten or measured anew takes the
verdict with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from botmilter.model import IPAddress, Observation, Signal, Target, Verdict


class Basis:
    """What memory had of a host when it was judged."""

    __slots__ = ("newest_at", "observations", "rows")

    def __init__(self, rows: Sequence[tuple[tuple[str, str], Observation | None]]) -> None:
        self.rows = tuple(rows)
        """(probe, store key) and what was there; None where nothing was and nothing was needed."""
        self.observations = tuple(seen for _, seen in rows if seen is not None)
        self.newest_at = max((seen.taken_at for seen in self.observations), default=0.0)


#: Whether memory still has just that of a host.
StillHas = Callable[[Basis, IPAddress], bool]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Standing:
    """A verdict and all that it rests on.  Each is its own, so what is made of one can be kept for
    as long as it stands."""

    verdict: Verdict
    policy: object
    """Compared by identity: another budget may have led elsewhere."""
    signals: tuple[Signal, ...]
    """What the mail itself said."""
    basis: Basis


class Standings:
    """At most *at_most*, which should be no more hosts than memory has rows for: a verdict holds
    on to its observations.  Safe for many threads, for each step is one step of a dict's."""

    def __init__(self, still_has: StillHas, at_most: int) -> None:
        self._still_has = still_has
        self._at_most = at_most
        self._by_target: dict[_Key, Standing] = {}

    def has(self, target: Target, policy: object) -> bool:
        """Whether there is a verdict over *target*, be it overtaken since.  1 us."""
        standing = self._by_target.get(_key(target))
        return standing is not None and standing.policy is policy

    def find(self, target: Target, policy: object) -> Standing | None:
        """The verdict over *target* if its facts are still what memory has.  2 us."""
        key = _key(target)
        standing = self._by_target.get(key)
        if standing is None or standing.policy is not policy:
            return None
        if not self._still_has(standing.basis, target.ip):
            self._by_target.pop(key, None)
            return None
        return standing

    def keep(self, target: Target, standing: Standing) -> None:
        if len(self._by_target) >= self._at_most:
            self._by_target.clear()  # they are concluded again with the next mails
        self._by_target[_key(target)] = standing


#: Told apart in C, where a Target's own comparison calls Python five times.
_Key = tuple[type, int, str | None, str | None]


def _key(target: Target) -> _Key:
    return type(target.ip), int(target.ip), target.helo, target.sender_domain

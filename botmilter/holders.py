"""Who holds an address: when it changes hands, what was known of it is worth nothing.

Who it was lies in the store beside the observations, in the place of a probe's name.  So whichever
process measures next sees the change, and drops what the store has; the others hear of it with
their next measurement of that address.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from botmilter.model import Observation, Status
from botmilter.store.base import Store

#: In place of a probe's name.  A note of ours, and no observation of a host.
HOLDER = "holder"

#: Of so many addresses that changed hands it is known when; mails under way ask, no others.
_CHANGES_AT_MOST = 1000
#: What was measured so shortly before belongs to the same look at the host.
_BESIDE_S = 15.0


@dataclass(frozen=True, slots=True)
class HeldBy:
    """How to tell that an address has changed hands."""

    holder: Callable[[Observation], str | None]
    """Who holds the address, in any words that change with him; None where *seen* tells not."""
    probes: frozenset[str]
    """Whose observations are worth nothing after that."""


#: For those who cannot tell.
NOT_TOLD = HeldBy(lambda seen: None, frozenset())


class Holders:
    """When addresses changed hands, as far as this process has seen.  Safe for many threads."""

    def __init__(self, held_by: HeldBy, keep_s: float) -> None:
        """Who held an address is remembered for *keep_s*."""
        self._held_by = held_by
        self._keep_s = keep_s
        self._since: dict[str, float] = {}

    def is_outdated(self, seen: Observation) -> bool:
        """Whether *seen* was measured before its address changed hands."""
        since = self._since.get(seen.key)
        if since is None or seen.probe not in self._held_by.probes:
            return False
        # a change of a time when the clock was ahead outdates nothing that is measured now
        return seen.taken_at < min(since, time.time()) - _BESIDE_S

    def any_is_outdated(self, seen: Iterable[Observation]) -> bool:
        """Whether one of them is; nearly always no address has changed hands."""
        return bool(self._since) and any(map(self.is_outdated, seen))

    def heed(self, seen: Observation, where: Store, copies: Store) -> None:
        """Have *where*, and the *copies* of what is there, forget what they know of an address if
        *seen* tells, and *where* still knew better, that it has changed hands."""
        now_held = self._held_by.holder(seen)
        if now_held is None:
            return
        before = where.get(HOLDER, seen.key, time.time())
        if before is not None and before.facts.get("holder", now_held) != now_held:
            for store in (copies, where):  # what is copied may be older than the word
                self._forget_older(store, seen)
            self._note_change(seen)
        holder = Observation(HOLDER, seen.key, Status.ANSWERED, {"holder": now_held})
        where.put(replace(holder, taken_at=seen.taken_at), self._keep_s)

    def _forget_older(self, store: Store, than: Observation) -> None:
        """Have *store* forget what :meth:`is_outdated` will say is so, and no more: what was
        measured beside *than* would only be asked for once more."""
        asked = [(probe, than.key) for probe in self._held_by.probes]
        known = store.get_many(asked, time.time())
        beside = {one.probe for one in known if one.taken_at >= than.taken_at - _BESIDE_S}
        store.forget(self._held_by.probes - beside, than.key)

    def _note_change(self, seen: Observation) -> None:
        self._since[seen.key] = seen.taken_at
        if len(self._since) > _CHANGES_AT_MOST:
            with suppress(StopIteration, RuntimeError):  # other threads empty and fill it
                self._since.pop(next(iter(self._since)), None)

    def clear(self) -> None:
        self._since.clear()

    def purge(self, until: float) -> None:
        """Drop the changes of *until* and before (Unix time)."""
        for key, since in list(self._since.items()):
            if since <= until:
                self._since.pop(key, None)

"""What was learnt: this process's cache in front of a store that others may share.

The store may be slow, stalled or gone.  Its loss is logged once, its return once, and meanwhile
everything goes on with the cache alone.  What an administrator had forgotten, or who opted out,
reaches it by :mod:`botmilter.notices`.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from botmilter.clock import Deadline
from botmilter.errors import StoreError
from botmilter.health import Health
from botmilter.holders import NOT_TOLD, HeldBy, Holders
from botmilter.model import IPAddress, Observation, Status
from botmilter.net import host_key, printable, site_network
from botmilter.notices import Noticed
from botmilter.plan import RATE_LIMIT
from botmilter.standing import Basis
from botmilter.store.base import Cache, Store, Window

log = logging.getLogger(__name__)

T = TypeVar("T")

#: No place in a row of windows.
_UNREACHABLE = -1

#: While another process measures the same host: how often to look whether it is done.
CLAIM_POLL_S = 0.05

#: What was taken later than this from now is of a time when the clock was wrong, and might stay for
#: years; clocks of hosts that share a store differ by less.
AHEAD_AT_MOST_S = 300.0

#: A claim outlives its probe's limit by this much, for what storing the answer takes.
CLAIM_GRACE_S = 1.0

#: So long a mail that is over its budget waits for the store to count it: ten times what one that
#: is well takes.
COUNT_WAIT_S = 0.05

_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long what was learnt is believed.  Addresses change hands: what accuses is short."""

    clears_s: float
    accuses_s: float
    unknown_s: float
    """Evidence that says nothing either way."""
    failed_s: float
    """A failure, in this process only: long enough not to retry for each mail."""
    keep_s: float = math.inf
    """None of them is longer."""
    by_probe: Mapping[str, Lifetimes] = field(default_factory=dict)
    """Those of the probes that have their own."""

    @property
    def longest_s(self) -> float:
        ours_s = max(self.clears_s, self.accuses_s, self.unknown_s)
        return min(self.keep_s, max(ours_s, *(one.longest_s for one in self.by_probe.values()), 0))

    def of(self, seen: Observation, points: float) -> float:
        """Seconds to keep *seen*, whose signals weigh *points* in all."""
        ours = self.by_probe.get(seen.probe, self)
        return min(self.keep_s, ours._believed_s(seen, points))

    def _believed_s(self, seen: Observation, points: float) -> float:
        if not seen.status.is_evidence:
            return self.failed_s
        meant = self.accuses_s if points > 0 else self.clears_s if points < 0 else self.unknown_s
        return meant if seen.ttl_s is None else min(meant, max(seen.ttl_s, self.failed_s))


@dataclass(frozen=True, slots=True)
class Rates:
    """How many measurements that send packets to a host may start."""

    in_all_per_minute: int
    per_network_per_minute: int
    """In one /24 or /48."""
    per_host_per_hour: int


class Memory:
    """*cache* answers at once; *store* may be the same object where nothing is shared."""

    def __init__(
        self,
        cache: Cache,
        store: Store,
        lifetimes: Lifetimes,
        rates: Rates,
        held_by: HeldBy = NOT_TOLD,
    ) -> None:
        self._cache = cache
        self._store = store
        self._lifetimes = lifetimes
        self._rates = rates
        self._health = Health()
        self._is_full = False
        self._noticed = Noticed(store, self._forget_copies)
        self._holders = Holders(held_by, lifetimes.longest_s)
        self._claims: set[str] = set()
        self.refused_by_rate = 0
        """Measurements not made for a rate limit's sake, since the start."""
        self.errors = 0
        """Calls of the store that failed."""

    @property
    def is_local(self) -> bool:
        """Whether there is nothing behind the cache."""
        return self._store is self._cache

    def at_hand(self, probe: str, key: str) -> Observation | None:
        """What this process remembers.  A dict hit."""
        now = time.time()
        return self._believed(self._cache.get(probe, key, now), now)

    def still_has(self, basis: Basis, ip: IPAddress) -> bool:
        """Whether this process remembers just this of *ip*, which does not mind being asked.  A
        dict hit for each probe."""
        now = time.time()
        return (
            not self.is_opted_out(ip)
            and basis.newest_at <= now + AHEAD_AT_MOST_S
            and self._cache.holds(basis.rows, now)
            and not self._holders.any_is_outdated(basis.observations)
        )

    def recall(
        self, probe: str, key: str, points: Callable[[Observation], float]
    ) -> Observation | None:
        """What this process or the store remembers; may wait for the store."""
        return next(iter(self.recall_many({probe: key}, points)), None)

    def recall_many(
        self, keys: Mapping[str, str], points: Callable[[Observation], float]
    ) -> Sequence[Observation]:
        """The same for each probe of *keys*; waits for the store once."""
        at_hand = [self.at_hand(probe, key) for probe, key in keys.items()]
        found = [seen for seen in at_hand if seen is not None]
        known = {seen.probe for seen in found}
        asked = [(probe, key) for probe, key in keys.items() if probe not in known]
        if not asked or self.is_local or (self._is_full and self._health.is_broken):
            return found
        forgotten = self._noticed.forgotten
        now = time.time()
        nothing: list[Observation] = []
        stored = self._ask_store(
            lambda: self._store.get_many(asked, now), nothing, takes_room=False
        )
        for seen in stored:
            if self._believed(seen, now) is not None:
                found.append(seen)
                self._copy(seen, points(seen), forgotten)
        return found

    def _copy(self, seen: Observation, points: float, forgotten: str) -> None:
        """Into the cache, unless something was *forgotten* since it was read from the store."""
        ttl_s = self._lifetimes.of(seen, points)
        with self._noticed.copying:
            if self._noticed.forgotten == forgotten:
                self._keep(seen, ttl_s, self._cache)

    def remember(self, seen: Observation, points: float) -> None:
        """Keep *seen*; our own failures are nobody else's business and stay in this process."""
        ttl_s = self._lifetimes.of(seen, points)
        self._keep(seen, ttl_s, self._cache)
        if seen.status.is_evidence and not self.is_local:
            self._ask_twice(lambda: self._keep(seen, ttl_s, self._store), None)

    def _keep(self, seen: Observation, ttl_s: float, where: Store) -> None:
        self._holders.heed(seen, where, self._cache)
        where.put(seen, ttl_s)

    def is_outdated(self, seen: Observation) -> bool:
        """Whether *seen* was measured before its address changed hands."""
        return self._holders.is_outdated(seen)

    def _believed(self, seen: Observation | None, now: float) -> Observation | None:
        """*seen*, if neither the clock nor the address's holder has changed since."""
        if seen is None or seen.taken_at > now + AHEAD_AT_MOST_S:
            return None
        if self._holders.is_outdated(seen):
            return None
        return seen

    def claim(self, key: str, for_s: float) -> bool:
        """The right to measure *key*, waiting up to *for_s* while another process has it.

        True without asking where the store is out of reach: twice measured is better than never.
        """
        deadline = Deadline.after(for_s)
        while not self._ask_twice(lambda: self._store.claim(key, for_s + CLAIM_GRACE_S), True):
            if deadline.is_over:
                return False
            time.sleep(deadline.left(CLAIM_POLL_S))
        self._claims.add(key)
        return True

    def is_opted_out(self, ip: IPAddress) -> bool:
        """Whether *ip*'s network does not want our packets, as far as this process knows."""
        return self._noticed.is_opted_out(ip)

    def look(self) -> None:
        """See what an administrator did, and whether a store that was away has come back; to be
        called every ``notices.LOOK_EVERY_S`` seconds.  Waits for the store."""
        if self._noticed.look():
            self._health.try_now()

    def _forget_copies(self) -> None:
        self._holders.clear()
        if not self.is_local:
            self._cache.clear()

    def refusal(self, ip: IPAddress) -> str | None:
        """Why *ip* must not be sent a packet now, or None, and then one more measurement of it is
        counted.  May wait for the store."""
        return self._noticed.refusal(ip) or self._over_rate(ip)

    def _over_rate(self, ip: IPAddress) -> str | None:
        """Count one more measurement of *ip*, or tell which limit it would break.

        Over all who share the store, and in this process, which goes on alone while that is out of
        reach.
        """
        rates, now = self._rates, time.time()
        windows = (
            Window(f"rate {host_key(ip)}", rates.per_host_per_hour, 3600.0),
            Window(f"rate {site_network(ip)}", rates.per_network_per_minute, 60.0),
            Window("rate in all", rates.in_all_per_minute, 60.0),
        )
        away: int | None = _UNREACHABLE
        full = self._ask_store(lambda: self._store.admit(windows, now), away)
        if full in (None, away) and not self.is_local:
            # counted here too, and always: a store that goes or comes back begins no rate anew
            full = self._cache.admit(windows, now)
        if full is None:
            return None
        self.refused_by_rate += 1
        return f"{RATE_LIMIT}: {windows[full].key.removeprefix('rate ')}"

    def count_tempfail(self, ip: IPAddress) -> int:
        """Count one more mail put off from *ip*'s network; how many there were today (UTC), as far
        as this process knows where the store does not say it within ``COUNT_WAIT_S``."""
        key, now = f"tempfail {site_network(ip)}", time.time()
        answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()

        def count() -> None:
            answers.put(self._ask_store(lambda: self._store.count(key, _DAY_S, now), None))

        known = self._cache.count(key, _DAY_S, now)
        if self.is_local:
            return known
        with suppress(queue.Empty, RuntimeError):  # the latter: the machine gives no thread
            threading.Thread(target=count, daemon=True).start()
            return max(known, answers.get(timeout=COUNT_WAIT_S) or 0)
        return known

    def purge(self) -> int:
        """Drop what has expired, here and in the store; returns how many.  Waits for the store."""
        now, keep_s = time.time(), self._lifetimes.keep_s
        self._holders.purge(now - keep_s)
        dropped = self._cache.purge(now, keep_s)
        if self.is_local:
            return dropped
        return dropped + self._ask_store(
            lambda: self._store.purge(now, keep_s), 0, takes_room=False
        )

    def release(self, key: str) -> None:
        self._claims.discard(key)
        self._ask_twice(lambda: self._store.release(key), None, takes_room=False)

    def close(self) -> None:
        """Give back what is still claimed: this process ends, and what it measures comes to
        nothing.  Waits for the store."""
        for key in list(self._claims):
            self.release(key)

    def _ask_twice(self, ask: Callable[[], T], otherwise: T, takes_room: bool = True) -> T:
        """``_ask_store`` for what others wait for, or would do once more.

        A store may be busy for a moment: another program holds SQLite's file, or the disk stalls.
        Two calls that fail count as one against it.
        """

        def ask_again() -> T:
            try:
                return ask()
            except StoreError:
                if self._health.is_broken:
                    raise
            self.errors += 1
            time.sleep(CLAIM_POLL_S)
            return ask()

        return self._ask_store(ask_again, otherwise, takes_room)

    def _ask_store(self, ask: Callable[[], T], otherwise: T, takes_room: bool = True) -> T:
        """What *ask* returns, or *otherwise* while the store does not work.

        A store that is full still does what takes no room; that must not pass for a recovery.
        """
        if self._health.pause_reason(time.monotonic()) is not None:
            return otherwise
        try:
            answer = ask()
        except StoreError as error:
            self.errors += 1
            self._is_full = self._is_full or takes_room
            self._note(Status.FAILED, str(error))
            return otherwise
        self._is_full = self._is_full and not takes_room
        if self._is_full:  # a read under way as the first write failed is no recovery
            self._health.undecided()
        else:
            self._note(Status.ANSWERED, "")
        return answer

    def _note(self, status: Status, reason: str) -> None:
        change = self._health.record(status, reason, time.monotonic())
        if change:
            log.warning("store %s", printable(change))

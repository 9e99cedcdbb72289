"""What was learnt: this process's cache in front of a store that others may share.

The store may be slow, stalled or gone.  Its loss is logged once, its return once, and meanwhile
everything goes on with the cache alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from botmilter.clock import Deadline
from botmilter.errors import StoreError
from botmilter.health import Health
from botmilter.model import IPAddress, Observation, Status
from botmilter.net import host_key, printable, site_network
from botmilter.store.base import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

#: While another process measures the same host: how often to look whether it is done.
CLAIM_POLL_S = 0.05

#: A claim outlives its probe's limit by this much, for what storing the answer takes.
CLAIM_GRACE_S = 1.0

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

    def of(self, seen: Observation, points: float) -> float:
        """Seconds to keep *seen*, whose signals weigh *points* in all."""
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

    def __init__(self, cache: Store, store: Store, lifetimes: Lifetimes, rates: Rates) -> None:
        self._cache = cache
        self._store = store
        self._lifetimes = lifetimes
        self._rates = rates
        self._health = Health()
        self._cannot_write = False

    @property
    def is_local(self) -> bool:
        """Whether there is nothing behind the cache."""
        return self._store is self._cache

    def at_hand(self, probe: str, key: str) -> Observation | None:
        """What this process remembers.  A dict hit."""
        return self._cache.get(probe, key, time.time())

    def recall(
        self, probe: str, key: str, points: Callable[[Observation], float]
    ) -> Observation | None:
        """What this process or the store remembers; may wait for the store."""
        seen = self.at_hand(probe, key)
        if seen is not None or self.is_local:
            return seen
        if self._cannot_write:  # what is full still answers, which must not pass for a recovery
            return None
        seen = self._ask_store(lambda: self._store.get(probe, key, time.time()), None, writes=False)
        if seen is not None:
            self._cache.put(seen, self._lifetimes.of(seen, points(seen)))
        return seen

    def remember(self, seen: Observation, points: float) -> None:
        """Keep *seen*; our own failures are nobody else's business and stay in this process."""
        ttl_s = self._lifetimes.of(seen, points)
        self._cache.put(seen, ttl_s)
        if seen.status.is_evidence and not self.is_local:
            self._ask_store(lambda: self._store.put(seen, ttl_s), None)

    def claim(self, key: str, for_s: float) -> bool:
        """The right to measure *key*, waiting up to *for_s* while another process has it.

        True without asking where the store is out of reach: twice measured is better than never.
        """
        deadline = Deadline.after(for_s)
        while not self._ask_store(lambda: self._store.claim(key, for_s + CLAIM_GRACE_S), True):
            if deadline.is_over:
                return False
            time.sleep(deadline.left(CLAIM_POLL_S))
        return True

    def over_rate(self, ip: IPAddress) -> str | None:
        """Count one more measurement of *ip*; which limit it would break, or None.

        Over all who share the store, or in this process alone while it is out of reach.
        """
        rates = self._rates
        for key, at_most, window_s in (
            (f"rate {host_key(ip)}", rates.per_host_per_hour, 3600.0),
            (f"rate {site_network(ip)}", rates.per_network_per_minute, 60.0),
            ("rate in all", rates.in_all_per_minute, 60.0),
        ):
            if self._count(key, window_s) > at_most:
                return f"rate limit: {key.removeprefix('rate ')}"
        return None

    def count_tempfail(self, ip: IPAddress) -> int:
        """Count one more mail put off from *ip*'s network; how many there were today (UTC)."""
        return self._count(f"tempfail {site_network(ip)}", _DAY_S)

    def _count(self, key: str, window_s: float) -> int:
        now = time.time()
        shared = self._ask_store(lambda: self._store.count(key, window_s, now), None)
        return shared if shared is not None else self._cache.count(key, window_s, now)

    def purge(self) -> int:
        """Drop what has expired, here and in the store; returns how many.  Waits for the store."""
        now = time.time()
        dropped = self._cache.purge(now)
        if self.is_local:
            return dropped
        return dropped + self._ask_store(lambda: self._store.purge(now), 0)

    def release(self, key: str) -> None:
        self._ask_store(lambda: self._store.release(key), None)

    def _ask_store(self, ask: Callable[[], T], otherwise: T, writes: bool = True) -> T:
        """What *ask* returns, or *otherwise* while the store does not work."""
        if self._health.pause_reason(time.monotonic()) is not None:
            return otherwise
        try:
            answer = ask()
        except StoreError as error:
            self._cannot_write = self._cannot_write or writes
            self._note(Status.FAILED, str(error))
            return otherwise
        self._cannot_write = self._cannot_write and not writes
        self._note(Status.ANSWERED, "")
        return answer

    def _note(self, status: Status, reason: str) -> None:
        change = self._health.record(status, reason, time.monotonic())
        if change:
            log.warning("store %s", printable(change))

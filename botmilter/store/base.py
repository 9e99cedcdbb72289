"""What every store is: shared memory of observations, and the right to make one.

All methods may be called from any thread.  They raise :class:`~botmilter.errors.StoreError` and
nothing else, within a time that the store bounds itself; the engine then goes on without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from botmilter.model import Observation


class Window(NamedTuple):
    """So many events under *key* in each stretch of *window_s*; these begin at multiples of it in
    Unix time."""

    key: str
    at_most: int
    window_s: float

    def number(self, now: float) -> int:
        return int(now // self.window_s)


class Store(Protocol):
    def get(self, probe: str, key: str, now: float) -> Observation | None:
        """What is known and has not expired at *now* (Unix time)."""

    def put(self, seen: Observation, ttl_s: float) -> None:
        """Remember *seen* until ``seen.taken_at + ttl_s``."""

    def claim(self, key: str, for_s: float) -> bool:
        """Take the right to measure *key* for every process and host sharing this store; it ends
        by itself after *for_s* should its owner die.  False: another has it."""

    def release(self, key: str) -> None:
        """Give the right back early."""

    def forget(self, probes: Iterable[str], key: str) -> None:
        """Drop what *probes* observed of *key*."""

    def admit(self, windows: Sequence[Window], now: float) -> int | None:
        """Count one event in each of *windows*, in one step for all who share the store, and
        return None; or, where one is full, count it in none and return that one's place."""

    def count(self, key: str, window_s: float, now: float) -> int:
        """Count one more event under *key*; returns how many there were in the current window of
        *window_s*, this one included."""

    def purge(self, now: float) -> int:
        """Drop what has expired; returns how many."""

    def close(self) -> None: ...

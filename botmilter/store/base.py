"""What every store is: shared memory of observations, and the right to make one.

All methods may be called from any thread.  They raise :class:`~botmilter.errors.StoreError` and
nothing else, within a time that the store bounds itself; the engine then goes on without it.
"""

from __future__ import annotations

from typing import Protocol

from botmilter.model import Observation


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

    def count(self, key: str, window_s: float, now: float) -> int:
        """Count one more event under *key*; returns how many there were in the current window of
        *window_s* (windows begin at multiples of it in Unix time), this one included."""

    def purge(self, now: float) -> int:
        """Drop what has expired; returns how many."""

    def close(self) -> None: ...

"""A store that forgets what is older than a moment: for a survey, whose facts are of its own time.

Claims, rates and what is learnt are still shared with everyone else who uses the store beneath.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from botmilter.model import Observation
from botmilter.store.base import Store, Window


class FreshStore:
    def __init__(self, beneath: Store, since: float) -> None:
        """*since* in Unix time."""
        self._beneath = beneath
        self._since = since

    def get(self, probe: str, key: str, now: float) -> Observation | None:
        seen = self._beneath.get(probe, key, now)
        return seen if seen is not None and seen.taken_at >= self._since else None

    def put(self, seen: Observation, ttl_s: float) -> None:
        self._beneath.put(seen, ttl_s)

    def claim(self, key: str, for_s: float) -> bool:
        return self._beneath.claim(key, for_s)

    def release(self, key: str) -> None:
        self._beneath.release(key)

    def forget(self, probes: Iterable[str], key: str) -> None:
        self._beneath.forget(probes, key)

    def admit(self, windows: Sequence[Window], now: float) -> int | None:
        return self._beneath.admit(windows, now)

    def count(self, key: str, window_s: float, now: float) -> int:
        return self._beneath.count(key, window_s, now)

    def purge(self, now: float) -> int:
        return self._beneath.purge(now)

    def close(self) -> None:
        self._beneath.close()

"""A store in this process's memory: bounded, gone with the process.

Serves as the cache in front of another store, and as the store itself where no directory is
writable.  A look-up is a dict hit under a lock, 0.3 us.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from botmilter.model import IPNetwork, Observation
from botmilter.store import stored
from botmilter.store.base import Notices, OptOut, Row, Window


class MemoryStore:
    """Keeps at most *rows_at_most* observations; the least recently used goes first."""

    def __init__(self, rows_at_most: int) -> None:
        self._rows: OrderedDict[tuple[str, str], tuple[float, Observation]] = OrderedDict()
        self._claims: dict[str, float] = {}
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._opt_outs: dict[IPNetwork, OptOut] = {}
        self._notices = Notices()
        self._rows_at_most = rows_at_most
        self._lock = threading.Lock()

    def get(self, probe: str, key: str, now: float) -> Observation | None:
        with self._lock:
            row = self._rows.get((probe, key))
            if row is None:
                return None
            if row[0] <= now:
                del self._rows[probe, key]
                return None
            self._rows.move_to_end((probe, key))
            return row[1]

    def get_many(self, asked: Sequence[tuple[str, str]], now: float) -> list[Observation]:
        found = (self.get(probe, key, now) for probe, key in asked)
        return [seen for seen in found if seen is not None]

    def holds(self, rows: Iterable[tuple[tuple[str, str], Observation | None]], now: float) -> bool:
        with self._lock:
            for place, seen in rows:
                row = self._rows.get(place)
                if (row[1] if row is not None and row[0] > now else None) is not seen:
                    return False
                if row is not None:
                    self._rows.move_to_end(place)
        return True

    def put(self, seen: Observation, ttl_s: float) -> None:
        with self._lock:
            self._rows[seen.probe, seen.key] = (seen.taken_at + ttl_s, seen)
            self._rows.move_to_end((seen.probe, seen.key))
            while len(self._rows) > self._rows_at_most:
                self._rows.popitem(last=False)

    def claim(self, key: str, for_s: float) -> bool:
        now = time.monotonic()
        with self._lock:
            if self._claims.get(key, 0.0) > now:
                return False
            self._claims[key] = now + for_s
            return True

    def release(self, key: str) -> None:
        with self._lock:
            self._claims.pop(key, None)

    def forget(self, probes: Iterable[str], key: str) -> None:
        with self._lock:
            for probe in probes:
                self._rows.pop((probe, key), None)

    def admit(self, windows: Sequence[Window], now: float) -> int | None:
        with self._lock:
            counted = [self._counted(window, now) for window in windows]
            for place, window in enumerate(windows):
                if counted[place] >= window.at_most:
                    return place
            for window in windows:
                self._count(window, now)
            return None

    def count(self, key: str, window_s: float, now: float) -> int:
        with self._lock:
            return self._count(Window(key, 0, window_s), now)

    def _count(self, window: Window, now: float) -> int:
        counted = self._counted(window, now) + 1
        until = (window.number(now) + 1) * window.window_s
        if counted > 1:  # whose clock was read before the window's turn counts in the next one
            until = max(until, self._counts[window.key][0])
        self._counts[window.key] = (until, counted)
        self._counts.move_to_end(window.key)
        while len(self._counts) > self._rows_at_most:
            self._counts.popitem(last=False)
        return counted

    def _counted(self, window: Window, now: float) -> int:
        until, counted = self._counts.get(window.key, (0.0, 0))
        # what ends later still is of a time when the clock was ahead
        return counted if now < until <= now + 2 * window.window_s else 0

    def purge(self, now: float, keep_s: float) -> int:
        with self._lock:
            old = [
                key
                for key, (expires_at, seen) in self._rows.items()
                if min(expires_at, seen.taken_at + keep_s) <= now
            ]
            for key in old:
                del self._rows[key]
            over = [key for key, until in self._claims.items() if until <= time.monotonic()]
            for claim in over:
                del self._claims[claim]
            for counted in [key for key, (until, _) in self._counts.items() if until <= now]:
                del self._counts[counted]
            return len(old)

    def rows(self, network: IPNetwork | None = None) -> Iterator[Row]:
        with self._lock:
            held = [Row(seen, expires_at) for expires_at, seen in self._rows.values()]
        return (row for row in held if stored.is_about(row.seen.key, network))

    def forget_network(self, network: IPNetwork) -> int:
        with self._lock:
            meant = [key for key in self._rows if stored.is_about(key[1], network)]
            for row in meant:
                del self._rows[row]
            for kept in (self._claims, self._counts):
                for key in [key for key in kept if stored.concerns(key, network)]:
                    del kept[key]
            self._notices = replace(self._notices, forgotten=secrets.token_hex(8))
            return len(meant)

    def notices(self) -> Notices:
        return self._notices

    def opt_outs(self) -> tuple[OptOut, ...]:
        with self._lock:
            return tuple(self._opt_outs.values())

    def opt_out(self, entry: OptOut) -> OptOut:
        with self._lock:
            entry = entry.over(self._opt_outs.get(entry.network))
            self._opt_outs[entry.network] = entry
            self._notices = replace(self._notices, opt_outs=secrets.token_hex(8))
            return entry

    def opt_in(self, network: IPNetwork) -> bool:
        with self._lock:
            self._notices = replace(self._notices, opt_outs=secrets.token_hex(8))
            return self._opt_outs.pop(network, None) is not None

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()

    def close(self) -> None:
        """Nothing to give back."""

"""A store that forgets what is older than a moment: for a survey, whose facts are of its own time.

Claims, rates and what is learnt are still shared with everyone else who uses the store beneath.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from botmilter.model import IPNetwork, Observation
from botmilter.store.base import Notices, OptOut, Row, Store, Window


class FreshStore:
    def __init__(self, beneath: Store, since: float) -> None:
        """*since* in Unix time."""
        self._beneath = beneath
        self._since = since

    def get(self, probe: str, key: str, now: float) -> Observation | None:
        return next(iter(self.get_many([(probe, key)], now)), None)

    def get_many(self, asked: Sequence[tuple[str, str]], now: float) -> list[Observation]:
        found = self._beneath.get_many(asked, now)
        return [seen for seen in found if seen.taken_at >= self._since]

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

    def purge(self, now: float, keep_s: float) -> int:
        return self._beneath.purge(now, keep_s)

    def rows(self, network: IPNetwork | None = None) -> Iterator[Row]:
        return (row for row in self._beneath.rows(network) if row.seen.taken_at >= self._since)

    def forget_network(self, network: IPNetwork) -> int:
        return self._beneath.forget_network(network)

    def notices(self) -> Notices:
        return self._beneath.notices()

    def opt_outs(self) -> tuple[OptOut, ...]:
        return self._beneath.opt_outs()

    def opt_out(self, entry: OptOut) -> OptOut:
        return self._beneath.opt_out(entry)

    def opt_in(self, network: IPNetwork) -> bool:
        return self._beneath.opt_in(network)

    def close(self) -> None:
        self._beneath.close()

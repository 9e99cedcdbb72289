"""The tally several MX hosts share, in the Redis of :mod:`botmilter.store.redis`.

A hash for each slot, which ends by itself, and one of the last bots.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from botmilter.model import IPNetwork
from botmilter.store.redis import RedisStore
from botmilter.store.tally import (
    BOTS_KEPT,
    ORIGIN,
    ORIGINS_KEPT,
    SLOT_S,
    Pending,
    Row,
    is_of,
    read_bot,
    read_row,
)

_SLOT = "botmilter:1:tally:"
_BOTS = "botmilter:1:tally-bots"

#: A slot with more words than this takes no new origins.
_WORDS_AT_MOST = 2_000
#: So long a slot that is over may be added to: by whoever could not reach us before.
_LATE_SLOTS = 144
#: Slots looked at in one exchange.
_PAGE = 1_000


class RedisTally:
    def __init__(self, store: RedisStore, keep_s: float) -> None:
        self._store = store
        self._keep_s = max(SLOT_S, int(keep_s))
        self._trim_from = 0

    def add(self, pending: Pending) -> None:
        with self._store.client() as redis:
            slots = {slot for slot, _ in pending.rows}
            is_full = {slot: redis.hlen(f"{_SLOT}{slot}") > _WORDS_AT_MOST for slot in slots}
            pipe = redis.pipeline(transaction=False)
            for (slot, word), counted in pending.rows.items():
                if not (is_full[slot] and word.startswith(ORIGIN)):
                    pipe.hincrby(f"{_SLOT}{slot}", word, counted)
            for slot in slots:
                pipe.expire(f"{_SLOT}{slot}", self._keep_s + SLOT_S)
            for host, one in pending.bots.items():
                pipe.hset(_BOTS, host, json.dumps(one))
            pipe.execute()
            if redis.hlen(_BOTS) > 2 * BOTS_KEPT:
                redis.hdel(_BOTS, *list(self._all_bots())[BOTS_KEPT:])

    def rows(self, since: float) -> Sequence[Row]:
        slots = range(int(since // SLOT_S), int(time.time() // SLOT_S) + 1)
        with self._store.client() as redis:
            pipe = redis.pipeline(transaction=False)
            for slot in slots:
                pipe.hgetall(f"{_SLOT}{slot}")
            found = pipe.execute()
        rows = (
            read_row(slot, word, counted)
            for slot, words in zip(slots, found, strict=True)
            for word, counted in words.items()
        )
        return [row for row in rows if row is not None]

    def bots(self) -> Mapping[str, Mapping[str, Any]]:
        since = time.time() - self._keep_s
        latest = list(self._all_bots().items())[:BOTS_KEPT]
        return {host: one for host, one in latest if one["at"] >= since}

    def forget(self, network: IPNetwork) -> int:
        dropped = 0
        with self._store.client() as redis:
            for row in self.rows(time.time() - self._keep_s):
                if row.word.startswith(ORIGIN) and is_of(row.word.split(" ")[1], network):
                    dropped += redis.hdel(f"{_SLOT}{row.slot}", row.word)
            hosts = [host for host in self._all_bots() if is_of(host, network)]
            dropped += redis.hdel(_BOTS, *hosts) if hosts else 0
        return int(dropped)

    def purge(self, now: float, keep_s: float) -> None:
        """Slots end by themselves; the bots, which are one hash, do not."""
        now_slot = int(now // SLOT_S)
        first = max(self._trim_from, int((now - keep_s) // SLOT_S))
        for slot in range(first, now_slot, _PAGE):
            self._trim(range(slot, min(slot + _PAGE, now_slot)))
        self._trim_from = now_slot - _LATE_SLOTS
        with self._store.client() as redis:
            old = [host for host, one in self._all_bots().items() if one["at"] < now - keep_s]
            if old:
                redis.hdel(_BOTS, *old)

    def _trim(self, slots: range) -> None:
        with self._store.client() as redis:
            pipe = redis.pipeline(transaction=False)
            for slot in slots:
                pipe.hlen(f"{_SLOT}{slot}")
            for slot, words in zip(slots, pipe.execute(), strict=True):
                if words > ORIGINS_KEPT:
                    self._trim_slot(slot)

    def _trim_slot(self, slot: int) -> None:
        """Drop all but the busiest origins, and before them what cannot be read as one."""
        name = f"{_SLOT}{slot}"
        with self._store.client() as redis:
            found = redis.hgetall(name)
            origins = [word for word in found if word.startswith(f"{ORIGIN} ".encode())]
            rows = {word: read_row(slot, word, found[word]) for word in origins}
            origins.sort(key=lambda word: -row.counted if (row := rows[word]) else 0)
            if len(origins) > ORIGINS_KEPT:
                redis.hdel(name, *origins[ORIGINS_KEPT:])

    def close(self) -> None:
        self._store.close()

    def _all_bots(self) -> dict[str, Mapping[str, Any]]:
        """Latest first."""
        with self._store.client() as redis:
            found = redis.hgetall(_BOTS)
        bots = ((host.decode(errors="replace"), read_bot(entry)) for host, entry in found.items())
        ours = [(host, one) for host, one in bots if one is not None]
        return dict(sorted(ours, key=lambda item: -item[1]["at"]))

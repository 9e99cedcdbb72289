"""What ``botmilter stats`` and the status page tell: counts kept beside what the store learnt.

By slots of ten minutes, over all workers and, in Redis, over all hosts; kept as long as the store
keeps anything (``[store] keep_days``).  In a file of its own beside SQLite's: a host's mails must
not wait for statistics, and the one may break without the other.  Bounded: of the origins of a
slot that is over the ``ORIGINS_KEPT`` with the most mails stay.

All methods may be called from any thread and raise StoreError and nothing else.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from botmilter.counters import Taken
from botmilter.errors import StoreError
from botmilter.model import IPNetwork
from botmilter.store import corrupt

SLOT_S = 600
ORIGINS_KEPT = 50
BOTS_KEPT = 100
#: Written at a time, for each slot; so the rest of a flood of new hosts is not counted by host.
_ORIGINS_AT_ONCE = 200
_ROWS_AT_MOST = 5_000
_BUSY_MS = 500
#: SQLite would keep 2 MiB of what is only written; see also :mod:`botmilter.store.sqlite`.
_CACHE_KIB = 128

#: Words of :mod:`botmilter.counters` that are kept; the others are for metrics alone.
_KEPT = frozenset({"mails", "sealed", "failures", "lookups", "probes"})
ORIGIN, SYSTEM = "origin", "system"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tallies (
    slot INTEGER NOT NULL,
    word TEXT NOT NULL,
    counted INTEGER NOT NULL,
    PRIMARY KEY (slot, word)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bots (
    host TEXT PRIMARY KEY,
    at REAL NOT NULL,
    entry TEXT NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Row:
    slot: int
    """Unix time // ``SLOT_S``."""
    word: str
    """As in :mod:`botmilter.counters`; besides ``origin HOST LABEL`` and ``system NAME``."""
    counted: int


@dataclass(slots=True)
class Pending:
    """What has to be written: counts by slot and word, and bots by address."""

    rows: Counter[tuple[int, str]] = field(default_factory=Counter)
    bots: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def add(self, taken: Taken, now: float) -> None:
        slot = int(now // SLOT_S)
        for word, counted in taken.counts.items():
            if word.partition(" ")[0] in _KEPT:
                self.rows[slot, word] += int(counted)
        for (host, label), mails in taken.origins.most_common(_ORIGINS_AT_ONCE):
            self.rows[slot, f"{ORIGIN} {host} {label}"] += mails
        for system, mails in taken.systems.items():
            self.rows[slot, f"{SYSTEM} {system}"] += mails
        self.bots.update(taken.bots)
        self.shorten()

    def shorten(self) -> None:
        """While nobody takes it, no more is kept than is worth keeping."""
        if len(self.rows) > _ROWS_AT_MOST:
            self.rows = Counter(dict(self.rows.most_common(_ROWS_AT_MOST)))
        self.bots = dict(list(self.bots.items())[-BOTS_KEPT:])

    @property
    def is_empty(self) -> bool:
        return not self.rows and not self.bots


class Tally(Protocol):
    def add(self, pending: Pending) -> None:
        """Add to what is there."""

    def rows(self, since: float) -> Sequence[Row]:
        """What was counted in the slot of *since* (Unix time) and later, in no order."""

    def bots(self) -> Mapping[str, Mapping[str, Any]]:
        """The last bots by address, latest first, as :class:`botmilter.counters.Taken` has them."""

    def forget(self, network: IPNetwork) -> int:
        """Drop what tells of *network*'s addresses by name; returns how many rows.  Mails stay
        counted."""

    def purge(self, now: float, keep_s: float) -> None:
        """Drop what is older than *keep_s*, and of each slot all but the busiest origins."""

    def close(self) -> None: ...


class SqliteTally:
    """In the file *path*, whose directory must be writable.  Opened at first use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: corrupt.Identity | None = None

    def add(self, pending: Pending) -> None:
        with self._open() as db, db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO tallies VALUES (?, ?, ?) ON CONFLICT (slot, word)"
                " DO UPDATE SET counted = counted + excluded.counted",
                [(slot, word, counted) for (slot, word), counted in pending.rows.items()],
            )
            db.executemany(
                "INSERT OR REPLACE INTO bots VALUES (?, ?, ?)",
                [(host, one["at"], json.dumps(one)) for host, one in pending.bots.items()],
            )

    def rows(self, since: float) -> Sequence[Row]:
        with self._open() as db:
            found = db.execute(
                "SELECT slot, word, counted FROM tallies WHERE slot >= ?", (int(since // SLOT_S),)
            ).fetchall()
        return [row for one in found if (row := read_row(*one)) is not None]

    def bots(self) -> Mapping[str, Mapping[str, Any]]:
        with self._open() as db:
            found = db.execute(
                "SELECT host, entry FROM bots ORDER BY at DESC LIMIT ?", (BOTS_KEPT,)
            ).fetchall()
        bots = ((host, read_bot(entry)) for host, entry in found)
        return {host: one for host, one in bots if one is not None}

    def forget(self, network: IPNetwork) -> int:
        with self._open() as db, db:
            db.execute("BEGIN IMMEDIATE")
            words = db.execute(
                "SELECT DISTINCT word FROM tallies WHERE word GLOB ?", (f"{ORIGIN} *",)
            ).fetchall()
            hosts = db.execute("SELECT host FROM bots").fetchall()
            counts = [(word,) for (word,) in words if is_of(str(word).split(" ")[1], network)]
            bots = [(host,) for (host,) in hosts if is_of(host, network)]
            dropped = db.executemany("DELETE FROM tallies WHERE word = ?", counts).rowcount
            dropped += db.executemany("DELETE FROM bots WHERE host = ?", bots).rowcount
        return max(0, dropped)

    def purge(self, now: float, keep_s: float) -> None:
        slot = int(now // SLOT_S)
        with self._open() as db, db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM tallies WHERE slot < ?", (int((now - keep_s) // SLOT_S),))
            db.execute("DELETE FROM bots WHERE at < ?", (now - keep_s,))
            db.execute(
                "DELETE FROM bots WHERE host NOT IN"
                " (SELECT host FROM bots ORDER BY at DESC LIMIT ?)",
                (BOTS_KEPT,),
            )
            db.execute(
                "DELETE FROM tallies WHERE (slot, word) IN (SELECT slot, word FROM"
                " (SELECT slot, word, row_number() OVER (PARTITION BY slot ORDER BY counted DESC)"
                " AS place FROM tallies WHERE slot < ? AND word GLOB ?) WHERE place > ?)",
                (slot, f"{ORIGIN} *", ORIGINS_KEPT),
            )
        corrupt.drop_old(self.path, now, keep_s)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    with corrupt.opening(self.path):
                        self._connection = self._connect()
                yield self._connection
            except (sqlite3.Error, ValueError) as error:
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
                if isinstance(error, sqlite3.Error):
                    corrupt.set_aside(self.path, self._opened, error)
                raise StoreError(f"{self.path}: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        self._opened = corrupt.identity(self.path)
        db = sqlite3.connect(
            self.path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            db.execute("PRAGMA synchronous = OFF")  # statistics; and a kill loses nothing
            db.executescript(_SCHEMA)
            self._opened = corrupt.identity(self.path)
        except sqlite3.Error:
            db.close()
            raise
        return db


def read_row(slot: int, word: object, counted: Any) -> Row | None:
    """A row as it was stored; None if it is none of ours: the store may be shared with others."""
    try:
        text = word.decode() if isinstance(word, bytes) else str(word)
        row = Row(slot, text, int(counted))
    except (TypeError, ValueError, OverflowError):
        return None
    return row if not text.startswith(f"{ORIGIN} ") or text.count(" ") == 2 else None


def read_bot(entry: str | bytes) -> Mapping[str, Any] | None:
    """A bot as it was stored; None if it is none of ours."""
    try:
        one = json.loads(entry)
        reasons = [[str(name), _number(points), str(why)] for name, points, why in one["reasons"]]
        at, score = _number(one["at"]), _number(one["score"])
        datetime.fromtimestamp(at, UTC)
        return {"at": at, "score": score, "system": str(one["system"]), "reasons": reasons}
    except (LookupError, TypeError, ValueError, OverflowError, OSError, RecursionError):
        return None


def _number(value: Any) -> float:
    number = float(value)
    if not isfinite(number):
        raise ValueError(f"{number} is no number")
    return number


def is_of(host: str, network: IPNetwork) -> bool:
    """Whether *host*, an address or an IPv6 host's /64, has to do with *network*."""
    try:
        return ip_network(host).overlaps(network)
    except (ValueError, TypeError):  # the other version of IP
        return False

"""The embedded store: one SQLite file in WAL mode, shared by all processes of this machine.

Survives ``kill -9`` (WAL); one that is broken is begun anew (:mod:`botmilter.store.corrupt`).  One
connection a process behind a lock: a connection for each mail cost 423 us, a select on a shared
one 25.  Never waits longer than ``BUSY_MS`` for another process's write, and ``TURN_S`` for the
other threads of its own.

The connection is opened at first use, so that an object made before ``fork()`` is harmless.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from botmilter.clock import Deadline
from botmilter.errors import NewerStoreError, StoreError
from botmilter.model import IPNetwork, Observation
from botmilter.store import corrupt, stored
from botmilter.store.base import Notices, OptOut, Row, Window

log = logging.getLogger(__name__)

#: 1: observations, claims, counts.  2: opt-outs and notices as well.
SCHEMA_VERSION = 2
BUSY_MS = 200
#: Forty threads that each waited for another process's write kept the last one for 8 s.
TURN_S = 0.5
_BUSY_LOOK_S = 0.01
#: Longer than anybody waits for his turn.  Who had read the clock before it may find a claim by a
#: later reading, which is not of a time when the clock was ahead.
_OVERTAKEN_S = 5.0
#: SQLite's own would be 2 MiB for each connection, and grow for ten thousand hosts; what is asked
#: for often is in this process's memory already.
_CACHE_KIB = 256

#: Rows read, or looked at for deleting, while others wait for this process's connection.
_PAGE = 500

#: All of version 2; what version 1 has of it is the same there, so this is the way up as well.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS observations (
    probe TEXT NOT NULL,
    key TEXT NOT NULL,
    expires_at REAL NOT NULL,
    observation TEXT NOT NULL,
    PRIMARY KEY (probe, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS observations_expire ON observations (expires_at);
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY,
    until REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (
    key TEXT PRIMARY KEY,
    until REAL NOT NULL,
    counted INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS opt_outs (
    network TEXT PRIMARY KEY,
    note TEXT NOT NULL,
    added_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notices (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
"""

_GET = "SELECT observation FROM observations WHERE probe = ? AND key = ? AND expires_at > ?"
_OPT_OUTS = "SELECT network, note, added_at FROM opt_outs"

#: A caller whose clock was read before the window's turn counts in the next one; what ends later
#: still is of a time when the clock was ahead.
_COUNT = """
INSERT INTO counts VALUES (:key, :until, 1) ON CONFLICT (key) DO UPDATE SET
    counted = CASE WHEN until BETWEEN :until AND :until + :window_s THEN counted + 1 ELSE 1 END,
    until = CASE WHEN until BETWEEN :until AND :until + :window_s THEN until ELSE :until END
"""
_PURGE_AT_ONCE = 1000
_PURGE_OBSERVATIONS = """
DELETE FROM observations WHERE (probe, key) IN
    (SELECT probe, key FROM observations WHERE expires_at <= ? OR expires_at > ? LIMIT ?)
"""

#: How to read and to drop the keys of each.
_CLAIMS_AND_COUNTS = (
    ("SELECT CAST(key AS BLOB) FROM claims", "DELETE FROM claims WHERE key = CAST(? AS TEXT)"),
    ("SELECT CAST(key AS BLOB) FROM counts", "DELETE FROM counts WHERE key = CAST(? AS TEXT)"),
)


class SqliteStore:
    """The store in the file *path*, whose directory must exist and be writable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._claimed: dict[str, float] = {}
        """Until when we hold each claim, which tells ours from another's."""
        self._connection: sqlite3.Connection | None = None
        self._opened: corrupt.Identity | None = None

    def get(self, probe: str, key: str, now: float) -> Observation | None:
        return next(iter(self.get_many([(probe, key)], now)), None)

    def get_many(self, asked: Sequence[tuple[str, str]], now: float) -> list[Observation]:
        with self._open() as db:
            rows = [
                (probe, key, text)
                for probe, key in asked
                for (text,) in db.execute(_GET, (probe, key, now))
            ]
        found = (stored.unpack(text, probe, key) for probe, key, text in rows)
        return [seen for seen in found if seen is not None]

    def put(self, seen: Observation, ttl_s: float) -> None:
        text = stored.pack(seen)
        with self._open() as db:
            db.execute(
                "INSERT OR REPLACE INTO observations VALUES (?, ?, ?, ?)",
                (seen.probe, seen.key, seen.taken_at + ttl_s, text),
            )

    def claim(self, key: str, for_s: float) -> bool:
        now = time.time()
        with self._open() as db:
            taken = db.execute(
                "INSERT INTO claims VALUES (?, ?) ON CONFLICT (key) DO UPDATE"
                " SET until = excluded.until"
                # or it is of a time when the clock was ahead
                " WHERE claims.until <= ? OR claims.until > excluded.until + ?",
                (key, now + for_s, now, _OVERTAKEN_S),
            )
            if taken.rowcount == 1:
                self._claimed[key] = now + for_s
            return taken.rowcount == 1

    def release(self, key: str) -> None:
        until = self._claimed.pop(key, None)
        if until is not None:
            with self._open() as db:
                db.execute("DELETE FROM claims WHERE key = ? AND until = ?", (key, until))

    def forget(self, probes: Iterable[str], key: str) -> None:
        with self._open() as db:
            db.executemany(
                "DELETE FROM observations WHERE probe = ? AND key = ?",
                [(probe, key) for probe in probes],
            )

    def admit(self, windows: Sequence[Window], now: float) -> int | None:
        with self._open() as db, _one_step(db):
            for place, window in enumerate(windows):
                row = db.execute(
                    "SELECT counted FROM counts WHERE key = ? AND until > ? AND until <= ?",
                    (window.key, now, now + 2 * window.window_s),
                ).fetchone()
                if (row[0] if row else 0) >= window.at_most:
                    return place
            db.executemany(_COUNT, [_counted(one, now) for one in windows])
        return None

    def count(self, key: str, window_s: float, now: float) -> int:
        one = _counted(Window(key, 0, window_s), now)
        with self._open() as db:
            (counted,) = db.execute(f"{_COUNT} RETURNING counted", one).fetchone()
        return int(counted)

    def purge(self, now: float, keep_s: float) -> int:
        """A few rows at a time: whoever wants to write meanwhile waits less than ``BUSY_MS``."""
        with self._open() as db:
            self._shorten(db, keep_s)
        dropped = 0
        while True:
            with self._open() as db:
                old = (now, now + keep_s, _PURGE_AT_ONCE)
                gone = db.execute(_PURGE_OBSERVATIONS, old).rowcount
            dropped += gone
            if gone < _PURGE_AT_ONCE:
                break
        with self._open() as db:
            db.execute("DELETE FROM claims WHERE until <= ?", (now,))
            db.execute("DELETE FROM counts WHERE until <= ?", (now,))
        corrupt.drop_old(self.path, now, keep_s)
        return dropped

    def _shorten(self, db: sqlite3.Connection, keep_s: float) -> None:
        """Hold what was put under a longer *keep_s* to this one: looks at all rows, once."""
        before = stored.number(self._notice(db, "keep_s"))
        if before == keep_s:
            return
        if before is None or keep_s < before:
            db.execute(
                "UPDATE observations SET expires_at = min(expires_at, ? +"
                " CASE WHEN json_valid(observation)"
                " AND json_type(observation, '$.taken_at') IN ('real', 'integer')"
                " THEN json_extract(observation, '$.taken_at') ELSE expires_at END)",
                (keep_s,),
            )
        self._set_notice(db, "keep_s", repr(keep_s))

    # -- for the administrator ------------------------------------------------------------------

    def rows(self, network: IPNetwork | None = None) -> Iterator[Row]:
        after = (b"", b"")
        while page := self._page(after):
            after = page[-1][:2]
            for probe, key, expires_at, text in page:
                row = stored.row(probe, key, expires_at, text)
                if row is not None and stored.is_about(row.seen.key, network):
                    yield row

    def _page(self, after: tuple[bytes, bytes]) -> list[tuple[bytes, bytes, float, bytes]]:
        with self._open() as db:
            return db.execute(
                "SELECT CAST(probe AS BLOB), CAST(key AS BLOB), expires_at, observation"
                " FROM observations WHERE (probe, key) > (CAST(? AS TEXT), CAST(? AS TEXT))"
                " ORDER BY probe, key LIMIT ?",
                (*after, _PAGE),
            ).fetchall()

    def forget_network(self, network: IPNetwork) -> int:
        dropped = 0
        with self._open() as db:
            db.execute("PRAGMA secure_delete = ON")
            for read, drop in _CLAIMS_AND_COUNTS:
                keys = db.execute(read).fetchall()
                meant = [row for row in keys if stored.concerns(stored.text(row[0]), network)]
                db.executemany(drop, meant)
        after = (b"", b"")
        while page := self._page(after):
            after = page[-1][:2]
            dropped += self._drop_rows(
                [row[:2] for row in page if stored.is_about(stored.text(row[1]), network)]
            )
        with self._open() as db:
            self._set_notice(db, "forgotten", secrets.token_hex(8))
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log has a copy of what was dropped
        return dropped

    def _drop_rows(self, keys: list[tuple[bytes, bytes]]) -> int:
        if not keys:
            return 0
        with self._open() as db, _one_step(db):
            return db.executemany(
                "DELETE FROM observations WHERE probe = CAST(? AS TEXT) AND key = CAST(? AS TEXT)",
                keys,
            ).rowcount

    def notices(self) -> Notices:
        with self._open() as db:
            return Notices(self._notice(db, "forgotten"), self._notice(db, "opt_outs"))

    def opt_outs(self) -> tuple[OptOut, ...]:
        with self._open() as db:
            found = db.execute(_OPT_OUTS).fetchall()
        read = (stored.opt_out(network, note, added_at) for network, note, added_at in found)
        return tuple(one for one in read if one is not None)

    def opt_out(self, entry: OptOut) -> OptOut:
        with self._open() as db, _one_step(db):
            network = str(entry.network)
            former = db.execute(_OPT_OUTS + " WHERE network = ?", (network,)).fetchone()
            entry = entry.over(former and stored.opt_out(*former))
            row = (network, entry.note, entry.added_at)
            db.execute("INSERT OR REPLACE INTO opt_outs VALUES (?, ?, ?)", row)
            self._set_notice(db, "opt_outs", secrets.token_hex(8))
        return entry

    def opt_in(self, network: IPNetwork) -> bool:
        with self._open() as db, _one_step(db):
            gone = db.execute("DELETE FROM opt_outs WHERE network = ?", (str(network),)).rowcount
            self._set_notice(db, "opt_outs", secrets.token_hex(8))
        return gone > 0

    def _notice(self, db: sqlite3.Connection, name: str) -> str:
        found = db.execute("SELECT value FROM notices WHERE name = ?", (name,)).fetchone()
        return stored.text(found[0]) if found is not None else ""

    def _set_notice(self, db: sqlite3.Connection, name: str, value: str) -> None:
        db.execute("INSERT OR REPLACE INTO notices VALUES (?, ?)", (name, value))

    # -- the connection -------------------------------------------------------------------------

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The connection, this thread's alone for the moment; each use is a transaction."""
        if not self._lock.acquire(timeout=TURN_S):
            raise StoreError(f"{self.path}: not free within {TURN_S} s")
        try:
            if self._connection is None:
                self._connection = self._connect_in_time()
            yield self._connection
        except sqlite3.Error as error:
            if not _is_busy(error):
                self._drop(error)
            raise StoreError(f"{self.path}: {error}") from error
        finally:
            self._lock.release()

    def _connect_in_time(self) -> sqlite3.Connection:
        """Several workers may find no file and make it at once; SQLite does not wait then."""
        deadline = Deadline.after(BUSY_MS / 1000)
        while True:
            try:
                with corrupt.opening(self.path):
                    return self._connect()
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or deadline.is_over:
                    raise
                time.sleep(_BUSY_LOOK_S)

    def _connect(self) -> sqlite3.Connection:
        self._opened = corrupt.identity(self.path)
        db = sqlite3.connect(
            self.path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise NewerStoreError(
                    f"{self.path}: written by a newer botmilter (schema {version}, this one knows"
                    f" {SCHEMA_VERSION}): upgrade, or move the file away"
                )
            db.text_factory = bytes  # what is no UTF-8 is one broken row, not an error of SQLite's
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            if version < SCHEMA_VERSION:
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(_SCHEMA)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._opened = corrupt.identity(self.path)
        except (sqlite3.Error, StoreError):
            db.close()
            raise
        return db

    def _drop(self, error: sqlite3.Error) -> None:
        """Let the connection go after *error*; set the file aside if that is what is broken."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        corrupt.set_aside(self.path, self._opened, error)


def _is_busy(error: sqlite3.Error) -> bool:
    return "locked" in str(error)


@contextlib.contextmanager
def _one_step(db: sqlite3.Connection) -> Iterator[None]:
    """A transaction that begins with the right to write, so that nobody counts in between."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _counted(window: Window, now: float) -> dict[str, object]:
    """What _COUNT takes."""
    until = (window.number(now) + 1) * window.window_s
    return {"key": window.key, "until": until, "window_s": window.window_s}

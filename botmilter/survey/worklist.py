"""What a survey has taken in and what it still has to measure: an SQLite file in its folder.

A mail and its hosts are entered in one transaction, so a survey that is killed neither loses nor
doubles one.  That a host is done stands in ``records.jsonl`` alone.  A *run* is one pass: the
hosts of the mails that were new at its time, each once.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from botmilter.errors import InputError, SetupError
from botmilter.model import Signal
from botmilter.survey.harvest import Taken
from botmilter.survey.records import MAILS_AT_MOST, Host, MailNote

FILE = "worklist.sqlite"
VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (number INTEGER PRIMARY KEY, began REAL NOT NULL, ended REAL);
CREATE TABLE IF NOT EXISTS mail (
    id BLOB PRIMARY KEY, name TEXT, sender TEXT, recipient TEXT, date TEXT,
    sender_domain TEXT, arrived TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sighting (
    run INTEGER, ip TEXT, mail BLOB, role INTEGER, hop INTEGER, helo TEXT, received TEXT,
    signals TEXT
);
CREATE INDEX IF NOT EXISTS sighting_host ON sighting (run, ip);
"""
#: Best first: a host that was proved once is proved.
_ROLES = ("origin", "trusted", "claimed")
#: Mails a transaction; a kill costs reading these again.
_BATCH = 500


class WorkList:
    """Open in one process at a time; a second one is refused."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise SetupError(f"{folder}: another survey is running there") from None
        self._db = sqlite3.connect(folder / FILE, check_same_thread=False)
        self._reading = threading.Lock()
        self._pending = 0
        try:
            self._set_up(folder)
        except BaseException:
            self.close()
            raise

    def _set_up(self, folder: Path) -> None:
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, VERSION):
                raise InputError(f"{folder / FILE}: version {version}, expected {VERSION}")
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version = {VERSION}")
        except sqlite3.DatabaseError as error:
            raise InputError(f"{folder / FILE}: {error}") from None

    # -- runs -----------------------------------------------------------------------------------

    def unfinished(self) -> int | None:
        """The run that was interrupted, if one was."""
        row = self._db.execute("SELECT max(number) FROM run WHERE ended IS NULL").fetchone()
        return None if row[0] is None else int(row[0])

    def begin(self) -> int:
        """Start a run; its number, from 1."""
        cursor = self._db.execute("INSERT INTO run (began) VALUES (?)", (time.time(),))
        self._db.commit()
        return int(cursor.lastrowid or 0)

    def began_at(self, run: int) -> float:
        row = self._db.execute("SELECT began FROM run WHERE number = ?", (run,)).fetchone()
        return float(row[0])

    def end(self, run: int) -> None:
        self._db.execute("UPDATE run SET ended = ? WHERE number = ?", (time.time(), run))
        self._db.commit()

    # -- mails ----------------------------------------------------------------------------------

    def knows(self, mail: bytes) -> bool:
        return self._db.execute("SELECT 1 FROM mail WHERE id = ?", (mail,)).fetchone() is not None

    def enter(self, run: int, name: str, taken: Taken) -> None:
        """Take a mail in; :meth:`flush` makes sure of it."""
        self._db.execute(
            "INSERT OR IGNORE INTO mail VALUES (?, ?, ?, ?, ?, ?, ?)",
            (taken.id, name, taken.sender, taken.recipient, taken.date, taken.sender_domain,
             taken.arrived),
        )  # fmt: skip
        for seen in taken.sightings:
            signals = json.dumps([asdict(one) for one in seen.signals]) if seen.signals else ""
            self._db.execute(
                "INSERT INTO sighting VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (run, seen.ip, taken.id, _ROLES.index(seen.role), seen.hop, seen.helo,
                 seen.received, signals),
            )  # fmt: skip
        self._pending += 1
        if self._pending >= _BATCH:
            self.flush()

    def flush(self) -> None:
        self._db.commit()
        self._pending = 0

    # -- hosts ----------------------------------------------------------------------------------

    def addresses(self, run: int) -> list[str]:
        """The hosts of *run*, in order of their first mail's arrival."""
        rows = self._db.execute(
            "SELECT ip FROM sighting JOIN mail ON mail.id = sighting.mail WHERE run = ?"
            " GROUP BY ip ORDER BY coalesce(min(unixepoch(arrived)), 0), min(sighting.rowid)",
            (run,),
        )
        return [str(ip) for (ip,) in rows]

    def host(self, run: int, ip: str) -> Host:
        """One of them, with its mails.  May be called from any thread."""
        with self._reading:
            return self._host(run, ip)

    def _host(self, run: int, ip: str) -> Host:
        count, role = self._db.execute(
            "SELECT count(DISTINCT mail), min(role) FROM sighting WHERE run = ? AND ip = ?",
            (run, ip),
        ).fetchone()
        rows = list(self._rows(run, ip, int(role)))
        domain = next((domain for _, domain, _ in rows if domain), "")
        signals: dict[str, Signal] = {}
        for _, _, text in rows:
            for one in json.loads(text) if text else ():
                signal = Signal(**one)
                if signal.name not in signals or signals[signal.name].strength < signal.strength:
                    signals[signal.name] = signal
        mails = tuple(mail for mail, _, _ in rows)
        return Host(ip, _ROLES[role], domain, int(count), mails, tuple(signals.values()))

    def _rows(self, run: int, ip: str, role: int) -> Iterator[tuple[MailNote, str, str]]:
        rows = self._db.execute(
            "SELECT id, name, sender, recipient, date, arrived, hop, helo, received,"
            " sender_domain, signals FROM sighting JOIN mail ON mail.id = sighting.mail"
            " WHERE run = ? AND ip = ? ORDER BY sighting.role != ?, sighting.rowid LIMIT ?",
            (run, ip, role, MAILS_AT_MOST),
        )
        for mail, *texts, domain, signals in rows:
            yield MailNote(mail.hex(), *texts), domain, signals

    def close(self) -> None:
        """A thread of an interrupted survey may be reading: closing under its hands crashes."""
        with self._reading:
            self._db.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

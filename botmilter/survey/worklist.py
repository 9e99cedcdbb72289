"""What a survey has taken in and what it still has to measure: an SQLite file in its folder.

A mail and its hosts are entered in one transaction, so a survey that is killed neither loses nor
doubles one.  That a host is done stands in ``records.jsonl`` alone.  A *run* is one pass: the
hosts of the mails that were new at its time, each once.  When it has ended only the mails' hashes
stay.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from botmilter.errors import InputError, SetupError
from botmilter.model import Signal, Trust
from botmilter.survey.harvest import Sighting, Taken, note
from botmilter.survey.records import MAILS_AT_MOST, Host, MailNote
from botmilter.survey.writing import writing

FILE = "worklist.sqlite"
VERSION = 2

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (number INTEGER PRIMARY KEY, began REAL NOT NULL, ended REAL);
CREATE TABLE IF NOT EXISTS known (mail BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY, mail BLOB, name TEXT, arrived REAL, header BLOB
);
CREATE TABLE IF NOT EXISTS sighting (
    run INTEGER, ip TEXT, waiting INTEGER, role INTEGER, hop INTEGER
);
CREATE TABLE IF NOT EXISTS former (run INTEGER, ip TEXT, host TEXT);
"""
#: Made when the mails are in: kept up meanwhile it would cost more than all the rest.
_INDEX = "CREATE INDEX IF NOT EXISTS sighting_host ON sighting (run, ip)"
#: What a run that has ended needs no more.
_CLEARING = (
    "DROP INDEX IF EXISTS sighting_host",
    "DELETE FROM sighting",
    "DELETE FROM waiting",
    "DELETE FROM former",
)
#: Best first: a host that was proved once is proved.
_ROLES = ("origin", "trusted", "claimed")


@dataclass(frozen=True, slots=True)
class Entry:
    """A mail to be entered."""

    id: bytes
    name: str
    header: bytes
    """What is :func:`kept <botmilter.survey.harvest.kept>` of it."""
    taken: Taken


class WorkList:
    """Open in one process at a time; a second one is refused."""

    def __init__(self, folder: Path) -> None:
        """Raises SetupError where *folder* is in use or cannot be written to, InputError where
        there is something else in it."""
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("w")
        try:
            _take(self._lock, folder)
            self._path = folder / FILE
            self._db = _opened(self._path)
        except BaseException:
            self._lock.close()
            raise
        self._reading = threading.Lock()

    # -- runs -----------------------------------------------------------------------------------

    def unfinished(self) -> int | None:
        """The run that was interrupted, if one was."""
        row = self._db.execute("SELECT max(number) FROM run WHERE ended IS NULL").fetchone()
        return None if row[0] is None else int(row[0])

    def begin(self) -> int:
        """Start a run; its number, from 1."""
        with self._change():
            cursor = self._db.execute("INSERT INTO run (began) VALUES (?)", (time.time(),))
        return int(cursor.lastrowid or 0)

    def began_at(self, run: int) -> float:
        row = self._db.execute("SELECT began FROM run WHERE number = ?", (run,)).fetchone()
        return float(row[0])

    def end(self, run: int) -> None:
        """All its hosts are in the records."""
        with self._change():
            self._db.execute("UPDATE run SET ended = ? WHERE number = ?", (time.time(), run))
            for statement in _CLEARING:
                self._db.execute(statement)

    # -- mails ----------------------------------------------------------------------------------

    def known(self, mails: Sequence[bytes]) -> set[bytes]:
        """Which of *mails*, at most 1000, were entered before."""
        marks = ",".join("?" * len(mails))
        question = f"SELECT mail FROM known WHERE mail IN ({marks})"  # noqa: S608 - marks only
        rows = self._db.execute(question, mails)
        return {bytes(mail) for (mail,) in rows}

    def enter(self, run: int, entries: Sequence[Entry]) -> None:
        """Take in mails that are not known yet, all or none."""
        with self._change():
            (last,) = self._db.execute("SELECT coalesce(max(number), 0) FROM waiting").fetchone()
            self._db.executemany("INSERT INTO known VALUES (?)", ((one.id,) for one in entries))
            self._db.executemany(
                "INSERT INTO waiting VALUES (?, ?, ?, ?, ?)",
                (
                    (number, one.id, one.name, one.taken.arrived_at, one.header)
                    for number, one in enumerate(entries, last + 1)
                    if one.taken.sightings
                ),
            )
            self._db.executemany(
                "INSERT INTO sighting VALUES (?, ?, ?, ?, ?)",
                (
                    (run, seen.ip, number, _ROLES.index(seen.role), seen.hop)
                    for number, one in enumerate(entries, last + 1)
                    for seen in one.taken.sightings
                ),
            )

    def enter_former(self, run: int, hosts: Iterable[Host]) -> None:
        """Take in hosts of another survey, with what it knew of their mails, all or none."""
        with self._change():
            self._db.executemany(
                "INSERT INTO former VALUES (?, ?, ?)",
                ((run, host.ip, json.dumps(host.to_json())) for host in hosts),
            )

    # -- hosts ----------------------------------------------------------------------------------

    def addresses(self, run: int) -> list[str]:
        """The hosts of *run*, in order of their first mail's arrival."""
        with self._change():
            self._db.execute(_INDEX)
        rows = self._db.execute(
            "SELECT ip FROM sighting JOIN waiting ON waiting.number = sighting.waiting"
            " WHERE run = ? GROUP BY ip ORDER BY min(arrived), min(sighting.rowid)",
            (run,),
        )
        found = [str(ip) for (ip,) in rows]
        former = self._db.execute("SELECT ip FROM former WHERE run = ? ORDER BY rowid", (run,))
        return list(dict.fromkeys([*found, *(str(ip) for (ip,) in former)]))

    def host(self, run: int, ip: str, trust: Trust) -> Host:
        """One of them, with its mails.  May be called from any thread."""
        with self._reading:
            former = self._db.execute(
                "SELECT host FROM former WHERE run = ? AND ip = ?", (run, ip)
            ).fetchone()
            count, role = self._db.execute(
                "SELECT count(DISTINCT waiting), min(role) FROM sighting WHERE run = ? AND ip = ?",
                (run, ip),
            ).fetchone()
            rows = self._db.execute(
                "SELECT mail, name, header, role, hop FROM sighting"
                " JOIN waiting ON waiting.number = sighting.waiting"
                " WHERE run = ? AND ip = ? ORDER BY role != ?, sighting.rowid LIMIT ?",
                (run, ip, role, MAILS_AT_MOST),
            ).fetchall()
        if not rows:
            return Host.from_json(json.loads(former[0]))
        return _host(ip, _ROLES[role], count, rows, trust)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """All that is done within or nothing.  Raises SetupError where it cannot be written."""
        with writing(self._path), self._db:
            yield

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


def _take(lock: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SetupError(f"{folder}: another survey is running there") from None


def _opened(path: Path) -> sqlite3.Connection:
    with writing(path):
        db = sqlite3.connect(path, check_same_thread=False)
        try:
            _set_up(db, path)
        except BaseException:
            db.close()
            raise
    return db


def _set_up(db: sqlite3.Connection, path: Path) -> None:
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        # what a run needs no more is gone from the file, not only from the tables
        db.execute("PRAGMA secure_delete = ON")
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version not in (0, VERSION):
            raise InputError(f"{path}: version {version}, expected {VERSION}")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {VERSION}")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path}: {error}") from None


def _host(
    ip: str, role: str, count: int, rows: Iterable[tuple[bytes, str, bytes, int, int]], trust: Trust
) -> Host:
    mails: list[MailNote] = []
    domain = ""
    signals: dict[str, Signal] = {}
    for mail, name, header, its_role, hop in rows:
        said = note(header, trust, Sighting(ip, _ROLES[its_role], hop))
        mails.append(MailNote(mail.hex(), name, said.sender, said.recipient, said.date,
                              said.arrived, hop, said.helo, said.received))  # fmt: skip
        domain = domain or said.sender_domain
        for signal in said.signals:
            if signal.name not in signals or signals[signal.name].strength < signal.strength:
                signals[signal.name] = signal
    return Host(ip, role, domain, count, tuple(mails), tuple(signals.values()))

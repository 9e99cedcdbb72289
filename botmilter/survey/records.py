"""``records.jsonl``: one measured host a line, appended and flushed to disk as it is done.

Of two lines on one host the later counts: it was measured again in a later run, or the end of a
run settled what was in doubt while it went on.

The schema is in docs/survey.md.  A line that a kill cut short is removed when the file is next
opened for writing, and passed over by readers.  All text from mails has gone through
``printable`` before it gets here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from botmilter.errors import InputError
from botmilter.model import Observation, Signal, Verdict
from botmilter.probes.osdetect import best_classes
from botmilter.probes.oses import kind_of_all
from botmilter.survey.writing import writing

SCHEMA = 1
FILE = "records.jsonl"

#: So many of a host's mails are listed in its record; ``mail_count`` has them all.
MAILS_AT_MOST = 1000


@dataclass(frozen=True, slots=True)
class MailNote:
    """What is kept of one mail that led to a host."""

    id: str
    """Hash of its header, hexadecimal."""
    name: str
    sender: str
    recipient: str
    date: str
    """As the ``Date`` field says."""
    arrived: str
    """When the newest line was written, ISO 8601; empty where it tells no time."""
    hop: int
    """Where in the chain the host stood, 0 is the newest line."""
    helo: str
    received: str
    """The ``Received`` line that names the host, shortened."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host of the work list."""

    ip: str
    role: str
    """``origin`` and ``trusted`` were recorded by a host we trust; ``claimed`` was not."""
    sender_domain: str
    mail_count: int
    mails: tuple[MailNote, ...]
    signals: tuple[Signal, ...]
    """What the chains of its mails say of it."""

    @property
    def is_proved(self) -> bool:
        return self.role != "claimed"

    @property
    def helo(self) -> str | None:
        return next((mail.helo for mail in self.mails if mail.helo), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "ip": self.ip,
            "role": self.role,
            "proved": self.is_proved,
            "sender_domain": self.sender_domain,
            "mail_count": self.mail_count,
            "mails": [asdict(mail) for mail in self.mails],
            "signals": [asdict(signal) for signal in self.signals],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError where *data* is not of the schema."""
        return cls(
            ip=str(data["ip"]),
            role=str(data["role"]),
            sender_domain=str(data["sender_domain"]),
            mail_count=int(data["mail_count"]),
            mails=tuple(MailNote(**mail) for mail in data["mails"]),
            signals=tuple(Signal(**signal) for signal in data["signals"]),
        )


@dataclass(frozen=True, slots=True)
class Record:
    """A host and what was measured of it."""

    run: int
    began_at: float
    """Unix time."""
    host: Host
    observations: tuple[Observation, ...]
    verdict: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "run": self.run,
            "began_at": self.began_at,
            **self.host.to_json(),
            "observations": [one.to_json() for one in self.observations],
            "os": system(self.observations),
            "verdict": dict(self.verdict),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Raises KeyError, TypeError or ValueError where *data* is not of the schema."""
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']}, expected {SCHEMA}")
        host = Host.from_json(data)
        observations = tuple(Observation.from_json(one) for one in data["observations"])
        verdict = dict(data["verdict"])
        return cls(int(data["run"]), float(data["began_at"]), host, observations, verdict)


def system(observations: tuple[Observation, ...]) -> dict[str, Any]:
    """What nmap's best matches say together: kind, systems, accuracy in percent, first name."""
    for one in observations:
        if one.probe == "osdetect" and one.status.is_evidence:
            accuracy, classes = best_classes(one)
            systems = {f"{found.family} {found.generation}".strip() for found in classes}
            name = str(one.facts["matches"][0]["name"]) if one.facts["matches"] else ""
            return {
                "kind": kind_of_all(classes).value,
                "systems": sorted(systems),
                "accuracy": accuracy,
                "name": name,
            }
    return {"kind": "other", "systems": [], "accuracy": 0, "name": ""}


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "label": verdict.label.value,
        "score": verdict.score,
        "why": verdict.why,
        "reasons": [
            {
                "signal": reason.signal.name,
                "strength": reason.signal.strength,
                "weight": reason.weight,
                "points": reason.points,
                "detail": reason.signal.detail,
            }
            for reason in verdict.reasons
        ],
        "missing": [
            {"probe": one.probe, "status": one.status.value, "reason": one.reason}
            for one in verdict.missing
        ],
    }


class Journal:
    """The file of a survey's folder, open for appending.  Raises SetupError where it cannot be
    written."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        with writing(self._path):
            self._file = self._path.open("ab+")
            self._drop_cut_line()

    def append(self, record: Record) -> None:
        """On disk when this returns."""
        line = json.dumps(record.to_json(), ensure_ascii=True, allow_nan=False)
        with writing(self._path):
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with writing(self._path):  # where a disk is full there is a rest
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _drop_cut_line(self) -> None:
        """Cut the file behind its last line end, looking backwards from its own."""
        end = self._file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            start = max(0, keep - 65536)
            self._file.seek(start)
            found = self._file.read(keep - start).rfind(b"\n")
            if found >= 0:
                keep = start + found + 1
                break
            keep = start
        if keep < end:
            self._file.truncate(keep)


def read(folder: Path) -> Iterator[Record]:
    """All records of *folder*, in the order they were written; none where there is no file.

    Raises InputError where a whole line is not a record of a schema we know, or the file is closed
    to us.
    """
    path = folder / FILE
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield Record.from_json(json.loads(line))
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"{path}, line {number}: not a record: {error}") from None


def latest(folder: Path) -> dict[str, Record]:
    """The newest record of each host, by address.  Raises InputError where there is none."""
    found = {record.host.ip: record for record in read(folder)}
    if not found:
        raise InputError(f"{folder}: no survey with a measured host is there")
    return found

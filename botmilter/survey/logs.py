"""The study's log: one readable text for each host and time, ``logs/IP_TIME.log``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from botmilter.model import Observation, Status
from botmilter.net import printable
from botmilter.survey.records import MailNote, Record, system
from botmilter.survey.writing import writing

#: A log is for reading; the record has them all.
_MAILS_AT_MOST = 20


def file_name(record: Record) -> str:
    """Without colons, which mounts of other systems cannot have: ``2001-db8--1_…``."""
    moment = datetime.fromtimestamp(record.began_at, UTC)
    return f"{record.host.ip.replace(':', '-')}_{moment:%Y%m%dT%H%M%SZ}.log"


def write(record: Record, folder: Path) -> Path:
    """Write the log of *record* into *folder*.  Raises SetupError."""
    path = folder / file_name(record)
    with writing(path):
        path.write_text(text(record), encoding="ascii")
    return path


def text(record: Record) -> str:
    """Printable ASCII, whatever mails and hosts said."""
    return "".join(f"{printable(line, 1000)}\n" for line in _lines(record))


def _lines(record: Record) -> Iterator[str]:
    host = record.host
    for mail in host.mails[:_MAILS_AT_MOST]:
        yield from _mail_lines(mail)
    if host.mail_count > _MAILS_AT_MOST:
        yield f"(and {host.mail_count - _MAILS_AT_MOST} more mails)"
    proved = "proved" if host.is_proved else "claimed only"
    yield f"Received IP: {host.ip} ({host.role}, {proved})"
    yield f"Time: {datetime.fromtimestamp(record.began_at, UTC).isoformat(timespec='seconds')}"
    yield ""
    known = {one.probe: one for one in record.observations}
    for name, one in known.items():
        yield f"{name}: {_result(one)}"
    if "osdetect" in known:
        for port, state in known["osdetect"].facts.get("ports", {}).items():
            yield f"  port {port}: {state}"
    yield ""
    yield f"Verdict: {record.verdict['label']} ({record.verdict['score']:g})"
    for reason in record.verdict["reasons"]:
        yield f"  {reason['points']:+g} {reason['signal']}: {reason['detail']}"


def _mail_lines(mail: MailNote) -> Iterator[str]:
    yield f"From: {mail.sender}"
    yield f"To: {mail.recipient}"
    yield f"Date: {mail.date}"
    yield f"Received: {mail.received}"
    yield ""


def _result(one: Observation) -> str:
    if not one.status.is_evidence:
        return f"{one.status} ({one.reason})"
    if one.probe == "osdetect":
        found = system((one,))
        named = f"{found['name'] or 'N/A'} ({found['accuracy']} %)"
        return f"{named} {', '.join(found['systems'])}".rstrip()
    if one.status is Status.SILENT:
        return "no answer"
    return f"answered {json.dumps(dict(one.facts))}"

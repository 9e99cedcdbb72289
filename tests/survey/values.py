"""Records and facts as a survey writes them, for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from botmilter.model import Observation, Signal, Status
from botmilter.survey.records import Host, MailNote, Record

BEGAN_AT = 1_249_308_995.0
"""2009-08-03 14:16:35 UTC."""


def mail(number: int = 1, **changes: Any) -> MailNote:
    known: dict[str, Any] = {
        "id": f"{number:032x}",
        "name": f"box#{number}",
        "sender": "Offer <offer@cheap.example>",
        "recipient": "reader@reader.example",
        "date": "Mon, 3 Aug 2009 23:16:35 +0900",
        "arrived": "2009-08-03T23:16:35+09:00",
        "hop": 0,
        "helo": "friend",
        "received": "from friend ([198.18.7.12]) by mx.reader.example",
    }
    return MailNote(**{**known, **changes})


def host(ip: str = "198.18.7.12", role: str = "origin", mails: Sequence[MailNote] = ()) -> Host:
    notes = tuple(mails) or (mail(),)
    return Host(ip, role, "cheap.example", len(notes), notes, (Signal("helo.no_dot", 1.0, "x"),))


def osdetect(family: str, generation: str, name: str = "") -> Observation:
    """One exact match of nmap's."""
    found = {"type": "general purpose", "vendor": "x", "family": family,
             "generation": generation, "accuracy": 100}  # fmt: skip
    matches = [{"name": name or f"{family} {generation}", "accuracy": 100, "classes": [found]}]
    facts = {"matches": matches, "ports": {"25": "filtered", "135": "open"}, "timed_out": False}
    return Observation("osdetect", "k", Status.ANSWERED, facts)


def smtp(outcome: str) -> Observation:
    status = Status.SILENT if outcome == "filtered" else Status.ANSWERED
    return Observation("smtp", "k", status, {"outcome": outcome, "greeting": "", "ehlo": ""})


def ping(answers: bool) -> Observation:
    status = Status.ANSWERED if answers else Status.SILENT
    return Observation("ping", "k", status, {"rtt_s": 0.01 if answers else None})


def record(
    ip: str = "198.18.7.12",
    *observations: Observation,
    label: str = "clean",
    score: float = 0.0,
    role: str = "origin",
    run: int = 1,
) -> Record:
    verdict = {"label": label, "score": score, "why": "", "reasons": [], "missing": []}
    return Record(run, BEGAN_AT, host(ip, role), observations, verdict)

"""What a check says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WRONG = "wrong"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    state: State
    found: str
    """What is so, in one line; may hold foreign text."""
    do: str = ""
    """What to do about it."""


Findings = Iterator[Finding]


def ok(check: str, found: str) -> Finding:
    return Finding(check, State.OK, found)


def wrong(check: str, found: str, do: str) -> Finding:
    return Finding(check, State.WRONG, found, do)


def unchecked(check: str, why: str, do: str = "") -> Finding:
    return Finding(check, State.UNCHECKED, why, do)

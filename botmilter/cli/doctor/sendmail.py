"""What ``sendmail.cf`` says (Sendmail Installation and Operation Guide, 5.13)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from botmilter.cli.doctor.findings import Findings, wrong
from botmilter.cli.doctor.mta import Attached, Words, endpoint, judge, seconds
from botmilter.cli.doctor.reach import writable_by_others
from botmilter.config import Settings

DEFAULT_PATH = Path("/etc/mail/sendmail.cf")

#: ``Xname, S=unix:/path, F=T, T=C:5m;S:30s;R:30s;E:5m``
_FILTER = re.compile(r"^X([^,\s]+)\s*,(.*)$", re.MULTILINE)
_ORDER = re.compile(r"^O InputMailFilters=(.*)$", re.MULTILINE)
_DEFAULT_TIMES = {"R": "10s", "E": "5m"}

_WORDS = Words(
    attach="put INPUT_MAIL_FILTER(`botmilter', `S=…, T=S:30s;R:30s') with our socket into"
    " sendmail.mc, make, restart",
    detach_local="",
    when_down="take F=R or F=T out of the INPUT_MAIL_FILTER line, make, restart",
    step="R: in T= of INPUT_MAIL_FILTER",
    end="E: in T= of INPUT_MAIL_FILTER",
)


@dataclass(frozen=True, slots=True)
class Sendmail:
    text: str
    user = "root"


def gather(path: Path) -> Sendmail | None:
    """None: it is not there, or may not be read."""
    try:
        return Sendmail(path.read_text(errors="replace"))
    except OSError:
        return None


def check(chosen: Settings, found: Sendmail) -> Findings:
    yield from judge(chosen, list(attached(found.text)), [], _WORDS)
    kind, _, path = chosen.milter.socket.partition(":")
    if kind == "unix" and (open_ := writable_by_others(Path(path))):
        yield wrong(
            "socket",
            f"everybody may write to {open_}: Sendmail calls such a socket unsafe",
            "choose a [milter] socket below /run/botmilter",
        )


def attached(text: str) -> Iterator[Attached]:
    """The filters in the order in which Sendmail asks them."""
    known = {name: _equates(rest) for name, rest in _FILTER.findall(text)}
    named = _ORDER.search(text)
    for name in (part.strip() for part in (named[1] if named else "").split(",")):
        if name in known:
            yield _attached(known[name])


def _equates(text: str) -> Mapping[str, str]:
    pairs = (part.strip().partition("=") for part in text.split(","))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _attached(equates: Mapping[str, str]) -> Attached:
    times = dict(_DEFAULT_TIMES)
    for part in equates.get("T", "").split(";"):
        key, _, value = part.partition(":")
        if key:
            times[key.strip()] = value
    return Attached(
        endpoint(equates.get("S", "")),
        not equates.get("F", ""),
        seconds(times["R"]),
        seconds(times["E"]),
    )

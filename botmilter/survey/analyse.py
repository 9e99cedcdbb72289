"""From records to tables.  Pure.

In: lines of ``records.jsonl`` as plain data (docs/survey.md has the schema).  Out: counts, churn
between two surveys, and the study's side-by-side table.  Confidence intervals are Wilson's (E. B.
Wilson, 1927): they stay within 0 and 1 and are sound for the small counts a survey of bots has.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botmilter import names
from botmilter.net import parse_ip

OLD_CLIENT = "Windows 95-XP"
NEW_CLIENT = "Windows Vista-11"
EITHER = "Windows client or server"
SERVER = "Windows Server"
LINUX = "Linux"
UNIX = "other Unix"
APPLIANCE = "appliance"
OTHER = "other"
UNNAMED = "not recognised"
NO_ANSWER = "no answer"
NOT_PROBED = "not probed"

#: Rows of the operating systems' table, in order.
OS_ROWS = (
    *(OLD_CLIENT, NEW_CLIENT, EITHER, SERVER, LINUX, UNIX, APPLIANCE, OTHER),
    *(UNNAMED, NO_ANSWER, NOT_PROBED),
)

#: The columns of the study's own table: hosts that nmap could name.  What fits a client and a
#: server alike stands with the servers, as nmap had it then.
STUDY_COLUMNS: dict[str, frozenset[str]] = {
    OLD_CLIENT: frozenset({OLD_CLIENT}),
    SERVER: frozenset({SERVER, EITHER}),
    LINUX: frozenset({LINUX}),
    OTHER: frozenset({NEW_CLIENT, UNIX, APPLIANCE, OTHER}),
}

#: What the study calls a client system of its day, and those before.
_OLD = frozenset(f"Windows {name}" for name in ("3.X", "95", "98", "Me", "XP", "2000"))

LABELS = ("bot", "suspect", "clean", "unknown", "exempt")
FLAGGED = frozenset({"bot", "suspect"})

#: The probe's outcomes in words.
SMTP_ROWS: dict[str, str] = {
    "greeting": "mail server",
    "rejecting": "mail server, rejects",
    "slow": "accepts, silent",
    "other": "not SMTP",
    "refused": "refused",
    "filtered": "time-out",
    "": "not asked",
}
NAME_ROWS = ("server-like", "dynamic-looking", "other name", "no name", "not asked")

#: Standard score of a 95 % interval.
_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Seen:
    """What the tables need of one host."""

    ip: str
    role: str
    label: str
    score: float
    os_row: str
    system: str
    """What nmap named, for the reader."""
    ping: str
    """``yes``, ``no`` or ``not asked``."""
    smtp: str
    """A value of :data:`SMTP_ROWS`."""
    name: str
    name_row: str
    country: str
    """Empty where no file of countries is configured."""
    network: str
    """The same of networks."""
    mails: int
    hours: tuple[int, ...]
    """Hour of the day of each mail's arrival, in the receiver's own zone."""


@dataclass(frozen=True, slots=True)
class Share:
    """A count with its share of the whole and the 95 % interval of that."""

    row: str
    count: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address belongs; empty where that is not looked up."""

    country: str = ""
    network: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """How many hosts, and mails from them."""

    row: str
    hosts: int
    mails: int


def seen(record: Mapping[str, Any], place: Place = Place()) -> Seen:
    """Raises KeyError, TypeError or ValueError where *record* is not of the schema."""
    known = {str(one["probe"]): one for one in record["observations"]}
    rdns = known.get("rdns", {})
    verdict = record["verdict"]
    found = [str(name) for name in _facts(rdns).get("confirmed") or _facts(rdns).get("names") or ()]
    return Seen(
        ip=str(record["ip"]),
        role=str(record["role"]),
        label=str(verdict["label"]),
        score=float(verdict["score"]),
        os_row=_os_row(record, known),
        system=str(record["os"]["name"]),
        ping=_YES_NO.get(str(known.get("ping", {}).get("status")), "not asked"),
        smtp=SMTP_ROWS.get(str(_facts(known.get("smtp", {})).get("outcome", "")), "not SMTP"),
        name=found[0] if found else "",
        name_row=_name_row(str(record["ip"]), found, _is_evidence(rdns)),
        country=place.country,
        network=place.network,
        mails=int(record["mail_count"]),
        hours=tuple(datetime.fromisoformat(m["arrived"]).hour for m in record["mails"]
                    if m["arrived"]),
    )  # fmt: skip


_YES_NO = {"answered": "yes", "silent": "no"}


def _facts(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """None where they are no evidence: a time-out that may be our own provider's doing."""
    facts = one.get("facts", {}) if _is_evidence(one) else {}
    return facts if isinstance(facts, Mapping) else {}


def _is_evidence(one: Mapping[str, Any]) -> bool:
    return one.get("status") in _YES_NO


def _os_row(record: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> str:
    asked = [known[name] for name in ("ping", "smtp", "osdetect") if name in known]
    if not any(_is_evidence(one) for one in asked):
        return NOT_PROBED
    system = record["os"]
    if system["systems"]:
        return system_row(str(system["kind"]), [str(name) for name in system["systems"]])
    return UNNAMED if any(_has_answered(one) for one in asked) else NO_ANSWER


def _has_answered(one: Mapping[str, Any]) -> bool:
    """nmap's own answer is a port that is open or closed."""
    if one.get("status") != "answered":
        return False
    ports = _facts(one).get("ports")
    return not isinstance(ports, Mapping) or any(state != "filtered" for state in ports.values())


def system_row(kind: str, systems: Sequence[str]) -> str:
    """The row of equally good matches: their *kind* and their names, ``Windows XP`` and so on."""
    is_windows = all(name.startswith("Windows") for name in systems)
    if kind in ("client", "both") and is_windows and set(systems) <= _OLD:
        return OLD_CLIENT
    if kind == "client":
        return NEW_CLIENT if is_windows else OTHER
    if kind == "both":
        return EITHER if any(name.startswith("Windows") for name in systems) else OTHER
    if kind == "unix":
        return LINUX if any(name.startswith("Linux") for name in systems) else UNIX
    return {"server": SERVER if is_windows else OTHER, "appliance": APPLIANCE}.get(kind, OTHER)


def _name_row(ip: str, found: Sequence[str], was_asked: bool) -> str:
    address = parse_ip(ip)
    if not was_asked or address is None:
        return "not asked"
    if not found:
        return "no name"
    if names.is_dynamic(found[0], address):
        return "dynamic-looking"
    return "server-like" if names.is_server(found[0]) else "other name"


# -- one survey ---------------------------------------------------------------------------------


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of the share *count* of *total*; (0, 1) where nothing was counted."""
    if total == 0:
        return 0.0, 1.0
    share, square = count / total, _Z95 * _Z95
    middle = share + square / (2 * total)
    half = _Z95 * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    width = 1 + square / total
    return max(0.0, (middle - half) / width), min(1.0, (middle + half) / width)


def shares(rows: Sequence[str], found: Iterable[str]) -> tuple[Share, ...]:
    """How often each of *rows* is among *found*, rows without any left out."""
    counts = Counter(found)
    total = counts.total()
    return tuple(
        Share(row, counts[row], counts[row] / total, *wilson(counts[row], total))
        for row in rows
        if counts[row]
    )


def os_shares(hosts: Iterable[Seen]) -> tuple[Share, ...]:
    return shares(OS_ROWS, (host.os_row for host in hosts))


def label_shares(hosts: Iterable[Seen]) -> tuple[Share, ...]:
    return shares(LABELS, (host.label for host in hosts))


def smtp_shares(hosts: Iterable[Seen]) -> tuple[Share, ...]:
    return shares(tuple(SMTP_ROWS.values()), (host.smtp for host in hosts))


def name_shares(hosts: Iterable[Seen]) -> tuple[Share, ...]:
    return shares(NAME_ROWS, (host.name_row for host in hosts))


def places(hosts: Iterable[Seen], of: Callable[[Seen], str]) -> tuple[Counted, ...]:
    """Hosts and mails by country or network, most hosts first; nothing where *of* tells none."""
    found, mails = Counter[str](), Counter[str]()
    for host in hosts:
        found[of(host)] += 1
        mails[of(host)] += host.mails
    order = sorted(found, key=lambda row: (-found[row], -mails[row], row))
    return tuple(Counted(row, found[row], mails[row]) for row in order if row)


#: What :func:`places` can be asked for.
PLACES: tuple[tuple[str, Callable[[Seen], str]], ...] = (
    ("Countries", lambda host: host.country),
    ("Networks", lambda host: host.network),
)
#: A page shows so many of them, the others as one row.
_PLACES_AT_MOST = 20


def place_table(
    surveys: Sequence[Sequence[Seen]], of: Callable[[Seen], str]
) -> list[tuple[str, tuple[int, ...]]]:
    """For each place hosts and mails of each survey in turn; few places, and the rest as one."""
    order = [one.row for one in places([host for hosts in surveys for host in hosts], of)]
    shown, rest = order[:_PLACES_AT_MOST], f"{len(order) - _PLACES_AT_MOST} others"
    rows = {row: [0] * 2 * len(surveys) for row in (*shown, rest)}
    for number, hosts in enumerate(surveys):
        for one in places(hosts, of):
            counts = rows[one.row if one.row in rows else rest]
            counts[2 * number] += one.hosts
            counts[2 * number + 1] += one.mails
    return [(row, tuple(counts)) for row, counts in rows.items() if any(counts)]


def hours(hosts: Iterable[Seen]) -> tuple[int, ...]:
    """Mails by hour of the day, 24 counts."""
    counts = Counter(hour for host in hosts for hour in host.hours)
    return tuple(counts[hour] for hour in range(24))


def study_row(hosts: Iterable[Seen]) -> dict[str, int]:
    """The study's table for one run: hosts that nmap could name, and their total."""
    counts = Counter(host.os_row for host in hosts)
    row = {column: sum(counts[one] for one in members) for column, members in STUDY_COLUMNS.items()}
    return {**row, "total": sum(row.values())}


# -- several surveys ----------------------------------------------------------------------------

SAME = "same"
CHANGED = "changed class"
GONE = "gone"
BACK = "came back"
MISSING = "not measured again"


def churn(first: Iterable[Seen], second: Iterable[Seen]) -> dict[tuple[str, str], int]:
    """How many hosts went from which row to which; :data:`MISSING` where the second has none."""
    later = {host.ip: host.os_row for host in second}
    moves = Counter((host.os_row, later.get(host.ip, MISSING)) for host in first)
    return dict(moves)


def churn_summary(moves: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """The same as five counts."""
    counts = dict.fromkeys((SAME, CHANGED, GONE, BACK, MISSING), 0)
    for (before, after), count in moves.items():
        counts[_move(before, after)] += count
    return counts


def _move(before: str, after: str) -> str:
    if after == MISSING or before == after:
        return MISSING if after == MISSING else SAME
    if after == NO_ANSWER:
        return GONE
    return BACK if before == NO_ANSWER else CHANGED


def flagged(surveys: Sequence[Sequence[Seen]]) -> tuple[tuple[str, tuple[Seen | None, ...]], ...]:
    """Each host that any survey calls bot or suspect, worst first, with what each saw of it."""
    by_ip = [{host.ip: host for host in hosts} for hosts in surveys]
    worst: dict[str, float] = {}
    for hosts in surveys:
        for host in hosts:
            if host.label in FLAGGED:
                worst[host.ip] = max(host.score, worst.get(host.ip, host.score))
    order = sorted(worst, key=lambda ip: (-worst[ip], len(ip), ip))
    return tuple((ip, tuple(known.get(ip) for known in by_ip)) for ip in order)

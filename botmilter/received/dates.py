"""Dates as they stand in trace lines.  Pure, linear, never raises.

In comes the text after the last ``;`` of a ``Received:`` line, out comes an aware datetime or the
reason why there is none.  RFC 5322 section 3.3 and its obsolete forms (section 4.3), and what
MTAs write besides: ctime order (Smail, Obtuse), nanoseconds (SendGrid), years of two and three
digits, named zones, a zone glued to the time, no zone at all.

``email.utils`` is not used: it is four times slower, takes any zone for good, and its result does
not say what was wrong; a forger's date is evidence (see :mod:`botmilter.received.forgery`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

#: Reasons; compared by identity of text in forgery.py, shown to the user as they are.
MISSING = "no date"
UNREADABLE = "not a date"
IMPOSSIBLE = "a day or time that does not exist"
NO_ZONE = "no time zone, read as UTC"
BAD_ZONE = "a time zone that does not exist"
UNKNOWN_ZONE = "an unknown time zone name, read as UTC"

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}

#: Hours east of Greenwich.  The first row is RFC 822's, the others are what mail shows.
_ZONE_HOURS: dict[str, float] = {
    "UT": 0, "GMT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6,
    "PST": -8, "PDT": -7,
    "UTC": 0, "Z": 0, "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "CEST": 2, "MET": 1, "MEST": 2,
    "MEZ": 1, "MESZ": 2, "SAST": 2, "EET": 2, "EEST": 3, "MSK": 3, "MSD": 4, "GST": 4,
    "ICT": 7, "HKT": 8, "SGT": 8, "AWST": 8, "JST": 9, "KST": 9, "ACST": 9.5, "AEST": 10,
    "AEDT": 11, "NZST": 12, "NZDT": 13, "NST": -3.5, "NDT": -2.5, "AST": -4, "ADT": -3,
    "BRT": -3, "BRST": -2, "AKST": -9, "AKDT": -8, "HST": -10,
}  # fmt: skip

# date-time = [ day-of-week "," ] date time [CFWS]                       RFC 5322 section 3.3
# The time's colon may be a dot (old Asian MUAs), the zone may touch the time.
_TIME = r"(\d{1,2})[:.](\d\d)(?:[:.](\d\d)(?:[.,]\d{1,9})?)?"
_ZONE = r"(?: ?([+-]\d\d:?\d\d)(?!\d)| ?([A-Za-z]{1,5})(?![A-Za-z]))?"
_RFC = re.compile(
    r" ?(?:[A-Za-z]{3,9},? ?)?(\d{1,2})[ -]([A-Za-z]{3})[A-Za-z]{0,6}[ -](\d{2,4}),? "
    + _TIME
    + _ZONE,
    re.ASCII,
)
# asctime: Www Mmm dd hh:mm:ss [zone] yyyy [zone]
_CTIME = re.compile(
    r" ?(?:[A-Za-z]{3,9},? )?([A-Za-z]{3})[A-Za-z]{0,6} (\d{1,2}),? "
    + _TIME
    + r"(?: ([A-Za-z]{1,5}))? (\d{4})"
    + _ZONE,
    re.ASCII,
)
_ISO = re.compile(r" ?(\d{4})-(\d\d)-(\d\d)[ T]" + _TIME + _ZONE, re.ASCII)

#: Where a date may begin in a line that has no semicolon before it (SendGrid).
_SEARCH = re.compile(
    r"(?<= )(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? \d"
    r"|\d{4}-\d\d-\d\d[ T]\d|\d{1,2} [A-Z][a-z]{2} \d{4} \d)",
    re.ASCII,
)


class Reading(NamedTuple):
    """What was read of a date; ``end`` is where in the text it ended."""

    at: datetime | None
    defect: str | None
    end: int


_zones: dict[str, timezone] = {}


def read(text: str) -> Reading:
    """The date at the beginning of *text*, in which white space is single blanks."""
    found = _RFC.match(text)
    if found is not None:
        day, month, year, hour, minute, second, offset, name = found.groups()
        return make(day, month, year, hour, minute, second, offset, name=name, end=found.end())
    return _read_other(text)


def search(text: str) -> tuple[int, Reading] | None:
    """The last date within *text* and where it begins; for lines without a semicolon."""
    for place in [found.start() for found in _SEARCH.finditer(text)][-3:]:
        reading = read(text[place:])
        if reading.at is not None:
            return place, reading
    return None


def _read_other(text: str) -> Reading:
    found = _CTIME.match(text)
    if found is not None:
        month, day, hour, minute, second, before, year, offset, name = found.groups()
        return make(
            day, month, year, hour, minute, second, offset, name=name or before, end=found.end()
        )
    found = _ISO.match(text)
    if found is not None:
        year, month, day, hour, minute, second, offset, name = found.groups()
        return make(day, month, year, hour, minute, second, offset, name=name, end=found.end())
    return Reading(None, UNREADABLE if text.strip() else MISSING, 0)


def make(
    day: str,
    month: str,
    year: str,
    hour: str,
    minute: str,
    second: str | None,
    offset: str | None,
    *,
    name: str | None = None,
    end: int = 0,
) -> Reading:
    """The moment that these parts of a date name, as they are written."""
    zone = _zones.get(offset) if offset else None
    defect = None
    if zone is None:
        zone, defect = _zone(offset, name)
        if zone is None:
            return Reading(None, defect, end)
    number = _MONTHS.get(month.lower()) or (int(month) if month.isdigit() else 0)
    try:
        at = datetime(
            int(year) if len(year) == 4 else _full_year(year),
            number,
            int(day),
            int(hour),
            int(minute),
            min(int(second), 59) if second else 0,  # 60 is a leap second (RFC 5322)
            tzinfo=zone,
        )
        if not 1 < at.year < 9999:  # they have moments that UTC cannot name
            at.utctimetuple()
    except (ValueError, OverflowError):
        return Reading(None, IMPOSSIBLE, end)
    return Reading(at, defect, end)


def _full_year(text: str) -> int:
    """RFC 5322 section 4.3: 00-49 is this century, 50-99 and three digits count from 1900."""
    year = int(text)
    return year + 2000 if len(text) == 2 and year < 50 else year + 1900


def _zone(offset: str | None, name: str | None) -> tuple[timezone | None, str | None]:
    if offset is not None:
        minutes = int(offset[1:3]) * 60 + int(offset[-2:])
        minutes = -minutes if offset[0] == "-" else minutes
        # inhabited zones lie from -1200 to +1400, at full, half and three-quarter hours
        if not -720 <= minutes <= 840 or offset[-2:] not in ("00", "15", "30", "45"):
            return None, BAD_ZONE
        return _zones.setdefault(offset, timezone(timedelta(minutes=minutes))), None
    if name is None:
        return UTC, NO_ZONE
    hours = _ZONE_HOURS.get(name.upper())
    if hours is None:
        return UTC, UNKNOWN_ZONE
    return timezone(timedelta(hours=hours)), None

"""The text of a ``Received:`` line, taken apart.  Pure, linear in its input, never raises.

The grammar is that of RFC 5321 section 4.4::

    Time-stamp-line  = "Received:" FWS Stamp <CRLF>
    Stamp            = From-domain By-domain Opt-info [CFWS] ";" FWS date-time
    From-domain      = "FROM" FWS Extended-Domain
    By-domain        = CFWS "BY" FWS Extended-Domain
    Extended-Domain  = Domain / ( Domain FWS "(" TCP-info ")" ) / ( address-literal ... )
    TCP-info         = address-literal / ( Domain FWS address-literal )
    Opt-info         = [Via] [With] [ID] [For] [Additional-Registered-Clauses]

What real lines do to it: comments stand anywhere, nest, touch the words beside them or never
close; clauses come in any order, case and number; the semicolon is missing, doubled, or stands in
the middle.  And the From-domain holds the HELO name, which the *client* chose: it may contain
anything, an imitation of all that follows included.  Two rules keep the receiver's own words
apart from the client's:

* parentheses are matched from the inside, so a parenthesis too many in the HELO is an ordinary
  character and never swallows the receiver's comment;
* of several ``by`` clauses the one that directly follows the note of an address wins, because a
  HELO stands before that note, never behind it.  A later ``by`` without one is ignored.

What the client chose behind that note is out of the way by then (:mod:`botmilter.received.veil`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from botmilter.received import dates

_SPLIT = re.compile(r"([()])")
_FLAT = "()" * 64
_BY = frozenset(("by", "BY", "By", "bY"))


class Comment(str):
    """The text of a comment, without its outermost parentheses."""

    __slots__ = ()


Item = str
"""A word, or a :class:`Comment`."""


class Stamp(NamedTuple):
    """A line in its clauses."""

    head: list[Item]
    """What stands between ``from`` and ``by``: the peer; empty where there is no ``from``."""
    by: str | None
    tail: list[Item]
    """What follows the ``by`` name, up to the date."""
    date: dates.Reading
    has_from: bool


def unfold(value: bytes) -> str:
    """*value* in one line, runs of white space as one blank; UTF-8 (RFC 6531) or else Latin-1."""
    joined = b" ".join(value.split())
    try:
        return joined.decode()
    except UnicodeDecodeError:
        return joined.decode("latin-1")


def items(text: str) -> list[Item]:
    """The words and comments of *text*, in order."""
    parts = _SPLIT.split(text)
    if len(parts) == 1:
        return list[Item](text.split())
    found: list[Item] = []
    if _is_flat(parts):
        for at in range(0, len(parts) - 1, 4):
            found += parts[at].split()
            found.append(Comment(parts[at + 2]))
        found += parts[-1].split()
        return found
    closing = _closing(parts)
    loose: list[str] = []
    at = 0
    while at < len(parts):
        end = closing.get(at)
        if end is not None:
            found += "".join(loose).split()
            loose.clear()
            found.append(Comment("".join(parts[at + 1 : end])))
            at = end
        else:
            loose.append(parts[at])
        at += 1
    found += "".join(loose).split()
    return found


def _is_flat(parts: Sequence[str]) -> bool:
    """Whether the parentheses open and close in turn, as nearly always."""
    marks = "".join(parts[1::2])
    return len(marks) % 2 == 0 and marks == _FLAT[: len(marks)]


def _closing(parts: Sequence[str]) -> dict[int, int]:
    """Where each parenthesis that has a partner finds it."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    for at in range(1, len(parts), 2):
        if parts[at] == "(":
            opened.append(at)
        elif parts[at] == ")" and opened:
            closing[opened.pop()] = at
    return closing


def without_comments(text: str) -> str:
    """*text* less its comments: what stands beside an AS note or ``(may be forged)``."""
    return " ".join(item for item in items(text) if not isinstance(item, Comment))


def stamp(text: str, holds_address: Callable[[Item], bool]) -> Stamp:
    """The clauses of *text*, an unfolded line; *holds_address* knows the note of one."""
    body, date = _cut_date(text)
    parts = items(body)
    if len(parts) == 1 and isinstance(parts[0], Comment):
        return Stamp([], None, [*parts], date, False)
    if parts and isinstance(parts[0], Comment) and parts[0][:5].lower() == "from ":
        # (from HOST [192.0.2.7]) by gateway: sendmail's local lines, Norton's gateway
        parts[:1] = ["from", *items(parts[0][5:])]
    if not parts or parts[0].lower() != "from" or isinstance(parts[0], Comment):
        return _without_from(parts, date)
    at = _find_by(parts, holds_address)
    if at is None:
        return Stamp(parts[1:], None, [], date, True)
    by, tail = _by(parts, at)
    return Stamp(parts[1:at], by, tail, date, True)


def _without_from(parts: list[Item], date: dates.Reading) -> Stamp:
    for at, item in enumerate(parts):
        if item in _BY and not isinstance(item, Comment):
            by, tail = _by(parts, at)
            # indimail-mta smtpd 1234 from HOST (…) by: what stands before it is the program's
            start = parts.index("from", 0, at) + 1 if "from" in parts[:at] else at
            return Stamp(parts[start:at], by, tail, date, start < at)
    return Stamp([], None, parts, date, False)


def _by(parts: list[Item], at: int) -> tuple[str | None, list[Item]]:
    name = parts[at + 1] if at + 1 < len(parts) else None
    if name is None or isinstance(name, Comment):
        return None, parts[at + 1 :]
    return name.rstrip(";,") or None, parts[at + 2 :]


def _find_by(parts: Sequence[Item], holds_address: Callable[[Item], bool]) -> int | None:
    """Where the receiver's own ``by`` stands."""
    # parts[1] is the HELO, even if a client said "HELO by"
    first = _next_by(parts, 2)
    if first is None:
        return _next_by(parts, 1)
    chosen = first
    later = _next_by(parts, first + 2)
    while later is not None:
        if _follows_address(parts, first + 1, later, holds_address):
            chosen = later
        later = _next_by(parts, later + 2)
    return chosen


def _next_by(parts: Sequence[Item], start: int) -> int | None:
    for at in range(start, len(parts)):
        if parts[at] in _BY and not isinstance(parts[at], Comment):
            return at
    return None


def _follows_address(
    parts: Sequence[Item], start: int, end: int, holds_address: Callable[[Item], bool]
) -> bool:
    """Whether the note of an address stands before *end*; a word at *start* is a host's name.

    Other comments and ``via ESMTP`` may stand between.
    """
    at = end - 1
    while at >= start:
        is_comment = isinstance(parts[at], Comment)
        # a bracket is no host's name, though "HELO x by" puts it where one stands
        is_note = is_comment or at > start or parts[at][:1] == "["
        if is_note and holds_address(parts[at]):
            return True
        if not is_comment and parts[at - 1] not in ("via", "with"):
            return False
        at -= 1 if is_comment else 2
    return False


def _cut_date(text: str) -> tuple[str, dates.Reading]:
    """The line without its date, and the date."""
    text = text.rstrip("; ")
    body, semicolon, rest = text.rpartition(";")
    if semicolon:
        reading = dates.read(rest)
        # a HELO may hold a semicolon and a date; the receiver's clauses would follow
        if reading.end and " by " not in rest[reading.end :].lower():
            return body, reading
    found = dates.search(text)
    if found is not None:
        place, reading = found
        if " by " not in text[place:].lower():
            return text[:place], reading
    if semicolon and " by " not in rest.lower() and ")" not in rest:
        return body, dates.read(rest)
    return text, dates.Reading(None, dates.MISSING, 0)


class Options(NamedTuple):
    """``Opt-info``: each value as it stands, None where the clause is missing."""

    protocol: list[str]
    """The words of the ``with`` clause (of ``via`` where there is none)."""
    id: str | None
    envelope_for: str | None
    comments: list[Comment]


_KEYWORDS = {
    written: keyword
    for keyword in ("with", "via", "id", "for")
    for written in (keyword, keyword.upper(), keyword.capitalize())
}


def options(tail: Sequence[Item]) -> Options:
    """The clauses behind the ``by`` name; the first of each kind counts."""
    found: dict[str, list[str]] = {}
    comments: list[Comment] = []
    words: list[str] = []
    for item in tail:
        if isinstance(item, Comment):
            comments.append(item)
            continue
        keyword = _KEYWORDS.get(item)
        if keyword is None:
            words.append(item)
        else:
            words = []
            found.setdefault(keyword, words)
    return Options(
        found.get("with") or found.get("via") or [],
        _first(found.get("id")),
        _first(found.get("for")),
        comments,
    )


def _first(words: list[str] | None) -> str | None:
    return words[0].strip("<>;,") or None if words else None

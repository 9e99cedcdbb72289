"""What the sender chose in a ``Received:`` line, put out of the way.  Pure, linear, never raises.

Some text right of the receiver's note of its client is the client's as well: envelope addresses,
whose local part may be quoted and hold anything (RFC 5321 section 4.1.2), ident's answer (RFC 1413)
and the names in a certificate.  In such text each character is replaced by a letter that no grammar
here knows, so that neither a parenthesis nor a ``by`` nor a program's name in it means anything;
:func:`lift` puts the characters back where the text itself is wanted.

Each text is found by how its program writes it:

* an envelope address behind its keyword, as RFC 5321 spells one.  A quoted one counts only if the
  quotation marks behind it come in pairs: else the mark that seems to open it is a lone one of the
  client's HELO, and what would be hidden is the receiver's;
* what follows ``helo=`` and ``ident=`` in Exim's note (``host.c``, ``host_build_sender_fullhost``):
  Exim writes the address first and its own ``) by`` last.  CommuniGate's ``HELO`` likewise;
* the names in Postfix' ``(Client CN "…", Issuer "…" (not verified))``: Postfix balances their
  parentheses (``smtpd.c``, ``comment_sanitize``), so they cannot hold its end.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

# blanks are plain ones: the line is unfolded, and other white space is a character like any other
_ATOM = r'[^"<>() ;,\\]*'
_QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
#: A mailbox, or as much of one as may stand there.  Each character can be matched in one way only:
#: that keeps it linear without possessive quantifiers, which Python 3.11.2 gets wrong (gh-106052).
#: There is no bound on its length: who could exceed the bound would be unveiled.
_MAILBOX = rf"{_ATOM}(?:(?:\\.|{_QUOTED}){_ATOM})*"
#: A keyword has a blank, "(" or "<" before it, which a mailbox has only quoted: so a search that
#: goes on behind a keyword does not read the same mailbox once more.
_CHOSEN = re.compile(
    r"[ (<](?<!\\.)(?:(?:[Ff]or |FOR |[Ii][Dd] (?=<)|[Ss]ender:? ?|envelope-(?:from|sender)[ =]"
    r"|[Rr]eturn-[Pp]ath:? ?|mailfrom:|rfc822;)"
    rf"(?:<(?P<bracketed>{_MAILBOX})>|(?P<bare>{_MAILBOX}))"
    # each name has 256 octets at most (tls.h, CCERT_BUFSIZ)
    r'|Client CN "(?P<names>.{0,600}?)" \((?:not verified|verified OK)\)\))'
)
#: qmail-scanner's line begins with the sender's address; elsewhere there stands a HELO or a name.
_FIRST_WORD = re.compile(rf"from <?(?P<bare>{_MAILBOX})")
_MARK = re.compile(r'(?<!\\)(?:\\\\)*"')

_PORT = r"(?::\d+)?"
_ADDRESS_FIRST = re.compile(
    rf"from (?:\[[^\] ]+\]{_PORT} \(|[^ (]+ \(\[[^\] ]+\]{_PORT} )(?:port=\d+ ?|account [^ ]+ )?"
    r"(?=helo=|ident=|HELO )"
)
_KEYS = re.compile(r"(?:helo=|HELO )(?P<helo>.*?)(?: ident=(?P<ident>.*))?|ident=(?P<only>.*)")
#: Who notes the address first; what stands behind the ``by`` tells.
_NOTES_ADDRESS_FIRST = ("(Exim ", "(CommuniGate Pro")

_BASE = 0x100000
#: All printable ASCII but the ``@``, by which an address is told from a name.
_VEIL = {code: _BASE + code for code in range(0x20, 0x7F) if code != 0x40}
_LIFT = {veiled: code for code, veiled in _VEIL.items()}


def veil(text: str) -> str:
    """*text*, an unfolded line, with what the sender chose in other letters."""
    parts: list[str] = []
    done = 0
    for start, end in _chosen(text):
        parts += text[done:start], text[start:end].translate(_VEIL)
        done = end
    return _veil_keys("".join((*parts, text[done:])) if parts else text)


def lift(text: str | None) -> str | None:
    """*text* as it stood in the line."""
    return text if text is None or text.isascii() else text.translate(_LIFT)


def _chosen(text: str) -> Iterator[tuple[int, int]]:
    """Where addresses and certificates' names stand, in order."""
    marks: list[int] | None = None
    found = _FIRST_WORD.match(text)
    if found is None or '"' not in found[0]:
        found = _CHOSEN.search(text)
    while found is not None:
        kind = found.lastgroup or ""
        start, end = found.span(kind)
        is_chosen = kind != "bare" or "@" in found[kind]
        if is_chosen and kind != "names" and '"' in found[kind]:
            if marks is None:
                marks = [mark.end() for mark in _MARK.finditer(text)]
            is_chosen = (len(marks) - bisect_right(marks, end)) % 2 == 0
        if is_chosen:
            yield start, end
        found = _CHOSEN.search(text, end if is_chosen else found.start() + 1)


def _veil_keys(text: str) -> str:
    before = _ADDRESS_FIRST.match(text)
    if before is None:
        return text
    end = text.rfind(") by ")
    if not any(mark in text[end:] for mark in _NOTES_ADDRESS_FIRST):
        return text
    keys = _KEYS.fullmatch(text, before.end(), end)
    if keys is None:
        return text
    for name in ("ident", "only", "helo"):
        start, stop = keys.span(name)
        if start >= 0:
            text = text[:start] + text[start:stop].translate(_VEIL) + text[stop:]
    return text

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
  parentheses (``smtpd.c``, ``comment_sanitize``), so the comment ends where its own is closed,
  whatever quotation marks they hold.  Behind Postfix' own ``(using …)`` only: a HELO may begin so,
  and the receiver's parenthesis would close it;
* sendmail's ``for``, which is RCPT's argument as the client wrote it, comments and all: up to the
  semicolon that stands outside of them (``parseaddr.c``, ``prescan``).
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
#: goes on behind a keyword does not read the same mailbox once more.  Blank, "<" or ";" is part of
#: each keyword too, or what answers ident to qmail or Sendmail could be one.
_CHOSEN = re.compile(
    r"[ (<](?<!\\.)(?:(?:[Ff]or |FOR |from (?=<)|[Ii][Dd] (?=<)|[Ss]ender: |rfc822;"
    r"|envelope-(?:from|sender)(?: |=(?=<))|[Rr]eturn-[Pp]ath:? ?(?=[ <]))"
    rf"(?:<(?P<bracketed>{_MAILBOX})>|(?P<bare>{_MAILBOX}))"
    rf"|mailfrom:(?P<alibaba>{_MAILBOX})(?= fp:)"
    r'|(?<=\()(?P<names>Client CN "))'
)
_PARENTHESIS = re.compile(r"[()]")
#: Two names of 256 octets at most (tls.h, CCERT_BUFSIZ), as many parentheses added to balance them.
_NAMES_AT_MOST = 1200
#: qmail-scanner's line begins with the sender's address; elsewhere there stands a HELO or a name.
_FIRST_WORD = re.compile(rf"from <?(?P<bare>{_MAILBOX})")
_POSTFIX_TLS = re.compile(r'from [^()"<>;]+ \([^() ]+ \[[^\]()]+\]\) \(using ')
#: HELO, note, login, by, version as ``8.17.1/8.17.1``, with, id, TLS, up to the argument.
_SENDMAIL_FOR = re.compile(
    r"from [^()]+ \((?:[^()]|\(may be forged\))*\)(?: \([^()]*\))*"
    r" by [^ ()]+ \([^() ]+/[^()]*\)(?: with [^ ()]+)? id [^ ()]+(?: \([^()]*\))* for "
)
_PRESCANNED = re.compile(r'[\\"()<> ;]')
_MARK = re.compile(r'(?<!\\)(?:\\\\)*"')

_PORT = r"(?::\d+)?"
_ADDRESS_FIRST = re.compile(
    rf"from (?:\[[^\] ]+\]{_PORT} \(|[^ (]+ \(\[[^\] ]+\]{_PORT} )(?:port=\d+ ?|account [^ ]+ )?"
    r"(?=helo=|ident=|HELO )"
)
_KEYS = re.compile(r"(?:helo=|HELO )(?P<helo>.*?)(?: ident=(?P<ident>.*))?|ident=(?P<only>.*)")
#: Who notes the address first; what stands behind the ``by`` tells.
_NOTES_ADDRESS_FIRST = ("(Exim ", "(CommuniGate Pro", "(ecelerity ")

_BASE = 0x100000
#: All printable ASCII but the ``@``, by which an address is told from a name.
_VEIL = {code: _BASE + code for code in range(0x20, 0x7F) if code != 0x40}
_LIFT = {veiled: code for code, veiled in _VEIL.items()}


def veil(text: str) -> str:
    """*text*, an unfolded line, with what the sender chose in other letters."""
    parts: list[str] = []
    done = 0
    before = _ADDRESS_FIRST.match(text)
    for start, end in _chosen(text):
        parts += text[done:start], text[start:end].translate(_VEIL)
        done = end
    if parts:
        text = "".join((*parts, text[done:]))
    return text if before is None else _veil_keys(text, before.end())


def lift(text: str | None) -> str | None:
    """*text* as it stood in the line."""
    return text if text is None or text.isascii() else text.translate(_LIFT)


def _chosen(text: str) -> Iterator[tuple[int, int]]:
    """Where addresses and certificates' names stand, in order."""
    argument = _SENDMAIL_FOR.match(text) if " for " in text else None
    if argument is not None and (end := _argument_end(text, argument.end())):
        start = argument.end()
        is_bracketed = text[start] == "<" and text[end - 1] == ">"
        yield (start + 1, end - 1) if is_bracketed else (start, end)
        found = _CHOSEN.search(text, end)
    else:
        found = _FIRST_WORD.match(text) if '"' in text else None
        if found is None or '"' not in found[0]:
            found = _CHOSEN.search(text)
    marks: list[int] | None = None
    may_name = "(Client CN " in text and _POSTFIX_TLS.match(text) is not None
    while found is not None:
        kind = found.lastgroup or ""
        start, end = found.span(kind)
        if kind == "names":
            start, end = end, _closing(text, found.start()) if may_name else 0
            is_chosen, may_name = end > start, False  # Postfix writes one such comment
        else:
            is_chosen = kind != "bare" or _is_bare_address(found)
            if is_chosen and '"' in found[kind]:
                if marks is None:
                    marks = [mark.end() for mark in _MARK.finditer(text)]
                is_chosen = (len(marks) - bisect_right(marks, end)) % 2 == 0
        if is_chosen:
            yield start, end
        found = _CHOSEN.search(text, end if is_chosen else found.start() + 1)


def _closing(text: str, at: int) -> int:
    """Where the parenthesis that opens at *at* is closed; 0 where it is not."""
    depth = 0
    for mark in _PARENTHESIS.finditer(text, at, at + _NAMES_AT_MOST):
        depth += 1 if mark[0] == "(" else -1
        if depth == 0:
            return mark.start()
    return 0


def _argument_end(text: str, at: int) -> int:
    """Where the argument that begins at *at* ends with a semicolon; 0 where it does not: a blank
    outside of brackets, comments and quotation marks is no part of it."""
    brackets = comments = 0
    is_quoted, done = False, at
    for mark in _PRESCANNED.finditer(text, at):
        letter = mark[0]
        if mark.start() < done:  # behind a backslash
            continue
        if letter == "\\":
            done = mark.start() + 2
        elif comments:
            comments += {"(": 1, ")": -1}.get(letter, 0)
        elif is_quoted or letter == '"':
            is_quoted = is_quoted != (letter == '"')
        elif letter == "(":
            comments = 1
        elif letter in "<>":
            brackets += 1 if letter == "<" else -1
        elif letter in " ;" and brackets <= 0:
            return mark.start() if letter == ";" else 0
    return 0


def _is_bare_address(found: re.Match[str]) -> bool:
    r"""Whether an address without angle brackets stands there, and not a word.

    A name alone is one in ``(envelope-from user)``, but not in ``(envelope-from [192.0.2.7])``,
    which is a client whom DNS calls that.  ``helo=x for a@\) by``: the parenthesis is Exim's.
    """
    bare = found["bare"]
    if bare.endswith("\\)"):
        return False
    return "@" in bare or (found[0][1:10] == "envelope-" and bare[:1] != "[")


def _veil_keys(text: str, begin: int) -> str:
    """*text* with the values of the keys from *begin* on veiled."""
    end = text.rfind(") by ")
    if not any(mark in text[end:] for mark in _NOTES_ADDRESS_FIRST):
        return text
    keys = _KEYS.fullmatch(text, begin, end)
    if keys is None:
        return text
    for name in ("ident", "only", "helo"):
        start, stop = keys.span(name)
        if start >= 0:
            text = text[:start] + text[start:stop].translate(_VEIL) + text[stop:]
    return text

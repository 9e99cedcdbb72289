"""Who handed the mail over, as the receiver noted it.  Pure, linear, never raises.

In comes what stands between ``from`` and ``by``: the client's HELO, which may hold anything, and
behind it what the receiver saw.  So the words are read from the right: the first comment or
bracket with an address is the receiver's, whatever lies left of it is a name the client may have
chosen, even if it looks like an address, a comment, or a whole clause.

Shapes (all others are mixtures)::

    helo (rdns [192.0.2.7])                  Postfix, sendmail, Google, Courier
    helo (ident@rdns [192.0.2.7] (may be forged))        sendmail
    helo ([192.0.2.7])                       no name found; Exim, CommuniGate: HELO equals the name
    rdns ([192.0.2.7]:4321 helo=helo ident=x)            Exim
    [192.0.2.7] (port=4321 helo=helo)        Exim, no name found
    rdns (HELO helo) (ident@192.0.2.7)       qmail
    name (192.0.2.7)                         qmail: HELO equals the name; Exchange: the HELO
    helo [192.0.2.7]                         MDaemon, IMail
    [192.0.2.7] (account user HELO helo)     CommuniGate
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from botmilter.model import IPAddress
from botmilter.net import parse_ip
from botmilter.received.dialects import QMAIL, Dialect, First
from botmilter.received.grammar import Comment, Item, without_comments


class Peer(NamedTuple):
    """What a line says about the client; None where it says nothing."""

    ip: IPAddress | None = None
    rdns: str | None = None
    is_forged: bool = False
    """The receiver found that the name does not lead back."""
    helo: str | None = None
    ident: str | None = None
    notes: tuple[str, ...] = ()
    """Comments of the receiver's about TLS, authentication, the envelope."""
    is_broken: bool = False
    """Something stands where the address belongs, and it is none."""
    dialect: Dialect | None = None
    """Set where the shape itself tells the program."""
    right: tuple[Item, ...] = ()
    """What stands right of the comment with the address: the receiver's words."""


class Noted(NamedTuple):
    """A receiver's comment or bracket that notes an address."""

    ip: IPAddress | None
    """None if something stands there that cannot be read."""
    is_bracketed: bool = False
    name: str | None = None
    """The name beside the address; None if there is no place for one."""
    is_forged: bool = False
    helo: str | None = None
    ident: str | None = None
    is_login: bool = False


#: What programs write in the place of a name they did not find.
_NO_NAME = frozenset(
    (
        *("", "unknown", "<unknown>", "unverified", "softdnserr", "<unknown.domain>", "rdns"),
        *("none", "unknown_domain"),
    )
)

#: Comments that say something else about the connection, and may hold addresses.
_NOTES = (
    "using ", "no client cert", "client ", "not verified", "authenticated", "auth:", "auth=",
    "tls", "ssl", "may be forged", "envelope-", "return-path", "squirrelmail", "nasmail",
    "proxying for", "mailfrom:", "misconfigured", "version=", "cipher", "peer crosscheck", "uid ",
    "for ", "original mail from", "user authenticated", "user=", "ident: ",
)  # fmt: skip

# HELO x / EHLO / LHLO: qmail, GMX, Zimbra; account u HELO x: CommuniGate; port=1 helo=x: Exim
_GREETING = re.compile(
    r"(?:account (?P<user>\S+) ?)?(?:port=\d+ ?)?"
    r"(?:(?:HELO|EHLO|LHLO)(?: (?P<spoken>.*)|$)|helo=(?P<keyed>\S*)|(?=ident=)|$)"
)
_HELO_KEY = re.compile(r'(?:^| )(?:helo=|"(?:HELO|EHLO) )([^\s"]*)')  # quoted: ZMailer
_IDENT_KEY = re.compile(r"(?:^| )ident=(\S*)")
_KEYS = re.compile(r'(?::\d+)? ?(?:(?:helo|ident|port)=|")')
# What was meant for an address: 10.160.0.999, 2001:db8:zz::1, 193.x@pot.60, a time of day
_LIKE_ADDRESS = re.compile(r"\.\d+(?::\d+)?$|:[^: ]*:|^\d+$")
# anything [192.0.2.7], ident@rdns [192.0.2.7] (may be forged); rdns 192.0.2.7, ident@192.0.2.7
_NAME_AND_ADDRESS = re.compile(r"(?:.*\[[^][ ]+\]|[A-Za-z0-9_.-]+ [^ ]+|[^ ]+@[^ ]+)(?:$| \()")
# behind (HELO x), of s/qmail's, whose ident may hold blanks
_IDENT_AND_ADDRESS = re.compile(r".*@(?:\[[^][@ ]+\]|[^][@ ]+)$")
# an ident or a name with keys in it, and then the receiver's own bracket
_LAST_BRACKET = re.compile(r"[@ ]\[[^][@ ]+\]$")
_HELO_VERBS = ("HELO ", "EHLO ", "LHLO ")
_LOCAL_BRACKETS = ("unix", "local", "[unix")
_WEBMAIL = ("squirrelmail", "nasmail")


def address(text: str) -> IPAddress | None:
    """*text* as an address: RFC 5321's tag, a zone id and a port (``:25``, ``.4321``) dropped."""
    if text[:5].lower() == "ipv6:":
        text = text[5:]
    found = parse_ip(text)
    if found is None and text.count(".") >= 3:
        for mark in (":", "."):
            host, _, port = text.rpartition(mark)
            if port.isdecimal() and host.count(".") == 3:
                return parse_ip(host)
    return found


def holds_address(item: Item) -> bool:
    """Whether *item* is a receiver's note of its client's address."""
    if not isinstance(item, Comment):
        noted = _read_word(item)
    else:
        noted = None if _is_note(item) else _read_comment(item)
    return noted is not None and noted.ip is not None


def read(head: Sequence[Item], dialect: Dialect) -> Peer:
    """The peer of a line with *head* between ``from`` and ``by``."""
    said = _Said(dialect)
    for at in range(len(head) - 1, -1, -1):
        item = head[at]
        if isinstance(item, Comment):
            noted = said.comment(item, head[at - 1] if at else "")
        else:
            noted = said.word(item)
        if noted is not None:
            if noted.ip is None:
                said.is_broken = True
                break
            right = head[at + 1 :] if isinstance(item, Comment) else ()
            return _named(noted, head[:at], right, said)
    return Peer(
        helo=said.helo or _claimed(head),
        ident=said.ident,
        notes=tuple(said.notes),
        is_broken=said.is_broken or (len(head) == 1 and _LIKE_ADDRESS.search(head[0]) is not None),
    )


def _claimed(head: Sequence[Item]) -> str | None:
    """The first name of a line without an address."""
    first = head[0] if head else ""
    return None if isinstance(first, Comment) or first.lower() in _NO_NAME else first or None


class _Said:
    """What the receiver says to the right of the address: filled from the right to the left."""

    __slots__ = ("dialect", "has_name", "helo", "ident", "is_broken", "notes")

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.helo: str | None = None
        self.ident: str | None = None
        self.notes: list[str] = []
        self.is_broken = False
        self.has_name = False
        """A comment names the peer, so a literal to its left is the HELO."""

    def comment(self, item: Comment, left: Item) -> Noted | None:
        """*left* is what stands before it."""
        if isinstance(left, Comment) and left[:5] in _HELO_VERBS and _IDENT_AND_ADDRESS.match(item):
            noted = _read_comment(item)
            if noted is not None and noted.ip is not None:
                return noted
        if _is_note(item):
            self.notes.append(item)
            return None
        greeting = self._greeting(item)
        if greeting is not None:
            self.helo = greeting["spoken"] or greeting["keyed"] or self.helo
            # (HELO [192.0.2.7]) and no address elsewhere: a host called HELO, or a line cut short
            self.is_broken = self.is_broken or (greeting["spoken"] or "")[:1] == "["
            self.ident = greeting["user"] or self.ident
            if greeting["user"]:
                self.notes.append(item)
            elif (ident := _IDENT_KEY.search(item)) is not None:
                self.ident = ident[1] or None
            return None
        noted = _read_comment(item)
        if noted is None:
            self.has_name = self.has_name or "." in item or item.lower() in _NO_NAME
            self.is_broken = self.is_broken or _LIKE_ADDRESS.search(item) is not None
        return noted

    def _greeting(self, item: Comment) -> re.Match[str] | None:
        """``(HELO x)``.  Postfix and sendmail write none: there a host is called that."""
        if not item or self.dialect.puts_helo_first:
            return None
        found = _GREETING.match(item)
        if found is not None and item[:5] not in _HELO_VERBS and _is_peer(item):
            return None
        return found

    def word(self, item: str) -> Noted | None:
        if item[:5].lower() == "helo=":
            self.helo = item[5:]
            return None
        if item[0] == '"' == item[-1]:
            self.helo = item.strip('"')  # claiming to be "x": Obtuse smtpd
            return None
        return None if self.has_name else _read_word(item)


def _is_note(comment: str) -> bool:
    return comment[:18].lower().startswith(_NOTES) and not _is_peer(comment)


def _is_peer(comment: str) -> bool:
    """``ssl1.example [192.0.2.7]``, ``authenticated@rdns [192.0.2.7]``: whoever owns the address
    may have DNS name it so, and whoever answers ident may answer that.

    A program's own remark about something else does not end in an address; what ident answered to
    Courier may.
    """
    if comment[:7].lower() == "ident: " or _NAME_AND_ADDRESS.match(comment) is None:
        return False
    noted = _read_comment(comment)
    return noted is not None and noted.ip is not None


def _named(noted: Noted, left: Sequence[Item], right: Sequence[Item], said: _Said) -> Peer:
    """Tell the HELO from the looked-up name."""
    shape: Dialect | None = None
    rdns, helo, dialect = noted.name, said.helo, said.dialect
    if noted.name and not left:  # from (name [192.0.2.7]) by: nothing but what it said
        rdns, helo = None, helo or noted.name
    elif noted.name is not None and not (noted.name == "" and _ends_in_greeting(left, dialect)):
        helo = _name(left) or helo
    elif noted.helo is not None:
        rdns, helo = _name(left), noted.helo
    elif helo is not None:
        rdns = _name(left)
    elif left and isinstance(left[-1], Comment) and not dialect.puts_helo_first:
        greeting = _GREETING.match(left[-1])
        spoken = left[-1] if greeting is None else greeting["spoken"] or greeting["keyed"]
        rdns, helo, shape = _name(left[:-1]), spoken, QMAIL
    else:
        first = dialect.bracketed if noted.is_bracketed else dialect.bare
        if any(note.lower().startswith(_WEBMAIL) for note in said.notes):
            first = First.NEITHER
        name = _name(left)
        if first is First.BOTH and (name or "").lower() in _NO_NAME:  # qmail had neither
            name = None
        helo = name if first in (First.HELO, First.BOTH) else None
        rdns = name if first in (First.RDNS, First.BOTH) else None
    if noted.is_login:
        said.notes.append("authenticated")
    return Peer(
        noted.ip,
        clean_rdns(rdns),
        noted.is_forged or any("may be forged" in note for note in said.notes),
        helo or None,
        noted.ident or said.ident,
        tuple(said.notes),
        dialect=shape,
        right=tuple(right),
    )


def _ends_in_greeting(left: Sequence[Item], dialect: Dialect) -> bool:
    """``(HELO x) (ident@[192.0.2.7])``: qmail-ldap; elsewhere that would be part of a HELO."""
    return (
        bool(left)
        and isinstance(left[-1], Comment)
        and not dialect.puts_helo_first
        and _GREETING.match(left[-1]) is not None
    )


def _name(left: Sequence[Item]) -> str | None:
    """The text of *left* the way it stood there; None if there is none."""
    if len(left) == 1 and not isinstance(left[0], Comment):
        return left[0]
    words = [f"({item})" if isinstance(item, Comment) else item for item in left]
    while words and words[-1] in ("-", "[", "from", "FROM"):  # IIS 5.5, MDaemon, Smail
        words.pop()
    return " ".join(words) or None


def clean_rdns(name: str | None) -> str | None:
    """*name* without trailing dot; None where it stands for none, or is an address."""
    if name is None or name.lower() in _NO_NAME:
        return None
    name = name.rstrip(".")
    if not name or name[0] == "[" or address(name) is not None:
        return None
    return name


def _read_comment(comment: str) -> Noted | None:
    text = comment.strip()
    if text[:1] == "(" and text[-1:] == ")" and text.count("(") == 1:  # Exchange's shadow copies
        text = text[1:-1]
    is_forged = False
    if "(" in text:
        is_forged = "(may be forged)" in text
        text = without_comments(text)
    if "[" in text:
        return _read_bracket(text, is_forged)
    ident, at_sign, place = text.rpartition("@")
    words = place.replace(",", " ").split()
    if not words:
        return None
    ip = address(words[0])
    if ip is not None:
        helo = words[2] if len(words) == 3 and words[1] in ("HELO", "EHLO") else None  # smap
        is_login = len(words) > 1 and words[1] == "with"  # Yahoo: u@192.0.2.7 with plain
        return Noted(ip, helo=helo, ident=ident if at_sign else None, is_login=is_login)
    if len(words) == 2 and not at_sign:
        ip = address(words[1])
        if ip is not None:
            return Noted(ip, name=words[0])
    return None


def _read_bracket(text: str, is_forged: bool) -> Noted | None:
    start, end = _bracket(text)
    inside = text[start + 1 : end].strip()
    ip = address(inside)
    if ip is None:
        return None if inside.lower().startswith(_LOCAL_BRACKETS) else Noted(None)
    before, after = text[:start].strip(), text[end + 1 :]
    if not before:
        if "=" not in after and '"' not in after:
            return Noted(ip, is_bracketed=True)
        helo, ident = _HELO_KEY.search(after), _IDENT_KEY.search(after)
        return Noted(
            ip,
            is_bracketed=True,
            helo=helo[1] if helo else None,
            ident=(ident[1] or None) if ident else None,
        )
    if before.startswith("account ") and "verified" in after:
        return Noted(ip, is_bracketed=True, ident=before.split()[-1], is_login=True)
    user, _, name = before.rpartition("@")
    user = user.removeprefix("IDENT:")
    name = name.rpartition(" ")[2]
    return Noted(ip, True, name, is_forged or "may be forged" in after, ident=user or None)


def _bracket(text: str) -> tuple[int, int]:
    """Where the receiver's bracket stands: the last one, or the first if Exim's keys follow it.

    Left of the last bracket may stand an ident, right of Exim's a HELO: both are the client's.
    Exim's HELO is out of the way by now, where it holds a bracket (:mod:`botmilter.received.veil`).
    """
    end = text.find("]")
    has_keys = text[0] == "[" and end > 0 and _KEYS.match(text, end + 1) is not None
    if has_keys and _LAST_BRACKET.search(text, end) is None:
        return 0, end
    start = text.rfind("[")
    end = text.find("]", start)
    return start, end if end > 0 else len(text)


def _read_word(word: str) -> Noted | None:
    word = word.strip(",;")
    start = word.rfind("[")
    if start < 0:
        ip = address(word)
        return Noted(ip, is_bracketed=True) if ip is not None else None
    end = word.find("]", start)
    inside = word[start + 1 : end if end > 0 else len(word)]
    ip = address(inside)
    if ip is None and _LIKE_ADDRESS.search(inside) is None:
        return None
    return Noted(ip, is_bracketed=True, helo=word[:start] or None)

"""A mail's header block, or one header, as a chain of hops.  Pure, linear, never raises.

``X-Received`` and the like are other headers.  A bare CR is white space as for Postfix and
Sendmail, never the beginning of a new header: it cannot smuggle a line in.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from botmilter.model import Chain, Hop, HopKind, HopSource
from botmilter.received import dialects, grammar, peer, plain, veil
from botmilter.received.dialects import Dialect
from botmilter.received.grammar import Comment, Stamp
from botmilter.received.peer import Peer

#: Name and value, as a milter is given them.
HeaderField = tuple[str, bytes]

#: Of a line, octets.  What goes into one is bounded by what MTAs take of a command (RFC 5321
#: section 4.5.3.1); real lines have some hundred.  A hostile one takes 1 ms for each kilobyte.
LINE_AT_MOST = 16_384

_SENDER = re.compile(
    r"(?:envelope-(?:from|sender)|return-path:?)[ =]*<?([^<>\s,;)]*)", re.IGNORECASE
)


def parse(headers: bytes | Iterable[HeaderField], client: Hop | None = None) -> Chain:
    """The chain of a mail: a raw header block, or its fields in order.

    A block may begin with mbox ``From`` lines and ends at the first empty line.  *client* is the
    connection the mail came in by; where a saved mail's first line tells of that same connection,
    it is not counted twice.
    """
    values = (
        split(headers)
        if isinstance(headers, bytes)
        else [value for name, value in headers if name.strip().lower() == "received"]
    )
    first = 0 if client is None else 1
    lines = [parse_line(value, index) for index, value in enumerate(values, first)]
    _hand_down_senders(lines)
    if client is not None:
        lines = _join(client, lines)
    return Chain(tuple(lines), tuple(_defects(lines)))


def split(block: bytes) -> Iterator[bytes]:
    """The values of the ``Received`` fields of a raw header block, folded as they are."""
    block = block.removeprefix(codecs.BOM_UTF8)  # an editor's, and before the true top line
    if b"\r\n" in block:
        block = block.replace(b"\r\n", b"\n")
    end = block.find(b"\n\n")
    block = b"\n" + (block if end < 0 else block[: end + 1])
    lower = block.lower()
    at = lower.find(b"\nreceived")
    while at >= 0:
        start = at + 9
        end = block.find(b"\n", start)
        while end >= 0 and block[end + 1 : end + 2] in (b" ", b"\t"):
            end = block.find(b"\n", end + 1)
        end = len(block) if end < 0 else end
        # blanks before the colon are obsolete syntax (RFC 5322 section 4.5)
        name, colon, value = block[start:end].partition(b":")
        if colon and not name.strip(b" \t"):
            yield value
        at = lower.find(b"\nreceived", end)


def _hand_down_senders(lines: list[Hop]) -> None:
    """qmail-scanner notes the envelope sender of the handover that the line below tells of."""
    for at, hop in enumerate(lines[:-1]):
        below = lines[at + 1]
        if hop.dialect == "qmail-scanner" and hop.envelope_from and not below.envelope_from:
            lines[at + 1] = below._replace(envelope_from=hop.envelope_from)


def _join(client: Hop, lines: list[Hop]) -> list[Hop]:
    """Put the connection on top, unless the first line is the MTA's own note of it."""
    if lines and _is_same_handover(client, lines[0]):
        return [client, *(hop._replace(index=hop.index - 1) for hop in lines[1:])]
    return [client, *lines]


def _is_same_handover(client: Hop, line: Hop) -> bool:
    """Same peer, same receiver: a mail that visits us twice has another ``by`` in between."""
    return (
        client.ip is not None
        and client.ip == line.ip
        and client.by is not None
        and line.by is not None
        and client.by.lower() == line.by.lower()
    )


def _defects(hops: list[Hop]) -> Iterator[str]:
    if not any(hop.source is HopSource.HEADER for hop in hops):
        yield "no Received line"
    for hop in hops:
        if hop.kind is HopKind.BROKEN:
            yield f"hop {hop.index}: no address where one belongs"
        if hop.at_defect is not None:
            yield f"hop {hop.index}: {hop.at_defect}"


def parse_line(value: bytes, index: int = 0) -> Hop:
    """One ``Received`` value as a hop; one too long for any MTA's is not read."""
    if len(value) > LINE_AT_MOST:
        raw = grammar.unfold(value[:LINE_AT_MOST])
        return Hop(index, HopSource.HEADER, HopKind.BROKEN, raw=raw)
    text = grammar.unfold(value)
    return plain.read(text, index) or take_apart(text, index)


def take_apart(text: str, index: int) -> Hop:
    """Any line, unfolded, as a hop."""
    veiled = veil.veil(text)
    stamp = grammar.stamp(veiled, peer.holds_address)
    options = grammar.options(stamp.tail)
    first_comment = options.comments[0].lstrip() if options.comments else ""
    tail = f"{stamp.by} {' '.join(stamp.tail)}"
    dialect = dialects.recognise(tail, first_comment)
    who = peer.read(stamp.head, dialect) if stamp.head and not dialect.is_local else Peer()
    protocol = dialects.protocol(options.protocol or _protocol_before_by(who.right))
    if who.dialect is not None and not dialect.name:
        dialect = who.dialect
    notes = [*who.notes, *options.comments]
    return Hop(
        index=index,
        source=HopSource.HEADER,
        kind=_kind(stamp, who, dialect, protocol),
        ip=who.ip,
        rdns=veil.lift(who.rdns),
        rdns_verified=_is_verified(who, dialect),
        helo=veil.lift(who.helo),
        ident=veil.lift(who.ident),
        by=stamp.by,
        protocol=protocol.name if protocol is not None else None,
        authenticated=_is_login(protocol, dialect, stamp)
        or (bool(notes) and not dialect.is_local and _has_login(notes))
        or "with both STARTTLS and AUTH" in tail,  # Mimecast
        tls=(protocol is not None and protocol.tls)
        or "over TLS" in tail  # IIS
        or (bool(notes) and _has_tls(notes)),
        id=None if dialect.id_is_version else veil.lift(options.id),
        envelope_for=veil.lift(options.envelope_for),
        envelope_from=veil.lift(_envelope_from(notes, stamp.head, veiled)),
        at=stamp.date.at,
        at_defect=stamp.date.defect,
        dialect=dialect.name,
        raw=text,
    )


def _kind(stamp: Stamp, who: Peer, dialect: Dialect, protocol: dialects.Protocol | None) -> HopKind:
    if protocol is not None and (
        protocol.is_fetch or (dialect.name == "fetchmail" and "SMTP" not in protocol.name)
    ):
        return HopKind.FETCH
    if dialect.is_local:
        return HopKind.LOCAL
    if who.ip is not None:
        return HopKind.RELAY
    if who.is_broken or (stamp.by is None and (stamp.has_from or not stamp.tail)):
        return HopKind.BROKEN  # nothing, or cut short before it said who received it
    if who.helo is not None and dialect.may_hide_client and dialects.is_smtp(protocol):
        return HopKind.NAMED
    return HopKind.LOCAL


def _is_login(protocol: dialects.Protocol | None, dialect: Dialect, stamp: Stamp) -> bool:
    """Whether the protocol alone tells that the client has logged in."""
    return protocol is not None and (
        protocol.authenticated
        or (protocol.name[:4] == "HTTP" and dialect.is_http_login and bool(stamp.head))
    )


def _is_verified(who: Peer, dialect: Dialect) -> bool | None:
    if who.rdns is None:
        return None
    return False if who.is_forged else dialect.verifies


def _protocol_before_by(right: Sequence[str]) -> list[str]:
    """``from x (…) via ESMTP by y``: old sendmails, Obtuse, Cyrus.  Left of the address the same
    words would be the HELO's."""
    for keyword, name in pairwise(right):
        if keyword in ("via", "with"):
            return [name]
    return []


#: Comments by which a receiver records a login, lower case.
_LOGINS = (
    "authenticated", "auth: login", "auth: plain", "auth: cram", "auth: digest", "auth: xoauth",
    "auth: scram", "account ", "squirrelmail authenticated", "nasmail authenticated",
    "user authenticated", "smtp-auth", "via http",
)  # fmt: skip


#: sendmail's, where its ``$.$?`` says who: FortiMail and sites of their own.
_LOGIN_BY = re.compile(r"user=\S+ mech=\S+ bits=\d+")


def _has_login(notes: Sequence[str]) -> bool:
    return any(
        note[:28].lower().startswith(_LOGINS) or _LOGIN_BY.fullmatch(note) is not None
        for note in notes
    )


def _has_tls(notes: Sequence[str]) -> bool:
    return any(
        ("tls" in note or "cipher" in note or "ssl" in note) and note[:9] != "envelope-"
        for note in map(str.lower, notes)
    )


def _envelope_from(notes: Sequence[str], head: Sequence[str], text: str) -> str | None:
    for note in notes:
        found = _SENDER.match(note)
        if found is not None:
            return found[1] or None
    if text[-1:] == ")" and "(envelope-from " in text:  # behind the date: FreeBSD's sendmail
        found = _SENDER.match(text, text.rindex("(envelope-from ") + 1)
        return found[1] or None if found is not None else None
    if len(head) == 1 and "@" in head[0] and not isinstance(head[0], Comment):
        # from user@example.org by host by uid 502
        return head[0].strip("<>")
    return None

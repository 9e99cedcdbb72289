"""From a mail's header to the hosts that are to be measured.  Pure.

By default the origin alone; with *all_hops* every address of the chain, as the study took them,
each with its role: only what a trusted host recorded is proved.

A hundred thousand mails may come from a few thousand hosts, so :func:`take` does no more than find
them, and what a record tells of a mail is read (:func:`note`) when its host is measured.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from botmilter import received
from botmilter.model import Chain, Hop, HopKind, HopRole, Origin, Signal, Trust
from botmilter.net import printable
from botmilter.received import chain, forgery, origin

_VALUE = rb"[^\n]*(?:\n[ \t][^\n]*)*"
#: What is kept of a header.  Mail programs add fields to a mail they show or move, but not these.
_KEPT = re.compile(
    rb"(?i)\n(?:received|from|to|date|return-path|message-id|subject)[ \t]*:" + _VALUE
)
_FIELD = re.compile(rb"(?i)\n(from|to|date|return-path)[ \t]*:[ \t]*(" + _VALUE + rb")")
_DOMAIN = re.compile(r"@([A-Za-z0-9._-]{1,255})>?\s*$")

_ROLES = {
    HopRole.BORDER: "origin",
    HopRole.TRUSTED: "trusted",
    HopRole.CLAIMED: "claimed",
}


class Sighting(NamedTuple):
    """A host in a mail's chain."""

    ip: str
    role: str
    hop: int


class Taken(NamedTuple):
    """What the work list needs of one mail."""

    arrived_at: float
    """Unix time of the newest line; 0 where it tells none."""
    sightings: tuple[Sighting, ...]


class Note(NamedTuple):
    """What a record tells of one mail and one of its hosts; all text printable."""

    sender: str
    recipient: str
    date: str
    sender_domain: str
    arrived: str
    helo: str
    received: str
    signals: tuple[Signal, ...]


def kept(header: bytes) -> bytes:
    """The fields of *header* that the survey reads; two mails that agree in them are one."""
    return b"".join(_KEPT.findall(b"\n" + header))


def mail_id(kept_header: bytes) -> bytes:
    """Under what a mail is remembered."""
    return hashlib.blake2b(kept_header, digest_size=16).digest()


def take(kept_header: bytes, trust: Trust, all_hops: bool) -> Taken:
    """The hosts of a mail.  Never raises, whatever it holds."""
    read, found = _read(kept_header, trust, all_hops)
    newest = next((hop.at for hop in read.hops if hop.at is not None), None)
    arrived_at = newest.timestamp() if newest is not None else 0.0
    return Taken(arrived_at, tuple(_sightings(read, found, all_hops)))


def _read(kept_header: bytes, trust: Trust, all_hops: bool) -> tuple[Chain, Origin]:
    """The chain down to the origin's line, or all of it, and the origin.

    Whether a line is believed depends on those above it and, with own names, on who wrote the next.
    Looked for at each doubling, so that a mail of ten thousand lines takes linear time.
    """
    if all_hops:
        whole = received.parse(kept_header)
        return whole, origin.find(whole, trust)
    ahead = 1 if trust.own_names else 0
    hops: list[Hop] = []
    for index, value in enumerate(chain.split(kept_header)):
        hops.append(received.parse_line(value, index))
        if len(hops).bit_count() == 1 and (border := _border(hops, trust, ahead)) is not None:
            return border
    whole = Chain(tuple(hops))
    return _border(hops, trust, ahead) or (whole, origin.find(whole, trust))


def _border(hops: Sequence[Hop], trust: Trust, ahead: int) -> tuple[Chain, Origin] | None:
    """The chain as far as it had to be read, and the origin, if *hops* reach that far."""
    found = origin.find(Chain(tuple(hops)), trust)
    if found.ip is None or found.hop is None:
        return None
    needed = found.hop.index + ahead + 1
    return (Chain(tuple(hops[:needed])), found) if needed <= len(hops) else None


def _sightings(read: Chain, found: Origin, all_hops: bool) -> Iterator[Sighting]:
    if found.ip is not None and found.hop is not None and not found.why.is_exempt:
        yield Sighting(str(found.ip), "origin", found.hop.index)
    if not all_hops:
        return
    for hop, role in zip(read.hops, found.roles, strict=False):
        if hop.ip is not None and hop.kind is HopKind.RELAY and role is not HopRole.BORDER:
            yield Sighting(str(hop.ip), _ROLES[role], hop.index)


def note(kept_header: bytes, trust: Trust, seen: Sighting) -> Note:
    """What the mail tells of itself and of the host *seen* in it.  Never raises."""
    read = received.parse(kept_header)
    fields: dict[bytes, str] = {}
    for name, value in _FIELD.findall(kept_header):
        fields.setdefault(name.lower(), printable(b" ".join(value.split())))
    domain = _DOMAIN.search(fields.get(b"return-path", ""))
    hop = read.hops[seen.hop] if seen.hop < len(read.hops) else None
    return Note(
        sender=fields.get(b"from", ""),
        recipient=fields.get(b"to", ""),
        date=fields.get(b"date", ""),
        sender_domain=domain[1].lower() if domain else "",
        arrived=_arrived(read),
        helo=printable(hop.helo or "") if hop is not None else "",
        received=printable(hop.raw, 500) if hop is not None else "",
        signals=tuple(_signals(read, trust, seen)),
    )


def _arrived(read: Chain) -> str:
    newest: datetime | None = next((hop.at for hop in read.hops if hop.at is not None), None)
    return newest.isoformat() if newest is not None else ""


def _signals(read: Chain, trust: Trust, seen: Sighting) -> Iterator[Signal]:
    """Chains speak of their origin only."""
    found = origin.find(read, trust)
    if found.hop is None or found.hop.index != seen.hop:
        return
    for one in forgery.signals(read, found, trust):
        yield Signal(one.name, one.strength, printable(one.detail))

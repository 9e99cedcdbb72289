"""From a mail's header to the hosts that are to be measured.  Pure.

By default the origin alone; with *all_hops* every address of the chain, as the study took them,
each with its role: only what a trusted host recorded is proved.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from botmilter import received
from botmilter.model import Chain, Hop, HopKind, HopRole, Origin, Signal, Trust
from botmilter.net import printable
from botmilter.received import forgery, origin

_FIELD = re.compile(
    rb"(?im)^(from|to|date|return-path)[ \t]*:[ \t]*([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)"
)
#: Mail programs write these into a mailbox later; a mail stays the same mail.
_STATE = re.compile(rb"(?im)^(?:From |(?:x-)?status:|x-(?:uid|keywords|mozilla)[^:]*:)[^\n]*\n?")
_DOMAIN = re.compile(r"@([A-Za-z0-9._-]{1,255})>?\s*$")

_ROLES = {
    HopRole.BORDER: "origin",
    HopRole.TRUSTED: "trusted",
    HopRole.CLAIMED: "claimed",
}


@dataclass(frozen=True, slots=True)
class Sighting:
    """A host in a mail's chain."""

    ip: str
    role: str
    hop: int
    helo: str
    received: str
    signals: tuple[Signal, ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """What is kept of one mail; all text printable."""

    id: bytes
    sender: str
    recipient: str
    date: str
    sender_domain: str
    arrived: str
    sightings: tuple[Sighting, ...]


def mail_id(header: bytes) -> bytes:
    """Under what a mail is remembered: its header, less what mail programs change in it."""
    return hashlib.blake2b(_STATE.sub(b"", header), digest_size=16).digest()


def take(header: bytes, trust: Trust, all_hops: bool) -> Taken:
    """The hosts of the mail with *header*.  Never raises, whatever it holds."""
    chain = received.parse(header)
    found = origin.find(chain, trust)
    fields: dict[bytes, str] = {}
    for name, value in _FIELD.findall(header):
        fields.setdefault(name.lower(), printable(b" ".join(value.split())))
    domain = _DOMAIN.search(fields.get(b"return-path", ""))
    newest = next((hop.at for hop in chain.hops if hop.at is not None), None)
    return Taken(
        id=mail_id(header),
        sender=fields.get(b"from", ""),
        recipient=fields.get(b"to", ""),
        date=fields.get(b"date", ""),
        sender_domain=domain[1].lower() if domain else "",
        arrived=newest.isoformat() if newest is not None else "",
        sightings=tuple(_sightings(chain, found, trust, all_hops)),
    )


def _sightings(chain: Chain, found: Origin, trust: Trust, all_hops: bool) -> Iterator[Sighting]:
    if found.ip is not None and found.hop is not None and not found.why.is_exempt:
        signals = tuple(
            Signal(signal.name, signal.strength, printable(signal.detail))
            for signal in forgery.signals(chain, found, trust)
        )
        yield _sighting(found.hop, HopRole.BORDER, signals)
    if not all_hops:
        return
    for hop, role in zip(chain.hops, found.roles, strict=False):
        if hop.ip is not None and hop.kind is HopKind.RELAY and role is not HopRole.BORDER:
            yield _sighting(hop, role)


def _sighting(hop: Hop, role: HopRole, signals: tuple[Signal, ...] = ()) -> Sighting:
    helo, raw = printable(hop.helo or ""), printable(hop.raw, 500)
    return Sighting(str(hop.ip), _ROLES[role], hop.index, helo, raw, signals)

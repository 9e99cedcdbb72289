"""Whose lines are believed, where that ends, and which host stands there: the origin.  Pure.

The walk begins at the newest hop.  A line is believed if every hop above it was handed over by a
trusted peer; the first peer that is not trusted is the origin, and nothing below its line is ever
believed, whatever stands there.  A peer is trusted if

* its address is loopback or in ``Trust.networks``;
* it is among the topmost ``Trust.own_relays - 1`` peers (each of our relays wrote one line, and
  the last of these lines names the stranger), loopback not counted;
* it is named in ``Trust.own_names``: by a reverse name that the receiver confirmed, or, with an
  address of a private network, by the ``by`` of the line it wrote.  A ``by`` alone proves
  nothing, for anyone can write one;
* it logged in to a mailbox store by LMTP, as only our own MTA can;
* it logged in, if ``Trust.by_authentication`` says that this extends trust.

A login from loopback is a user of the host's own webmail, a submission like any other.

A hop that names no peer is passed over.  One that should and cannot be read ends the walk: there
is no origin then, and certainly not the one that the next line claims.  A mailbox collector's
line (fetchmail) within the trusted part is the reader's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

from botmilter.model import (
    Chain,
    Hop,
    HopKind,
    HopRole,
    HopSource,
    IPAddress,
    Origin,
    OriginWhy,
    Trust,
)
from botmilter.net import LOOPBACK, is_in

ASSUMED_NOTE = (
    "WARNING: no trust is configured, so the border is assumed to be the top line; "
    "set [trust] networks, own_relays or own_names, or pass --trust"
)

_PRIVATE = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10")
)


def find(chain: Chain, trust: Trust) -> Origin:
    """The originating relay of *chain* under *trust*."""
    hops = chain.hops
    if not hops:
        return Origin(OriginWhy.NO_HEADER, note="the mail has no Received line")
    if hops[0].source is HopSource.CONNECTION and hops[0].kind is HopKind.LOCAL:
        return _ends(hops, 0, OriginWhy.LOCAL, "the MTA's own mail: no client address")
    relays = 0
    logged_in: int | None = None
    for at, hop in enumerate(hops):
        if hop.kind is HopKind.FETCH or (hop.kind is HopKind.LOCAL and not _is_login(hop)):
            continue
        if hop.ip is not None and at == 0 and is_in(hop.ip, trust.exempt_networks):
            return _ends(hops, at, OriginWhy.ALLOWED, "the client is on the allow list", hop.ip)
        if hop.ip is not None and is_loopback(hop.ip):
            if not _is_login(hop):
                continue
        else:
            relays += 1
            if relays < trust.own_relays or is_trusted_peer(hops, at, trust):
                continue
        if hop.authenticated:
            if _is_delivery(hop):
                continue
            if trust.by_authentication:
                logged_in = at if logged_in is None else logged_in
                continue
            return _submitted(hops, at)
        return _stranger(hops, at, trust)
    if logged_in is not None:
        return _submitted(hops, logged_in)
    return Origin(
        OriginWhy.LOCAL,
        roles=(HopRole.TRUSTED,) * len(hops),
        note="the mail never left trusted hosts",
    )


def _is_delivery(hop: Hop) -> bool:
    """LMTP hands mail to a mailbox store, within a site (RFC 2033); its login is no user's."""
    return (hop.protocol or "").startswith(("LMTP", "UTF8LMTP"))


def _is_login(hop: Hop) -> bool:
    return hop.authenticated and not _is_delivery(hop)


def is_loopback(ip: IPAddress) -> bool:
    return is_in(ip, LOOPBACK)


def is_trusted_peer(hops: tuple[Hop, ...], at: int, trust: Trust) -> bool:
    """Whether the peer of hop *at*, a believed line, is a trusted host by address or name."""
    hop = hops[at]
    if hop.ip is None:
        return False
    if is_in(hop.ip, trust.networks):
        return True
    if not trust.own_names:
        return False
    if hop.rdns_verified and is_named(hop.rdns, trust.own_names):
        return True
    wrote = hops[at + 1].by if at + 1 < len(hops) else None
    return is_in(hop.ip, _PRIVATE) and is_named(wrote, trust.own_names)


def is_named(name: str | None, own_names: Iterable[str]) -> bool:
    """Whether *name* is one of *own_names*; one with a leading dot covers all names below it."""
    if name is None:
        return False
    name = name.lower().rstrip(".")
    return any(name.endswith(own) if own[:1] == "." else name == own for own in own_names)


def _stranger(hops: tuple[Hop, ...], at: int, trust: Trust) -> Origin:
    hop = hops[at]
    if hop.ip is None:
        return _ends(
            hops, at, OriginWhy.UNREADABLE, "a trusted line does not tell its peer's address"
        )
    if is_in(hop.ip, trust.exempt_networks):
        return _ends(hops, at, OriginWhy.ALLOWED, "the origin is on the allow list", hop.ip)
    if hop.source is HopSource.CONNECTION:
        return _ends(hops, at, OriginWhy.CLIENT, "the connecting client", hop.ip)
    if hops[0].source is HopSource.HEADER and not trust.is_configured:
        return _ends(hops, at, OriginWhy.ASSUMED, ASSUMED_NOTE, hop.ip)
    return _ends(hops, at, OriginWhy.RELAY, f"noted by {hop.by}, which is trusted", hop.ip)


def _submitted(hops: tuple[Hop, ...], at: int) -> Origin:
    return _ends(hops, at, OriginWhy.SUBMISSION, "handed in by a user who had logged in")


def _ends(
    hops: tuple[Hop, ...], at: int, why: OriginWhy, note: str, ip: IPAddress | None = None
) -> Origin:
    roles = (HopRole.TRUSTED,) * at + (HopRole.BORDER,) + (HopRole.CLAIMED,) * (len(hops) - at - 1)
    return Origin(why, ip, hops[at], roles, note)

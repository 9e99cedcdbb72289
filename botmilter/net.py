"""Addresses and hostile text.  Pure.

Which addresses may be probed is decided here and nowhere else: the answer is *no* for everything
that is not plainly a public unicast address of its own, because a forged or odd address must
never make us send a packet to a third party.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from botmilter.model import IPAddress, IPNetwork

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")

#: What IANA has given out for hosts of the Internet (RFC 4291 section 2.4); ``is_global`` takes all
#: that nobody has reserved, such as 4000::1 or fec0::1.
_GLOBAL_UNICAST = ip_network("2000::/3")

#: Addresses whose packets end at another address than they name, or at many; next to what
#: ``is_global`` refuses (RFC 6890).
_TRANSITION: tuple[tuple[IPNetwork, str], ...] = (
    (ip_network("192.88.99.0/24"), "6to4 relay anycast (RFC 7526)"),
    (ip_network("192.31.196.0/24"), "AS112 anycast (RFC 7535)"),
    (ip_network("192.175.48.0/24"), "AS112 anycast (RFC 7534)"),
    (ip_network("192.52.193.0/24"), "AMT anycast (RFC 7450)"),
    (ip_network("2001:3::/32"), "AMT anycast (RFC 7450)"),
    (ip_network("2001:4:112::/48"), "AS112 anycast (RFC 7535)"),
    (ip_network("2620:4f:8000::/48"), "AS112 anycast (RFC 7534)"),
    (ip_network("2002::/16"), "6to4, an IPv4 address in disguise (RFC 3056)"),
    (ip_network("2001::/32"), "Teredo, an IPv4 address in disguise (RFC 4380)"),
    (ip_network("64:ff9b::/96"), "NAT64, an IPv4 address in disguise (RFC 6052)"),
    (ip_network("64:ff9b:1::/48"), "local NAT64 (RFC 8215)"),
    (ip_network("::/96"), "IPv4-compatible, deprecated (RFC 4291)"),
    (ip_network("5f00::/16"), "segment routing (RFC 9602)"),
    (ip_network("3fff::/20"), "documentation (RFC 9637)"),
)

#: What a host behind NAT, or a program on the same host, takes for its address.  The last three are
#: private space as 6to4, with which Google names its own.
INSIDE: tuple[IPNetwork, ...] = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16",
                 "100.64.0.0/10", "fc00::/7", "fe80::/10", "::1/128",
                 "2002:a00::/24", "2002:ac10::/28", "2002:c0a8::/32")
)  # fmt: skip

LOOPBACK: tuple[IPNetwork, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


#: ``ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255``: no address is longer.
_ADDRESS_LENGTH = 45


def parse_ip(text: str) -> IPAddress | None:
    """*text* as an address, v4-mapped folded and zone id dropped; None if it is none."""
    text = text.partition("%")[0]
    if ":" not in text and not text[-1:].isdigit():  # a name, told in a tenth of the time
        return None
    return _parsed(text) if len(text) <= _ADDRESS_LENGTH else None


@lru_cache(maxsize=4096)
def _parsed(text: str) -> IPAddress | None:
    """Remembered, for most mail comes from few hosts and reading an address takes 3 us."""
    try:
        return canonical(ip_address(text))
    except ValueError:
        return None


def canonical(ip: IPAddress) -> IPAddress:
    """*ip* with ``::ffff:192.0.2.1`` folded to ``192.0.2.1`` and without a zone id."""
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip.scope_id is not None:
            return IPv6Address(int(ip))
    return ip


def is_in(ip: IPAddress, networks: Sequence[IPNetwork]) -> bool:
    """Whether one of *networks* holds *ip*; a network of the other family never does."""
    for network in networks:  # noqa: SIM110 - half the time of any(), some ten times for each mail
        if ip in network:
            return True
    return False


class NetworkSet:
    """Many networks that are asked often: one look-up for each size of network there is."""

    def __init__(self, networks: Iterable[IPNetwork]) -> None:
        self._by_size: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            unused = network.max_prefixlen - network.prefixlen
            first = int(network.network_address) >> unused
            self._by_size.setdefault((network.version, unused), set()).add(first)

    def __contains__(self, ip: IPAddress) -> bool:
        if not self._by_size:
            return False
        ip = canonical(ip)
        number = int(ip)
        return any(
            ip.version == version and number >> unused in firsts
            for (version, unused), firsts in self._by_size.items()
        )


def reverse_name(ip: IPAddress) -> str:
    """The name under which DNS keeps facts about *ip*: ``7.2.0.192.in-addr.arpa``."""
    return ip.reverse_pointer


def dnsbl_name(ip: IPAddress, zone: str) -> str:
    """The query name of RFC 5782: reversed octets or nibbles before the zone."""
    reversed_ip = ip.reverse_pointer.rsplit(".", 2)[0]
    return f"{reversed_ip}.{zone.strip('.')}"


def site_network(ip: IPAddress) -> IPNetwork:
    """The neighbourhood that shares a rate limit: /24 or /48."""
    return ip_network((ip, 24 if isinstance(ip, IPv4Address) else 48), strict=False)


def host_key(ip: IPAddress) -> str:
    """Under what a host is remembered.  An IPv6 host owns its /64 and changes within it."""
    if isinstance(ip, IPv4Address):
        return str(ip)
    return str(ip_network((ip, 64), strict=False))


def printable(text: str | bytes, limit: int = 200) -> str:
    """*text* as one line of printable ASCII of at most *limit* characters, ``?`` for the rest.

    Everything that came from a mail or the network goes through here before it reaches a header,
    a log, a terminal or a file name's contents.  Never raises.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    clean = _UNPRINTABLE.sub("?", text[: limit + 1])
    return clean if len(clean) <= limit else clean[: max(0, limit - 3)] + "..."[:limit]


@dataclass(frozen=True, slots=True)
class ProbeGuard:
    """Which addresses a packet may be sent to."""

    allow_networks: tuple[IPNetwork, ...] = ()
    """Reserved ranges that may be probed after all: a laboratory's own.  Beats nothing else."""
    never_networks: tuple[IPNetwork, ...] = ()
    """Trusted networks, own addresses and whoever opted out."""

    def refusal(self, ip: IPAddress) -> str | None:
        """Why *ip* must not be probed, or None if it may be."""
        ip = canonical(ip)
        if is_in(ip, self.never_networks):
            return "trusted, own or opted out"
        if is_in(ip, self.allow_networks):
            return None
        for network, what in _TRANSITION:
            if ip in network:
                return what
        if ip.is_multicast:
            return "multicast"
        if not ip.is_global or (ip.version == 6 and ip not in _GLOBAL_UNICAST):
            return "private or reserved"
        return None

    def is_routable(self, ip: IPAddress) -> bool:
        """Whether DNS can know anything of *ip* (asking it sends the host no packet)."""
        return ip.is_global or is_in(ip, self.allow_networks)

"""Probe ``p0f``: what a running p0f 3 makes of the packets the host sent us by itself.

Sent: one query of 21 octets to p0f's API socket on this machine; nothing to the host.  p0f must
watch the interface that the mail comes in on; of a host behind a trusted relay it knows nothing.
The structures are those of p0f's README, "API access", in this machine's byte order.

p0f looks at the first packet of a connection only, and its database ends about 2013.  So "NT
kernel" is any Windows, client or server; and "7 or 8" is Server 2008 R2 to 2012 R2 as well, whose
network stack is the same.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import Any

from botmilter.clock import Deadline
from botmilter.model import IPAddress, Observation, Signal, Status, Target
from botmilter.net import printable

_QUERY = struct.Struct("=IB16s")
_QUERY_MAGIC = 0x50304601
#: magic, status, first and last seen, connections, uptime in minutes and its modulo in days,
#: last NAT and last change of system, distance, bad_sw, match quality; six texts
_ANSWER = struct.Struct("=9IhBB32s32s32s32s32s32s")
_ANSWER_MAGIC = 0x50304602
_BAD_QUERY, _OK, _NO_MATCH = 0x00, 0x10, 0x20
#: Match quality: bit 0, the signature fits but for details (window, TTL).
_IS_FUZZY = 1
_FUZZY_STRENGTH = 0.5

#: What p0f names, by name and beginning of the flavour; the first row that fits counts.
_SIGNAL_OF = (
    ("Windows", "XP", "p0f.client"),
    ("Windows", "", "p0f.both"),
    ("Linux", "(Android)", ""),
    ("Linux", "", "p0f.unix"),
    ("FreeBSD", "", "p0f.unix"),
    ("OpenBSD", "", "p0f.unix"),
    ("Solaris", "", "p0f.unix"),
    ("HP-UX", "", "p0f.unix"),
    ("Tru64", "", "p0f.unix"),
    ("Mac OS X", "", "p0f.both"),  # one system for desk and rack, as in nmap's classes
    ("MacOS X", "", "p0f.both"),
)


class P0fProbe:
    """Facts: ``os``, ``flavour``, ``is_fuzzy``, ``distance`` in hops (-1: not known), ``nat``,
    whether p0f saw signs of several systems behind the address; texts empty where it has no
    opinion."""

    name = "p0f"
    # that a packet came from the host does not mean that it answers one
    shows_life = False
    wants_life = False
    sends_to_host = False
    signals = frozenset({"p0f.client", "p0f.both", "p0f.unix"})

    def __init__(self, limit_s: float, path: str) -> None:
        self.limit_s = limit_s
        self._path = path

    def store_key(self, target: Target) -> str:
        return str(target.ip)

    def measure(self, target: Target, deadline: Deadline) -> Observation:
        key = self.store_key(target)
        try:
            facts = _facts(_ask(self._path, _query(target.ip), deadline))
        except (OSError, ValueError) as error:
            text = getattr(error, "strerror", None) or str(error)
            reason = printable(f"p0f at {self._path}: {text}")
            return Observation(self.name, key, Status.FAILED, reason=reason)
        if facts is None:
            return Observation(self.name, key, Status.SKIPPED, reason="p0f has not seen this host")
        return Observation(self.name, key, Status.ANSWERED, facts)

    def interpret(self, seen: Observation, target: Target) -> Iterable[Signal]:
        system, flavour = str(seen.facts["os"]), str(seen.facts["flavour"])
        for name, beginning, signal in _SIGNAL_OF:
            if system == name and flavour.startswith(beginning):
                strength = _FUZZY_STRENGTH if seen.facts["is_fuzzy"] else 1.0
                return [Signal(signal, strength, f"{system} {flavour}".strip())] if signal else []
        return []


def _query(ip: IPAddress) -> bytes:
    return _QUERY.pack(_QUERY_MAGIC, ip.version, ip.packed)


def _ask(path: str, query: bytes, deadline: Deadline) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(max(0.001, deadline.left()))
        connection.connect(path)
        connection.sendall(query)
        read = b""
        while len(read) < _ANSWER.size:
            if deadline.is_over:
                raise TimeoutError("no answer in time")
            connection.settimeout(max(0.001, deadline.left()))
            chunk = connection.recv(_ANSWER.size - len(read))
            if not chunk:
                raise ValueError("closed in the middle of its answer")
            read += chunk
        return read


def _facts(answer: bytes) -> dict[str, Any] | None:
    """What p0f said; None where it does not know the host.  Raises ValueError."""
    magic, status, *numbers = _ANSWER.unpack(answer)
    if magic != _ANSWER_MAGIC or status not in (_BAD_QUERY, _OK, _NO_MATCH):
        raise ValueError("this is not the API socket of a p0f 3")
    if status == _BAD_QUERY:
        raise ValueError("did not understand the query")
    if status == _NO_MATCH:
        return None
    _, _, _, _, _, last_nat, _, distance, _, quality, system, flavour, *_ = numbers
    return {
        "os": _text(system),
        "flavour": _text(flavour),
        "is_fuzzy": bool(quality & _IS_FUZZY),
        "distance": distance,
        "nat": bool(last_nat),
    }


def _text(octets: bytes) -> str:
    return printable(octets.partition(b"\0")[0])

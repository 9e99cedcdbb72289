"""IPv4, TCP, UDP and ICMP packets as values, to and from bytes (RFC 791, 9293, 768, 792).

Only what the laboratory needs: no IP options, no fragments.  Addresses are plain integers here
because the packet loop compares millions of them.  Incoming checksums are not looked at: the
packets never crossed a wire.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

ICMP, TCP, UDP = 1, 6, 17
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))

ECHO_REPLY, UNREACHABLE, ECHO_REQUEST = 0, 3, 8
HOST_UNREACHABLE, PORT_UNREACHABLE, ADMIN_PROHIBITED = 1, 3, 13

_DONT_FRAGMENT = 0x4000
_FRAGMENTED = 0x3FFF


def checksum(data: bytes) -> int:
    """The ones' complement sum of RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


@dataclass(frozen=True, slots=True)
class Ip4:
    src: int
    dst: int
    protocol: int
    payload: bytes
    ttl: int = 64
    tos: int = 0
    ident: int = 0
    dont_fragment: bool = False

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """None for what is not a whole IPv4 packet."""
        if len(raw) < 20 or raw[0] >> 4 != 4:
            return None
        first, tos, length, ident, fragment, ttl, protocol, _, src, dst = struct.unpack(
            "!BBHHHBBHII", raw[:20]
        )
        if fragment & _FRAGMENTED:
            return None
        payload = raw[(first & 15) * 4 : length]
        return cls(src, dst, protocol, payload, ttl, tos, ident, bool(fragment & _DONT_FRAGMENT))

    def pack(self) -> bytes:
        fragment = _DONT_FRAGMENT if self.dont_fragment else 0
        head = struct.pack(
            "!BBHHHBBHII",
            *(0x45, self.tos, 20 + len(self.payload), self.ident & 0xFFFF, fragment),
            *(self.ttl, self.protocol, 0, self.src, self.dst),
        )
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + self.payload


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment."""

    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    window: int
    options: bytes = b""
    payload: bytes = b""
    urgent: int = 0
    reserved: int = 0
    """The four bits between data offset and CWR."""

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """None for what is shorter than its own header."""
        if len(raw) < 20:
            return None
        sport, dport, seq, ack, offset, flags, window, _, urgent = struct.unpack(
            "!HHIIBBHHH", raw[:20]
        )
        start = (offset >> 4) * 4
        if not 20 <= start <= len(raw):
            return None
        return cls(
            *(sport, dport, seq, ack, flags, window),
            *(raw[20:start], raw[start:], urgent, offset & 15),
        )

    def pack(self, src: int, dst: int) -> bytes:
        options = self.options + b"\0" * (-len(self.options) % 4)
        offset = (20 + len(options)) // 4 << 4 | self.reserved
        head = struct.pack(
            "!HHIIBBHHH",
            *(self.sport, self.dport, self.seq & 0xFFFFFFFF, self.ack & 0xFFFFFFFF),
            *(offset, self.flags, self.window, 0, self.urgent),
        )
        raw = head + options + self.payload
        pseudo = struct.pack("!IIHH", src, dst, TCP, len(raw))
        return raw[:16] + struct.pack("!H", checksum(pseudo + raw)) + raw[18:]


def icmp(kind: int, code: int, rest: bytes) -> bytes:
    """An ICMP message; *rest* starts at its fifth byte."""
    raw = struct.pack("!BBH", kind, code, 0) + rest
    return raw[:2] + struct.pack("!H", checksum(raw)) + raw[4:]


def ports(packet: Ip4) -> tuple[int, int]:
    """Source and destination port; zeros where the protocol has none."""
    if packet.protocol not in (TCP, UDP) or len(packet.payload) < 4:
        return 0, 0
    sport, dport = struct.unpack("!HH", packet.payload[:4])
    return sport, dport

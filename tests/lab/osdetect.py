"""Recognises nmap's OS-detection probes and answers them as a persona.

The probes are told apart by what only they carry: flags, window and a timestamp of all ones (TCP),
a code of 9 or a TOS of 4 with known lengths (ICMP echo).  Answers are made without a connection;
what must grow from one answer to the next (sequence numbers, IP IDs, clocks) hangs on the probe's
number and its time of arrival, one :class:`Scan` per scanner, so that any number of scanners can
be at it at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tests.lab import packets, quirks
from tests.lab.packets import Ip4, Segment
from tests.lab.personas import Persona, TcpReply

_ALL_ONES = b"\x08\x0a\xff\xff\xff\xff"
_SYN_WINDOWS = {1: "S1", 63: "S2", 16: "S5", 512: "S6"}
_BY_FLAGS_AND_WINDOW = {
    (0, 128): "T2",
    (packets.SYN | packets.FIN | packets.URG | packets.PSH, 256): "T3",
    (packets.ACK, 1024): "T4",
    (packets.SYN, 31337): "T5",
    (packets.ACK, 32768): "T6",
    (packets.FIN | packets.PSH | packets.URG, 65535): "T7",
}

_ISN = 0x1A2B3C4D
_IDENT, _CLOSED_IDENT = 1000, 30000
_BY_NUMBER = {"S1": 0, "S2": 1, "S3": 2, "S4": 3, "S5": 4, "S6": 5}
#: Place of a probe in the run of IP IDs: nmap sends the two echo requests right after S6.
_PLACE = {"S1": 1, "S2": 2, "S3": 3, "S4": 4, "S5": 5, "S6": 6, "T5": 1, "T6": 2, "T7": 3}
_ECHO_PLACE, _OTHER_PLACE = 6, 9


@dataclass(slots=True)
class Scan:
    """What one scanner has been told by one host so far."""

    first_at: float
    last_at: float
    sent: dict[str, int] = field(default_factory=dict)
    """Initial sequence number by probe: a repeated probe gets the same again."""
    steps: list[int] = field(default_factory=list)
    """By how many of the persona's steps it grew each time."""
    last: int = _ISN


def scan_key(packet: Ip4, segment: Segment, probe: str) -> tuple[int, int]:
    """Who scans: nmap counts the source port up from S1 to S6."""
    return packet.src, segment.sport - _BY_NUMBER.get(probe, 0)


def recognise(segment: Segment) -> str | None:
    """The name of the probe that *segment* is, None for ordinary traffic."""
    if segment.flags == packets.SYN | packets.ECE | packets.CWR and segment.window == 3:
        return "ECN"
    if _ALL_ONES not in segment.options:
        return None
    if segment.flags == packets.SYN and segment.window == 4:
        return "S3" if segment.options[0] == 8 else "S4"
    if segment.flags == packets.SYN and segment.window in _SYN_WINDOWS:
        return _SYN_WINDOWS[segment.window]
    return _BY_FLAGS_AND_WINDOW.get((segment.flags, segment.window))


def answer_tcp(
    persona: Persona, scan: Scan, probe: str, packet: Ip4, segment: Segment, now: float
) -> Ip4 | None:
    """The persona's answer, None where it keeps silent."""
    reply = persona.tcp.get(probe)
    if reply is None:
        return None
    isn = _sequence_number(persona, scan, probe, now) if probe in _BY_NUMBER else _ISN
    echo = int.from_bytes(segment.options[segment.options.find(_ALL_ONES) + 2 :][:4] or b"\0")
    answer = Segment(
        sport=segment.dport,
        dport=segment.sport,
        seq=_choose(reply.seq, isn, segment.ack),
        ack=_choose(reply.ack, 0x5EED5EED, segment.seq),
        flags=reply.flags,
        window=reply.window,
        options=quirks.option_bytes(reply.options, _clock(persona, scan, now), echo),
        payload=reply.data,
        urgent=reply.urgent,
        reserved=reply.reserved,
    )
    return _reply_to(packet, answer, reply, _ident(persona, probe))


def _reply_to(packet: Ip4, answer: Segment, reply: TcpReply, ident: int) -> Ip4:
    return Ip4(
        *(packet.dst, packet.src, packets.TCP, answer.pack(packet.dst, packet.src)),
        ttl=reply.ttl,
        ident=ident,
        dont_fragment=reply.dont_fragment,
    )


def _choose(letter: str, other: int, peers: int) -> int:
    """S and A of a fingerprint: zero, the peer's own number, that plus one, or another."""
    return {"Z": 0, "A": peers, "S": peers, "A+": peers + 1, "S+": peers + 1}.get(letter, other)


def _sequence_number(persona: Persona, scan: Scan, probe: str, now: float) -> int:
    if probe not in scan.sent:
        if scan.sent:
            scan.steps.append(_steps(persona, scan.steps, now - scan.last_at))
            scan.last += scan.steps[-1] * persona.sequences.step
        scan.last &= 0xFFFFFFFF
        scan.sent[probe], scan.last_at = scan.last, now
    return scan.sent[probe]


def _steps(persona: Persona, before: list[int], elapsed_s: float) -> int:
    """How far the sequence number moves.

    A large common step is counted on nmap's nominal 0.1 s, so that scheduling noise does not add
    or drop one.  The second move has no common divisor with the first, so that nmap finds the
    step and not a multiple.
    """
    numbers = persona.sequences
    if not numbers.rate:
        return 0
    span_s = elapsed_s if numbers.step <= 9 else 0.1
    rates = quirks.increments(numbers.rate, numbers.spread)
    steps = max(1, round(rates[len(before) % len(rates)] * span_s / numbers.step))
    while len(before) == 1 and numbers.step <= 9 and math.gcd(before[0], steps) != 1:
        steps += 1
    return steps


def _clock(persona: Persona, scan: Scan, now: float) -> int:
    hertz = persona.sequences.timestamp_hz
    return 0 if not hertz else 100_000 + round((now - scan.first_at) * hertz)


def _ident(persona: Persona, probe: str) -> int:
    numbers, place = persona.sequences, _PLACE.get(probe, _OTHER_PLACE)
    closed = probe in ("T5", "T6", "T7")
    kind = numbers.closed_ident if closed else numbers.tcp_ident
    base = quirks.ident_base(kind, _CLOSED_IDENT if closed else _IDENT)
    return (base + place * quirks.ident_step(kind)) & 0xFFFF


def echo_probe(packet: Ip4) -> int | None:
    """1 or 2 for nmap's first and second echo request, None for an ordinary one."""
    length = len(packet.payload) - 8
    if packet.payload[1] == 9 and length == 120:
        return 1
    return 2 if packet.tos == 4 and length == 150 else None


def answer_echo(persona: Persona, number: int, packet: Ip4) -> Ip4 | None:
    reply = persona.echo
    if reply is None:
        return None
    code = packet.payload[1]
    if reply.code not in ("S", "O"):
        code = 0 if reply.code == "Z" else int(reply.code, 16)
    elif reply.code == "O":
        code += 5
    fragment = {"N": False, "Y": True, "O": not packet.dont_fragment}
    kind = persona.sequences.icmp_ident
    base = _IDENT if persona.sequences.shared_ident else _IDENT + 20000
    place = (_ECHO_PLACE + number) * quirks.ident_step(kind)
    return Ip4(
        *(packet.dst, packet.src, packets.ICMP),
        packets.icmp(packets.ECHO_REPLY, code, packet.payload[4:]),
        ttl=reply.ttl,
        tos=packet.tos,
        ident=(quirks.ident_base(kind, base) + place) & 0xFFFF,
        dont_fragment=fragment.get(reply.dont_fragment, packet.dont_fragment),
    )


def answer_udp(persona: Persona, packet: Ip4, raw: bytes) -> Ip4 | None:
    """Port unreachable with the probe quoted as faithfully as the persona does it."""
    reply = persona.udp
    if reply is None:
        return None
    quoted = bytearray(raw)
    if reply.quoted_length is not None:
        quoted[2:4] = (reply.quoted_length & 0xFFFF).to_bytes(2)
    if reply.quoted_ident is not None:
        quoted[4:6] = (reply.quoted_ident & 0xFFFF).to_bytes(2)
    quoted[10:12] = _quoted_checksum(bytes(quoted[:20]), reply.quoted_checksum)
    if reply.quoted_udp_checksum is not None:
        quoted[26:28] = (reply.quoted_udp_checksum & 0xFFFF).to_bytes(2)
    if reply.spoil_data:
        quoted[28:] = bytes(byte ^ 0xFF for byte in quoted[28:])
    rest = reply.unused.to_bytes(4) + bytes(quoted)
    return Ip4(
        *(packet.dst, packet.src, packets.ICMP),
        packets.icmp(packets.UNREACHABLE, packets.PORT_UNREACHABLE, rest[: reply.length - 24]),
        ttl=reply.ttl,
        ident=_IDENT + 20000,
        dont_fragment=reply.dont_fragment,
    )


def _quoted_checksum(head: bytes, letter: str) -> bytes:
    good = packets.checksum(head[:10] + b"\0\0" + head[12:])
    return {"Z": 0, "I": good ^ 0x5555 or 1}.get(letter, good).to_bytes(2)

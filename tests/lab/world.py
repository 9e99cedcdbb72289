"""All the hosts behind the laboratory's device: packets in, packets out, no device in here.

``World.receive`` takes each packet that left the namespace, ``send`` gets each answer.  Every
packet is counted by where it goes, whether a host is there or not: what a test wants to know
about forged addresses (:class:`Flow`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from tests.lab import osdetect, packets, personas
from tests.lab.host import Does, Host, Ping
from tests.lab.packets import ACK, RST, SYN, Ip4, Segment
from tests.lab.services import script
from tests.lab.tcp import Connection
from tests.lab.timers import Timers

_MOST_SCANS = 512


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """Where packets went."""

    protocol: int
    """IP protocol number: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6."""
    src: str
    dst: str
    dport: int
    """Zero where the protocol has no ports."""


class World:
    def __init__(self, send: Callable[[bytes], None], timers: Timers) -> None:
        self._send, self._timers = send, timers
        self._hosts: dict[int, LiveHost] = {}
        self.flows: Counter[Flow] = Counter()

    def put(self, hosts: Iterable[Host]) -> None:
        """Add *hosts*, or change those that stand there already; their connections end."""
        for host in hosts:
            self._hosts[int(host.ip)] = LiveHost(host, self._send, self._timers)

    def remove(self, addresses: Iterable[IPv4Address]) -> None:
        """From now on nobody answers there."""
        for address in addresses:
            self._hosts.pop(int(address), None)

    def receive(self, raw: bytes, now: float) -> None:
        packet = Ip4.parse(raw)
        if packet is None:
            self._count_other(raw)
            return
        flow = Flow(
            packet.protocol,
            str(IPv4Address(packet.src)),
            str(IPv4Address(packet.dst)),
            packets.ports(packet)[1],
        )
        self.flows[flow] += 1
        host = self._hosts.get(packet.dst)
        if host is not None:
            host.receive(packet, raw, now)

    def _count_other(self, raw: bytes) -> None:
        """IPv6 and broken packets: nobody answers, but they are seen."""
        if len(raw) >= 40 and raw[0] >> 4 == 6:
            src, dst = str(IPv6Address(raw[8:24])), str(IPv6Address(raw[24:40]))
            self.flows[Flow(raw[6], src, dst, 0)] += 1
        elif len(raw) >= 20:
            src, dst = str(IPv4Address(raw[12:16])), str(IPv4Address(raw[16:20]))
            self.flows[Flow(raw[9], src, dst, 0)] += 1


class LiveHost:
    """A host with the connections it has."""

    def __init__(self, host: Host, send: Callable[[bytes], None], timers: Timers) -> None:
        self._host, self._out, self._timers = host, send, timers
        self._persona = personas.load(host.persona) if host.persona else None
        self._ttl = self._persona.ttl if self._persona else 64
        self._connections: dict[tuple[int, int, int], Connection] = {}
        self._scans: dict[tuple[int, int], osdetect.Scan] = {}

    def receive(self, packet: Ip4, raw: bytes, now: float) -> None:
        if packet.protocol == packets.TCP:
            segment = Segment.parse(packet.payload)
            if segment is not None:
                self._receive_tcp(packet, segment, raw, now)
        elif packet.protocol == packets.UDP and self._host.answers_udp:
            self._emit(self._udp_answer(packet, raw), now)
        elif packet.protocol == packets.ICMP and len(packet.payload) >= 8:
            self._emit(self._echo_answer(packet), now)

    def _emit(self, packet: Ip4 | None, now: float) -> None:
        if packet is None:
            return
        raw = packet.pack()
        if self._host.round_trip_s:
            self._timers.at(now + self._host.round_trip_s, lambda _now: self._out(raw))
        else:
            self._out(raw)

    # -- TCP -------------------------------------------------------------------------------------

    def _receive_tcp(self, packet: Ip4, segment: Segment, raw: bytes, now: float) -> None:
        port = self._host.ports.get(segment.dport, self._host.other_ports)
        probe = osdetect.recognise(segment)
        if port.does is Does.FILTERED:
            return
        if port.does in _UNREACHABLE:
            self._emit(self._unreachable(packet, raw, _UNREACHABLE[port.does]), now)
        elif probe is not None and self._persona is not None:
            self._answer_probe(self._persona, probe, packet, segment, now)
        elif port.does.accepts:
            self._converse(packet, segment, now)
        elif not segment.flags & RST:
            self._reset(packet, segment, now)

    def _answer_probe(
        self, persona: personas.Persona, probe: str, packet: Ip4, segment: Segment, now: float
    ) -> None:
        key = osdetect.scan_key(packet, segment, probe)
        if key not in self._scans:
            if len(self._scans) >= _MOST_SCANS:
                self._scans.pop(next(iter(self._scans)))
            self._scans[key] = osdetect.Scan(now, now)
        answer = osdetect.answer_tcp(persona, self._scans[key], probe, packet, segment, now)
        self._emit(answer, now)

    def _converse(self, packet: Ip4, segment: Segment, now: float) -> None:
        key = (packet.src, segment.sport, segment.dport)
        connection = self._connections.get(key)
        if connection is None and segment.flags & (SYN | ACK | RST) == SYN:
            connection = self._connections[key] = self._accept(packet, segment, key)
        if connection is not None:
            connection.receive(segment, now)
        elif not segment.flags & RST:
            self._reset(packet, segment, now)

    def _accept(self, packet: Ip4, syn: Segment, key: tuple[int, int, int]) -> Connection:
        def send(segment: Segment) -> None:
            self._emit(self._carry(packet, segment), now=self._timers.now())

        def forget() -> None:
            self._connections.pop(key, None)

        return Connection(
            syn,
            script(self._host.ports.get(syn.dport, self._host.other_ports)),
            send,
            forget,
            self._timers,
        )

    def _reset(self, packet: Ip4, segment: Segment, now: float) -> None:
        """RFC 9293 section 3.10.7.1, for a port that is closed."""
        size = len(segment.payload) + bool(segment.flags & SYN) + bool(segment.flags & packets.FIN)
        if segment.flags & ACK:
            answer = Segment(segment.dport, segment.sport, segment.ack, 0, RST, 0)
        else:
            ack = segment.seq + size
            answer = Segment(segment.dport, segment.sport, 0, ack, RST | ACK, 0)
        self._emit(self._carry(packet, answer), now)

    def _carry(self, packet: Ip4, segment: Segment) -> Ip4:
        payload = segment.pack(packet.dst, packet.src)
        return Ip4(packet.dst, packet.src, packets.TCP, payload, self._ttl, dont_fragment=True)

    # -- UDP and ICMP ----------------------------------------------------------------------------

    def _udp_answer(self, packet: Ip4, raw: bytes) -> Ip4 | None:
        if self._persona is not None:
            return osdetect.answer_udp(self._persona, packet, raw)
        return self._unreachable(packet, raw, packets.PORT_UNREACHABLE)

    def _unreachable(self, packet: Ip4, raw: bytes, code: int) -> Ip4:
        message = packets.icmp(packets.UNREACHABLE, code, bytes(4) + raw[:28])
        return Ip4(packet.dst, packet.src, packets.ICMP, message, self._ttl)

    def _echo_answer(self, packet: Ip4) -> Ip4 | None:
        ping, number = self._host.ping, osdetect.echo_probe(packet)
        if ping is Ping.SILENT or packet.payload[0] != packets.ECHO_REQUEST:
            return None
        if number is not None and self._persona is not None:
            return osdetect.answer_echo(self._persona, number, packet)
        if ping is Ping.CUT_ERROR:
            message = packets.icmp(packets.UNREACHABLE, packets.HOST_UNREACHABLE, bytes(4))
            return Ip4(packet.dst, packet.src, packets.ICMP, message, self._ttl)
        rest = packet.payload[4:]
        if ping is Ping.FALSE_TIME:
            rest = rest[:4] + b"\x42\x7f" * (len(rest) // 2 - 2)
        elif ping is Ping.CUT:
            rest = rest[:4]
        src = packet.dst + (ping is Ping.THIRD_HOST)
        message = packets.icmp(packets.ECHO_REPLY, 0, rest)
        return Ip4(src, packet.src, packets.ICMP, message, self._ttl)


_UNREACHABLE = {
    Does.PROHIBITED: packets.ADMIN_PROHIBITED,
    Does.UNREACHABLE: packets.HOST_UNREACHABLE,
}

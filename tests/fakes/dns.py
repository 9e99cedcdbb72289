"""A name server on loopback that says what it is told to say, and lies as told.

    with DnsServer({("mail.example", "A"): ["192.0.2.1"]}) as dns:
        dns.answer("slow.example", "A", ["192.0.2.1"], delay_s=0.3)
        dns.lie("loop.example", "A", Lie.SILENCE)
        Resolver(["127.0.0.1"], dns.port)

UDP and TCP, one random port.  What it was not told of does not exist (NXDOMAIN); ``zone`` is the
name and the first server that it then names in an SOA record, nothing until it is set.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

ADDRESS = "127.0.0.1"
TTL_S = 300


class Lie(StrEnum):
    """How a question is not answered."""

    SILENCE = "silence"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    """Over UDP, cut; whole over TCP."""
    TRUNCATED_SILENCE = "truncated-silence"
    """Over UDP, cut; over TCP nothing comes."""
    TRUNCATED_CLOSED = "truncated-closed"
    """Over UDP, cut; over TCP the connection ends in the middle of the answer."""
    TRUNCATED_SLOW = "truncated-slow"
    """Over UDP, cut; over TCP an octet each tenth of a second."""
    TRUNCATED_WRONG_ID = "truncated-wrong-id"
    """Over UDP, cut; over TCP the answer to another query."""
    WRONG_ID = "wrong-id"
    WRONG_QUESTION = "wrong-question"
    OTHER_SOURCE = "other-source"
    """The answer comes from another port."""
    GARBAGE = "garbage"
    ALIAS_LOOP = "alias-loop"


@dataclass(frozen=True, slots=True)
class _Row:
    values: tuple[str, ...] = ()
    lie: Lie | None = None
    delay_s: float = 0.0
    ttl_s: int = TTL_S
    alias: str = ""
    exists: bool = True


class DnsServer:
    """The running server; *port* is where, *asked* what it was asked so far."""

    def __init__(
        self,
        rows: Mapping[tuple[str, str], Sequence[str]] | None = None,
        address: str = ADDRESS,
        port: int = 0,
    ) -> None:
        self._rows: dict[tuple[str, str], _Row] = {}
        self._default = _Row(exists=False)
        self.asked: list[tuple[str, str]] = []
        self.zone: tuple[str, str] | None = None
        for (name, kind), values in (rows or {}).items():
            self.answer(name, kind, values)
        self._udp, self._tcp = _pair(address, port)
        self.port: int = self._udp.getsockname()[1]
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve_udp, daemon=True),
            threading.Thread(target=self._serve_tcp, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def answer(
        self,
        name: str,
        kind: str,
        values: Sequence[str],
        *,
        delay_s: float = 0.0,
        ttl_s: int = TTL_S,
        alias: str = "",
    ) -> None:
        """*values* as a zone file has them; none: the name exists without such data.  Behind
        *alias*, if one is given, the name is a CNAME and the data are the other name's."""
        self._rows[name.lower(), kind] = _Row(tuple(values), None, delay_s, ttl_s, alias)

    def lie(self, name: str, kind: str, lie: Lie, values: Sequence[str] = ()) -> None:
        self._rows[name.lower(), kind] = _Row(tuple(values), lie)

    def lie_always(self, lie: Lie | None, delay_s: float = 0.0) -> None:
        """Where nothing else was said; None: the truth, which is that there is no such name."""
        self._default = _Row(lie=lie, delay_s=delay_s, exists=lie is not None)

    def close(self) -> None:
        self._closing.set()
        with suppress(OSError):
            self._tcp.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._udp.close()
        self._tcp.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- serving --------------------------------------------------------------------------------

    def _serve_udp(self) -> None:
        self._udp.settimeout(0.05)
        while not self._closing.is_set():
            try:
                wire, peer = self._udp.recvfrom(65535)
            except TimeoutError:
                continue
            threading.Thread(target=self._answer_udp, args=(wire, peer), daemon=True).start()

    def _answer_udp(self, wire: bytes, peer: tuple[str, int]) -> None:
        query = dns.message.from_wire(wire)
        row = self._row(query)
        if row.lie is Lie.SILENCE:
            return
        with suppress(OSError):  # closed meanwhile
            if row.lie is Lie.OTHER_SOURCE:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                    other.sendto(self._response(query, row).to_wire(), peer)
                return
            self._udp.sendto(self._wire(query, row), peer)

    def _wire(self, query: dns.message.Message, row: _Row) -> bytes:
        if row.lie is Lie.GARBAGE:
            return query.to_wire()[:2] + b"\x80\x00\xff\xff\xff"
        response = self._response(query, row)
        if row.lie is not None and row.lie.startswith("truncated"):
            response.flags |= dns.flags.TC
            response.answer = []
        return response.to_wire()

    def _serve_tcp(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._answer_tcp, args=(connection,), daemon=True).start()

    def _answer_tcp(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            size = int.from_bytes(connection.recv(2, socket.MSG_WAITALL), "big")
            query = dns.message.from_wire(connection.recv(size, socket.MSG_WAITALL))
            row = self._row(query)
            wire = self._response(query, row).to_wire(max_size=65535)
            framed = len(wire).to_bytes(2, "big") + wire
            match row.lie:
                case Lie.TRUNCATED_SILENCE:
                    self._closing.wait(10)
                case Lie.TRUNCATED_WRONG_ID:
                    connection.sendall(framed[:2] + bytes([framed[2] ^ 1]) + framed[3:])
                case Lie.TRUNCATED_CLOSED:
                    connection.sendall(framed[: len(framed) // 2])
                case Lie.TRUNCATED_SLOW:
                    for octet in framed:
                        connection.sendall(bytes([octet]))
                        if self._closing.wait(0.1):
                            return
                case _:
                    connection.sendall(framed)

    # -- answers --------------------------------------------------------------------------------

    def _row(self, query: dns.message.Message) -> _Row:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        row = self._rows.get((name, kind))
        if row is None:
            is_known = any(known == name for known, _ in self._rows)
            row = _Row() if is_known else self._default
        time.sleep(row.delay_s)
        return row

    def _response(self, query: dns.message.Message, row: _Row) -> dns.message.Message:
        response = dns.message.make_response(query, recursion_available=True)
        name = query.question[0].name.to_text()
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        if not row.exists:
            response.set_rcode(dns.rcode.NXDOMAIN)
            if self.zone is not None:
                zone, server = self.zone
                soa = f"{server} hostmaster.{server} 1 60 60 60 {row.ttl_s}"
                response.authority.append(dns.rrset.from_text(zone, row.ttl_s, "IN", "SOA", soa))
        if row.alias:
            response.answer.append(
                dns.rrset.from_text(name, row.ttl_s, "IN", "CNAME", f"{row.alias}.")
            )
            name = f"{row.alias}."
        if row.values:
            response.answer.append(dns.rrset.from_text(name, row.ttl_s, "IN", kind, *row.values))
        match row.lie:
            case Lie.SERVFAIL:
                response.set_rcode(dns.rcode.SERVFAIL)
            case Lie.REFUSED:
                response.set_rcode(dns.rcode.REFUSED)
            case Lie.WRONG_ID:
                response.id ^= 1
            case Lie.WRONG_QUESTION:
                response.question = [dns.rrset.from_text("other.example.", 0, "IN", kind)]
            case Lie.ALIAS_LOOP:
                loop = ((name, "b.loop.example."), ("b.loop.example.", name))
                response.answer = [dns.rrset.from_text(a, TTL_S, "IN", "CNAME", b) for a, b in loop]
        return response


def _pair(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one port, a free one for 0."""
    for _ in range(20):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((address, port))
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            tcp.bind((address, udp.getsockname()[1]))
            tcp.listen()
        except OSError:
            udp.close()
            tcp.close()
            continue
        return udp, tcp
    raise OSError("no port is free for UDP and TCP alike")

"""DNS look-ups within a deadline.  The only module that imports dnspython.

What the DNS says is evidence, also when it says that there is nothing (NXDOMAIN, no data).  That
nobody answered, or only SERVFAIL, is our own trouble: :class:`LookupTrouble`.

Sent: one UDP query for each question (EDNS, 1232 octets, as DNS flag day 2020 has it), TCP where
the answer does not fit; on silence the next server, all of them twice over.

dnspython makes and reads the messages, and reads ``resolv.conf``.  It does not do the waiting: it
waits by the wall clock, which may be set back an hour meanwhile, and its resolver's pauses between
tries are not bound by the lifetime one gives it (0.3 s took 0.4 s; two dead servers add up to 2 s).
"""

from __future__ import annotations

import math
import re
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

import dns.exception
import dns.message
import dns.rcode
import dns.rdata
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.SOA
import dns.rdtypes.ANY.TXT
import dns.resolver

from botmilter.clock import Deadline
from botmilter.model import IPAddress, Status
from botmilter.net import parse_ip, printable, reverse_name

#: Waits for one server, first and second time over: a resolver that has to ask far away itself
#: takes up to a second, and the first packet may be lost.
_WAITS_S = (1.0, 3.0)
_PAYLOAD = 1232
_EVIDENCE = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
#: Of a name with all its escapes; longer data are shown to nobody.
_TEXT_AT_MOST = 1000
#: TXT is read and not shown, and half an SPF record is none.  Honest ones end at 4 kB, most before
#: 1; the eleven records of one evaluation, all so long, take 0.3 s to read, of 64 kB 1.2.
_TXT_AT_MOST = 16_384

#: What is asked for: anything else is text that was never a host's name.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_NAME_AT_MOST = 253

#: So long an answer proves that the resolver works: what fails meanwhile is the fault of the name.
_PROOF_S = 60.0
#: So many failures running disprove it: no stranger's names fail so often without one of somebody
#: else's being answered in between.
_DISPROOF = 20


class LookupTrouble(Exception):  # noqa: N818 - the word of the docs: not the name's error, our trouble
    """The DNS could not be asked: no server answered in time, or all refused.

    Says nothing about the name that was asked for.
    """

    #: How a probe ends that could not go on for it.
    status = Status.FAILED


class NameTrouble(LookupTrouble):
    """The DNS could be asked, but not about this name: its own servers are dead or broken.

    Anybody can bring that about for names of his own, so it must not count as a broken resolver.
    """

    status = Status.SKIPPED


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS says: no texts where it says that there is nothing."""

    texts: tuple[str, ...] = ()
    """The data as text, printable ASCII; names without trailing dot.  TXT may be 16 kB long."""
    ttl_s: float | None = None
    """How long it holds; None where the answer did not tell."""
    exists: bool = False
    """Whether the name exists at all (NOERROR), with data of this type or without."""
    zone: str = ""
    """Of an answer that there is nothing: the zone that says so and its first server (the SOA
    record, RFC 2308 section 3)."""


class Questions(ABC):
    """What can be asked of the DNS."""

    @abstractmethod
    def ask(self, name: str, kind: str, deadline: Deadline) -> Answer:
        """The data of type *kind* at *name*; an MX record gives its host.

        Blocks at most until *deadline*.  Raises LookupTrouble, as NameTrouble where the resolver
        is known to work.  A *name* that cannot be one has nothing, and nobody is asked.
        """

    def pointers(self, ip: IPAddress, deadline: Deadline) -> Answer:
        """The names of *ip* (PTR)."""
        return self.ask(reverse_name(ip), "PTR", deadline)

    def addresses(self, name: str, family_of: IPAddress, deadline: Deadline) -> Answer:
        """The addresses of *name* in the family of *family_of* (A or AAAA)."""
        return self.ask(name, "A" if isinstance(family_of, IPv4Address) else "AAAA", deadline)


class Resolver(Questions):
    """Asks *nameservers* (addresses, port 53 unless *port* says otherwise), or those of
    ``/etc/resolv.conf`` where none are given.  Keeps no cache; safe for many threads."""

    def __init__(self, nameservers: Sequence[str] = (), port: int = 53) -> None:
        self._nameservers = tuple(nameservers)
        self._port = port
        self._works_until = Deadline(-math.inf)
        self._failures = 0  # running, over all threads; one more or less is no matter

    def ask(self, name: str, kind: str, deadline: Deadline) -> Answer:
        if len(name.rstrip(".")) > _NAME_AT_MOST or not _NAME.fullmatch(name):
            return Answer()
        query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
        return _answer(self._exchange(query, deadline))

    def _exchange(self, query: dns.message.Message, deadline: Deadline) -> dns.message.QueryMessage:
        trouble = "no nameserver is configured"
        for wait_s in _WAITS_S:
            for server in self._servers():
                if deadline.is_over:
                    raise self._trouble(f"no answer in time; {trouble}")
                limit = Deadline.after(deadline.left(wait_s))
                try:
                    response = self._once(query, server, limit)
                except (dns.exception.DNSException, OSError, EOFError) as error:
                    trouble = f"{server}: {type(error).__name__}"
                    continue
                said = response.rcode()
                if isinstance(response, dns.message.QueryMessage) and said in _EVIDENCE:
                    self._works_until, self._failures = Deadline.after(_PROOF_S), 0
                    return response
                trouble = f"{server}: {dns.rcode.to_text(said)}"
        raise self._trouble(trouble)

    def _trouble(self, text: str) -> LookupTrouble:
        self._failures += 1
        is_ours = self._works_until.is_over or self._failures >= _DISPROOF
        return LookupTrouble(text) if is_ours else NameTrouble(text)

    def _once(
        self, query: dns.message.Message, server: str, limit: Deadline
    ) -> dns.message.Message:
        try:
            with _connected(server, self._port, socket.SOCK_DGRAM, limit) as connection:
                return _over_udp(connection, query, limit)
        except dns.message.Truncated:
            with _connected(server, self._port, socket.SOCK_STREAM, limit) as connection:
                return _over_tcp(connection, query, limit)

    def _servers(self) -> Sequence[str]:
        if self._nameservers:
            return self._nameservers
        try:
            return [str(server) for server in _configured().nameservers]
        except dns.resolver.NoResolverConfiguration:
            return ()


class Heard(Questions):
    """Asks *resolver*, and knows how long all that it said holds: for one measurement."""

    def __init__(self, resolver: Questions) -> None:
        self._resolver = resolver
        self.ttl_s: float | None = None
        """Of the answer that holds least; None where none told."""

    def ask(self, name: str, kind: str, deadline: Deadline) -> Answer:
        answer = self._resolver.ask(name, kind, deadline)
        if answer.ttl_s is not None:
            self.ttl_s = min(answer.ttl_s, math.inf if self.ttl_s is None else self.ttl_s)
        return answer


def _connected(server: str, port: int, kind: socket.SocketKind, limit: Deadline) -> socket.socket:
    """A socket to *server* that takes nothing from another address."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    connection = socket.socket(family, kind)
    try:
        _hurry(connection, limit)
        connection.connect((server, port))
    except OSError:
        connection.close()
        raise
    return connection


def _over_udp(
    connection: socket.socket, query: dns.message.Message, limit: Deadline
) -> dns.message.Message:
    connection.send(query.to_wire())
    while True:
        _hurry(connection, limit)
        with suppress(dns.message.ShortHeader, dns.exception.FormError):  # somebody guesses
            response = dns.message.from_wire(connection.recv(65535), raise_on_truncation=True)
            if query.is_response(response):
                return response


def _over_tcp(
    connection: socket.socket, query: dns.message.Message, limit: Deadline
) -> dns.message.Message:
    wire = query.to_wire()
    connection.sendall(len(wire).to_bytes(2, "big") + wire)
    size = int.from_bytes(_receive(connection, 2, limit), "big")
    response = dns.message.from_wire(_receive(connection, size, limit))
    if not query.is_response(response):
        raise EOFError("not an answer to the question")
    return response


def _receive(connection: socket.socket, size: int, limit: Deadline) -> bytes:
    """Exactly *size* octets (RFC 1035 section 4.2.2)."""
    read = b""
    while len(read) < size:
        _hurry(connection, limit)
        chunk = connection.recv(size - len(read))
        if not chunk:
            raise EOFError
        read += chunk
    return read


def _hurry(connection: socket.socket, limit: Deadline) -> None:
    """Let the next step take what is left.  Raises TimeoutError where nothing is."""
    if limit.is_over:
        raise TimeoutError
    connection.settimeout(max(0.001, limit.left()))


#: resolv.conf as last read, and when: it changes under a running daemon (DHCP, VPN).
_resolv_conf: tuple[float, dns.resolver.Resolver] | None = None
_REREAD_S = 30.0


def _configured() -> dns.resolver.Resolver:
    global _resolv_conf  # one file on a machine, one copy of it in a process
    now = time.monotonic()
    if _resolv_conf is None or now - _resolv_conf[0] > _REREAD_S:
        _resolv_conf = (now, dns.resolver.Resolver())
    return _resolv_conf[1]


def _answer(response: dns.message.QueryMessage) -> Answer:
    exists = response.rcode() == dns.rcode.NOERROR
    try:
        chain = response.resolve_chaining()
    except dns.exception.DNSException as error:  # a loop of aliases, or an answer to nothing
        raise NameTrouble(f"{type(error).__name__} in the answer") from error
    if chain.answer is None:
        return Answer((), float(chain.minimum_ttl), exists, _zone(response))
    texts = tuple(printable(_text(data), _longest(data)) for data in chain.answer)
    return Answer(texts, float(chain.minimum_ttl), True)


def _zone(response: dns.message.QueryMessage) -> str:
    for rrset in response.authority:
        for data in rrset:
            if isinstance(data, dns.rdtypes.ANY.SOA.SOA):
                names = (rrset.name, data.mname)
                return printable(" ".join(name.to_text(omit_final_dot=True) for name in names))
    return ""


def _longest(data: dns.rdata.Rdata) -> int:
    return _TXT_AT_MOST if isinstance(data, dns.rdtypes.ANY.TXT.TXT) else _TEXT_AT_MOST


def _text(data: dns.rdata.Rdata) -> str:
    match data:
        case dns.rdtypes.ANY.TXT.TXT():
            return b"".join(data.strings).decode("latin-1")
        case dns.rdtypes.ANY.MX.MX():
            return str(data.exchange.to_text(omit_final_dot=True))
        case dns.rdtypes.ANY.PTR.PTR():
            return str(data.target.to_text(omit_final_dot=True))
        case _:
            return data.to_text()


def as_addresses(answer: Answer) -> frozenset[IPAddress]:
    """The addresses among the answer's texts."""
    return frozenset(ip for text in answer.texts if (ip := parse_ip(text)) is not None)

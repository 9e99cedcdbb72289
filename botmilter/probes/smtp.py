"""Probe ``smtp``: whether the host takes mail itself.

Sent: one TCP connection to port 25.  If something greets with 220 we say EHLO with our own name
and QUIT, and never more.  A host that refuses or ignores the connection runs no mail server that
we can reach; that alone convicts nobody, because the outbound hosts of large providers do not
listen either.  A host that accepts and stays silent is alive: slow greeters are servers
(postscreen waits 6 s on purpose).
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import Any

from botmilter import names
from botmilter.clock import Deadline
from botmilter.model import Observation, Signal, Status, Target
from botmilter.net import printable

#: SYN at 0 and 1 s and time for the answer to the second; a third would come at 3 s, and by then
#: the verdict, and nmap's 1.5 to 4.8 s, are due.
CONNECT_S = 2.5
#: For the answer to EHLO, once the greeting was there.
EHLO_S = 2.0
#: A greeting is one line of at most 512 octets (RFC 5321 section 4.5.3.1.5), or a few.
_READ_AT_MOST = 4096

_CODE = re.compile(rb"([245])[0-9]{2}[ -]")
_EHLO_NAME = re.compile(rb"250[ -]([^\s]+)")

#: An ICMP error from the way there, as against one about our own network.
_FILTERED = frozenset({errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENOPROTOOPT})

#: What each outcome means.
_SIGNAL_OF = {
    "refused": "smtp.refused",
    "filtered": "smtp.filtered",
    "greeting": "smtp.banner",
    "rejecting": "smtp.rejecting",
    "slow": "smtp.slow",
    "other": "smtp.other",
}


class SmtpProbe:
    """Facts: ``outcome`` (a key of the table above); ``greeting`` and ``ehlo``, the host's own
    words, printable, empty where there were none."""

    name = "smtp"
    shows_life = True
    wants_life = False
    sends_to_host = True
    signals = frozenset({*_SIGNAL_OF.values(), "smtp.ehlo_match"})

    def __init__(self, limit_s: float, ehlo_name: str, port: int = 25) -> None:
        self.limit_s = limit_s
        self._ehlo_name = ehlo_name
        self._port = port

    def store_key(self, target: Target) -> str:
        return str(target.ip)

    def measure(self, target: Target, deadline: Deadline) -> Observation:
        family = socket.AF_INET6 if isinstance(target.ip, IPv6Address) else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            try:
                connection.settimeout(max(0.001, deadline.left(CONNECT_S)))
                connection.connect((str(target.ip), self._port))
            except OSError as error:
                return self._unconnected(target, error)
            return self._seen(target, self._talk(connection, deadline))

    def _seen(self, target: Target, facts: dict[str, Any]) -> Observation:
        silent = facts["outcome"] == "filtered"
        status = Status.SILENT if silent else Status.ANSWERED
        return Observation(self.name, self.store_key(target), status, facts)

    def _unconnected(self, target: Target, error: OSError) -> Observation:
        facts = {"outcome": "filtered", "greeting": "", "ehlo": ""}
        if isinstance(error, ConnectionRefusedError):
            return self._seen(target, {**facts, "outcome": "refused"})
        if isinstance(error, TimeoutError) or error.errno in _FILTERED:
            return self._seen(target, facts)
        reason = printable(f"connect: {error.strerror or error}")
        return Observation(self.name, self.store_key(target), Status.FAILED, reason=reason)

    def _talk(self, connection: socket.socket, deadline: Deadline) -> dict[str, Any]:
        greeting, ended = _read_line(connection, deadline)
        facts = {"greeting": printable(greeting.strip()), "ehlo": ""}
        code = _CODE.match(greeting)
        if code is None:
            is_slow = not ended and _may_become_a_code(greeting)
            return {**facts, "outcome": "slow" if is_slow else "other"}
        if code[1] != b"2":
            return {**facts, "outcome": "rejecting"}
        facts["ehlo"] = self._greet(connection, deadline)
        return {**facts, "outcome": "greeting"}

    def _greet(self, connection: socket.socket, deadline: Deadline) -> str:
        """The name the host gives itself in answer to EHLO; then leave politely."""
        try:
            connection.settimeout(max(0.001, deadline.left(EHLO_S)))
            connection.sendall(f"EHLO {self._ehlo_name}\r\n".encode("ascii", "replace"))
            answer, _ = _read_line(connection, Deadline.after(deadline.left(EHLO_S)))
            connection.settimeout(0.1)
            connection.sendall(b"QUIT\r\n")
        except OSError:
            return ""
        found = _EHLO_NAME.match(answer)
        return printable(found[1]) if found else ""

    def interpret(self, seen: Observation, target: Target) -> Iterable[Signal]:
        outcome, greeting = str(seen.facts["outcome"]), str(seen.facts["greeting"])
        yield Signal(_SIGNAL_OF[outcome], 1.0, greeting)
        ehlo = str(seen.facts["ehlo"])
        if ehlo and target.helo and names.clean(ehlo) == names.clean(target.helo):
            yield Signal("smtp.ehlo_match", 1.0, ehlo)


def _may_become_a_code(text: bytes) -> bool:
    """Whether *text*, nothing yet or cut by a tarpit's octet a second, can begin a greeting."""
    return b"220 ".startswith(text) or b"220-".startswith(text)


def _read_line(connection: socket.socket, deadline: Deadline) -> tuple[bytes, bool]:
    """What comes until the line's end, the deadline or too much; whether the host ended it."""
    read = b""
    try:
        while b"\n" not in read and len(read) < _READ_AT_MOST and not deadline.is_over:
            connection.settimeout(max(0.001, deadline.left()))
            chunk = connection.recv(_READ_AT_MOST)
            if not chunk:
                return read, True
            read += chunk
    except TimeoutError:
        return read, False
    except OSError:
        return read, True
    return read, False

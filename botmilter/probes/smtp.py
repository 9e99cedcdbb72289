"""Probe ``smtp``: whether the host takes mail itself.

Sent: one TCP connection to port 25.  If something greets with 220 we say EHLO with our own name
and QUIT, and never more.  A host that refuses or ignores the connection runs no mail server that
we can reach; that alone convicts nobody, because the outbound hosts of large providers do not
listen either.  A host that accepts and stays silent is alive: slow greeters are servers
(postscreen waits 6 s on purpose).
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Any

from botmilter import names
from botmilter.clock import Deadline
from botmilter.errors import SetupError
from botmilter.model import Observation, Signal, Status, Target
from botmilter.net import printable
from botmilter.probes.base import NO_IPV6, lacks_ipv6

#: SYN at 0 and 1 s and time for the answer to the second; a third would come at 3 s, and by then
#: the verdict, and nmap's 1.5 to 4.8 s, are due.
CONNECT_S = 2.5
#: With less, silence says nothing.
_CONNECT_AT_LEAST_S = 0.9
#: For the answer to EHLO, once the greeting was there.
EHLO_S = 2.0
#: For the rest of a greeting of many lines.  postscreen sends the first and waits 6 s for whoever
#: speaks before his turn; we have learnt enough by then, and leave.
_GREETING_REST_S = 0.5
#: For the answer to QUIT, so that the other side need not log a broken connection.
_QUIT_S = 0.3
#: A greeting is one line of at most 512 octets (RFC 5321 section 4.5.3.1.5), or a few.
_READ_AT_MOST = 4096

_CODE = re.compile(rb"([245])[0-9]{2}[ \r\n-]")
#: Nothing yet, or cut in a code by a tarpit's octet a second.
_BEGINNING = re.compile(rb"(?:[245][0-9]{0,2})?")
_CONTINUED = re.compile(rb"[0-9]{3}-")
_EHLO_NAME = re.compile(rb"250[ -]([^\s]+)")

#: What Linux makes of an ICMP error from the way there (icmp(7); EACCES and EPROTO by ICMPv6).
_FILTERED = frozenset(
    {
        *(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENONET),
        *(errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EACCES, errno.EPROTO),
    }
)

#: The host took the connection and ended it before we had looked: a refusal has its own number.
_HUNG_UP = frozenset({errno.ECONNRESET, errno.EPIPE})

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
        time_s = deadline.left(CONNECT_S)
        try:
            connection = self._connect(target, time_s)
        except SetupError as error:
            if str(error) == NO_IPV6:
                return self._skipped(target, NO_IPV6)
            return self._failed(target, str(error))
        except OSError as error:
            if isinstance(error, TimeoutError) and time_s < _CONNECT_AT_LEAST_S:
                return self._skipped(target, "too little time to ask")
            return self._unconnected(target, error)
        with connection:
            return self._seen(target, self._talk(connection, deadline))

    def _skipped(self, target: Target, reason: str) -> Observation:
        return Observation(self.name, self.store_key(target), Status.SKIPPED, reason=reason)

    def _connect(self, target: Target, time_s: float) -> socket.socket:
        """Raises OSError with what came from the way there, and SetupError with our own trouble.

        The errors have the same numbers.  What connect() says at once, before any answer can be
        there, is about our own routes and filters; what comes later somebody sent.
        """
        family = socket.AF_INET6 if isinstance(target.ip, IPv6Address) else socket.AF_INET
        try:
            connection = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            why = NO_IPV6 if lacks_ipv6(target.ip, error.errno) else str(error.strerror)
            raise SetupError(why) from error
        try:
            connection.setblocking(False)
            code = connection.connect_ex((str(target.ip), self._port))
            if code not in (0, errno.EINPROGRESS, errno.ECONNREFUSED):  # loopback refuses at once
                raise SetupError(NO_IPV6 if lacks_ipv6(target.ip, code) else os.strerror(code))
            if code == errno.EINPROGRESS:
                code = _outcome(connection, time_s)
            if code:
                raise OSError(code, os.strerror(code))
        except (OSError, SetupError):
            connection.close()
            raise
        return connection

    def _seen(self, target: Target, facts: dict[str, Any]) -> Observation:
        silent = facts["outcome"] == "filtered"
        status = Status.SILENT if silent else Status.ANSWERED
        return Observation(self.name, self.store_key(target), status, facts)

    def _unconnected(self, target: Target, error: OSError) -> Observation:
        facts = {"outcome": "filtered", "greeting": "", "ehlo": ""}
        if isinstance(error, ConnectionRefusedError):
            return self._seen(target, {**facts, "outcome": "refused"})
        if error.errno in _HUNG_UP:
            return self._seen(target, {**facts, "outcome": "other"})
        if isinstance(error, TimeoutError) or error.errno in _FILTERED:
            return self._seen(target, facts)
        return self._failed(target, str(error.strerror or error))

    def _failed(self, target: Target, text: str) -> Observation:
        reason = printable(f"connect: {text}")
        return Observation(self.name, self.store_key(target), Status.FAILED, reason=reason)

    def _talk(self, connection: socket.socket, deadline: Deadline) -> dict[str, Any]:
        line, is_over = _read(connection, deadline, _has_line)
        facts = {"greeting": printable(line.partition(b"\n")[0].strip()), "ehlo": ""}
        code = _CODE.match(line)
        if code is None:
            is_slow = not is_over and _BEGINNING.fullmatch(line) is not None
            return {**facts, "outcome": "slow" if is_slow else "other"}
        if code[1] != b"2":
            return {**facts, "outcome": "rejecting"}
        if not _has_reply(line):
            rest_by = Deadline.after(_GREETING_REST_S).earlier(deadline)
            line += _read(connection, rest_by, lambda rest: _has_reply(line + rest))[0]
        if _has_reply(line):  # never before our turn: RFC 5321 section 4.3.1
            facts["ehlo"] = self._greet(connection, deadline)
        return {**facts, "outcome": "greeting"}

    def _greet(self, connection: socket.socket, deadline: Deadline) -> str:
        """The name the host gives itself in answer to EHLO; then leave politely."""
        answer = b""
        with suppress(OSError):
            connection.settimeout(max(0.001, deadline.left(EHLO_S)))
            connection.sendall(f"EHLO {self._ehlo_name}\r\n".encode("ascii", "replace"))
            answer, _ = _read(connection, Deadline.after(deadline.left(EHLO_S)), _has_reply)
            connection.settimeout(max(0.001, deadline.left(_QUIT_S)))
            connection.sendall(b"QUIT\r\n")
            connection.recv(_READ_AT_MOST)
        found = _EHLO_NAME.match(answer)
        return printable(found[1]) if found else ""

    def interpret(self, seen: Observation, target: Target) -> Iterable[Signal]:
        outcome, greeting = str(seen.facts["outcome"]), str(seen.facts["greeting"])
        yield Signal(_SIGNAL_OF[outcome], 1.0, greeting)
        ehlo = str(seen.facts["ehlo"])
        if ehlo and target.helo and names.clean(ehlo) == names.clean(target.helo):
            yield Signal("smtp.ehlo_match", 1.0, ehlo)


def _outcome(connection: socket.socket, time_s: float) -> int:
    """The error number of a connect() under way, 0 where it came about."""
    waiting = select.poll()
    waiting.register(connection, select.POLLOUT)
    if not waiting.poll(max(1.0, time_s * 1000)):
        return errno.ETIMEDOUT
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _has_line(read: bytes) -> bool:
    return b"\n" in read


def _has_reply(read: bytes) -> bool:
    """Whether a last line is there: one that does not announce another."""
    return any(not _CONTINUED.match(line) for line in read.split(b"\n")[:-1])


def _read(
    connection: socket.socket, deadline: Deadline, is_enough: Callable[[bytes], bool]
) -> tuple[bytes, bool]:
    """What comes until it is enough, too much or *deadline*; whether the host ended it."""
    read = b""
    try:
        while not is_enough(read) and len(read) < _READ_AT_MOST and not deadline.is_over:
            connection.settimeout(max(0.001, deadline.left()))
            chunk = connection.recv(_READ_AT_MOST - len(read))
            if not chunk:
                return read, True
            read += chunk
    except TimeoutError:
        return read, False
    except OSError:
        return read, True
    return read, False

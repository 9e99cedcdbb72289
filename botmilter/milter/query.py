"""Answers about an address on a local socket: one JSON line in, one JSON line out.

For programs that know an originating host without the milter's help, such as SpamAssassin.  In::

    {"ip": "192.0.2.7", "helo": "home-pc", "sender": "a@example.com"}

``helo`` and ``sender`` may be left out; another key is an error.  Out comes what the answering
function makes of it, or ``{"error": "why"}``; then the connection ends.

A process of its own, so that a flood of questions takes nothing from the mail.  Bounded are the
line's length, the time a client may take for it, the connections at once and the questions a
minute.  The asker is local and allowed in by the socket's mode; what he sends is hostile all the
same, because it stems from a mail.
"""

from __future__ import annotations

import json
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botmilter.clock import Deadline
from botmilter.errors import InputError
from botmilter.milter.base import READY
from botmilter.milter.session import sender_domain
from botmilter.model import IPAddress
from botmilter.net import parse_ip, printable

log = logging.getLogger(__name__)

#: An address, a HELO (RFC 5321: 255 octets) and a sender (320), each octet six in JSON's escapes.
LINE_AT_MOST = 4096
LINE_LIMIT_S = 5.0
_HELO_AT_MOST = 255
_SENDER_AT_MOST = 320
#: The longest way to write an IPv6 address, with a zone.
_IP_AT_MOST = 64
_WRITE_LIMIT_S = 5.0
#: Between two looks at the open connections while they end.
_LOOK_S = 0.05
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Question:
    ip: IPAddress
    helo: str | None = None
    """Printable ASCII."""
    sender_domain: str | None = None
    """Lower case; None for the null sender and where none was given."""


#: Takes as long as judging does.
Answer = Callable[[Question], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Limits:
    at_once: int
    per_minute: int


def read_question(line: bytes) -> Question:
    """The question in *line*.  Raises InputError saying what was expected; trusts nothing."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError("expected one line of JSON in UTF-8") from None
    if not isinstance(given, dict):
        raise InputError('expected an object such as {"ip": "192.0.2.7"}')
    unknown = sorted(set(given) - {"ip", "helo", "sender"})
    if unknown:
        raise InputError(f"unknown key {printable(unknown[0], 60)}: expected ip, helo and sender")
    ip = parse_ip(_text(given, "ip", _IP_AT_MOST) or "")
    if ip is None:
        raise InputError("ip: expected an IPv4 or IPv6 address")
    sender = _text(given, "sender", _SENDER_AT_MOST) or ""
    helo = _text(given, "helo", _HELO_AT_MOST) or None
    return Question(ip, helo, sender_domain(sender))


def _text(given: Mapping[str, object], key: str, at_most: int) -> str | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > at_most:
        raise InputError(f"{key}: expected text of at most {at_most} characters")
    return printable(value, at_most)


class Desk:
    """Answers on *listener* until *control* says to end or ends."""

    def __init__(
        self, listener: socket.socket, control: socket.socket, answer: Answer, limits: Limits
    ) -> None:
        self._listener = listener
        self._control = control
        self._answer = answer
        self._limits = limits
        self._room = threading.BoundedSemaphore(limits.at_once)
        self._open: set[threading.Thread] = set()
        self._window = (0, 0)

    def run(self, stop_grace_s: float) -> int:
        """Serve; at the end open connections may go on for *stop_grace_s*."""
        self._control.send(READY)
        while True:
            ready, _, _ = select.select([self._listener, self._control], [], [])
            if self._control in ready:
                break
            self._accept()
        self._listener.close()
        deadline = Deadline.after(stop_grace_s)
        while self._open and not deadline.is_over:
            time.sleep(_LOOK_S)
        return 0

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # another process of ours took it, or no descriptor is left
            time.sleep(_LOOK_S)
            return
        client.settimeout(_WRITE_LIMIT_S)
        refusal = self._refusal()
        if refusal:
            with client:
                _send(client, {"error": refusal})
            return
        thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
        self._open.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self._serve_no_more(thread)
            with client:
                _send(client, {"error": "no thread left"})

    def _refusal(self) -> str:
        """Why there is no answer now; empty where there is room, which is then taken."""
        minute = int(time.monotonic() // _MINUTE_S)
        counted = self._window[1] + 1 if self._window[0] == minute else 1
        self._window = (minute, counted)
        if counted > self._limits.per_minute:
            return f"rate limit: {self._limits.per_minute} a minute"
        if not self._room.acquire(blocking=False):
            return f"busy: {self._limits.at_once} questions at once"
        return ""

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                _send(client, self._answered(client))
        finally:
            self._serve_no_more(threading.current_thread())

    def _serve_no_more(self, thread: threading.Thread) -> None:
        self._open.discard(thread)
        self._room.release()

    def _answered(self, client: socket.socket) -> Mapping[str, Any]:
        try:
            return self._answer(read_question(_read_line(client, Deadline.after(LINE_LIMIT_S))))
        except InputError as error:
            return {"error": str(error)}
        except Exception:
            log.exception("a question was not answered: a bug, please report")
            return {"error": "internal error"}


def _read_line(client: socket.socket, deadline: Deadline) -> bytes:
    """Up to the first newline.  Raises InputError where none comes in time."""
    line = b""
    while b"\n" not in line:
        if len(line) > LINE_AT_MOST:
            raise InputError(f"expected a line of at most {LINE_AT_MOST} octets")
        try:
            client.settimeout(max(0.001, deadline.left()))
            chunk = client.recv(LINE_AT_MOST)
        except OSError:
            raise InputError(f"expected a line within {LINE_LIMIT_S:.0f} s") from None
        if not chunk:
            raise InputError("expected a newline at the end")
        line += chunk
    return line.partition(b"\n")[0]


def _send(client: socket.socket, answer: Mapping[str, Any]) -> None:
    """A client that has gone away is no matter of ours."""
    try:
        client.settimeout(_WRITE_LIMIT_S)
        client.sendall(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
    except OSError as error:
        log.debug("no answer given: %s", error)

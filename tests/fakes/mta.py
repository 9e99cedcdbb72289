"""An MTA as a milter sees it: the Sendmail milter protocol, version 6, on the wire.

Written from the protocol's packets (``include/libmilter/mfdef.h`` names them; length in four
bytes, a command, its data), with no libmilter underneath, so that it can also send what no real
MTA would.  :class:`Wire` sends and receives packets; :class:`Mta` plays whole sessions.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

ALL_ACTIONS = 0x1FF
ALL_STEPS = 0x1FFFFF

#: The reply codes that end a command.
CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, SKIP = b"c", b"a", b"r", b"t", b"d", b"s"
REPLY_CODE = b"y"
_EDITS = b"hmiq+-bep2"

#: Which of our commands the other side may have asked not to get, and not to answer.
_UNWANTED = {b"C": 0x1, b"H": 0x2, b"M": 0x4, b"R": 0x8, b"B": 0x10, b"L": 0x20, b"N": 0x40}
_UNWANTED |= {b"U": 0x100, b"T": 0x200}
_QUIET = {b"L": 0x80, b"C": 0x1000, b"H": 0x2000, b"M": 0x4000, b"R": 0x8000}
_QUIET |= {b"T": 0x10000, b"U": 0x20000, b"N": 0x40000, b"B": 0x80000}

Macros = Mapping[bytes, bytes]
Header = tuple[bytes, bytes]


class Closed(Exception):  # noqa: N818 - an event, not an error
    """The filter closed the connection."""


class Wire:
    """Packets over one connection.  *address* is a Unix path or (host, port)."""

    def __init__(self, address: str | tuple[str, int], timeout_s: float = 10.0) -> None:
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout_s)
            try:
                self.socket.connect(address)
            except OSError:
                self.socket.close()
                raise
        else:
            self.socket = socket.create_connection(address, timeout_s)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, command: bytes, data: bytes = b"") -> None:
        self.send_raw(struct.pack(">I", len(data) + 1) + command + data)

    def send_raw(self, packet: bytes) -> None:
        try:
            self.socket.sendall(packet)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def receive(self) -> tuple[bytes, bytes]:
        (length,) = struct.unpack(">I", self._exactly(4))
        packet = self._exactly(length)
        return packet[:1], packet[1:]

    def _exactly(self, size: int) -> bytes:
        chunks = b""
        while len(chunks) < size:
            try:
                chunk = self.socket.recv(size - len(chunks))
            except ConnectionResetError as error:
                raise Closed from error
            if not chunk:
                raise Closed
            chunks += chunk
        return chunks

    def close(self) -> None:
        self.socket.close()


@dataclass(frozen=True)
class Mail:
    """What the fake MTA hands over for one mail."""

    headers: Sequence[Header] = ((b"Subject", b"hello"),)
    sender: bytes = b"<sender@example.com>"
    recipients: Sequence[bytes] = (b"<postmaster@example.org>",)
    body: bytes = b"Hello\r\n"
    macros: Macros = field(default_factory=lambda: {b"i": b"4QID"})


@dataclass(frozen=True)
class Delivery:
    """What came back for one mail."""

    reply: bytes
    headers: tuple[Header, ...]
    """The header fields after all edits."""
    waits: int = 0
    """How often the filter asked for more patience."""
    text: bytes = b""
    """What the client is to be told."""
    quarantined: bytes | None = None
    """Why it is to be held."""

    def values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.headers if known.lower() == name.lower()]


class Mta:
    """One connection to the filter."""

    def __init__(
        self,
        address: str | tuple[str, int],
        *,
        actions: int = ALL_ACTIONS,
        steps: int = ALL_STEPS,
        timeout_s: float = 10.0,
    ) -> None:
        self.wire = Wire(address, timeout_s)
        try:
            self.wire.send(b"O", struct.pack(">III", 6, actions, steps))
            code, data = self.wire.receive()
        except BaseException:
            self.wire.socket.close()
            raise
        assert code == b"O", code
        self.version, self.actions, self.steps = struct.unpack(">III", data[:12])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(Closed):
            self.wire.send(b"Q")
        self.wire.close()

    # -- single steps ---------------------------------------------------------------------------

    def connect(
        self,
        ip: str = "198.18.0.1",
        host: bytes = b"mail.example.com",
        port: int = 25000,
        macros: Macros | None = None,
    ) -> bytes:
        family = b"6" if ":" in ip else b"4"
        where = family + struct.pack(">H", port) + ip.encode() + b"\0"
        return self.step(b"C", host + b"\0" + where, macros or {b"j": b"mx.example.org"})

    def helo(self, name: bytes = b"mail.example.com") -> bytes:
        return self.step(b"H", name + b"\0")

    def mail(self, sender: bytes, macros: Macros | None = None) -> bytes:
        return self.step(b"M", sender + b"\0", macros)

    def step(self, command: bytes, data: bytes = b"", macros: Macros | None = None) -> bytes:
        """Send a command, macros first (also of skipped commands, as Postfix does); the reply,
        CONTINUE where none is to be waited for."""
        if macros:
            pairs = b"".join(name + b"\0" + value + b"\0" for name, value in macros.items())
            self.wire.send(b"D", command + pairs)
        if self.steps & _UNWANTED.get(command, 0):
            return CONTINUE
        self.wire.send(command, data)
        if self.steps & _QUIET.get(command, 0):
            return CONTINUE
        return self.wire.receive()[0]

    # -- whole mails ----------------------------------------------------------------------------

    def deliver(self, mail: Mail) -> Delivery:
        """MAIL to end of message; stops at the first reply that is not CONTINUE."""
        for reply in self._before_end(mail):
            if reply not in (CONTINUE, SKIP):
                return Delivery(reply, tuple(mail.headers))
        return self.end(mail.headers)

    def _before_end(self, mail: Mail) -> Iterable[bytes]:
        yield self.mail(mail.sender, mail.macros)
        for recipient in mail.recipients:
            yield self.step(b"R", recipient + b"\0")
        yield self.step(b"T")
        for name, value in mail.headers:
            yield self.step(b"L", name + b"\0" + value + b"\0")
        yield self.step(b"N")
        yield self.step(b"B", mail.body)

    def end(self, headers: Sequence[Header]) -> Delivery:
        """End of message; the header as the filter's edits leave it."""
        self.wire.send(b"E")
        kept, quarantined, waits = list(headers), None, 0
        while True:
            code, data = self.wire.receive()
            if code not in _EDITS:
                return Delivery(code, tuple(kept), waits, data.rstrip(b"\0"), quarantined)
            if code == b"q":
                quarantined = data.rstrip(b"\0")
            else:
                waits += code == b"p"
                edit(kept, code, data)


def edit(headers: list[Header], code: bytes, data: bytes) -> None:
    """One edit as Postfix' cleanup does it: a deleted field no longer counts."""
    if code == b"h":
        name, value, _ = data.split(b"\0")
        headers.append((name, value))
    elif code == b"m":
        (place,) = struct.unpack(">I", data[:4])
        name, value, _ = data[4:].split(b"\0")
        same = [at for at, (known, _) in enumerate(headers) if known.lower() == name.lower()]
        assert 1 <= place <= len(same), f"no field {place} of {name!r}"
        if value:
            headers[same[place - 1]] = (headers[same[place - 1]][0], value)
        else:
            del headers[same[place - 1]]
    elif code == b"i":
        (place,) = struct.unpack(">I", data[:4])
        name, value, _ = data[4:].split(b"\0")
        headers.insert(place - 1, (name, value))  # the MTA's own line is number 0
    else:
        assert code == b"p", f"unexpected edit {code!r}"


def send_one(
    address: str | tuple[str, int], mail: Mail | None = None, *, ip: str = "198.18.0.1"
) -> Delivery:
    """A whole session with one ordinary mail."""
    with Mta(address) as mta:
        assert mta.connect(ip) == CONTINUE
        assert mta.helo() == CONTINUE
        return mta.deliver(mail or Mail())

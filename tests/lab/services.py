"""What a host says on an accepted connection: one generator per service.

A generator yields what to do next and the TCP layer does it:

* ``bytes``: send them;
* :class:`Wait`: let time pass;
* ``READ``: wait for a line of the peer's, which the ``yield`` returns, None at its end;
* ``RESET``: cut the connection.

Returning closes the connection properly.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import cycle

from tests.lab.host import Does, Port


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


class Ask(Enum):
    READ = auto()
    RESET = auto()


READ, RESET = Ask.READ, Ask.RESET

Script = Generator[bytes | Wait | Ask, bytes | None, None]


def script(port: Port) -> Script:
    """The conversation of *port*, which must be one that accepts."""
    return _SCRIPTS[port.does](port)


def _silent(_port: Port) -> Script:
    while (yield READ) is not None:
        pass


def _smtp(port: Port) -> Script:
    name = port.text.partition(" ")[0]
    yield Wait(port.delay_s)
    yield f"220 {port.text}\r\n".encode("latin-1")
    while (line := (yield READ)) is not None:
        verb = line[:4].upper().strip()
        if verb == b"DATA":
            yield b"354 go on\r\n"
            while (line := (yield READ)) not in (b".\r\n", None):
                pass
        yield _SMTP_REPLIES.get(verb, b"500 what?\r\n").replace(b"NAME", name.encode("latin-1"))
        if verb == b"QUIT":
            return


_SMTP_REPLIES = {
    b"EHLO": b"250-NAME\r\n250-PIPELINING\r\n250 SIZE 10240000\r\n",
    b"HELO": b"250 NAME\r\n",
    b"MAIL": b"250 2.1.0 ok\r\n",
    b"RCPT": b"250 2.1.5 ok\r\n",
    b"DATA": b"250 2.0.0 taken\r\n",
    b"RSET": b"250 2.0.0 ok\r\n",
    b"NOOP": b"250 2.0.0 ok\r\n",
    b"QUIT": b"221 2.0.0 NAME goodbye\r\n",
}


def _banner(port: Port) -> Script:
    yield from _words(port)
    while (line := (yield READ)) is not None:
        if line[:4].upper() == b"QUIT":
            yield b"221 goodbye\r\n"
            return
        yield b"503 no\r\n"


def _says(port: Port) -> Script:
    yield from _words(port)


def _words(port: Port) -> Script:
    yield Wait(port.delay_s)
    yield port.text.encode("latin-1")


def _tarpit(port: Port) -> Script:
    for byte in cycle(b"220-tarpit.example please hold the line\r\n"):
        yield bytes([byte])
        yield Wait(port.delay_s)


def _endless(_port: Port) -> Script:
    while True:
        yield b"220-endless.example there is more to say\r\n" * 40


def _resets(_port: Port) -> Script:
    yield RESET


_SCRIPTS: dict[Does, Callable[[Port], Script]] = {
    Does.OPEN: _silent,
    Does.SMTP: _smtp,
    Does.BANNER: _banner,
    Does.SAYS: _says,
    Does.TARPIT: _tarpit,
    Does.ENDLESS: _endless,
    Does.RESETS: _resets,
}

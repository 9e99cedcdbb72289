"""A mail server on loopback that behaves as told, one behaviour for each server.

with SmtpServer(SmtpServer.says(b"220 mx.example\r\n", b"250 mx.example\r\n")) as server:
    SmtpProbe(8.0, "me.example", server.port)
    ...
assert server.heard == [b"EHLO me.example\r\n", b"QUIT\r\n"]
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

ADDRESS = "127.0.0.1"

#: What becomes of a connection; ends when it returns.
Behaviour = Callable[["SmtpServer", socket.socket], None]


class SmtpServer:
    """The running server; *port* is where, *heard* the lines the client said."""

    def __init__(self, behave: Behaviour) -> None:
        self.heard: list[bytes] = []
        self.closing = threading.Event()
        self._behave = behave
        self._listener = socket.create_server((ADDRESS, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection, suppress(OSError):
            self._behave(self, connection)

    def close(self) -> None:
        """Ends when the last connection has been served."""
        self.closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- behaviours -----------------------------------------------------------------------------

    @staticmethod
    def says(greeting: bytes, ehlo: bytes = b"", after_s: float = 0.0) -> Behaviour:
        """*greeting* after so long, *ehlo* as answer to the first line, 221 to every other."""

        def behave(self: SmtpServer, connection: socket.socket) -> None:
            self.closing.wait(after_s)
            connection.sendall(greeting)
            answers = [ehlo]
            for line in connection.makefile("rb"):
                self.heard.append(line)
                connection.sendall(answers.pop() if answers else b"221 bye\r\n")

        return behave

    @staticmethod
    def is_silent(self: SmtpServer, connection: socket.socket) -> None:
        self.closing.wait(10)

    @staticmethod
    def drips(text: bytes, each_s: float = 1.0) -> Behaviour:
        """A tarpit: an octet of *text* each so many seconds, from the beginning again."""

        def behave(self: SmtpServer, connection: socket.socket) -> None:
            while True:
                for octet in text:
                    connection.sendall(bytes([octet]))
                    if self.closing.wait(each_s):
                        return

        return behave

    @staticmethod
    def floods(text: bytes) -> Behaviour:
        """*text* again and again, as fast as it is taken."""

        def behave(self: SmtpServer, connection: socket.socket) -> None:
            while not self.closing.is_set():
                connection.sendall(text * 1000)

        return behave

    @staticmethod
    def closes(self: SmtpServer, connection: socket.socket) -> None:
        """At once, without a word."""

    @staticmethod
    def resets(self: SmtpServer, connection: socket.socket) -> None:
        """At once, by RST."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

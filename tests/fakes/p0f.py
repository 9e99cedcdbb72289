"""A p0f 3 that knows the hosts it is told of, speaking the API of p0f's README in binary."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

from botmilter.model import IPAddress

_QUERY_SIZE, _ANSWER_SIZE = 21, 232


def answer(
    system: str,
    flavour: str = "",
    *,
    quality: int = 0,
    last_nat: int = 0,
    status: int = 0x10,
    magic: int = 0x50304602,
) -> bytes:
    """The 232 octets, field by field as the README lists them."""
    numbers = struct.pack("=9I", magic, status, 1, 2, 3, 4, 5, last_nat, 0)
    few = struct.pack("=hBB", 7, 0, quality)
    texts = b"".join(
        text.encode("latin-1").ljust(32, b"\0") for text in (system, flavour, "", "", "", "")
    )
    whole = numbers + few + texts
    assert len(whole) == _ANSWER_SIZE
    return whole


NO_MATCH = answer("", status=0x20)


class P0fServer:
    """The running fake at the socket *path*; *asked* are the addresses it was asked about."""

    def __init__(self, path: Path, known: Mapping[str, bytes], after_s: float = 0.0) -> None:
        self.asked: list[IPAddress] = []
        self._known, self._after_s = known, after_s
        self._closing = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                query = connection.recv(_QUERY_SIZE, socket.MSG_WAITALL)
                said = self._answer(query)
                self._closing.wait(self._after_s)
                connection.sendall(said)

    def _answer(self, query: bytes) -> bytes:
        magic, version = struct.unpack("=IB", query[:5])
        assert magic == 0x50304601
        assert len(query) == _QUERY_SIZE
        ip = ip_address(query[5 : 5 + (4 if version == 4 else 16)])
        self.asked.append(ip)
        return self._known.get(str(ip), NO_MATCH)

    def close(self) -> None:
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
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

"""What goes wrong with a page of ours is logged, what a client does is not."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from botmilter.milter import loopback
from botmilter.milter.loopback import Page
from tests.milter.conftest import PATIENCE_S, wait_until

_AT_ONCE = struct.pack("ii", 1, 0)
"""A close throws away what was not read, and resets the connection."""


def ask_and_go(page: Page) -> None:
    """Ask for *page*, hang up after its first octet, and see the server's thread end."""
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = loopback._Server(listener, {"/": page})
        with socket.create_connection(listener.getsockname(), PATIENCE_S) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            server.handle_request()
            client.recv(1)
        wait_until(lambda: set(threading.enumerate()) <= before, "the answer's end")


def test_a_page_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(accept: str) -> tuple[str, bytes]:
        raise KeyError("no such thing")

    ask_and_go(broken)
    (record,) = caplog.records
    assert (record.levelname, "a bug" in record.message) == ("ERROR", True)
    assert "no such thing" in (record.exc_text or "")


def test_a_client_that_hangs_up_is_not(caplog: pytest.LogCaptureFixture) -> None:
    ask_and_go(lambda accept: ("text/plain", b"x" * 50_000_000))
    assert not caplog.records

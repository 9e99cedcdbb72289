"""A few pages over HTTP, for this machine alone: read only, nothing kept, nothing asked.

Behind it are a socket on a loopback address or a Unix socket that the daemon's parent has opened
(:mod:`botmilter.milter.listener`).  A page's name in ``Host:`` has to be a loopback one: a web
site that resolves its own name to 127.0.0.1 must not read ours through somebody's browser.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

log = logging.getLogger(__name__)

#: Gets the Accept: field; returns the content's type and the content.
Page = Callable[[str], tuple[str, bytes]]

#: A client has so long for each read and write.
_CLIENT_LIMIT_S = 10.0

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def serve(listener: socket.socket, pages: Mapping[str, Page]) -> None:
    """Serve *pages*, by path, on *listener*, on daemon threads; returns at once."""
    server = _Server(listener, pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, pages: Mapping[str, Page]) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.address_family = listener.family
        self.pages = pages

    def get_request(self) -> tuple[socket.socket, Any]:
        client, _ = self.socket.accept()
        return client, ("local", 0)  # a Unix socket's peer has no address to take apart

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is no matter of ours; whatever else it is, is."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            log.exception("a page was not shown: a bug, please report")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "botmilter"
    sys_version = ""
    timeout = _CLIENT_LIMIT_S
    server: _Server

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: Any) -> None:
        """No line for each request, whatever stands in it."""

    def _answer(self, with_body: bool) -> None:
        is_unix = self.server.address_family == socket.AF_UNIX
        if not is_unix and not is_loopback_name(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "not under this name")
            return
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        kind, body = page(self.headers.get("Accept", ""))
        self.send_response(HTTPStatus.OK)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def is_loopback_name(host: str) -> bool:
    """Whether *host*, of a ``Host:`` field, is this machine and no name of somebody else's."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False

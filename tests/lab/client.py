"""Mail clients with addresses of simulated hosts; see :mod:`tests.lab.net` for how it works."""

from __future__ import annotations

import smtplib
import socket
from ipaddress import IPv4Address

from tests.lab import net

_IP_TRANSPARENT = 19  # <linux/in.h>


def connect(
    source: IPv4Address | str, port: int = 25, address: str = net.MTA, timeout_s: float = 30.0
) -> socket.socket:
    """A connection from *source* to the MTA under test.  Needs root and a running laboratory in
    this namespace; raises OSError as socket.connect does."""
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        client.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
        client.settimeout(timeout_s)
        client.bind((str(source), 0))
        client.connect((address, port))
    except BaseException:
        client.close()
        raise
    return client


class Smtp(smtplib.SMTP):
    """smtplib's client, coming from *source*."""

    def __init__(
        self,
        source: IPv4Address | str,
        port: int = 25,
        address: str = net.MTA,
        helo: str = "localhost",
        timeout_s: float = 30.0,
    ) -> None:
        self._source = source
        super().__init__(address, port, local_hostname=helo, timeout=timeout_s)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return connect(self._source, port, host, timeout)

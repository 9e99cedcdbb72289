"""What the service manager is told (sd_notify(3)), without a package for it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Tell systemd *state*, where it asked to be told; never raises."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if where:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            address = "\0" + where[1:] if where.startswith("@") else where
            manager.sendto(f"{state}\nMAINPID={os.getpid()}".encode(), address)

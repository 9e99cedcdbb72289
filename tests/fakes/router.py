"""A router that refuses every TCP packet by ICMP, with the code that the address ends in.

    with Router():
        connect(("198.19.250.113", 25))   # code 13: administratively prohibited

Needs root and a network namespace of its own.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import threading
from ipaddress import IPv4Address
from types import TracebackType
from typing import Self

from tests.lab import packets
from tests.lab.packets import Ip4

_NETWORK = "198.19.250.0"
_DEVICE = "router0"
_TUNSETIFF = 0x400454CA
_TUN_WITHOUT_HEADER = 0x1001
_TCP = 6


def refusing(code: int) -> IPv4Address:
    """The address whose packets are refused with *code*."""
    return IPv4Address(_NETWORK) + 100 + code


class Router:
    """Runs from ``with`` to its end."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        name = struct.pack("16sH", _DEVICE.encode(), _TUN_WITHOUT_HEADER)
        fcntl.ioctl(self._fd, _TUNSETIFF, name)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        for command in (
            f"address add {IPv4Address(_NETWORK) + 1}/24 dev {_DEVICE}",
            f"link set {_DEVICE} up",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._thread.join(5)
        os.close(self._fd)

    def _serve(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._fd], [], [], 0.05)[0]:
                continue
            raw = os.read(self._fd, 2000)
            packet = Ip4.parse(raw)
            if packet is not None and packet.protocol == _TCP:
                code = packet.dst - int(refusing(0))
                message = packets.icmp(packets.UNREACHABLE, code, bytes(4) + raw[:28])
                router = int(IPv4Address(_NETWORK)) + 2
                os.write(self._fd, Ip4(router, packet.src, packets.ICMP, message, 64).pack())

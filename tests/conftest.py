"""No test runs where a packet could leave the machine."""

from __future__ import annotations

import fcntl
import socket
import struct
from pathlib import Path

import pytest

#: Loopback and the simulated Internet's TUN device (tests/lab).
_HARMLESS = {"lo", "lab0"}

_SIOCGIFFLAGS = 0x8913
_IFF_UP = 1


def pytest_sessionstart(session: pytest.Session) -> None:
    names = {name for _, name in socket.if_nameindex()} - _HARMLESS
    ways_out = sorted(name for name in names if _is_up(name))
    if _has_default_route():
        ways_out.append("a default route")
    if ways_out:
        pytest.exit(
            f"tests send packets and must not reach a network, but found {', '.join(ways_out)}: "
            "run them with tests/run, which passes arguments on to pytest",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


def _is_up(interface: str) -> bool:
    """Some kernels put tunnel devices into every namespace; as long as they are down, they are
    no way out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        request = struct.pack("16s16x", interface.encode())
        (flags,) = struct.unpack_from("H", fcntl.ioctl(anything, _SIOCGIFFLAGS, request), 16)
    return bool(flags & _IFF_UP)


def _has_default_route() -> bool:
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    return any(route.split()[1] == "00000000" for route in routes)

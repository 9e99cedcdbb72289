"""The real p0f 3, and the first packet of a host, which is all that it looks at."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from botmilter.clock import Deadline
from botmilter.model import Observation, Status, Target
from botmilter.probes.p0f import P0fProbe
from tests.fakes.programs import find, running
from tests.lab.packets import SYN, TCP, Ip4, Segment

HERE = "127.0.0.1"
_MSS, _NOP, _SACK = b"\x02\x04\x05\xb4", b"\x01", b"\x04\x02"
_STAMP, _SCALE = b"\x08\x0a" + b"\0\0\0\1" + b"\0\0\0\0", b"\x03\x03\x07"


@dataclass(frozen=True)
class Stack:
    """The first packet that a system opens a connection with."""

    ip: str
    ttl: int
    window: int
    options: bytes


XP = Stack("198.18.7.12", 128, 65535, _MSS + _NOP * 2 + _SACK)
SEVEN = Stack("198.18.7.13", 128, 8192, _MSS + _NOP * 2 + _SACK)
LINUX = Stack("198.18.25.25", 64, 1460 * 20, _MSS + _SACK + _STAMP + _NOP + _SCALE)


@contextmanager
def listening(folder: Path) -> Iterator[Path]:
    """The API socket, in *folder*, of a p0f that listens on ``lo``."""
    path = folder / "api"
    command = [find("p0f"), "-i", "lo", "-s", str(path), "-f", "/etc/p0f/p0f.fp"]
    with running(command, path.exists, folder):
        yield path


def greet(stack: Stack) -> None:
    """One SYN from *stack*'s host to this one, where p0f sees it and nobody answers."""
    src, dst = int(IPv4Address(stack.ip)), int(IPv4Address(HERE))
    segment = Segment(4321, 25, 1000, 0, SYN, stack.window, stack.options)
    packet = Ip4(src, dst, TCP, segment.pack(src, dst), stack.ttl, ident=7, dont_fragment=True)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(packet.pack(), (HERE, 0))


def ask(api: Path, ip: str) -> Observation:
    """What the probe says, once p0f had its moment to look at the packet."""
    probe, end = P0fProbe(0.5, str(api)), time.monotonic() + 5
    while True:
        seen = probe.measure(Target(ip_address(ip)), Deadline.after(0.5))
        if seen.status is not Status.SKIPPED or time.monotonic() > end:
            return seen
        time.sleep(0.05)

"""This machine's own addresses, as the kernel lists them under /proc (Linux).

A forged line may name us as the origin; we are not to be probed.  Addresses that a router in
front translates to ours are not known here.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from botmilter.model import IPAddress

_LOCAL_V4 = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")


def own_addresses(proc: Path = Path("/proc")) -> frozenset[IPAddress]:
    """All addresses of this machine's interfaces; empty where the kernel does not tell."""
    v4 = {IPv4Address(text) for text in _LOCAL_V4.findall(_text(proc / "net/fib_trie"))}
    v6 = {
        IPv6Address(int(line.split()[0], 16)) for line in _text(proc / "net/if_inet6").splitlines()
    }
    return frozenset({*v4, *v6})


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # IPv6 switched off, or a sandbox that hides it
        return ""

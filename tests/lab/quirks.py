"""The small oddities by which nmap tells systems apart, as numbers and bytes.  Pure."""

from __future__ import annotations

import math
import re


def ident_step(kind: str) -> int:
    """How far IP IDs of *kind* move per packet: RD must pass 20,000, RI 1,000, BI be 256."""
    return {"I": 1, "BI": 256, "RI": 1500, "RD": 25000}.get(kind, 0)


def ident_base(kind: str, usual: int) -> int:
    """Where IP IDs of *kind* start: zero, a constant, or *usual*."""
    if ident_step(kind):
        return usual
    return 0 if kind == "Z" else int(kind, 16)


def option_bytes(text: str, timestamp: int, echo: int) -> bytes:
    """TCP options from nmap's notation: ``M5B4NW0NNT11S``."""
    out = b""
    for kind, value in re.findall(r"([LNSMWT])([0-9A-F]*)", text):
        match kind:
            case "L":
                out += b"\0"
            case "N":
                out += b"\1"
            case "S":
                out += b"\4\2"
            case "M":
                out += b"\2\4" + int(value or "0", 16).to_bytes(2)
            case "W":
                out += b"\3\3" + int(value or "0", 16).to_bytes(1)
            case _:
                clock = max(1, timestamp & 0xFFFFFFFF) if value[:1] == "1" else 0
                out += b"\x08\x0a" + clock.to_bytes(4)
                out += (echo if value[1:] == "1" else 0).to_bytes(4)
    return out


def increments(mean: float, spread: float) -> tuple[float, ...]:
    """Five rates of that *mean* and that standard deviation.

    Up to a spread as large as the mean they swing around it; beyond, one outlier does it, since
    sequence numbers do not run backwards.
    """
    if spread <= mean:
        return tuple(mean + spread * sign for sign in (1, -1, 0, -1, 1))
    tilt = min(1.0, spread / mean / math.sqrt(5)) if mean else 0.0
    return tuple(mean * (1 + tilt * sign) for sign in (-1, 4, -1, -1, -1))


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
        table.append(value)
    return table


def data_of_crc(crc: int) -> bytes:
    """Four bytes whose CRC-32 is *crc*, nothing for zero: some systems put text into a reset and
    nmap keeps its checksum.  Runs the register backwards over the four steps."""
    if not crc:
        return b""
    table = _crc_table()
    register, indexes = crc ^ 0xFFFFFFFF, []
    for _ in range(4):
        index = next(i for i, entry in enumerate(table) if entry >> 24 == register >> 24)
        indexes.append(index)
        register = (register ^ table[index]) << 8 & 0xFFFFFFFF
    forward, data = 0xFFFFFFFF, []
    for index in reversed(indexes):
        data.append((forward ^ index) & 0xFF)
        forward = forward >> 8 ^ table[index]
    return bytes(data)

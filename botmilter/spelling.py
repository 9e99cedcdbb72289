"""An address within a host name, in whatever spelling a program may have given it.  Pure.

A provider names its lines by a program, and the program writes the address in the way its author
liked: any sign between the octets, backwards, padded, joined, as one number, to any base.  So
every spelling is made and looked for, instead of one pattern for each provider.

Known limit: a number that the provider counts by itself (``cust12345``) is not the address;
:func:`botmilter.names.shared_template` finds those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from botmilter import vocabulary
from botmilter.model import IPAddress

#: A shorter run of digits, found without separators, is a coincidence.
_SPELLING_MIN = 6

_NUMBER = re.compile(r"[0-9]+")
_WORD = re.compile(r"[a-z]+")
_NOT_ALNUM = re.compile(r"[^0-9a-z]+")
_OCTETS = re.compile(r"(?<![0-9])[0-9]{1,3}(?:[-._x][0-9]{1,3}){2,3}(?![0-9])")

_NOTHING = (0.0, "")


def find(host: str, ip: IPAddress | None) -> tuple[float, str]:
    """How sure it is, 0 to 1, that *host* (lower case) holds *ip*, and what was found.

    *ip* None: whether it holds anything that could be an address.
    """
    if ip is None:
        return (0.7, "an address") if _looks_like_octets(host) else _NOTHING
    squeezed = _NOT_ALNUM.sub("", host)
    # most servers' hosts are called by less than any spelling takes
    if len(squeezed) >= _SPELLING_MIN and any(text in squeezed for text in _spellings(ip)):
        return (1.0, "its address")
    if isinstance(ip, IPv4Address):
        return _octets_in(host, ip)
    return _NOTHING


def _looks_like_octets(host: str) -> bool:
    return any(
        all(int(number) < 256 for number in _NUMBER.findall(run)) for run in _OCTETS.findall(host)
    )


def _octets_in(host: str, ip: IPv4Address) -> tuple[float, str]:
    """Octets of *ip* side by side in *host*, in any order, whatever stands between them."""
    numbers = [int(number) for number in _NUMBER.findall(host) if len(number) <= 3]
    octets = list(ip.packed)
    if _has_window(numbers, octets):
        return (1.0, "its address")
    if _has_window(numbers, octets[1:]) or _has_window(numbers, octets[:3]):
        return (0.8, "three octets of its address")
    if _has_window(numbers, octets[2:]) and max(octets[2:]) >= 10:
        return (0.4, "two octets of its address")
    if _joined_tail(ip) & {run for run in _NUMBER.findall(host) if len(run) >= 5}:
        return (0.6, "two octets of its address")
    if octets[3] in numbers and vocabulary.NUMBERED & set(_WORD.findall(host)):
        return (0.3, "numbered by its address")
    return _NOTHING


def _joined_tail(ip: IPv4Address) -> set[str]:
    third, fourth = ip.packed[2:]
    return {f"{third:03}{fourth:03}", f"{fourth:03}{third:03}", f"{third}{fourth:03}"}


def _has_window(numbers: list[int], wanted: list[int]) -> bool:
    size, target = len(wanted), sorted(wanted)
    return any(sorted(numbers[at : at + size]) == target for at in range(len(numbers) - size + 1))


def _digits(value: int, base: int) -> str:
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while value:
        value, digit = divmod(value, base)
        text = alphabet[digit] + text
    return text or "0"


def _spellings(ip: IPAddress) -> Iterator[str]:
    """Every way to write *ip* without separators that a program may have chosen."""
    if isinstance(ip, IPv6Address):
        yield from _spellings6(ip)
        return
    for octets in (ip.packed, ip.packed[::-1]):
        value = int.from_bytes(octets)
        yield "".join(f"{octet:03}" for octet in octets)
        yield "".join(f"{octet:02x}" for octet in octets)
        yield "".join(f"{octet:03o}" for octet in octets)
        candidates = ["".join(map(str, octets)), "".join(f"{octet:x}" for octet in octets)]
        candidates += [_digits(value, base) for base in (8, 10, 32, 36)]
        yield from (text for text in candidates if len(text) >= _SPELLING_MIN)


def _spellings6(ip: IPv6Address) -> Iterator[str]:
    """Whole, backwards, shortened, and the halves: providers name the /64 or the interface."""
    nibbles = ip.exploded.replace(":", "")
    yield nibbles
    yield nibbles[::-1]
    yield nibbles[:16]
    if int(nibbles[16:], 16) > 0xFFFF_FFFF:
        yield nibbles[16:]
    groups = [group.lstrip("0") for group in ip.exploded.split(":")]
    for shortened in ("".join(groups), "".join(group or "0" for group in groups)):
        if len(shortened) >= 2 * _SPELLING_MIN:
            yield shortened

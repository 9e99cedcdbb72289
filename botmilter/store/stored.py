"""Observations as a store's text and back, and whose they are.  Pure.

What comes back may be of another version, written by hand or hostile: it is as if it were not
there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from botmilter.model import IPAddress, IPNetwork, Observation
from botmilter.net import parse_ip, printable
from botmilter.store.base import OptOut, Row

#: Far more than any probe's facts take.
_TEXT_AT_MOST = 100_000
_NOTE_AT_MOST = 200


def pack(seen: Observation) -> str:
    return json.dumps(seen.to_json())


def unpack(text: object, probe: str, key: str) -> Observation | None:
    """The observation of *probe* under *key* in *text*; None where it is not there or another's."""
    return from_plain(plain(text), probe, key)


def plain(text: object) -> Mapping[str, Any]:
    """The JSON object in *text* (str or bytes); empty where there is none."""
    if not isinstance(text, str | bytes) or len(text) > _TEXT_AT_MOST:
        return {}
    try:
        found = _DECODER.decode(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _finite(written: str) -> float:
    """Raises ValueError for NaN, an infinity and what is as large: no JSON could hold it again."""
    number = float(written)
    if not math.isfinite(number):
        raise ValueError(f"{written} is no finite number")
    return number


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def from_plain(data: object, probe: str, key: str) -> Observation | None:
    try:
        seen = Observation.from_json(data if isinstance(data, dict) else {})
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    numbers = (seen.taken_at, seen.took_s, seen.ttl_s or 0.0)
    if (seen.probe, seen.key) != (probe, key) or not all(map(math.isfinite, numbers)):
        return None
    return seen


def row(probe: object, key: object, expires_at: object, data: object) -> Row | None:
    """What a store holds under *probe* and *key*, of whatever type it came."""
    until = finite(expires_at)
    seen = unpack(data, text(probe), text(key))
    return Row(seen, until) if seen is not None and until is not None else None


def number(given: object) -> float | None:
    """*given*, a number as text or bytes, as a finite float."""
    try:
        return finite(float(text(given)))
    except ValueError:
        return None


def text(given: object) -> str:
    return given.decode("utf-8", "replace") if isinstance(given, bytes) else str(given)


def finite(number: object) -> float | None:
    """*number* as a finite float; None for whatever else it is."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    try:
        return float(number) if math.isfinite(number) else None
    except OverflowError:
        return None


# -- whose it is ----------------------------------------------------------------------------------


def address(key: str) -> IPAddress | None:
    """Whom the observation under *key* is about."""
    return parse_ip(key.partition(" ")[0])


def is_about(key: str, network: IPNetwork | None) -> bool:
    """Whether the observation under *key* is about an address of *network*; None has all."""
    if network is None:
        return True
    ip = address(key)
    return ip is not None and ip in network


def concerns(key: str, network: IPNetwork) -> bool:
    """Whether the claim or count under *key* is about *network*, or the /64 that an address of
    *network* is counted by."""
    try:
        subject = ip_network(key.split(" ")[1])
    except (IndexError, ValueError):
        return False
    if subject.version == 4 or network.version == 4:
        return subject.version == network.version and subject.subnet_of(network)  # type: ignore[arg-type]  # the same version
    return subject.subnet_of(network) or (subject.prefixlen >= 64 and network.subnet_of(subject))


# -- opt-outs -------------------------------------------------------------------------------------


def opt_out(network: object, note: object, added_at: object) -> OptOut | None:
    """A line of the stored list.  A network that cannot be read is None; the rest may be wrong."""
    try:
        parsed = ip_network(text(network))
    except ValueError:
        return None
    return OptOut(parsed, printable(text(note), _NOTE_AT_MOST), finite(added_at) or 0.0)

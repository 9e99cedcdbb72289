"""Every shape of Received line that real mail shows is read right.

The cases, made-up data all of them, stand in tests/data/received; ``format`` is the number of the
shape in the project's list of real shapes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from botmilter.model import Hop, HopKind
from botmilter.received import parse_line

CASES = tuple(
    case
    for path in sorted((Path(__file__).parent.parent / "data" / "received").glob("*.toml"))
    for case in tomllib.loads(path.read_text("utf-8"))["case"]
)


def _name(case: Mapping[str, Any]) -> str:
    return f"{case['format']}: {case['line'][:60]}"


def _plain(hop: Hop, key: str) -> object:
    value = getattr(hop, key)
    if key == "ip":
        return None if value is None else str(value)
    if key == "at":
        return None if value is None else value.isoformat()
    if key == "kind":
        return value.value
    return value


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_line_is_read_as_its_receiver_meant_it(case: Mapping[str, Any]) -> None:
    hop = parse_line(case["line"].encode())
    always = {"ip": None, "helo": None, "rdns": None, "by": None, "kind": HopKind.RELAY.value}
    wanted = always | {key: value for key, value in case.items() if key not in ("format", "line")}
    wanted |= {key: None for key in ("id", "envelope_from") if wanted.get(key) == ""}
    assert {key: _plain(hop, key) for key in wanted} == wanted


def test_every_known_shape_has_a_case() -> None:
    assert {case["format"] for case in CASES} == set(range(1, 53))

"""A p0f that answers, does not know, breaks off or is none."""

from __future__ import annotations

import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from botmilter.clock import Deadline
from botmilter.model import Observation, Status, Target
from botmilter.probes.p0f import P0fProbe
from tests.fakes.p0f import NO_MATCH, P0fServer, answer

IP, IP6 = "192.0.2.7", "2001:db8::7"


def look(folder: Path, said: bytes, ip: str = IP, after_s: float = 0.0) -> Observation:
    path = folder / "p0f.sock"
    with P0fServer(path, {ip: said}, after_s) as p0f:
        seen = P0fProbe(0.5, str(path)).measure(Target(ip_address(ip)), Deadline.after(0.5))
        assert p0f.asked == [ip_address(ip)]
    return seen


@pytest.mark.parametrize("ip", [IP, IP6])
def test_the_host_is_named(tmp_path: Path, ip: str) -> None:
    seen = look(tmp_path, answer("Windows", "XP", quality=3, last_nat=1), ip)
    assert seen.status is Status.ANSWERED
    assert seen.facts == {
        "os": "Windows",
        "flavour": "XP",
        "is_fuzzy": True,
        "distance": 7,
        "nat": True,
    }


def test_a_host_that_p0f_has_not_seen_is_nobody_s_fault(tmp_path: Path) -> None:
    seen = look(tmp_path, NO_MATCH)
    assert (seen.status, seen.reason) == (Status.SKIPPED, "p0f has not seen this host")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "closed in the middle"),
        (answer("Linux")[:100], "closed in the middle"),
        (answer("", status=0), "did not understand"),
        (answer("Linux", magic=0x12345678), "not the API socket"),
        (answer("Linux", status=0x99), "not the API socket"),
    ],
)
def test_a_broken_p0f_is_our_trouble(tmp_path: Path, said: bytes, reason: str) -> None:
    seen = look(tmp_path, said)
    assert seen.status is Status.FAILED
    assert reason in seen.reason


def test_a_slow_p0f_is_not_waited_for(tmp_path: Path) -> None:
    started = time.monotonic()
    seen = look(tmp_path, answer("Linux"), after_s=2.0)
    assert seen.status is Status.FAILED
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("path", ["nowhere", "a" * 200, "a\0b", ""])
def test_no_p0f_is_our_trouble(tmp_path: Path, path: str) -> None:
    probe = P0fProbe(0.5, str(tmp_path / path))
    seen = probe.measure(Target(ip_address(IP)), Deadline.after(0.5))
    assert seen.status is Status.FAILED
    assert seen.reason.isprintable()


def test_texts_are_made_printable(tmp_path: Path) -> None:
    assert look(tmp_path, answer("Li\x1bnux", "\xff" * 32)).facts["flavour"] == "?" * 32


def facts(system: str, flavour: str = "", is_fuzzy: bool = False) -> dict[str, Any]:
    return {"os": system, "flavour": flavour, "is_fuzzy": is_fuzzy, "distance": 1, "nat": False}


@pytest.mark.parametrize(
    ("said", "signals"),
    [
        (facts("Windows", "XP"), {"p0f.client": 1.0}),
        (facts("Windows", "XP", True), {"p0f.client": 0.5}),
        (facts("Windows", "7 or 8"), {"p0f.both": 1.0}),
        (facts("Windows", "NT kernel"), {"p0f.both": 1.0}),
        (facts("Windows", "NT kernel 6.x"), {"p0f.both": 1.0}),
        (facts("Linux", "3.11 and newer"), {"p0f.unix": 1.0}),
        (facts("Linux", "(Android)"), {}),
        (facts("FreeBSD", "9.x or newer"), {"p0f.unix": 1.0}),
        (facts("Mac OS X", "10.x"), {"p0f.both": 1.0}),
        (facts("Nintendo", "Wii"), {}),
        (facts(""), {}),
    ],
)
def test_what_the_facts_mean(said: dict[str, Any], signals: dict[str, float]) -> None:
    seen = Observation("p0f", "k", Status.ANSWERED, said)
    found = P0fProbe(0.5, "x").interpret(seen, Target(ip_address(IP)))
    assert {one.name: one.strength for one in found} == signals

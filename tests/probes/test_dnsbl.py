"""Lists of addresses: what they answer, refuse, and what it means."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from botmilter.clock import Deadline
from botmilter.lookup import Resolver
from botmilter.model import Observation, Status, Target
from botmilter.probes.dnsbl import DnsblProbe, Zone
from tests.fakes.dns import ADDRESS, DnsServer, Lie

IP = ip_address("192.0.2.7")
BAD, GOOD = Zone("bl.example"), Zone("wl.example", welcome=True, codes={"127.0.*.3": 1.0})
IN_BAD, IN_GOOD = "7.2.0.192.bl.example", "7.2.0.192.wl.example"


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as running:
        yield running


def look(server: DnsServer, *zones: Zone, limit_s: float = 3.0) -> Observation:
    probe = DnsblProbe(Resolver([ADDRESS], server.port), limit_s, zones)
    return probe.measure(Target(IP), Deadline.after(limit_s))


@pytest.mark.parametrize(
    ("answers", "codes"),
    [
        ([], []),
        (["127.0.0.2"], ["127.0.0.2"]),
        (["127.0.0.4", "127.0.0.2"], ["127.0.0.2", "127.0.0.4"]),
        (["192.0.2.1"], []),
        (["192.0.2.1", "127.0.0.2"], ["127.0.0.2"]),
        (["127.255.255.254", "127.0.0.2"], ["127.0.0.2", "127.255.255.254"]),
    ],
)
def test_only_answers_within_127_are_listings(
    server: DnsServer, answers: list[str], codes: list[str]
) -> None:
    server.answer(IN_BAD, "A", answers, ttl_s=120)
    seen = look(server, BAD)
    assert seen.status is Status.ANSWERED
    assert seen.facts == {"listed": {"bl.example": codes}, "failed": {}}


@pytest.mark.parametrize("code", ["127.255.255.252", "127.255.255.255", "127.0.0.1", "127.0.0.255"])
def test_a_list_that_refuses_our_resolver_says_nothing(server: DnsServer, code: str) -> None:
    server.answer(IN_BAD, "A", [code])
    seen = look(server, BAD)
    assert (seen.status, code in seen.reason) == (Status.FAILED, True)
    assert seen.facts == {}


def test_a_refusing_code_that_the_zone_s_own_rows_name_counts(server: DnsServer) -> None:
    server.answer(IN_BAD, "A", ["127.0.0.1"])
    seen = look(server, Zone("bl.example", codes={"127.0.0.1": 0.5}))
    assert seen.status is Status.ANSWERED


@pytest.mark.parametrize("lie", [Lie.SILENCE, Lie.SERVFAIL, Lie.ALIAS_LOOP, Lie.GARBAGE])
def test_one_broken_list_leaves_time_for_the_others(server: DnsServer, lie: Lie) -> None:
    server.lie(IN_BAD, "A", lie)
    server.answer(IN_GOOD, "A", ["127.0.5.3"])
    started = time.monotonic()
    seen = look(server, BAD, GOOD, limit_s=0.6)
    assert time.monotonic() - started < 0.8
    assert seen.facts["listed"] == {"wl.example": ["127.0.5.3"]}
    assert seen.facts["failed"].keys() == {"bl.example"}


def test_what_is_said_holds_as_long_as_the_shortest_lived_answer(server: DnsServer) -> None:
    server.answer(IN_BAD, "A", ["127.0.0.2"], ttl_s=600)
    server.answer(IN_GOOD, "A", ["127.0.5.3"], ttl_s=90)
    assert look(server, BAD, GOOD).ttl_s == 90


def test_ipv6_is_asked_for_by_nibbles(server: DnsServer) -> None:
    probe = DnsblProbe(Resolver([ADDRESS], server.port), 3.0, (BAD,))
    probe.measure(Target(ip_address("2001:db8::1")), Deadline.after(3))
    assert server.asked == [("1." + "0." * 23 + "8.b.d.0.1.0.0.2.bl.example", "A")]


GRADED = Zone("graded.example", codes={"127.0.0.2": 1.0, "127.0.0.1?": 0.5})


@pytest.mark.parametrize(
    ("listed", "signals"),
    [
        ({"bl.example": []}, {}),
        ({"bl.example": ["127.0.0.9"]}, {"dnsbl.listed": 1.0}),
        ({"bl.example": ["127.255.255.254"]}, {}),
        ({"graded.example": ["127.0.0.11"]}, {"dnsbl.listed": 0.5}),
        ({"graded.example": ["127.0.0.10", "127.0.0.2"]}, {"dnsbl.listed": 1.0}),
        ({"graded.example": ["127.0.0.3"]}, {}),
        ({"wl.example": ["127.0.9.3"]}, {"dnsbl.welcome": 1.0}),
        ({"wl.example": ["127.0.9.0"]}, {}),
        (
            {"bl.example": ["127.0.0.2"], "wl.example": ["127.0.9.3"]},
            {"dnsbl.listed": 1.0, "dnsbl.welcome": 1.0},
        ),
        ({"no-longer-configured.example": ["127.0.0.2"]}, {}),
    ],
)
def test_what_the_facts_mean(listed: dict[str, list[str]], signals: dict[str, float]) -> None:
    seen = Observation("dnsbl", "k", Status.ANSWERED, {"listed": listed, "failed": {}})
    probe = DnsblProbe(Resolver(), 1.0, (BAD, GOOD, GRADED))
    found = probe.interpret(seen, Target(IP))
    assert {one.name: one.strength for one in found} == signals

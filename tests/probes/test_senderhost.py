"""Hosts that the sender's own domain names, and those it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

import pytest

from botmilter.clock import Deadline
from botmilter.lookup import Resolver
from botmilter.model import Observation, Status, Target
from botmilter.probes.senderhost import SenderHostProbe
from tests.fakes.dns import ADDRESS, DnsServer, Lie

IP = ip_address("192.0.2.7")
HERE = ["192.0.2.7"]


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as running:
        yield running


def look(
    server: DnsServer,
    domain: str | None = "a.example",
    helo: str | None = None,
    at_most_s: float = 3,
) -> Observation:
    probe = SenderHostProbe(Resolver([ADDRESS], server.port), at_most_s)
    return probe.measure(Target(IP, helo, domain), Deadline.after(at_most_s))


@pytest.mark.parametrize(
    ("rows", "domain", "helo", "found", "by"),
    [
        (
            {("a.example", "MX"): ["10 mx.b.example."], ("mx.b.example", "A"): HERE},
            *("a.example", None, "mx", "a.example"),
        ),
        ({("a.example", "A"): HERE}, "a.example", None, "a", "a.example"),
        ({("a.example", "TXT"): ['"v=spf1 ip4:192.0.2.7"']}, "a.example", None, "spf", "a.example"),
        (
            {("c.example", "MX"): ["10 mx.c.example."], ("mx.c.example", "A"): HERE},
            *("a.example", "pc.c.example", "mx", "c.example"),
        ),
        ({("pc.c.example", "A"): HERE}, None, "pc.c.example", "a", "pc.c.example"),
        ({("c.example", "TXT"): ['"v=spf1 ip4:192.0.2.7"']}, None, "c.example", "spf", "c.example"),
        ({("c.example", "TXT"): ['"v=spf1 ip4:192.0.2.7"']}, "a.example", "c.example", "", ""),
        ({("192-0-2-7.dsl.c.example", "A"): HERE}, None, "192-0-2-7.dsl.c.example", "", ""),
        (
            {("a.example", "MX"): ["0 ."], ("a.example", "A"): ["192.0.2.8"]},
            "a.example",
            "",
            "",
            "",
        ),
    ],
)
def test_the_host_is_found_by_whoever_names_it(
    server: DnsServer,
    rows: Mapping[tuple[str, str], list[str]],
    domain: str | None,
    helo: str | None,
    found: str,
    by: str,
) -> None:
    for (name, kind), values in rows.items():
        server.answer(name, kind, values)
    seen = look(server, domain, helo)
    assert (seen.facts["found"], seen.facts["by"]) == (found, by)


def test_asking_ends_with_the_first_yes(server: DnsServer) -> None:
    server.answer("a.example", "MX", ["10 mx.a.example."])
    server.answer("mx.a.example", "A", HERE)
    look(server, "a.example", "mx.a.example")
    assert len(server.asked) == 2


def test_of_many_mail_hosts_a_few_are_asked_for(server: DnsServer) -> None:
    server.answer("a.example", "MX", [f"10 h{n}.example." for n in range(30)])
    look(server)
    assert sum(name.startswith("h") for name, _ in server.asked) == 5


@pytest.mark.parametrize(
    "helo", [None, "", "pc", "[192.0.2.7]", "192.0.2.7", "a b.example", "\udc80"]
)
def test_without_a_name_nobody_is_asked(server: DnsServer, helo: str | None) -> None:
    seen = look(server, None, helo)
    assert (seen.status, server.asked) == (Status.SKIPPED, [])


@pytest.mark.parametrize(("exists", "fact"), [(True, True), (False, False)])
def test_whether_the_greeting_s_name_exists(server: DnsServer, exists: bool, fact: bool) -> None:
    if exists:
        server.answer("mail.c.example", "A", ["192.0.2.99"])
    assert look(server, "a.example", "mail.c.example").facts["helo_exists"] is fact


def test_a_name_that_nobody_answers_for_is_not_called_missing(server: DnsServer) -> None:
    server.lie("mail.c.example", "A", Lie.SERVFAIL)
    seen = look(server, "a.example", "mail.c.example")
    assert (seen.status, seen.facts["helo_exists"]) == (Status.ANSWERED, None)
    assert (len(seen.facts["failed"]), seen.ttl_s) == (1, 0.0)


def test_a_dead_resolver_is_our_trouble(server: DnsServer) -> None:
    server.lie_always(Lie.SILENCE)
    seen = look(server, at_most_s=0.3)
    assert (seen.status, seen.facts) == (Status.FAILED, {})
    assert seen.reason.startswith("mx a.example: ")


def test_another_sender_or_greeting_is_remembered_apart() -> None:
    probe = SenderHostProbe(Resolver(), 1.0)
    keys = {
        probe.store_key(Target(IP, helo, domain))
        for helo in (None, "x.example", "y.example")
        for domain in (None, "x.example", "y.example")
    }
    assert len(keys) == 9
    assert probe.store_key(Target(IP, "X.example.", None)) in keys


@pytest.mark.parametrize(
    ("facts", "signals"),
    [
        ({"found": "mx", "by": "a.example"}, {"host.mx": 1.0}),
        ({"found": "spf", "by": "a.example"}, {"host.spf": 1.0}),
        ({"found": "a", "by": "a.example"}, {"host.a": 1.0}),
        ({"found": "a", "by": "mail.c.example"}, {"host.a": 0.5}),
        ({}, {}),
        ({"helo_exists": True}, {}),
        ({"helo_exists": False}, {"helo.unresolved": 1.0}),
    ],
)
def test_what_the_facts_mean(facts: dict[str, Any], signals: dict[str, float]) -> None:
    whole = {"found": "", "by": "", "helo_exists": None, "failed": [], **facts}
    seen = Observation("senderhost", "k", Status.ANSWERED, whole)
    target = Target(IP, "mail.c.example", "a.example")
    found = SenderHostProbe(Resolver(), 1.0).interpret(seen, target)
    assert {one.name: one.strength for one in found} == signals


def test_it_holds_no_longer_than_the_shortest_of_the_answers(server: DnsServer) -> None:
    server.answer("a.example", "MX", ["10 mx.a.example."], ttl_s=600)
    server.answer("mx.a.example", "A", HERE, ttl_s=90)
    assert look(server).ttl_s == 90

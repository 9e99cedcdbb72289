"""What the host is called: asked of a name server that lies, and what it means."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from botmilter.clock import Deadline
from botmilter.lookup import Resolver
from botmilter.model import Observation, Status, Target
from botmilter.probes.rdns import RdnsProbe, holder
from tests.fakes.dns import ADDRESS, DnsServer, Lie

IP = ip_address("192.0.2.7")
NAME = "7.2.0.192.in-addr.arpa"


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as running:
        yield running


def look(server: DnsServer, limit_s: float = 3.0, neighbours: bool = True) -> Observation:
    probe = RdnsProbe(Resolver([ADDRESS], server.port), limit_s, neighbours)
    return probe.measure(Target(IP), Deadline.after(limit_s))


def test_a_name_that_leads_back_is_confirmed(server: DnsServer) -> None:
    server.answer(NAME, "PTR", ["mail.a.example."], ttl_s=60)
    server.answer("mail.a.example", "A", ["192.0.2.1", "192.0.2.7"], ttl_s=45)
    seen = look(server)
    assert (seen.status, seen.ttl_s) == (Status.ANSWERED, 45)  # the address holds shorter
    assert seen.facts["names"] == seen.facts["confirmed"] == ["mail.a.example"]


def test_a_name_that_leads_elsewhere_is_not(server: DnsServer) -> None:
    server.answer(NAME, "PTR", ["mail.a.example."])
    server.answer("mail.a.example", "A", ["192.0.2.8"])
    assert look(server).facts["confirmed"] == []


def test_no_name_is_evidence(server: DnsServer) -> None:
    seen = look(server)
    assert (seen.status, seen.facts["names"]) == (Status.ANSWERED, [])


def test_an_address_without_a_name_has_changed_hands_when_its_network_has(
    server: DnsServer,
) -> None:
    held = set()
    for zone in [
        ("2.0.192.in-addr.arpa.", "ns1.a.example."),
        ("2.0.192.in-addr.arpa.", "NS1.a.example."),
        ("0.192.in-addr.arpa.", "ns1.a.example."),
        ("2.0.192.in-addr.arpa.", "ns.b.example."),
    ]:
        server.zone = zone
        held.add(holder(look(server)))
    assert held == {
        "2.0.192.in-addr.arpa ns1.a.example",
        "0.192.in-addr.arpa ns1.a.example",
        "2.0.192.in-addr.arpa ns.b.example",
    }


def test_an_address_with_a_name_has_changed_hands_when_the_name_has(server: DnsServer) -> None:
    server.zone = ("2.0.192.in-addr.arpa.", "ns1.a.example.")
    server.answer(NAME, "PTR", ["Mail.a.example."])
    assert holder(look(server)) == "mail.a.example"


def test_facts_of_before_there_was_a_zone_tell_of_names_only() -> None:
    seen = Observation("rdns", str(IP), Status.ANSWERED, {"names": []})
    assert holder(seen) == ""


@pytest.mark.parametrize("lie", [Lie.SILENCE, Lie.SERVFAIL, Lie.ALIAS_LOOP, Lie.WRONG_QUESTION])
def test_a_name_that_cannot_be_asked_for_is_none(server: DnsServer, lie: Lie) -> None:
    server.lie(NAME, "PTR", lie)
    seen = look(server, 0.3)
    assert not seen.status.is_evidence
    assert seen.reason.startswith("PTR: ")


def test_a_name_that_could_not_be_checked_is_not_called_unconfirmed(server: DnsServer) -> None:
    server.answer(NAME, "PTR", ["mail.a.example."])
    server.lie("mail.a.example", "A", Lie.SERVFAIL)
    seen = look(server)
    assert seen.facts["unchecked"] == ["mail.a.example"]
    probe = RdnsProbe(Resolver(), 1.0, False)
    assert [one.name for one in probe.interpret(seen, Target(IP))] == []


def test_of_a_thousand_names_only_a_few_are_asked_for(server: DnsServer) -> None:
    server.lie(NAME, "PTR", Lie.TRUNCATED, [f"mail{n}.a.example." for n in range(1000)])
    seen = look(server)
    assert len(seen.facts["names"]) == 4
    assert len(server.asked) < 12


@pytest.mark.parametrize(
    ("name", "asks"),
    [("zeppelin7.a.example", True), ("mail.a.example", False), ("dsl-7.a.example", False)],
)
def test_neighbours_are_asked_for_where_the_name_does_not_tell(
    server: DnsServer, name: str, asks: bool
) -> None:
    server.answer(NAME, "PTR", [f"{name}."])
    server.answer("6.2.0.192.in-addr.arpa", "PTR", ["zeppelin6.a.example."])
    seen = look(server)
    assert seen.facts["neighbours"] == ({"192.0.2.6": "zeppelin6.a.example"} if asks else {})
    assert look(server, neighbours=False).facts["neighbours"] == {}


@pytest.mark.parametrize("ip", ["0.0.0.1", "255.255.255.254", "::1", "ffff::"])
def test_the_last_address_has_neighbours_on_one_side(server: DnsServer, ip: str) -> None:
    address = ip_address(ip)
    server.answer(address.reverse_pointer, "PTR", ["zeppelin7.a.example."])
    probe = RdnsProbe(Resolver([ADDRESS], server.port), 3.0, True)
    assert probe.measure(Target(address), Deadline.after(3)).status is Status.ANSWERED


def seen(**facts: Any) -> Observation:
    return Observation(
        "rdns",
        "k",
        Status.ANSWERED,
        {"names": [], "confirmed": [], "unchecked": [], "neighbours": {}, **facts},
    )


def called(name: str, is_confirmed: bool = True, **more: Any) -> Observation:
    return seen(names=[name], confirmed=[name] if is_confirmed else [], **more)


POOL = {f"192.0.2.{n}": f"zeppelin{n}.a.example" for n in (5, 6, 8, 9)}


@pytest.mark.parametrize(
    ("observation", "helo", "signals"),
    [
        (seen(), None, {"rdns.none": 1.0}),
        (called("mail.a.example"), None, {}),
        (called("mail.a.example"), "mail.a.example", {"host.confirmed": 1.0}),
        (called("mail.a.example"), "MAIL.a.example.", {"host.confirmed": 1.0}),
        (called("zeus.a.example"), "zeus.a.example", {"host.confirmed": 0.5}),
        (called("mail.a.example", False), "mail.a.example", {"rdns.unconfirmed": 1.0}),
        (called("zeppelin7.a.example", neighbours=POOL), None, {"rdns.pool": 1.0}),
        (called("zeppelin7.a.example", neighbours=POOL), "zeppelin7.a.example", {"rdns.pool": 1.0}),
    ],
)
def test_what_the_facts_mean(
    observation: Observation, helo: str | None, signals: dict[str, float]
) -> None:
    probe = RdnsProbe(Resolver(), 1.0, True)
    found = probe.interpret(observation, Target(IP, helo))
    assert {one.name: one.strength for one in found} == signals


@pytest.mark.parametrize(
    ("name", "helo", "expected"),
    [
        ("192-0-2-7.pool.a.example", "pc", {"rdns.dynamic", "helo.no_dot"}),
        ("mail.a.example", "192.0.2.7", {"helo.bare_address"}),
        ("mail.a.example", "[192.0.2.8]", {"helo.literal_mismatch"}),
        ("mail.a.example", "mail.b.example", {"helo.mismatch"}),
        ("mail.a.example", "yahoo.com", {"helo.provider"}),
    ],
)
def test_the_greeting_is_held_against_the_name(name: str, helo: str, expected: set[str]) -> None:
    probe = RdnsProbe(Resolver(), 1.0, True)
    found = {one.name for one in probe.interpret(called(name), Target(IP, helo))}
    assert expected <= found <= probe.signals

"""Look-ups against a name server that lies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_address

import dns.resolver
import pytest

from botmilter import lookup
from botmilter.clock import Deadline
from botmilter.lookup import Answer, LookupTrouble, NameTrouble, Resolver, as_addresses
from botmilter.model import Status
from tests.fakes.dns import ADDRESS, DnsServer, Lie
from tests.fakes.programs import free_port

IP = ip_address("192.0.2.7")


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as running:
        yield running


@pytest.fixture
def resolver(server: DnsServer) -> Resolver:
    return Resolver([ADDRESS], server.port)


def soon(limit_s: float = 5.0) -> Deadline:
    return Deadline.after(limit_s)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:db8::1", "2001:db8::1"),
        ("MX", "10 mail.example.", "mail.example"),
        ("MX", "0 .", "."),
        ("PTR", "host.example.", "host.example"),
        ("TXT", '"v=spf1 " "-all"', "v=spf1 -all"),
        ("TXT", '"\\255\\007"', "??"),
        ("PTR", "a\\032b\\255.example.", "a\\032b\\255.example"),
    ],
)
def test_data_come_as_printable_text(
    server: DnsServer, resolver: Resolver, kind: str, value: str, text: str
) -> None:
    server.answer("x.example", kind, [value], ttl_s=77)
    answer = resolver.ask("x.example", kind, soon())
    assert answer == Answer((text,), 77.0, True)


def test_nothing_there_is_told_from_no_such_name(server: DnsServer, resolver: Resolver) -> None:
    server.answer("x.example", "A", ["192.0.2.1"])
    assert resolver.ask("x.example", "MX", soon()).exists
    assert not resolver.ask("y.example", "MX", soon()).exists


def test_an_alias_is_followed(server: DnsServer, resolver: Resolver) -> None:
    server.answer("x.example", "A", ["192.0.2.1"], alias="y.example")
    assert resolver.ask("x.example", "A", soon()).texts == ("192.0.2.1",)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "a..b", ".a", "[192.0.2.1]", "a b", "a\n", "ä.example", "-a.example"),
        *("a" * 64, ".".join(["a" * 63] * 4), "\udc80", "a!"),
    ],
)
def test_what_cannot_be_a_name_is_not_asked_for(
    server: DnsServer, resolver: Resolver, name: str
) -> None:
    assert resolver.ask(name, "A", soon()) == Answer()
    assert server.asked == []


def test_names_are_checked_in_linear_time(resolver: Resolver) -> None:
    started = time.monotonic()
    resolver.ask("a" * 250 + "!", "A", soon())
    assert time.monotonic() - started < 0.1


def test_large_answers_come_over_tcp(server: DnsServer, resolver: Resolver) -> None:
    texts = [f'"{number:04d}{"x" * 240}"' for number in range(250)]
    server.lie("x.example", "TXT", Lie.TRUNCATED, texts)
    assert len(resolver.ask("x.example", "TXT", soon()).texts) == 250


@pytest.mark.parametrize("lie", [lie for lie in Lie if lie is not Lie.TRUNCATED])
def test_a_lie_is_trouble_within_the_time(server: DnsServer, resolver: Resolver, lie: Lie) -> None:
    server.lie("x.example", "A", lie, ["192.0.2.1"] * 20)
    started = time.monotonic()
    with pytest.raises(LookupTrouble):
        resolver.ask("x.example", "A", soon(0.4))
    assert time.monotonic() - started < 0.6


@pytest.mark.parametrize("lie", [Lie.SERVFAIL, Lie.SILENCE, Lie.GARBAGE])
def test_a_resolver_that_works_is_not_blamed_for_a_broken_name(
    server: DnsServer, resolver: Resolver, lie: Lie
) -> None:
    server.lie("x.example", "A", lie)
    with pytest.raises(LookupTrouble) as before:
        resolver.ask("x.example", "A", soon(0.2))
    resolver.ask("y.example", "A", soon())
    with pytest.raises(NameTrouble) as after:
        resolver.ask("x.example", "A", soon(0.2))
    assert (before.value.status, after.value.status) == (Status.FAILED, Status.SKIPPED)


def test_a_resolver_that_stopped_is_blamed_after_a_while(
    server: DnsServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "_PROOF_S", 0.05)
    resolver.ask("y.example", "A", soon())
    time.sleep(0.1)
    server.lie_always(Lie.SILENCE)
    with pytest.raises(LookupTrouble) as trouble:
        resolver.ask("x.example", "A", soon(0.2))
    assert trouble.value.status is Status.FAILED


def test_the_first_answer_may_be_lost(
    server: DnsServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "_WAITS_S", (0.1, 1.0))
    server.answer("x.example", "A", ["192.0.2.1"], delay_s=0.3)
    assert resolver.ask("x.example", "A", soon()).texts == ("192.0.2.1",)
    assert len(server.asked) == 2


def test_nobody_at_the_port_is_known_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(LookupTrouble, match="ConnectionRefusedError"):
        Resolver([ADDRESS], free_port()).ask("x.example", "A", soon())
    assert time.monotonic() - started < 0.5


def test_a_server_that_no_route_leads_to_is_trouble() -> None:
    with pytest.raises(LookupTrouble, match="OSError"):
        Resolver(["2001:db8::53"]).ask("x.example", "A", soon())


def test_the_second_server_is_asked_where_the_first_is_dead(server: DnsServer) -> None:
    server.answer("x.example", "A", ["192.0.2.1"])
    resolver = Resolver(["127.0.0.99", ADDRESS], server.port)
    assert resolver.ask("x.example", "A", soon()).texts == ("192.0.2.1",)


def test_nothing_is_asked_when_the_time_is_over(server: DnsServer, resolver: Resolver) -> None:
    with pytest.raises(LookupTrouble, match="no answer in time"):
        resolver.ask("x.example", "A", soon(-1.0))
    assert server.asked == []


@pytest.mark.parametrize(
    ("ip", "question"),
    [
        ("192.0.2.7", ("7.2.0.192.in-addr.arpa", "PTR")),
        ("2001:db8::1", ("1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa", "PTR")),
    ],
)
def test_an_address_is_asked_for_in_reverse(
    server: DnsServer, resolver: Resolver, ip: str, question: tuple[str, str]
) -> None:
    resolver.pointers(ip_address(ip), soon())
    assert server.asked == [question]


def test_addresses_are_of_the_family_of_the_host(server: DnsServer, resolver: Resolver) -> None:
    resolver.addresses("x.example", ip_address("2001:db8::1"), soon())
    resolver.addresses("x.example", IP, soon())
    assert [kind for _, kind in server.asked] == ["AAAA", "A"]


def test_texts_that_are_no_addresses_are_left_out() -> None:
    assert as_addresses(Answer(("192.0.2.7", "x", "::ffff:192.0.2.8"))) == {
        IP,
        ip_address("192.0.2.8"),
    }


def test_without_a_configuration_there_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(lookup, "_configured", none)
    with pytest.raises(LookupTrouble, match="no nameserver is configured"):
        Resolver().ask("x.example", "A", soon())

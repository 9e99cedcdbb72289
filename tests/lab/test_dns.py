"""The name server serves what the hosts say of themselves."""

from __future__ import annotations

from collections.abc import Iterator

import dns.resolver
import pytest

from tests.lab import net, worlds
from tests.lab.dns import NameServer, Record, txt, zone_text
from tests.lab.host import black_hole
from tests.lab.lab import Lab


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[NameServer]:
    with NameServer(worlds.ALL, worlds.RECORDS, broken=["broken.example"]) as running:
        yield running


@pytest.fixture
def resolver(server: NameServer) -> dns.resolver.Resolver:
    made = dns.resolver.Resolver(configure=False)
    made.nameservers = [server.address]
    made.lifetime = 3.0
    return made


def _ask(resolver: dns.resolver.Resolver, name: str, kind: str) -> list[str]:
    return sorted(record.to_text() for record in resolver.resolve(name, kind))


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("12.7.18.198.in-addr.arpa", "PTR", "198-18-7-12.pool.isp.example."),
        ("198-18-7-12.pool.isp.example", "A", "198.18.7.12"),
        ("mail.proper.example", "A", "198.18.25.25"),
        ("proper.example", "MX", "10 mail.proper.example."),
        ("proper.example", "TXT", '"v=spf1 mx -all"'),
        ("ns.lab.example", "A", net.NAME_SERVER),
    ],
)
def test_what_the_hosts_and_records_say_is_served(
    resolver: dns.resolver.Resolver, name: str, kind: str, answer: str
) -> None:
    assert _ask(resolver, name, kind) == [answer]


@pytest.mark.parametrize("name", ["40.8.18.198.in-addr.arpa", "8.8.8.8.in-addr.arpa"])
def test_an_address_without_a_name_has_none(resolver: dns.resolver.Resolver, name: str) -> None:
    with pytest.raises(dns.resolver.NXDOMAIN):
        resolver.resolve(name, "PTR")


def test_a_broken_zone_is_a_server_failure(resolver: dns.resolver.Resolver) -> None:
    with pytest.raises(dns.resolver.NoNameservers, match="SERVFAIL"):
        resolver.resolve("www.broken.example", "A")


def test_names_change_with_the_hosts(server: NameServer, resolver: dns.resolver.Resolver) -> None:
    moved = black_hole("198.18.25.25", "moved.example")
    server.update([moved])
    assert _ask(resolver, "25.25.18.198.in-addr.arpa", "PTR") == ["moved.example."]
    with pytest.raises(dns.resolver.NXDOMAIN):
        resolver.resolve("mail.proper.example", "A")
    server.update(worlds.ALL, worlds.RECORDS)
    assert _ask(resolver, "mail.proper.example", "A") == ["198.18.25.25"]


def test_a_name_that_does_not_lead_back_has_no_address() -> None:
    host = black_hole("198.18.1.1", "liar.example")
    assert "liar.example. 60 IN A 198.18.1.1" in zone_text([host], [], 1)
    host = type(host)(host.ip, names=("liar.example",), leads_back=False)
    text = zone_text([host], [Record("liar.example", "A", "198.18.1.2")], 1)
    assert "liar.example. 60 IN A 198.18.1.1" not in text
    assert "liar.example. 60 IN A 198.18.1.2" in text


def test_long_text_is_cut_into_strings() -> None:
    assert txt("a.example", "x" * 300).value == f'"{"x" * 255}" "{"x" * 45}"'
    assert txt("a.example", 'say "no"\\').value == '"say \\"no\\"\\\\"'

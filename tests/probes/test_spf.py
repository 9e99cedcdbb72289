"""Whom an SPF record names, and whom it does not although it would let him pass."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmilter.clock import Deadline
from botmilter.lookup import LookupTrouble, Resolver
from botmilter.probes import spf
from tests.fakes.dns import ADDRESS, DnsServer, Lie

_Rows = Mapping[tuple[str, str], list[str]]

WORLD: _Rows = {
    ("a.example", "A"): ["192.0.2.7"],
    ("a.example", "AAAA"): ["2001:db8::7"],
    ("a.example", "MX"): ["10 mx.a.example.", "20 away.example."],
    ("mx.a.example", "A"): ["192.0.2.25"],
    ("away.example", "A"): ["198.51.100.1"],
    ("many.example", "MX"): ["10 mx.a.example.", "20 away.example.", "30 a.a.example."],
    ("other.example", "TXT"): ['"v=spf1 ip4:203.0.113.0/24 -all"'],
    ("all.example", "TXT"): ['"v=spf1 +all"'],
    ("neutral.example", "TXT"): ['"v=spf1 ?ip4:192.0.2.7 -all"'],
    ("two.example", "TXT"): ['"v=spf1 ip4:192.0.2.7"', '"v=spf1 -all"'],
    ("loop.example", "TXT"): ['"v=spf1 include:loop.example ip4:192.0.2.7"'],
    ("far.example", "TXT"): ['"v=spf1 redirect=other.example"'],
    **{
        (f"d{n}.example", "TXT"): [f'"v=spf1 include:d{n + 1}.example ip4:192.0.2.{n}"']
        for n in range(12)
    },
    ("d12.example", "TXT"): ['"v=spf1 ip4:203.0.113.7"'],
}


def names(record: str, ip: str, rows: _Rows = WORLD) -> bool:
    with DnsServer({**rows, ("s.example", "TXT"): [f'"{record}"']}) as server:
        resolver = Resolver([ADDRESS], server.port)
        return spf.names_host(resolver, "s.example", ip_address(ip), Deadline.after(5))


@pytest.mark.parametrize(
    ("record", "ip"),
    [
        ("v=spf1 ip4:192.0.2.7 -all", "192.0.2.7"),
        ("V=SPF1 IP4:192.0.2.0/28 ~all", "192.0.2.7"),
        ("v=spf1 ip4:203.0.113.7 ip4:192.0.2.7", "192.0.2.7"),
        ("v=spf1 ip6:2001:db8::/32 -all", "2001:db8::1"),
        ("v=spf1 ip4:10.0.0.0/8 +ip4:192.0.2.7", "192.0.2.7"),
        ("v=spf1 a:a.example -all", "192.0.2.7"),
        ("v=spf1 a:a.example/24 -all", "192.0.2.99"),
        ("v=spf1 a:a.example//64 -all", "2001:db8::99"),
        ("v=spf1 a:a.example/30//64 -all", "2001:db8::99"),
        ("v=spf1 mx:a.example -all", "192.0.2.25"),
        ("v=spf1 mx:a.example/28 -all", "192.0.2.17"),
        ("v=spf1 include:other.example -all", "203.0.113.9"),
        ("v=spf1 include:far.example -all", "203.0.113.9"),
        ("v=spf1 redirect=other.example", "203.0.113.9"),
        ("v=spf1 ptr exists:%{i}.x.example ip4:192.0.2.7", "192.0.2.7"),
        ("v=spf1 exp=why.example unknown=x ip4:192.0.2.7", "192.0.2.7"),
        ("v=spf1 include:d3.example -all", "192.0.2.9"),
        ("v=spf1 MX:a.example -ALL", "192.0.2.25"),
        ("v=spf1 mx:many.example ip6:2001:db8::/32 -all", "2001:db8::1"),
        ("v=spf1 a:%{i}.x ptr:y.example ip4:192.0.2.7", "192.0.2.7"),
    ],
)
def test_a_host_is_named(record: str, ip: str) -> None:
    assert names(record, ip)


@pytest.mark.parametrize(
    ("record", "ip"),
    [
        ("v=spf1 -all", "192.0.2.7"),
        ("v=spf1 +all", "192.0.2.7"),
        ("v=spf1", "192.0.2.7"),
        ("v=spf10 ip4:192.0.2.7", "192.0.2.7"),
        ("spf2.0/mfrom ip4:192.0.2.7", "192.0.2.7"),
        ("v=spf1 ip4:0.0.0.0/0", "192.0.2.7"),
        ("v=spf1 ip4:192.0.0.0/8", "192.0.2.7"),
        ("v=spf1 ip4:0.0.0.0/1 ip4:128.0.0.0/1", "192.0.2.7"),
        ("v=spf1 ip6:2000::/3", "2001:db8::1"),
        ("v=spf1 a:a.example/0", "192.0.2.7"),
        ("v=spf1 mx:a.example/4", "192.0.2.25"),
        ("v=spf1 -ip4:192.0.2.7 ip4:192.0.2.0/24", "192.0.2.7"),
        ("v=spf1 ~ip4:192.0.2.7 ip4:192.0.2.0/24", "192.0.2.7"),
        ("v=spf1 ?ip4:192.0.2.7", "192.0.2.7"),
        ("v=spf1 -exists:x.example ip4:192.0.2.7", "192.0.2.7"),
        ("v=spf1 all ip4:192.0.2.7", "192.0.2.7"),
        ("v=spf1 -all redirect=other.example", "203.0.113.9"),
        ("v=spf1 include:all.example", "192.0.2.7"),
        ("v=spf1 include:neutral.example", "192.0.2.7"),
        ("v=spf1 include:two.example ip4:192.0.2.7", "192.0.2.7"),
        ("v=spf1 include:nothing.example ip4:192.0.2.7", "192.0.2.7"),
        ("v=spf1 include:loop.example", "192.0.2.7"),
        ("v=spf1 include:d0.example -all", "203.0.113.7"),
        ("v=spf1 include:%{d}.example", "192.0.2.7"),
        ("v=spf1 a:%{i}.example", "192.0.2.7"),
        ("v=spf1 redirect=%{d}", "192.0.2.7"),
        ("v=spf1 ip4:192.0.2.999 ip4:192.0.2.7", "192.0.2.7"),
        ("v=spf1 ip4:192.0.2.7/33", "192.0.2.7"),
        ("v=spf1 a:a.example/x", "192.0.2.7"),
        ("v=spf1 a:a.example/99999999999", "192.0.2.7"),
        ("v=spf1 a:x1.example a:x2.example a:x3.example ip4:192.0.2.7", "192.0.2.7"),
        ("v=spf1 + - = : / ip4: a:/ mx:// include: redirect=", "192.0.2.7"),
        # an error anywhere voids the record
        ("v=spf1 ip4:192.0.2.7 ip4:192.0.2.999", "192.0.2.7"),
        ("v=spf1 ip4:192.0.2.7 -al", "192.0.2.7"),
        ("v=spf1 ip4:192.0.2.7 all:x.example", "192.0.2.7"),
        ("v=spf1 ip4:192.0.2.7 include", "192.0.2.7"),
        ("v=spf1 ip4:192.0.2.7 mx/24/64", "192.0.2.7"),
        ("v=spf1 ip4:192.0.2.7 ip4:2001:db8::1", "192.0.2.7"),
        ("v=spf1 ip4:192.0.2.0/255.255.255.0", "192.0.2.7"),
        ("v=spf1 ip4:192.0.2.7 redirect=other.example redirect=far.example", "192.0.2.7"),
        ("v=spf1 redirect=other.example redirect=far.example", "203.0.113.9"),
        ("v=spf1 +redirect=other.example", "203.0.113.9"),
        ("v=spf1 " + "ptr " * 11 + "ip4:203.0.113.1", "203.0.113.1"),
        ("v=spf1 " + "a:a.example " * 11 + "ip4:203.0.113.1", "203.0.113.1"),
    ],
)
def test_a_host_is_not_named(record: str, ip: str) -> None:
    assert not names(record, ip)


def test_an_mx_of_too_many_hosts_is_in_error() -> None:
    many = {("m.example", "MX"): [f"10 h{n}.example." for n in range(11)]}
    assert not names("v=spf1 mx:m.example ip4:192.0.2.7", "192.0.2.7", many)


def test_a_dead_name_server_is_trouble_and_no_verdict() -> None:
    with DnsServer() as server:
        server.lie("s.example", "TXT", Lie.SERVFAIL)
        with pytest.raises(LookupTrouble):
            spf.names_host(
                Resolver([ADDRESS], server.port),
                "s.example",
                ip_address("192.0.2.7"),
                Deadline.after(5),
            )


def test_a_record_in_many_strings_is_read_as_one() -> None:
    assert names('v=spf1 ip4:203.0.113.0/24 " "ip4:192.0.2.7', "192.0.2.7")


def long_one_names(record: str, ip: str) -> bool:
    """As TXT has it: in strings of 255 octets at most, over TCP."""
    strings = '" "'.join(record[at : at + 255] for at in range(0, len(record), 255))
    with DnsServer() as server:
        server.lie("s.example", "TXT", Lie.TRUNCATED, [f'"{strings}"'])
        resolver = Resolver([ADDRESS], server.port)
        return spf.names_host(resolver, "s.example", ip_address(ip), Deadline.after(5))


@pytest.mark.parametrize("others", [70, 900])
def test_a_long_record_names_whom_it_names(others: int) -> None:
    hosts = " ".join(f"ip4:198.18.{n // 256}.{n % 256}" for n in range(others))
    record = f"v=spf1 {hosts} ip4:192.0.2.7 -all"
    assert len(record) > 1000
    assert long_one_names(record, "192.0.2.7")
    assert not long_one_names(record, "192.0.2.8")


def test_a_record_longer_than_any_honest_one_names_nobody() -> None:
    assert not long_one_names("v=spf1 ip4:192.0.2.7 " + "ip4:198.18.0.1 " * 2000, "192.0.2.7")


@given(st.text(alphabet="+-~?:=/.%{} aip46mxlcudept019", max_size=60) | st.text(max_size=60))
def test_any_record_is_read_or_in_error(record: str) -> None:
    with suppress(spf._PermError):
        spf._terms(f"v=spf1 {record}")

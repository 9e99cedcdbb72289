"""Address classes and hostile text."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmilter import net

ANY_IP = st.ip_addresses()


@pytest.mark.parametrize(
    ("text", "ip"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0:0::9", "2001:db8::9"),
        ("192.0.2.007", None),
        ("192.0.2.999", None),
        ("2001:db8:zz::1", None),
        ("", None),
        ("unknown", None),
    ],
)
def test_an_address_is_read_canonically_or_not_at_all(text: str, ip: str | None) -> None:
    assert net.parse_ip(text) == (None if ip is None else ip_address(ip))


@given(ANY_IP)
def test_every_address_survives_its_own_text(ip: IPv4Address | IPv6Address) -> None:
    assert net.parse_ip(str(ip)) == net.canonical(ip)


@given(st.one_of(st.text(), st.binary()), st.integers(0, 300))
def test_printable_is_always_one_short_printable_line(text: str | bytes, limit: int) -> None:
    shown = net.printable(text, limit)
    assert len(shown) <= limit
    assert all(" " <= char <= "~" for char in shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\r\nEvil: 1", "a??Evil: 1"), (b"\xff\x00ok", "??ok"), ("x" * 12, "xxxxxxx...")],
)
def test_printable_replaces_and_cuts(text: str | bytes, shown: str) -> None:
    assert net.printable(text, 10) == shown


@pytest.mark.parametrize(
    ("ip", "reason"),
    [
        ("8.8.8.8", None),
        ("2a00:1450::1", None),
        ("10.0.0.1", "private or reserved"),
        ("100.64.0.1", "private or reserved"),
        ("198.18.7.12", "private or reserved"),
        ("169.254.1.1", "private or reserved"),
        ("0.0.0.0", "private or reserved"),
        ("240.0.0.1", "private or reserved"),
        ("fc00::1", "private or reserved"),
        ("239.1.2.3", "multicast"),
        ("ff0e::1", "multicast"),
        ("192.88.99.1", "6to4 relay anycast (RFC 7526)"),
        ("2002:808:808::1", "6to4, an IPv4 address in disguise (RFC 3056)"),
        ("2001:0:4136::1", "Teredo, an IPv4 address in disguise (RFC 4380)"),
        ("64:ff9b::808:808", "NAT64, an IPv4 address in disguise (RFC 6052)"),
        ("::ffff:10.0.0.1", "private or reserved"),
        ("::ffff:0:1.2.3.4", "private or reserved"),
        ("fec0::1", "private or reserved"),
        ("4000::1", "private or reserved"),
        ("f000::1", "private or reserved"),
        ("192.31.196.1", "AS112 anycast (RFC 7535)"),
        ("192.175.48.1", "AS112 anycast (RFC 7534)"),
        ("192.52.193.1", "AMT anycast (RFC 7450)"),
        ("2001:4:112::1", "AS112 anycast (RFC 7535)"),
    ],
)
def test_only_plain_public_addresses_may_be_probed(ip: str, reason: str | None) -> None:
    assert net.ProbeGuard().refusal(ip_address(ip)) == reason


def test_a_laboratory_s_range_may_be_allowed_but_never_beats_the_opt_out() -> None:
    guard = net.ProbeGuard((ip_network("198.18.0.0/15"),), (ip_network("198.18.66.0/24"),))
    assert guard.refusal(ip_address("198.18.7.12")) is None
    assert guard.refusal(ip_address("198.18.66.6")) == "trusted, own or opted out"


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("192.0.2.7", "7.2.0.192.list.example"),
        ("2001:db8::1", "1." + "0." * 23 + "8.b.d.0.1.0.0.2.list.example"),
    ],
)
def test_a_dnsbl_is_asked_in_reverse(ip: str, name: str) -> None:
    assert net.dnsbl_name(ip_address(ip), ".list.example.") == name


@pytest.mark.parametrize(
    ("ip", "host", "site"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2:3::9", "2001:db8:1:2::/64", "2001:db8:1::/48"),
    ],
)
def test_a_host_and_its_neighbourhood(ip: str, host: str, site: str) -> None:
    assert net.host_key(ip_address(ip)) == host
    assert str(net.site_network(ip_address(ip))) == site

"""What a host's name gives away."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmilter import names, signals
from botmilter.model import Chain, Hop, HopKind, HopSource, IPAddress, Origin, OriginWhy, Trust
from botmilter.net import parse_ip
from botmilter.received import forgery

V4 = "203.0.113.9"
V6 = "2001:db8:10:20::a:b"

#: The same customer line, 198.51.100.27, as the programs of the world would name it.
SPELLINGS = (
    "198-51-100-27.example.net",
    "198.51.100.27.example.net",
    "h27.100.51.198.example.net",
    "host198x51x100x27.example.net",
    "a198b51c100d27.example.net",
    "198051100027.example.net",
    "198-051-100-027.example.net",
    "027100051198.example.net",
    "1985110027.example.net",
    "c633641b.example.net",
    "x-1b6433c6.example.net",
    "pC633641B.example.net",
    "c6-33-64-1b.example.net",
    "n3325256731.example.net",  # one decimal number
    "p1izrsij.example.net",  # one number of base 36
    "306063144033.example.net",  # octal octets
    "27-198-100-51.example.net",  # any order
    "51-100-27.example.net",  # the last three
    "lo198-51-100.27.example.net",
)


@pytest.mark.parametrize("name", SPELLINGS)
def test_an_address_in_a_name_is_found_in_any_spelling(name: str) -> None:
    assert names.is_dynamic(name, ip_address("198.51.100.27")).strength >= 0.8


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_of_another_address_says_nothing(name: str) -> None:
    assert not names.is_dynamic(name, ip_address("192.0.2.213"))


@pytest.mark.parametrize(
    "name",
    [
        "2001-db8-10-20-0-0-a-b.example.net",
        "20010db80010002000000000000a000b.example.net",
        "b.0.0.0.a.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.1.0.0.8.b.d.0.1.0.0.2.example.net",
        "x20010db800100020.example.net",
        "2001-db8-10-20--a-b.example.net",
    ],
)
def test_an_ipv6_address_in_a_name_is_found(name: str) -> None:
    assert names.is_dynamic(name, ip_address(V6)).strength >= 0.8


@pytest.mark.parametrize(
    "name",
    [
        "adsl-7.example.net",
        "line3.dyn.example.de",
        "x.abonados.example.es",
        "c12.clientes.example.com.br",
        "a4.kabel.example.de",
        "pppoe77.example.ru",
        "cm-12.catv.example.hu",
        "ab12.flets.example.ne.jp",
    ],
)
def test_pool_words_of_several_languages_count_without_an_address(name: str) -> None:
    assert names.is_dynamic(name, ip_address(V4)).strength == 0.8


@pytest.mark.parametrize(
    ("name", "ip"),
    [
        ("mx1.cable.example", V4),  # a company called cable
        ("host.dsl.co.uk", V4),
        ("outbound-198-51-100-27.example.net", "198.51.100.27"),  # a provider's relay
        ("mail-oln198051100027.outbound.example.com", "198.51.100.27"),
        ("mx9.example.net", V4),
        ("a113-9.smtp-out.example.com", V4),
        ("n16.groups.example.com", V4),
        ("example.com", V4),
        ("com", V4),
        ("", V4),
        (V4, V4),
        ("web1-2.example.com", "192.0.1.2"),
    ],
)
def test_a_name_that_somebody_chose_is_not_dynamic(name: str, ip: str) -> None:
    assert not names.is_dynamic(name, ip_address(ip))


def test_a_fixed_line_counts_half() -> None:
    ip = ip_address("198.51.100.27")
    line = names.is_dynamic("198-51-100-27.example.net", ip)
    fixed = names.is_dynamic("static-198-51-100-27.example.net", ip)
    assert fixed.strength == line.strength / 2


def test_a_mail_word_in_a_pool_leaves_some_doubt() -> None:
    found = names.is_dynamic("mail.198-51-100-27.dsl.example.net", ip_address("198.51.100.27"))
    assert 0 < found.strength < 0.5


def test_without_the_address_four_numbers_that_could_be_one_count_less() -> None:
    assert names.is_dynamic("198-51-100-27.example.net", None).strength == 0.7
    assert not names.is_dynamic("998-51-100-27.example.net", None)


@pytest.mark.parametrize(
    ("name", "strength"),
    [
        ("mx1.example.org", 1.0),
        ("smtp-out3.example.org", 1.0),
        ("mailgate.example.org", 1.0),
        ("webmail.example.org", 1.0),
        ("correo.example.es", 1.0),
        ("www.example.org", 0.5),
        ("ns2.example.org", 0.5),
        ("example.co.uk", 0.5),
        ("mail.ru.", 0.5),
        ("outmx", 0.0),
        ("kitchen.example.org", 0.0),
        ("dsl-7.example.org", 0.0),
        (V4, 0.0),
        ("", 0.0),
    ],
)
def test_a_server_is_known_by_its_name(name: str, strength: float) -> None:
    assert names.is_server(name).strength == strength


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("mx1.example.co.uk", "example.co.uk"),
        ("MX1.Example.COM.", "example.com"),
        ("co.uk", None),
        ("localhost", None),
        (V4, None),
        ("a.b.nosuchtld", "b.nosuchtld"),
    ],
)
def test_the_registered_domain(name: str, domain: str | None) -> None:
    assert names.registered_domain(name) == domain


def test_the_list_of_suffixes_is_not_read_while_a_mail_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names.load()
    monkeypatch.setattr(names, "PublicSuffixList", None)
    assert names.registered_domain("mx1.example.co.uk") == "example.co.uk"
    assert names.same_organisation("a.example.org", "b.example.org")
    for name in ("pool-7.isp.example.net", "mail.example.co.uk", "printer.lan", "1.2.3.4.bb.test"):
        names.is_dynamic(name, None)
        names.helo_signals(name, None, None)


def neighbours(template: str, at: range) -> dict[IPAddress, str]:
    return {IPv4Address(f"198.51.100.{last}"): template.format(last) for last in at}


@pytest.mark.parametrize(
    ("template", "shared"),
    [
        ("bayi{}.konut.example.com.tr", "bayi#.konut.example.com.tr"),
        ("p{:x}ff.konut.example.com.tr", "p#.konut.example.com.tr"),
        ("mail{}.example.com", None),
        ("example.com", None),
    ],
)
def test_one_numbered_template_over_the_neighbours_is_a_pool(
    template: str, shared: str | None
) -> None:
    assert names.shared_template(neighbours(template, range(26, 30))) == shared


def test_different_names_or_too_few_are_no_template() -> None:
    few = neighbours("bayi{}.example.com", range(26, 28))
    mixed = few | neighbours("x{}y.example.org", range(28, 30))
    assert names.shared_template(few) is None
    assert names.shared_template(mixed) is None
    assert names.shared_template({}) is None


@pytest.mark.parametrize(
    ("helo", "rdns", "expected"),
    [
        (None, "mx.example.org", []),
        ("", "mx.example.org", []),
        ("mx.example.org", "mx.example.org", []),
        ("MX.example.org.", "mx.example.org", []),
        ("other.example.org", "mx.example.org", []),
        ("other.example.org", None, []),
        ("mx.example.com", "mx.example.org", ["helo.mismatch"]),
        (V4, "mx.example.org", ["helo.bare_address"]),
        ("192.0.2.1", None, ["helo.bare_address"]),
        (f"[{V4}]", None, []),
        ("[192.0.2.1]", None, ["helo.literal_mismatch"]),
        ("[IPv6:2001:db8::1]", None, ["helo.literal_mismatch"]),
        ("[nonsense]", None, []),
        ("pc", "mx.example.org", ["helo.no_dot"]),
        ("localhost.localdomain", "mx.example.org", []),
        ("localhost.local", None, ["helo.no_tld"]),
        ("server.office.local", None, ["helo.no_tld"]),
        ("mail.proper.example", None, []),
        ("xn--e1afmkfd.xn--p1ai", None, []),
        ("203-0-113-9.dyn.example.net", None, ["helo.dynamic"]),
        ("dyn-7.example.net", "dyn-7.example.net", []),  # said of the name already
        ("dyn-7.example.com", "mx.example.org", ["helo.dynamic", "helo.mismatch"]),
    ],
)
def test_what_the_greeting_gives_away(
    helo: str | None, rdns: str | None, expected: list[str]
) -> None:
    found = names.helo_signals(helo, ip_address(V4), rdns)
    assert [one.name for one in found] == expected


@pytest.mark.parametrize(
    ("helo", "expected"),
    [
        (V4, {"helo.bare_address": 0.5}),
        ("198.51.100.9", {"helo.bare_address": 1.0}),
        ("10.0.0.5", {"helo.bare_address": 1.0}),
        ("IPv6:2001:db8::1", {"helo.bare_address": 1.0}),
        ("2001:db8::1", {"helo.bare_address": 1.0}),
        (f"[{V4}]", {}),
        (f"?{V4}?", {}),
        ("[198.51.100.9]", {"helo.literal_mismatch": 1.0}),
        ("?198.51.100.9?", {"helo.literal_mismatch": 1.0}),
        ("[IPv6:2001:db8::1]", {"helo.literal_mismatch": 1.0}),
        *(
            (f"[{inside}]", {"helo.literal_mismatch": 0.5})
            for inside in ("10.0.0.5", "172.16.9.9", "192.168.1.2", "127.0.0.1", "169.254.3.3")
        ),
        ("[IPv6:fe80::1]", {"helo.literal_mismatch": 0.5}),
        ("[IPv6:fd00::1]", {"helo.literal_mismatch": 0.5}),
        ("pc", {"helo.no_dot": 1.0}),
        ("localhost", {"helo.no_dot": 1.0}),
        ("pc.", {"helo.no_dot": 1.0}),
        ("localhost.localdomain", {}),
        ("mail.example.com", {}),
    ],
)
def test_greetings_weigh_the_same_with_the_chain_and_without(
    helo: str, expected: dict[str, float]
) -> None:
    """Of two signals of one name the stronger counts: what one allows the other must allow."""
    ip = ip_address(V4)
    hop = Hop(0, HopSource.CONNECTION, HopKind.RELAY, ip=ip, rdns="mail.example.com", helo=helo)
    origin = Origin(OriginWhy.CLIENT, ip, hop)
    by_chain = forgery.signals(Chain((hop,)), origin, Trust())
    by_name = names.helo_signals(helo, hop.ip, hop.rdns)
    rules = {"helo.bare_address", "helo.literal_mismatch", "helo.no_dot"}
    for found in (by_chain, by_name):
        assert {one.name: one.strength for one in found if one.name in rules} == expected


@pytest.mark.parametrize(
    ("helo", "rdns", "is_false"),
    [
        ("yahoo.com", None, True),
        ("yahoo.co.jp", "x.example.net", True),
        ("mta1.yahoo.com", None, False),
        ("mta1.yahoo.com", "x.example.net", True),
        ("mta1.yahoo.com", "mta1.grp.yahoo.com", False),
        ("yahoo.example.com", "x.example.net", False),
    ],
)
def test_a_greeting_as_a_large_provider(helo: str, rdns: str | None, is_false: bool) -> None:
    assert names.is_false_provider(helo, rdns) is is_false


ANY_NAME = st.text() | st.text("0123456789abcdef.-_[]:%", max_size=60) | st.just("." * 300)
ANY_IP = st.ip_addresses()


@given(ANY_NAME, ANY_IP | st.none(), ANY_NAME)
def test_any_text_is_a_name_to_be_judged(name: str, ip: IPAddress | None, other: str) -> None:
    assert 0 <= names.is_dynamic(name, ip).strength <= 1
    assert 0 <= names.is_server(name).strength <= 1
    names.is_false_provider(name, other)
    for signal in names.helo_signals(name, ip, other):
        assert signal.name in signals.BY_NAME
        assert 0 <= signal.strength <= 1


@given(st.dictionaries(ANY_IP, ANY_NAME))
def test_any_neighbours_can_be_asked_for_a_template(found: dict[IPAddress, str]) -> None:
    names.shared_template(found)


@given(ANY_IP)
def test_every_address_is_found_in_its_reverse_name(ip: IPAddress) -> None:
    zone = ip.reverse_pointer.rsplit(".", 2)[0]
    canonical = parse_ip(str(ip))
    if canonical == ip:
        assert names.is_dynamic(f"{zone}.example.net", ip).strength >= 0.8


@pytest.mark.parametrize("piece", ["1-", "a", "1", "1.", "\u0661.", "f0", "dsl-", "["])
def test_a_megabyte_takes_no_longer_than_a_name(piece: str) -> None:
    began = time.perf_counter()
    text = piece * (1_000_000 // len(piece))
    names.is_dynamic(text, ip_address(V4))
    names.is_server(text)
    names.helo_signals(text, ip_address(V4), text)
    assert time.perf_counter() - began < 0.5

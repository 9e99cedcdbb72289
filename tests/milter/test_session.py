"""What a connection tells, as Postfix and Sendmail tell it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from botmilter import header
from botmilter.milter.session import Field, Macros, Session, forged, sender_domain
from botmilter.model import Chain, Hop, HopKind, HopSource, OriginWhy, Trust
from botmilter.net import parse_ip
from botmilter.received.origin import find

NOW = datetime(2009, 3, 1, 12, 0, tzinfo=UTC)
V4 = ("192.0.2.1", 4711)
V6 = ("2001:db8::1", 4711, 0, 0)


def macros(**given: str) -> Macros:
    """``i="x"`` is macro i, ``client_addr="x"`` is {client_addr}."""
    named = {f"{{{key}}}" if len(key) > 1 else key: value for key, value in given.items()}
    return named.get


def hop(host: str, address: object, **given: str) -> Hop:
    session = Session()
    session.connected(host, address)
    session.helo = "client.example"
    return session.transaction(macros(**given), NOW).hop


@pytest.mark.parametrize(
    ("host", "address", "given", "ip", "rdns", "verified"),
    [
        ("mail.example.com", V4, {}, "192.0.2.1", "mail.example.com", True),
        ("mail.example.com.", V4, {}, "192.0.2.1", "mail.example.com", True),
        ("unknown", V4, {}, "192.0.2.1", None, None),
        ("[192.0.2.1]", V4, {}, "192.0.2.1", None, None),
        ("[IPv6:2001:db8::1]", V6, {}, "2001:db8::1", None, None),
        ("mail.example.com (may be forged)", V4, {}, "192.0.2.1", "mail.example.com", False),
        ("mail.example.com", V4, {"client_resolve": "FORGED"}, "192.0.2.1", "mail.example.com", 0),
        ("unknown", V4, {"client_ptr": "liar.example"}, "192.0.2.1", "liar.example", False),
        ("unknown", V4, {"client_ptr": "unknown"}, "192.0.2.1", None, None),
        ("mail.example.com", V6, {}, "2001:db8::1", "mail.example.com", True),
        ("h", ("::ffff:192.0.2.1", 1, 0, 0), {}, "192.0.2.1", "h", True),
        ("h", ("fe80::1%eth0", 1, 0, 0), {}, "fe80::1", "h", True),
        # the client that a load balancer told the MTA about
        ("lb.example", V4, {"client_addr": "198.51.100.7"}, "198.51.100.7", None, None),
        (
            "lb.example",
            V4,
            {"client_addr": "198.51.100.7", "client_name": "pc.example"},
            "198.51.100.7",
            "pc.example",
            True,
        ),
        ("lb", V4, {"client_addr": "IPv6:2001:db8::7"}, "2001:db8::7", None, None),
        ("mail", V4, {"client_addr": "unknown"}, "192.0.2.1", "mail", True),
        ("mail", V4, {"client_addr": "192.0.2.1"}, "192.0.2.1", "mail", True),
    ],
)
def test_the_client_is_whom_the_mta_says(
    host: str,
    address: object,
    given: dict[str, str],
    ip: str,
    rdns: str | None,
    verified: bool | None,
) -> None:
    seen = hop(host, address, **given)
    assert (seen.ip, seen.rdns, seen.rdns_verified) == (parse_ip(ip), rdns, verified)
    assert (seen.kind, seen.source, seen.index) == (HopKind.RELAY, HopSource.CONNECTION, 0)


@pytest.mark.parametrize("address", [None, "/var/run/submit.sock", ()])
def test_a_client_without_address_is_the_mta_itself(address: object) -> None:
    assert hop("localhost", address).kind is HopKind.LOCAL


def _is_unknown(seen: Hop) -> bool:
    found = find(Chain((seen,)), Trust())
    return seen.kind is HopKind.BROKEN and found.why is OriginWhy.UNREADABLE


def test_a_client_with_an_unreadable_address_is_unknown_not_local() -> None:
    assert _is_unknown(hop("h", ("999.0.0.1", 25)))


def test_a_client_of_whom_nothing_was_heard_is_unknown_not_local() -> None:
    assert _is_unknown(Session().transaction(macros(), NOW).hop)


@pytest.mark.parametrize(
    ("macro", "ip"),
    [
        ("mail.example [192.0.2.1]", "192.0.2.1"),
        ("mail.example [192.0.2.1] (may be forged)", "192.0.2.1"),
        ("[10.0.0.1]@x [IPv6:2001:db8::1]", "2001:db8::1"),
        ("nobody knows", None),
    ],
)
def test_the_validated_address_stands_in_for_a_lost_one(macro: str, ip: str | None) -> None:
    seen = Session().transaction(macros(_=macro), NOW).hop
    assert seen.ip == (parse_ip(ip) if ip else None)


@pytest.mark.parametrize(
    ("given", "authenticated"),
    [
        ({}, False),
        ({"auth_authen": "user"}, True),
        ({"auth_type": "EXTERNAL"}, True),
        ({"auth_authen": ""}, False),
        ({"daemon_name": "ORIGINATING"}, True),
        ({"daemon_port": "25", "daemon_name": "MTA"}, False),
        # open to strangers: Sendmail's own, which ask for no login
        ({"daemon_port": "587", "daemon_name": "MSA"}, False),
        ({"daemon_port": "587", "daemon_name": "MSA", "auth_authen": "user"}, True),
        ({"daemon_port": "465", "daemon_name": "TLSMTA"}, False),
        ({"daemon_name": "submission.example.com"}, False),
    ],
)
def test_only_who_logged_in_or_came_where_one_must_counts_as_a_user(
    given: dict[str, str], authenticated: bool
) -> None:
    assert hop("h", V4, **given).authenticated is authenticated


def test_macros_fill_the_rest_of_the_hop() -> None:
    seen = hop("h", V4, i="4QID", j="mx.example.org", tls_version="TLSv1.3")
    assert (seen.id, seen.by, seen.tls) == ("4QID", "mx.example.org", True)
    assert (seen.helo, seen.at) == ("client.example", NOW)


def test_a_new_client_in_a_connection_has_not_greeted_yet() -> None:
    session = Session()
    session.connected("a", V4)
    session.helo = "a"
    session.connected("b", V6)  # XCLIENT
    seen = session.transaction(macros(), NOW).hop
    assert (seen.ip, seen.helo) == (parse_ip("2001:db8::1"), None)


@pytest.mark.parametrize(
    ("sender", "domain"),
    [
        ("<a@example.com>", "example.com"),
        ("<A@EXAMPLE.Com.>", "example.com"),
        ("a@example.com", "example.com"),
        (" < a@example.com > ", "example.com"),
        ('<"a@b"@example.com>', "example.com"),
        ("<>", None),
        ("<postmaster>", None),
        ("<a@>", None),
        ("", None),
        ("<a@\xff>", "\xff"),
    ],
)
def test_the_sender_has_a_domain_or_none(sender: str, domain: str | None) -> None:
    assert sender_domain(sender) == domain


def test_forged_fields_are_counted_for_each_name_and_named_from_the_last() -> None:
    fields: list[Field] = [
        ("X-Bot-Verdict", b"1"),
        ("Subject", b""),
        ("x-bot-verdict", b"2"),
        ("X-Bot-Score", b"1"),
        ("X-Bot-Verdicts", b"another's"),
    ]
    assert forged(fields, header.own_names()) == [
        ("X-Bot-Score", 1),
        ("x-bot-verdict", 2),
        ("X-Bot-Verdict", 1),
    ]

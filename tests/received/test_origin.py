"""Trust: whose lines are believed, where that ends, and which host is the origin."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

import pytest

from botmilter.model import Hop, HopKind, HopRole, HopSource, OriginWhy, Trust
from botmilter.received import parse
from botmilter.received.origin import find

DATE = "; Tue, 02 Jan 2024 03:04:05 +0000"
US = f"from fw.example (fw.example [192.0.2.1]) by mx.example (Postfix) with ESMTP id A1{DATE}"
FORWARDER = f"from pc (dsl7.example [203.0.113.9]) by fw.example (Postfix) with SMTP id B1{DATE}"
FORGED = f"from bank.example ([198.51.100.4]) by relay.example (8.12.1/8.12.1) with SMTP{DATE}"
LOGIN = f"from pc (dsl7.example [203.0.113.9]) by fw.example (Postfix) with ESMTPSA id B1{DATE}"
LOOPBACK = f"from localhost (localhost [127.0.0.1]) by mx.example (Postfix) with ESMTP id C1{DATE}"
PICKUP = f"by fw.example (Postfix, from userid 33) id D1{DATE}"
REDACTED = f"from x (dsl7.example [203.0.113.999]) by fw.example (Postfix) with SMTP id E1{DATE}"
NAMED = f"from pc.example by fw.example (MDaemon PRO v13.0.5) with ESMTP id m1.msg{DATE}"
FETCHED = f"from pop.example [192.0.2.110] by pc.example with POP3 (fetchmail-6.4){DATE}"
INSIDE = f"from in.example (in.example [10.0.0.8]) by mx.example (Postfix) with SMTP id F1{DATE}"
POOL_A = f"from out-7.pool.example (out-7.pool.example [192.0.2.71]) by mx.example (Postfix){DATE}"
OUR_SECOND = f"from pc (dsl7.example [203.0.113.9]) by mx2.example (Postfix) with SMTP id G1{DATE}"
SPAMMER = f"from mx2.example (dsl7.example [203.0.113.9]) by mx.example (Postfix) with SMTP{DATE}"
FORGED_OURS = f"from x (x.example [198.51.100.4]) by mx2.example (Postfix) with SMTP id G1{DATE}"
VIA_MX2 = f"from mx2.example (mx2.example [192.0.2.2]) by mx.example (Postfix) with SMTP{DATE}"
VIA_NAT = f"from mx2 (unknown [10.0.0.2]) by mx.example (Postfix) with SMTP{DATE}"
LIST = (
    f"from list.example (list.example [192.0.2.50]) by mx.example (Postfix) with ESMTP id A1{DATE}"
)
STORED = f"from mx.example ([198.51.100.20]) by store.example (Cyrus 3.2) with LMTPA{DATE}"
STORED_LOCALLY = f"from mx.example ([unix socket]) by mx.example (Cyrus v2.3.14) with LMTPA{DATE}"
HTTP_API = f"from <unknown> (<unknown> []) by fw.example with HTTP id 1{DATE}"


def networks(*texts: str) -> Trust:
    return Trust(networks=tuple(ip_network(text) for text in texts))


FORWARDER_TRUSTED = networks("192.0.2.1")
_T, _B, _C = HopRole.TRUSTED, HopRole.BORDER, HopRole.CLAIMED


@dataclass(frozen=True)
class Case:
    says: str
    lines: tuple[str, ...]
    trust: Trust
    ip: str | None
    why: OriginWhy
    roles: tuple[HopRole, ...] = field(default=())


CASES = (
    Case(
        "without trust the top line is the border, and that is said",
        (US, FORWARDER), Trust(), "192.0.2.1", OriginWhy.ASSUMED, (_B, _C),
    ),
    Case(
        "the peer of a trusted forwarder is the origin, what lies below is claimed",
        (US, FORWARDER, FORGED), FORWARDER_TRUSTED, "203.0.113.9", OriginWhy.RELAY, (_T, _B, _C),
    ),
    Case(
        "a trusted address below the border changes nothing",
        (US, FORWARDER, US, FORGED), FORWARDER_TRUSTED, "203.0.113.9", OriginWhy.RELAY,
    ),
    Case(
        "loopback is trusted whatever is configured",
        (LOOPBACK, US, FORWARDER), FORWARDER_TRUSTED, "203.0.113.9", OriginWhy.RELAY, (_T, _T, _B),
    ),
    Case(
        "a line without an address inside the trusted part is passed over",
        (LOOPBACK, PICKUP, US, FORWARDER), FORWARDER_TRUSTED, "203.0.113.9", OriginWhy.RELAY,
    ),
    Case(
        "an unreadable address ends the walk, it is not jumped over",
        (US, REDACTED, FORGED), FORWARDER_TRUSTED, None, OriginWhy.UNREADABLE, (_T, _B, _C),
    ),
    Case(
        "a peer that only named itself ends it too: what follows may be the peer's own",
        (US, NAMED, FORGED), FORWARDER_TRUSTED, None, OriginWhy.UNREADABLE, (_T, _B, _C),
    ),
    Case(
        "unless the admin counts that line among his own",
        (US, NAMED, FORGED), Trust(own_relays=3), "198.51.100.4", OriginWhy.RELAY, (_T, _T, _B),
    ),
    Case(
        "a login at a trusted host is a submission",
        (US, LOGIN, FORGED), FORWARDER_TRUSTED, None, OriginWhy.SUBMISSION, (_T, _B, _C),
    ),
    Case(
        "a login extends trust only if that is configured",
        (US, LOGIN, FORGED), replace(FORWARDER_TRUSTED, by_authentication=True),
        "198.51.100.4", OriginWhy.RELAY,
    ),
    Case(
        "a chain that ends behind a login is a submission even then",
        (US, LOGIN), replace(FORWARDER_TRUSTED, by_authentication=True),
        None, OriginWhy.SUBMISSION,
    ),
    Case(
        "a login noted below the border exempts nobody",
        (FORWARDER, LOGIN), FORWARDER_TRUSTED, "203.0.113.9", OriginWhy.RELAY,
    ),
    Case(
        "a trusted relay that logs in is a relay",
        (US.replace("ESMTP", "ESMTPSA"), FORWARDER), FORWARDER_TRUSTED,
        "203.0.113.9", OriginWhy.RELAY,
    ),
    Case(
        "a login from loopback is a user of the host's webmail",
        (LOOPBACK.replace("ESMTP", "ESMTPA"), FORGED), FORWARDER_TRUSTED,
        None, OriginWhy.SUBMISSION, (_B, _C),
    ),
    Case(
        "the login of our own MTA at its mailbox store is no submission",
        (STORED, STORED_LOCALLY, US, FORWARDER), FORWARDER_TRUSTED,
        "203.0.113.9", OriginWhy.RELAY,
    ),
    Case(
        "mail handed in over HTTP at a trusted host is a submission",
        (US, HTTP_API), FORWARDER_TRUSTED, None, OriginWhy.SUBMISSION,
    ),
    Case(
        "mail that never left trusted hosts has no origin",
        (US, PICKUP), FORWARDER_TRUSTED, None, OriginWhy.LOCAL, (_T, _T),
    ),
    Case("a mail without lines has no origin", (), Trust(), None, OriginWhy.NO_HEADER),
    Case(
        "a mailbox collector on top is the reader's own",
        (LOOPBACK, FETCHED, US, FORWARDER), FORWARDER_TRUSTED, "203.0.113.9", OriginWhy.RELAY,
    ),
    Case(
        "without trust the line below the collector's is the border",
        (FETCHED, US, FORWARDER), Trust(), "192.0.2.1", OriginWhy.ASSUMED,
    ),
    Case(
        "a collector's line below the border is a claim like any other",
        (FORWARDER, FETCHED, FORGED), FORWARDER_TRUSTED, "203.0.113.9", OriginWhy.RELAY,
    ),
    Case(
        "one own relay means that the top line is ours and names the stranger",
        (POOL_A, FORGED), Trust(own_relays=1), "192.0.2.71", OriginWhy.RELAY, (_B, _C),
    ),
    Case(
        "two own relays reach over one changing address",
        (POOL_A, FORWARDER, FORGED), Trust(own_relays=2), "203.0.113.9", OriginWhy.RELAY,
    ),
    Case(
        "loopback is not counted as a relay",
        (LOOPBACK, POOL_A, FORWARDER, FORGED), Trust(own_relays=2),
        "203.0.113.9", OriginWhy.RELAY,
    ),
    Case(
        "a confirmed own name makes its host trusted",
        (VIA_MX2, OUR_SECOND, FORGED), Trust(own_names=("mx2.example",)),
        "203.0.113.9", OriginWhy.RELAY,
    ),
    Case(
        "a name with a leading dot covers all below it",
        (VIA_MX2, OUR_SECOND, FORGED), Trust(own_names=(".example",)),
        "198.51.100.4", OriginWhy.RELAY,
    ),
    Case(
        "an own name as by behind a private address is our own host",
        (VIA_NAT, OUR_SECOND, FORGED), Trust(own_names=("mx2.example",)),
        "203.0.113.9", OriginWhy.RELAY,
    ),
    Case(
        "an own name as HELO and as by of the next line proves nothing",
        (SPAMMER, FORGED_OURS), Trust(own_names=("mx2.example",)),
        "203.0.113.9", OriginWhy.RELAY, (_B, _C),
    ),
    Case(
        "mail over a list comes from the list's host",
        (LIST, FORWARDER), networks("192.0.2.1"), "192.0.2.50", OriginWhy.RELAY,
    ),
    Case(
        "an origin on the allow list is exempt and named",
        (US, FORWARDER),
        replace(FORWARDER_TRUSTED, exempt_networks=(ip_network("203.0.113.0/24"),)),
        "203.0.113.9", OriginWhy.ALLOWED,
    ),
    Case(
        "a private peer is an origin as well where nobody trusts it",
        (INSIDE, FORWARDER), FORWARDER_TRUSTED, "10.0.0.8", OriginWhy.RELAY,
    ),
)  # fmt: skip


def block(lines: tuple[str, ...]) -> bytes:
    return "".join(f"Received: {line}\r\n" for line in lines).encode() + b"Subject: x\r\n\r\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_origin(case: Case) -> None:
    origin = find(parse(block(case.lines)), case.trust)
    assert (origin.ip and str(origin.ip), origin.why) == (case.ip, case.why)
    if case.roles:
        assert origin.roles == case.roles


def test_assumed_border_is_said_loudly() -> None:
    origin = find(parse(block((US,))), Trust())
    assert origin.note.startswith("WARNING: no trust is configured")


def client(ip: str | None, by: str | None = "mx.example", helo: str = "h") -> Hop:
    return Hop(
        index=0,
        source=HopSource.CONNECTION,
        kind=HopKind.RELAY if ip else HopKind.LOCAL,
        ip=ip_address(ip) if ip else None,
        helo=helo,
        by=by,
    )


@pytest.mark.parametrize(
    ("says", "hop", "lines", "trust", "ip", "why"),
    [
        ("a client is the origin", client("203.0.113.9"), (FORGED,), Trust(),
         "203.0.113.9", OriginWhy.CLIENT),
        ("behind a trusted client its top line counts", client("192.0.2.1"), (FORWARDER, FORGED),
         FORWARDER_TRUSTED, "203.0.113.9", OriginWhy.RELAY),
        ("no client address is the MTA's own mail", client(None), (FORGED,), Trust(),
         None, OriginWhy.LOCAL),
        ("behind loopback the lines are walked", client("127.0.0.1"), (US, FORWARDER),
         FORWARDER_TRUSTED, "203.0.113.9", OriginWhy.RELAY),
        ("a client that logged in is a submission",
         client("203.0.113.9")._replace(authenticated=True), (FORGED,), Trust(),
         None, OriginWhy.SUBMISSION),
        ("an allowed client is exempt even if trusted", client("192.0.2.1"), (FORWARDER,),
         replace(FORWARDER_TRUSTED, exempt_networks=(ip_network("192.0.2.1"),)),
         "192.0.2.1", OriginWhy.ALLOWED),
    ],
)  # fmt: skip
def test_live_connection(
    says: str, hop: Hop, lines: tuple[str, ...], trust: Trust, ip: str | None, why: OriginWhy
) -> None:
    origin = find(parse(block(lines), hop), trust)
    assert (origin.ip and str(origin.ip), origin.why) == (ip, why), says


def test_the_mtas_own_line_of_the_connection_is_not_counted_twice() -> None:
    chain = parse(block((US, FORWARDER)), client("192.0.2.1"))
    assert [hop.by for hop in chain.hops] == ["mx.example", "fw.example"]
    assert [hop.index for hop in chain.hops] == [0, 1]


@pytest.mark.parametrize("hop", [client("192.0.2.1", by="mx9.example"), client("192.0.2.9")])
def test_another_handover_stays_in_the_chain(hop: Hop) -> None:
    assert len(parse(block((US, FORWARDER)), hop).hops) == 3

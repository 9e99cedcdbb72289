"""A chain that contradicts itself says so, about the origin, and honest chains stay silent."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from botmilter.model import Signal, Trust
from botmilter.received import parse
from botmilter.received.forgery import signals
from botmilter.received.origin import find
from botmilter.signals import BY_NAME, Group

AT = "; Tue, 02 Jan 2024 12:00:00 +0000"
TOP = f"from fw.example (fw.example [192.0.2.1]) by mx.example (Postfix) with ESMTP id A1{AT}"
TRUST = Trust(networks=(ip_network("192.0.2.0/24"),), own_names=("mx.example", ".our.example"))


def border(helo: str, rdns: str = "dsl7.isp.example") -> str:
    return f"from {helo} ({rdns} [203.0.113.9]) by fw.example (Postfix) with SMTP id B1{AT}"


HONEST = border("mail.isp.example")


def below(by: str = "mail.isp.example", at: str = AT, with_: str = "with SMTP") -> str:
    return f"from pc ([198.51.100.4]) by {by} {with_}{at}"


@dataclass(frozen=True)
class Case:
    says: str
    lines: tuple[str, ...]
    signals: dict[str, float]


CASES = (
    Case("an honest chain is silent", (HONEST, below()), {}),
    Case("greets with the receiver's name", (border("fw.example"),), {"helo.own_name": 1}),
    Case("greets with a configured name", (border("x.our.example"),), {"helo.own_name": 1}),
    Case(
        "greets with a trusted address",
        (border("192.0.2.77"),),
        {"helo.own_name": 1, "helo.bare_address": 1},
    ),
    Case(
        "greets with a trusted address in brackets",
        (border("[192.0.2.77]"),),
        {"helo.own_name": 1, "helo.literal_mismatch": 1},
    ),
    Case("greets with its bare address", (border("203.0.113.9"),), {"helo.bare_address": 0.5}),
    Case("greets with another address", (border("198.51.100.9"),), {"helo.bare_address": 1}),
    Case("greets with its own literal", (border("[203.0.113.9]"),), {}),
    Case("greets with a private literal", (border("[10.0.0.5]"),), {"helo.literal_mismatch": 0.5}),
    Case("greets with another literal", (border("[198.51.100.9]"),), {"helo.literal_mismatch": 1}),
    Case("greets with one label", (border("friend"),), {"helo.no_dot": 1}),
    Case(
        "a line below is by the stolen greeting",
        (border("198.51.100.9"), below("198.51.100.9")),
        {"helo.bare_address": 1, "chain.by_is_helo": 1},
    ),
    Case(
        "a line below is by our own name",
        (border("fw.example"), below("fw.example")),
        {"helo.own_name": 1, "chain.by_is_helo": 1},
    ),
    Case("by is not the host above", (HONEST, below("mx.bank.net")), {"chain.broken_link": 1}),
    Case("by is a strange address", (HONEST, below("198.51.100.77")), {"chain.broken_link": 1}),
    Case("by is an internal name", (HONEST, below("mail.local")), {}),
    Case("by is a sister host", (HONEST, below("smtp2.isp.example")), {}),
    Case(
        "a lower line is a day later",
        (HONEST, below(at="; Wed, 03 Jan 2024 12:06:00 +0000")),
        {"chain.time_backwards": 1},
    ),
    Case(
        "a lower line is three hours later",
        (HONEST, below(at="; Tue, 02 Jan 2024 15:00:00 +0000")),
        {"chain.time_backwards": 0.5},
    ),
    Case("wrong summer time is honest", (HONEST, below(at=AT.replace("12:", "13:"))), {}),
    Case(
        "a zone that does not exist",
        (HONEST, below(at="; Tue, 02 Jan 2024 11:00:00 -1900")),
        {"chain.bad_zone": 1},
    ),
    Case(
        "a day that does not exist",
        (HONEST, below(at="; Tue, 32 Jan 2024 11:00:00 +0000")),
        {"chain.bad_date": 1},
    ),
    Case(
        "a date weeks before the receipt",
        (HONEST, below(at="; Fri, 01 Dec 2023 11:00:00 +0000")),
        {"chain.bad_date": 1},
    ),
    Case(
        "a date where the address belongs",
        (HONEST, f"from x ([Tue, 02 Jan 2024 01:02:03 -0700]) by mail.isp.example with SMTP{AT}"),
        {"chain.date_in_address": 1},
    ),
    Case(
        "a Google host that runs qmail",
        (border("mail.google.com", "mail.google.com"),
         f"from x (HELO y) (198.51.100.4) by mx.google.com (qp 12) with SMTP{AT}"),
        {"chain.false_by": 1},
    ),
    Case(
        "a protocol of Yahoo's own, spoken elsewhere",
        (HONEST, below(with_="with NNFMP")),
        {"chain.false_by": 1},
    ),
    Case(
        "a Google host that writes Google's line",
        (border("mail.google.com", "mail.google.com"), below("mx.google.com")),
        {},
    ),
    Case(
        "a Google host that writes what forgers write of Google's",
        (border("mail.google.com", "mail.google.com"), below("mx.google.com", with_="with asmtp")),
        {"chain.false_by": 1},
    ),
    Case(
        "a machine of Google's staff",
        (border("mail.google.com", "mail.google.com"),
         f"from x (x [172.27.69.24]) by a.eem.corp.google.com (Postfix) with ESMTP id 1{AT}"),
        {},
    ),
    Case(
        "Yahoo's SMTP server",
        (border("mail.yahoo.com", "mail.yahoo.com"),
         f"by smtp4.mail.bf1.yahoo.com (Oath Hermes SMTP Server) with ESMTPA ID 57ac{AT}"),
        {},
    ),
    Case(
        "Yahoo's protocol, spoken by one that only ends like Yahoo",
        (HONEST, below("n9.huyahoo.com", with_="with NNFMP")),
        {"chain.broken_link": 1, "chain.false_by": 1},
    ),
    Case(
        "Gmail's submission behind Google's exit",
        (border("mail-pf1-f178.google.com", "mail-pf1-f178.google.com"),
         f"by mail-pf1-f178.google.com with SMTP id 12si3{AT}",
         f"from [192.168.1.5] (h.isp.example. [198.51.100.9]) by smtp.gmail.com with ESMTPSA{AT}"),
        {},
    ),
    Case(
        "a private address of Google's as 6to4",
        (border("mail.google.com", "mail.google.com"),
         f"by 2002:a05:6504:1c8:b0:1:2:3 with HTTP id 12si3{AT}"),
        {},
    ),
    Case(
        "a handover within the host",
        (HONEST,
         f"from pps.filterd (m7.filter.net [127.0.0.1]) by mail.isp.example (8.17.1/8.17.1){AT}",
         below("mx0b.hosted.net")),
        {},
    ),
    Case(
        "a short domain below a country",
        (border("mout.web.de", "mout.web.de"), below("smtp.web.de")),
        {},
    ),
    Case(
        "a customer's name for a host of his sending service",
        (border("o7.mail.shop.com", "o7.mail.shop.com"), below("filter7.service.net")),
        {"chain.broken_link": 0.5},
    ),
    Case(
        "five hours later, of a zone that is not told",
        (HONEST, below(at="; Tue, 02 Jan 2024 17:30:00 IST")),
        {},
    ),
    Case(
        "greets with its own literal, the tag in lower case",
        (f"from [ipv6:2001:db8::7] (r.example [IPv6:2001:db8::7]) by fw.example (Postfix){AT}",),
        {},
    ),
    Case(
        "qmail had no greeting",
        (f"from unknown (203.0.113.9) by fw.example with QMQP{AT}",),
        {},
    ),
)  # fmt: skip


def found(*lines: str, trust: Trust = TRUST) -> tuple[Signal, ...]:
    chain = parse("".join(f"Received: {line}\n" for line in lines).encode())
    return signals(chain, find(chain, trust), trust)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_signals(case: Case) -> None:
    seen = found(TOP, *case.lines)
    assert {signal.name: signal.strength for signal in seen} == case.signals
    assert all(signal.detail for signal in seen)


def test_what_is_said_is_short_whatever_the_mail_says() -> None:
    (said,) = found(HONEST, below(at="; Tue, 02 Jan 2024 11:00:00 -1900" + " x" * 5_000))
    assert said.name == "chain.bad_zone"
    assert len(said.detail) <= 200


def test_every_chain_signal_is_declared_and_has_a_case() -> None:
    emitted = {name for case in CASES for name in case.signals}
    assert emitted <= set(BY_NAME)
    assert {row.name for row in BY_NAME.values() if row.group is Group.CHAIN} <= emitted


def test_nothing_is_said_where_there_is_no_origin_or_it_is_exempt() -> None:
    login = border("friend").replace("with SMTP", "with ESMTPSA")
    assert found(TOP, login, below("fw.example")) == ()
    assert found() == ()


# The mail of the 2009 study: the sender greeted with an address of the forwarder's site.
STUDY = (
    (
        "from mta144.mail.tnz.yahoo.co.jp (mta144.mail.tnz.yahoo.co.jp [203.216.244.210]) "
        "by drossel.cs.dm.u-tokai.ac.jp (Postfix) with SMTP id D4CFD4A50043; "
        "Mon,  3 Aug 2009 23:16:35 +0900 (JST)"
    ),
    (
        "from 61.48.71.52  (HELO 203.216.247.181) (61.48.71.52) "
        "by mta144.mail.tnz.yahoo.co.jp with SMTP; Mon, 03 Aug 2009 23:11:22 +0900"
    ),
    "from 144.185.57.214 by 203.216.247.181; Tue, 04 Aug 2009 13:17:27 -0100",
)


@pytest.mark.parametrize(
    ("network", "names"),
    [
        (
            "203.216.244.210",
            {"helo.bare_address", "chain.by_is_helo", "chain.time_backwards"},
        ),
        (
            "203.216.244.0/22",
            {"helo.own_name", "helo.bare_address", "chain.by_is_helo", "chain.time_backwards"},
        ),
    ],
)
def test_the_study_s_example(network: str, names: set[str]) -> None:
    trust = Trust(networks=(ip_network(network),))
    chain = parse([("Received", line.encode()) for line in STUDY])
    origin = find(chain, trust)
    assert str(origin.ip) == "61.48.71.52"
    assert {signal.name for signal in signals(chain, origin, trust)} == names

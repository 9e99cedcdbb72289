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
)  # fmt: skip


def found(*lines: str, trust: Trust = TRUST) -> tuple[Signal, ...]:
    chain = parse("".join(f"Received: {line}\n" for line in lines).encode())
    return signals(chain, find(chain, trust), trust)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_signals(case: Case) -> None:
    seen = found(TOP, *case.lines)
    assert {signal.name: signal.strength for signal in seen} == case.signals
    assert all(signal.detail for signal in seen)


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

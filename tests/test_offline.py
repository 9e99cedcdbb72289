"""What the receiver of a saved mail noted of its origin."""

from __future__ import annotations

import pytest

from botmilter import offline, received, score, signals
from botmilter.model import Label, Trust
from botmilter.received import origin

DATE = "; Tue, 10 Mar 2026 12:00:00 +0000"
POSTFIX = " by mx.example.org (Postfix) with ESMTP id 4ABC" + DATE
SENDMAIL = " by mx.example.org (8.14.4/8.14.4) with ESMTP id x" + DATE
EXCHANGE = " by mx.example.org (192.0.2.1) with Microsoft SMTP Server id 15.20" + DATE


def noted(line: str) -> dict[str, float]:
    hop = received.parse(f"Received: {line}\r\n".encode()).hops[0]
    return {one.name: one.strength for one in offline.border_signals(hop)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from mx.a.com (mx.a.com [192.0.2.7])" + POSTFIX, {"host.confirmed"}),
        ("from a.local (unknown [192.0.2.7])" + POSTFIX, {"rdns.none", "helo.no_tld"}),
        ("from mx.a.com ([192.0.2.7])" + SENDMAIL, {"rdns.none"}),
        ("from mx.a.com (mx.a.com [192.0.2.7] (may be forged))" + SENDMAIL, {"rdns.unconfirmed"}),
        ("from mx.a.com (192.0.2.7)" + EXCHANGE, set()),
        ("from pc (dsl-7.a.com [192.0.2.7])" + POSTFIX, {"rdns.dynamic", "helo.no_dot"}),
        ("from dsl-7.a.com (dsl-7.a.com [192.0.2.7])" + POSTFIX, {"rdns.dynamic"}),
        ("from hotmail.com (unknown [192.0.2.7])" + POSTFIX, {"rdns.none", "helo.provider"}),
        ("from b.com (host.a.com [192.0.2.7])" + POSTFIX, {"helo.mismatch"}),
        ("from localhost (localhost [192.0.2.7])" + POSTFIX, {"helo.no_dot"}),
    ],
)
def test_the_border_line_says_what_the_probes_would(line: str, expected: set[str]) -> None:
    assert noted(line).keys() == expected


def test_a_confirmed_name_that_another_noted_counts_little() -> None:
    assert noted("from mx.a.com (mx.a.com [192.0.2.7])" + POSTFIX) == {"host.confirmed": 0.25}


#: A PC that greets as somebody else, from nowhere, with a wrong clock and a stolen sender.
BOT = (
    "Received: from yahoo.com (pool-27.dsl.example.net [198.51.100.27])" + POSTFIX + "\r\n"
    "Date: Wed, 11 Mar 2026 08:00:00 -1900\r\nFrom: <a@hotmail.com>\r\n"
)
#: A relay of one of today's providers.
PROVIDER = (
    "Received: from mail-b27.example.com (mail-b27.example.com [198.51.100.27])" + POSTFIX + "\r\n"
    "Received: by mail-b27.example.com with SMTP id x1csp1; Tue, 10 Mar 2026 11:59:59 +0000\r\n"
    "Date: Tue, 10 Mar 2026 11:59:50 +0000\r\nMessage-ID: <1@mail.example.com>\r\n"
    "From: <a@customer.example>\r\n"
)


@pytest.mark.parametrize(
    ("header", "label", "at_least", "at_most"),
    [(BOT, Label.SUSPECT, 4.0, 4.9), (PROVIDER, Label.CLEAN, -3.0, -1.0)],
)
def test_by_the_header_alone_a_bot_is_suspect_and_a_provider_clean(
    header: str, label: Label, at_least: float, at_most: float
) -> None:
    raw = header.encode()
    chain = received.parse(raw)
    found = offline.signals(raw, chain, origin.find(chain, Trust()))
    judged = score.judge(found, score.Rules(signals.DEFAULT_WEIGHTS, bot=5, suspect=3))
    assert judged.label is label
    assert at_least <= judged.score <= at_most


def test_without_an_origin_nothing_is_said() -> None:
    chain = received.parse(b"Subject: x\r\n")
    assert offline.signals(b"", chain, origin.find(chain, Trust())) == ()

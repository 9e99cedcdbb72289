"""A header block becomes a chain: which lines count, in which order, and what was wrong."""

from __future__ import annotations

import pytest

from botmilter.model import HopKind
from botmilter.received import parse

LINE = "from h.example (r.example [192.0.2.7]) by mx.example (Postfix) with SMTP id A1"


def bys(block: bytes) -> list[str | None]:
    return [hop.by for hop in parse(block).hops]


@pytest.mark.parametrize(
    ("block", "wanted"),
    [
        (b"Received: by a\nReceived: by b\n\n", ["a", "b"]),
        (b"RECEIVED: by a\r\nrEcEiVeD:by b\r\n\r\n", ["a", "b"]),
        (b"Received : by a\n", ["a"]),
        (b"Received: by\n\ta\nSubject: Received: by b\n", ["a"]),
        (b"X-Received: by a\nReceived-SPF: by b\nX: y\n Received: by c\n", []),
        (b"From x@example.org Tue Jan  2 03:04:05 2024\nReceived: by a\n", ["a"]),
        (b">From x\nReceived: by a\n", ["a"]),
        (b"Received: by a\n\nReceived: by body\n", ["a"]),
        (b"Received: by a\r\n\r\nReceived: by body\r\n", ["a"]),
        (b"Subject: x\rReceived: by smuggled\r\nReceived: by a\r\n", ["a"]),
        (b"Received: by a", ["a"]),
        (b"\xef\xbb\xbfReceived: by a\nReceived: by b\n", ["a", "b"]),
        (b"", []),
    ],
)
def test_lines_that_count(block: bytes, wanted: list[str | None]) -> None:
    assert bys(block) == wanted


def test_fields_are_taken_as_pairs_as_a_milter_is_given_them() -> None:
    chain = parse([("received", b"by a"), ("Received ", b"by b"), ("X-Received", b"by c")])
    assert [hop.by for hop in chain.hops] == ["a", "b"]
    text = "from é (r.example [192.0.2.7]) by mx.example"
    assert parse([("Received", text.encode())]).hops[0].helo == "é"


def test_eight_bit_text_that_is_not_utf8_is_read_as_latin1() -> None:
    chain = parse(b"Received: from m\xfcll (r.example [192.0.2.7]) by mx.example\n")
    assert chain.hops[0].helo == "müll"


def test_defects_name_the_hop_and_the_reason() -> None:
    chain = parse(f"Received: {LINE}; someday\nReceived: from x (10.0.0.999) by y\n".encode())
    assert chain.defects == (
        "hop 0: not a date",
        "hop 1: no address where one belongs",
        "hop 1: no date",
    )
    assert parse(b"Subject: x\n").defects == ("no Received line",)


def test_qmail_scanner_hands_its_sender_to_the_line_below() -> None:
    chain = parse(
        b"Received: from x@example.net by h by uid 502 with qmail-scanner-1.20\n"
        b"Received: from r.example (192.0.2.7) by h with SMTP; 1 Jan 2005 01:02:03 -0000\n"
    )
    assert [hop.kind for hop in chain.hops] == [HopKind.LOCAL, HopKind.RELAY]
    assert chain.hops[1].envelope_from == "x@example.net"

"""Which hosts of a mail are to be measured, and what is kept of the mail."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as some

from botmilter import received
from botmilter.model import Trust
from botmilter.received import origin
from botmilter.survey import harvest
from botmilter.survey.harvest import Note

#: As the study's example: a line of ours, one of a forwarder, one that the sender made up.
FORWARDED = b"""Return-Path: <x@Cheap.Example>
Received: from relay.forwarder.example (relay.forwarder.example [198.18.44.210])
\tby mx.reader.example (Postfix) with SMTP id D4CFD4A50043
\tfor <r@reader.example>; Mon,  3 Aug 2009 23:16:35 +0900 (JST)
Received: from 198.18.9.77  (HELO 198.18.44.181) (198.18.9.77)
  by relay.forwarder.example with SMTP; Mon, 03 Aug 2009 23:11:22 +0900
Received: from 198.18.57.214 by 198.18.44.181; Tue, 04 Aug 2009 13:17:27 -0100
From: Somebody <x@cheap.example>
To: r@reader.example
Date: Mon, 3 Aug 2009 23:11:20 +0900
"""
FORWARDER = Trust(networks=(ip_network("198.18.44.210/32"),))


def roles(header: bytes, trust: Trust, all_hops: bool) -> dict[str, str]:
    taken = harvest.take(harvest.kept(header), trust, all_hops)
    return {seen.ip: seen.role for seen in taken.sightings}


def notes(header: bytes, trust: Trust, all_hops: bool = False) -> dict[str, Note]:
    """By role."""
    kept = harvest.kept(header)
    taken = harvest.take(kept, trust, all_hops)
    return {seen.role: harvest.note(kept, trust, seen) for seen in taken.sightings}


def mail_id(header: bytes) -> bytes:
    return harvest.mail_id(harvest.kept(header))


def test_by_default_only_the_origin_is_measured() -> None:
    assert roles(FORWARDED, FORWARDER, all_hops=False) == {"198.18.9.77": "origin"}


def test_of_all_hops_only_those_that_a_trusted_host_noted_are_proved() -> None:
    assert roles(FORWARDED, FORWARDER, all_hops=True) == {
        "198.18.44.210": "trusted",
        "198.18.9.77": "origin",
        "198.18.57.214": "claimed",
    }


def test_from_to_date_and_arrival_are_told() -> None:
    told = notes(FORWARDED, FORWARDER)["origin"]
    assert told.sender == "Somebody <x@cheap.example>"
    assert told.recipient == "r@reader.example"
    assert told.date == "Mon, 3 Aug 2009 23:11:20 +0900"
    assert told.sender_domain == "cheap.example"
    assert told.arrived == "2009-08-03T23:16:35+09:00"
    assert told.helo == "198.18.44.181"
    assert told.received.startswith("from 198.18.9.77 (HELO")


def test_the_chain_speaks_of_the_origin_only() -> None:
    told = notes(FORWARDED, FORWARDER, all_hops=True)
    assert {role for role, note in told.items() if note.signals} == {"origin"}


@pytest.mark.parametrize(
    "trust",
    [
        Trust(),
        FORWARDER,
        replace(FORWARDER, by_authentication=True),
        Trust(own_relays=2),
        Trust(own_relays=3),
        Trust(own_names=(".forwarder.example",)),
        Trust(own_names=("mx.reader.example",)),
    ],
)
@pytest.mark.parametrize("all_hops", [False, True])
@pytest.mark.parametrize("private", [False, True])
def test_reading_no_further_than_needed_finds_the_same_origin(
    trust: Trust, all_hops: bool, private: bool
) -> None:
    header = FORWARDED.replace(b"[198.18.44.210]", b"[10.0.0.2]") if private else FORWARDED
    found = origin.find(received.parse(header), trust)
    taken = harvest.take(harvest.kept(header), trust, all_hops)
    (seen,) = (seen for seen in taken.sightings if seen.role == "origin")
    assert (seen.ip, seen.hop) == (str(found.ip), found.hop and found.hop.index)


@pytest.mark.parametrize("trust", [Trust(), Trust(own_names=("x.example",))])
def test_lines_without_end_are_read_in_linear_time(trust: Trust) -> None:
    def seconds(lines: int) -> float:
        start = time.process_time()
        harvest.take(b"Received: by x;\n" * lines, trust, all_hops=False)
        return time.process_time() - start

    assert seconds(8000) < 24 * max(seconds(1000), 0.005)


def test_a_mail_of_trusted_hosts_alone_has_no_host_to_measure() -> None:
    everybody = Trust(networks=(ip_network("198.18.0.0/15"),))
    assert roles(FORWARDED, everybody, all_hops=False) == {}


@pytest.mark.parametrize(
    "changed",
    [
        b"From x@cheap.example Mon Aug  3 23:16:35 2009\n" + FORWARDED,
        FORWARDED + b"Status: RO\n",
        b"X-UID: 17\nX-Status: A\n" + FORWARDED,
        FORWARDED.replace(b"Return", b"X-Mozilla-Keys: 1\n 2\nReturn"),
    ],
)
def test_a_mail_that_was_read_or_moved_is_the_same_mail(changed: bytes) -> None:
    assert mail_id(changed) == mail_id(FORWARDED)


def test_a_mail_with_another_header_is_another_mail() -> None:
    assert mail_id(FORWARDED + b"Subject: x\n") != mail_id(FORWARDED)


@given(some.binary(max_size=300))
def test_whatever_a_header_holds_printable_text_comes_out(noise: bytes) -> None:
    header = FORWARDED.replace(b"Somebody", noise) + b"To: " + noise + b"\n" + noise
    for told in notes(header, FORWARDER, all_hops=True).values():
        texts = [text for text in told if isinstance(text, str)]
        assert all(text.isascii() and (text.isprintable() or not text) for text in texts)


@given(some.binary(max_size=300))
def test_what_is_kept_of_a_header_has_its_whole_chain(noise: bytes) -> None:
    header = FORWARDED.replace(b"Somebody", noise).partition(b"\n\n")[0] + b"\n"
    header = header.replace(b"\r\n", b"\n").partition(b"\n\n")[0] + b"\n"
    assert received.parse(harvest.kept(header)) == received.parse(header)

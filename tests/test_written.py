"""What a mail says of time and place, held against how it came."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmilter import received, signals, written
from botmilter.model import Trust
from botmilter.net import parse_ip
from botmilter.received import origin

RECEIVED_AT = datetime(2026, 3, 10, 12, 0, 0, tzinfo=UTC)
BORDER = (
    "from {helo} ({rdns} [198.51.100.27]) by mx.example.org (Postfix) with ESMTP id 4ABC"
    " for <u@example.org>; Tue, 10 Mar 2026 12:00:00 +0000"
)
RELAYED = (
    "from pc ([192.0.2.9]) by out.example.com (8.14.4/8.14.4) with ESMTP id x;"
    " Tue, 10 Mar 2026 11:59:58 +0000"
)
SOUND = {
    "Date": "Tue, 10 Mar 2026 11:59:50 +0000",
    "Message-ID": "<20260310.1@out.example.com>",
    "From": "A <a@example.com>",
    "Return-Path": "<a@example.net>",
}


def found(
    below: tuple[str, ...] = (RELAYED,),
    helo: str = "out.example.com",
    rdns: str = "out.example.com",
    **fields: str | None,
) -> set[str]:
    """Signals of a sound mail, but for what is given; None leaves a field out."""
    chosen = SOUND | {name.replace("_", "-"): value for name, value in fields.items()}
    lines = [f"Received: {line}" for line in (BORDER.format(helo=helo, rdns=rdns), *below)]
    lines += [f"{name}: {value}" for name, value in chosen.items() if value is not None]
    header = ("\r\n".join(lines) + "\r\n").encode("latin-1")
    chain = received.parse(header)
    said = written.read(written.fields(header))
    return {one.name for one in written.signals(said, chain, origin.find(chain, Trust()))}


def later(**by: float) -> str:
    return format_datetime(RECEIVED_AT + timedelta(**by))


def outlook_id(at: datetime) -> str:
    ticks = int((at.timestamp() + 11_644_473_600) * 10_000_000)
    return f"<000a{ticks >> 32:08x}${ticks & 0xFFFFFFFF:08x}$1106fea9@pc>"


def test_a_sound_mail_through_a_relay_is_only_that() -> None:
    assert found() == {"path.relayed"}


@pytest.mark.parametrize(
    ("date", "signal"),
    [
        (later(minutes=-5), None),
        (later(minutes=9), None),
        (later(minutes=11), "mail.date_ahead"),
        (later(days=3000), "mail.date_ahead"),
        (later(hours=-3.9), None),
        (later(hours=-4.1), "mail.date_behind"),
        ("Tue, 10 Mar 2026 07:00:00 -1900", "mail.bad_zone"),
        ("yesterday", "mail.no_date"),
        ("", "mail.no_date"),
        (None, "mail.no_date"),
    ],
)
def test_the_date_is_held_against_the_receipt(date: str | None, signal: str | None) -> None:
    assert found(Date=date) == {"path.relayed"} | ({signal} if signal else set())


@pytest.mark.parametrize(
    ("message_id", "signal"),
    [
        ("<1@pc>", None),
        ("<1@mailer.example.net>", None),
        ("<4ABC@mx.example.org>", "mail.id_ours"),
        ("<4ABC@example.org>", "mail.id_ours"),
        ("<4ABC>", "mail.bad_id"),
        (None, "mail.no_id"),
        (outlook_id(RECEIVED_AT), None),
        (outlook_id(RECEIVED_AT - timedelta(hours=20)), None),
        (outlook_id(RECEIVED_AT - timedelta(days=2)), "mail.false_id"),
        ("<000a" + "f" * 8 + "$" + "f" * 8 + "$00000000@pc>", "mail.false_id"),
    ],
)
def test_the_message_id_tells_who_wrote_it(message_id: str | None, signal: str | None) -> None:
    assert found(Message_ID=message_id) == {"path.relayed"} | ({signal} if signal else set())


def test_our_own_user_who_wrote_to_a_list_has_our_message_id() -> None:
    home = RELAYED.replace("from pc ([192.0.2.9])", "from mx.example.org ([192.0.2.9])")
    assert "mail.id_ours" not in found((home,), Message_ID="<1@mx.example.org>")


@pytest.mark.parametrize(
    ("below", "helo", "rdns", "signal"),
    [
        ((), "pc", "unknown", "path.direct"),
        ((RELAYED,), "out.example.com", "unknown", "path.relayed"),
        ((RELAYED,), "pc", "a.example.com", "path.relayed"),
        ((RELAYED,), "pc", "a.example.edu", None),
    ],
)
def test_a_relay_has_a_line_of_its_own_below(
    below: tuple[str, ...], helo: str, rdns: str, signal: str | None
) -> None:
    assert found(below, helo, rdns) == ({signal} if signal else set())


@pytest.mark.parametrize(
    ("fields", "signal"),
    [
        ({"Return_Path": "<bounces@example.com>"}, "path.own_bounce"),
        ({"List_Id": "Talk <talk.lists.example.com>"}, "path.list"),
        ({"List_Unsubscribe": "<mailto:leave@lists.example.net>"}, "path.list"),
        ({"List_Id": "Talk <talk.example.edu>"}, None),
        ({"Return_Path": "<>"}, None),
        ({"From": "A <a@yahoo.com>"}, "mail.false_sender"),
        ({"Return_Path": "<a@gmail.com>"}, "mail.false_sender"),
    ],
)
def test_in_whose_name_the_host_sends(fields: dict[str, str], signal: str | None) -> None:
    assert found(**fields) == {"path.relayed"} | ({signal} if signal else set())  # type: ignore[arg-type]


def test_a_provider_of_which_a_line_tells_is_no_false_sender() -> None:
    told = RELAYED.replace("from pc", "from mta1.yahoo.com")
    assert "mail.false_sender" not in found((told,), From="a@yahoo.com")


def test_the_envelope_sender_that_the_mta_told_comes_before_the_return_path() -> None:
    said = written.read([("Return-Path", "<a@example.net>")], sender_domain="example.com")
    assert said.bounce_domain == "example.com"


def test_the_first_field_of_a_name_counts_and_folding_is_undone() -> None:
    header = b"Message-ID:\r\n <1@a.example>\r\nmessage-id: <2@b.example>\r\n\r\nDate: body\r\n"
    said = written.read(written.fields(header))
    assert said == written.Written(message_id="<1@a.example>")


def test_without_an_origin_nothing_is_said() -> None:
    chain = received.parse(b"")
    assert written.signals(written.Written(), chain, origin.find(chain, Trust())) == ()


@given(st.binary() | st.text("Received:DateMsg-Idfrombylist<>@$\r\n\t 0123456789").map(str.encode))
def test_any_header_can_be_read(header: bytes) -> None:
    header = b"Received: " + BORDER.format(helo="a", rdns="b").encode() + b"\r\n" + header
    chain = received.parse(header)
    found = origin.find(chain, Trust())
    assert found.ip == parse_ip("198.51.100.27")
    said = written.read(written.fields(header))
    names = {one.name for one in written.signals(said, chain, found)}
    assert names <= signals.BY_NAME.keys()

"""The callbacks with the real libmilter, spoken to on the wire."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.mta import CONTINUE, DISCARD, REPLY_CODE, Closed, Header, Mail, Wire
from tests.milter.conftest import PATIENCE_S, Filter, verdict, wait_until
from tests.milter.filter import SLOWER_S

GOOD = ((b"Received", b"from a by b"), (b"Subject", b"hello"))
ADD_AND_CHANGE = 0x11
QUARANTINE = 0x20


def test_only_what_is_needed_is_negotiated(running: Filter) -> None:
    with running.mta() as mta:
        no_rcpt, no_body, no_unknown = 0x8, 0x10, 0x100
        quiet = 0x80 | 0x1000 | 0x2000 | 0x4000 | 0x10000 | 0x40000
        assert mta.steps == no_rcpt | no_body | no_unknown | quiet
        assert mta.actions == ADD_AND_CHANGE


def test_a_mail_gets_its_verdict_with_all_that_is_known_of_it(running: Filter) -> None:
    with running.mta() as mta:
        mta.connect("198.18.7.12", b"pc.example.net", macros={b"j": b"mx.example.org"})
        mta.helo(b"pc")
        said = verdict(mta.deliver(Mail(GOOD, sender=b"<a@Example.COM>")))
    expected = {
        "ip": "198.18.7.12",
        "kind": "relay",
        "rdns": "pc.example.net",
        "verified": True,
        "helo": "pc",
        "by": "mx.example.org",
        "id": "4QID",
        "sender": "example.com",
        "fields": 2,
        "authenticated": False,
        "begun": True,
    }
    assert {key: said[key] for key in expected} == expected


@pytest.mark.parametrize(
    "forged",
    [
        [(b"X-Bot-Verdict", b"clean")],
        [(b"x-bot-VERDICT", b"clean"), (b"X-BOT-SCORE", b"-9"), (b"x-bot-level", b"*")],
        [(b"X-Bot-Verdict", b"clean;\n\tscore=-9")] * 7,
        [(b"X-Bot-Verdict", b""), (b"X-Bot-Verdict", b"\xff"), (b"Subject", b"again")],
    ],
    ids=["one", "any case", "folded and repeated", "empty and 8-bit"],
)
def test_no_forged_field_of_ours_survives(running: Filter, forged: list[Header]) -> None:
    mixed = [*forged, (b"Subject", b"hello"), *forged]
    with running.mta() as mta:
        mta.connect()
        mta.helo()
        delivery = mta.deliver(Mail(mixed))
    assert verdict(delivery)["fields"] == len(mixed)
    assert not delivery.values(b"X-Bot-Score")
    assert not delivery.values(b"X-Bot-Level")
    assert delivery.values(b"Subject") == [v for n, v in mixed if n == b"Subject"]


def test_a_mail_whose_judge_raises_passes_as_unknown_and_without_forgery(
    running: Filter,
) -> None:
    mail = Mail((*GOOD, (b"X-Bot-Verdict", b"clean")), sender=b"<a@raise.example>")
    delivery = running.send(mail)
    assert delivery.reply == CONTINUE
    assert delivery.headers == (*GOOD, (b"X-Bot-Verdict", b"unknown"))
    running.wait_for("the judge is ill")
    assert verdict(running.send())["fields"] == 1


@pytest.mark.parametrize(
    ("sender", "reply", "text"),
    [
        (b"<a@reject.example>", REPLY_CODE, b"550 5.7.1 not from 198.18.0.1"),
        (b"<a@tempfail.example>", REPLY_CODE, b"451 4.7.1 come back"),
        (b"<a@discard.example>", DISCARD, b""),
    ],
)
def test_a_mail_meets_the_action_its_judgement_asks_for(
    running: Filter, sender: bytes, reply: bytes, text: bytes
) -> None:
    delivery = running.send(Mail(sender=sender))
    assert (delivery.reply, delivery.text) == (reply, text)
    assert running.send().reply == CONTINUE


def test_a_mail_is_quarantined_where_that_may_be_asked_for(start: Callable[..., Filter]) -> None:
    able = start(may_quarantine=True)
    with able.mta() as mta:
        assert mta.actions == ADD_AND_CHANGE | QUARANTINE
    delivery = able.send(Mail(sender=b"<a@quarantine.example>"))
    assert (delivery.reply, delivery.quarantined) == (CONTINUE, b"a bot's")
    verdict(delivery)


def test_a_mail_passes_marked_where_the_mta_knows_no_quarantine(
    start: Callable[..., Filter],
) -> None:
    able = start(may_quarantine=True)
    with able.mta(actions=ADD_AND_CHANGE) as mta:
        mta.connect()
        mta.helo()
        delivery = mta.deliver(Mail(sender=b"<a@quarantine.example>"))
    assert (delivery.reply, delivery.quarantined) == (CONTINUE, None)
    verdict(delivery)
    able.wait_for("the MTA does not let us quarantine")


def test_a_mail_that_waits_holds_no_other(running: Filter) -> None:
    slow: list[Any] = []
    mail = Mail(sender=b"<a@slow.example>")
    thread = threading.Thread(target=lambda: slow.append(running.send(mail)))
    thread.start()
    for _ in range(5):
        verdict(running.send())
    assert not slow
    thread.join(10)
    verdict(slow[0])


def test_of_many_mails_at_once_none_waits_for_another_s_verdict(running: Filter) -> None:
    """libmilter's pool leaves a session behind now and then, until a thread has ended its wait."""

    def send(_: int) -> float:
        began = time.monotonic()
        verdict(running.send(Mail(sender=b"<a@slower.example>")))
        return time.monotonic() - began

    with ThreadPoolExecutor(48) as mta:
        took_s = [one for _ in range(3) for one in mta.map(send, range(48))]
    assert max(took_s) < SLOWER_S + 1.0


def test_the_mta_hears_that_a_long_wait_goes_on(running: Filter) -> None:
    delivery = running.send(Mail(sender=b"<a@patience.example>"))
    verdict(delivery)
    assert delivery.waits == 2
    assert running.send().waits == 0


def test_each_mail_of_a_connection_is_judged_by_its_own_fields(running: Filter) -> None:
    with running.mta() as mta:
        mta.connect()
        mta.helo()
        for count in (1, 5, 2):
            mail = Mail([(b"Subject", b"x")] * count, sender=b"<a@n%d.example>" % count)
            said = verdict(mta.deliver(mail))
            assert (said["fields"], said["sender"]) == (count, f"n{count}.example")


def test_the_verdict_of_an_aborted_mail_does_not_reach_the_next(running: Filter) -> None:
    before = running.log.count("abandoned")
    with running.mta() as mta:
        mta.connect()
        mta.helo()
        mta.mail(b"<a@first.example>")
        mta.step(b"T")
        mta.step(b"L", b"Subject\0first\0")
        mta.wire.send(b"A")
        said = verdict(mta.deliver(Mail(sender=b"<b@second.example>")))
    assert (said["fields"], said["sender"]) == (1, "second.example")
    running.wait_for("abandoned", before + 1)


@pytest.mark.parametrize("stage", range(6))
@pytest.mark.parametrize("how", [b"A", b"Q", b""], ids=["abort", "quit", "hang up"])
def test_a_session_may_end_at_any_stage(running: Filter, stage: int, how: bytes) -> None:
    mta = running.mta()
    steps = [
        (b"C", b"h\x004\x00\x19198.18.0.1\0"),
        (b"H", b"helo\0"),
        (b"M", b"<a@b.example>\0"),
        (b"T", b""),
        (b"L", b"Subject\0x\0"),
    ]
    for command, data in steps[:stage]:
        mta.step(command, data)
    if how:
        mta.wire.send(how)
    mta.wire.close()
    verdict(running.send())


HOSTILE_BYTES = b"\xff\xfe\x80\r\nX-Evil: 1\x01"


@pytest.mark.parametrize("answers", [True, False], ids=["old MTA waits for replies", "quiet"])
def test_eight_bit_text_anywhere_holds_no_mail(running: Filter, answers: bool) -> None:
    steps = 0x7F if answers else 0x1FFFFF
    macros = {b"i": HOSTILE_BYTES, b"j": HOSTILE_BYTES, b"{auth_authen}": HOSTILE_BYTES}
    with running.mta(steps=steps) as mta:
        assert mta.connect("198.18.0.9", HOSTILE_BYTES) == CONTINUE
        assert mta.helo(HOSTILE_BYTES) == CONTINUE
        headers = [(HOSTILE_BYTES, b"x"), (b"Subject", HOSTILE_BYTES)]
        delivery = mta.deliver(Mail(headers, sender=HOSTILE_BYTES, macros=macros))
    assert delivery.reply == CONTINUE
    said = verdict(delivery)
    assert said["helo"] is None
    assert said["authenticated"] is True
    assert "Evil: 1" not in [line.strip() for line in running.log.splitlines()]


def test_a_client_whose_name_cannot_be_decoded_does_not_pass_as_local(running: Filter) -> None:
    with running.mta() as mta:
        mta.connect("198.18.0.9", b"\xff.example", macros={b"_": b"\xff.example [198.18.0.9]"})
        mta.helo()
        known = verdict(mta.deliver(Mail()))
    with running.mta() as mta:
        mta.connect("198.18.0.9", b"\xff.example")
        mta.helo()
        unknown = verdict(mta.deliver(Mail()))
    assert (known["kind"], known["ip"]) == ("relay", "198.18.0.9")
    assert (unknown["kind"], unknown["ip"]) == ("broken", "None")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"X-Line", b"x" * 100)] * 10_000,
        [(b"X-Long", b"x" * 1_000_000)],
        [(b"X-Line", b"a\rb\nc\r\n\r\nd")],
        [(b"X", b""), (b":", b":"), (b" ", b" ")],
        [],
    ],
    ids=["10,000 fields", "1 MB", "bare CR and LF", "odd names", "none"],
)
def test_any_header_gets_a_verdict(running: Filter, headers: list[Header]) -> None:
    delivery = running.send(Mail(headers))
    assert delivery.reply == CONTINUE
    assert verdict(delivery)["fields"] == len(headers)


def test_a_thousand_forged_fields_are_all_removed(running: Filter) -> None:
    verdict(running.send(Mail([(b"X-Bot-Verdict", b"clean")] * 1_000)))


def test_of_more_the_first_thousand_are_removed_and_ours_stand_above_the_rest(
    running: Filter,
) -> None:
    """Postfix reads the header from its beginning for each: it would refuse the mail at last."""
    forged = [(b"X-Bot-Verdict", b"clean %d" % number) for number in range(1_200)]
    delivery = running.send(Mail(forged))
    ours = [value for name, value in delivery.headers if name == b"X-Bot-Verdict"]
    assert not ours[0].startswith(b"clean")
    assert ours[1:] == [b"clean %d" % number for number in range(1_000, 1_200)]
    assert "1200 fields of a mail pass for ours" in running.log


@pytest.mark.parametrize("when", ["connect", "data", "headers"])
@pytest.mark.parametrize("headers", [(), GOOD], ids=["no field", "two fields"])
def test_a_mail_is_judged_whenever_judging_starts(
    start: Callable[..., Filter], when: str, headers: Sequence[Header]
) -> None:
    said = verdict(start(start=when).send(Mail(headers)))
    assert (said["begun"], said["fields"]) == (True, len(headers))


@pytest.mark.parametrize("when", ["connect", "data", "headers"])
def test_the_second_mail_of_a_connection_is_begun_early_too(
    start: Callable[..., Filter], when: str
) -> None:
    with start(start=when).mta() as mta:
        mta.connect()
        mta.helo()
        assert [verdict(mta.deliver(Mail()))["begun"] for _ in range(2)] == [True, True]


@pytest.mark.parametrize("when", ["connect", "data", "headers"])
def test_nothing_begins_early_for_a_client_that_is_known(
    start: Callable[..., Filter], when: str
) -> None:
    with start(start=when).mta() as mta:
        mta.connect("198.18.99.99")
        mta.helo()
        assert not verdict(mta.deliver(Mail()))["begun"]


def test_a_mail_to_two_thousand_gets_its_verdict(running: Filter) -> None:
    verdict(running.send(Mail(recipients=[b"<r@example.org>"] * 2000)))


NUL = b"a\0b\0c\0d"
GARBAGE: list[tuple[str, bytes]] = [
    ("length zero", struct.pack(">I", 0)),
    ("length beyond all bounds", struct.pack(">I", 0xFFFFFFFF) + b"L"),
    ("more promised than sent", struct.pack(">I", 100) + b"Labc"),
    ("unknown command", struct.pack(">I", 3) + b"\x00zz"),
    ("plain text", b"EHLO localhost\r\nQUIT\r\n"),
    ("too many NULs", struct.pack(">I", 1 + len(NUL)) + b"L" + NUL),
    ("header without name", struct.pack(">I", 3) + b"L\0\0"),
    ("header without end", struct.pack(">I", 4) + b"Labc"),
    ("connect without address", struct.pack(">I", 3) + b"Cab"),
    ("connect from family nine", struct.pack(">I", 9) + b"Cab\x009zz1\0"),
    ("macro without end", struct.pack(">I", 4) + b"DCab"),
    ("end out of turn", struct.pack(">I", 1) + b"E"),
    ("second negotiation", struct.pack(">I", 13) + b"O" + bytes(12)),
]


@pytest.mark.parametrize("packet", [p for _, p in GARBAGE], ids=[name for name, _ in GARBAGE])
@pytest.mark.parametrize("negotiated", [True, False])
def test_after_garbage_the_next_mail_is_judged(
    running: Filter, packet: bytes, negotiated: bool
) -> None:
    wire = running.mta().wire if negotiated else Wire(running.socket)
    wire.send_raw(packet)
    wire.socket.shutdown(1)
    try:
        while True:
            code, _ = wire.receive()
            assert code not in (b"t", b"r", b"y", b"d")
    except Closed:
        pass
    wire.close()
    verdict(running.send())


def test_two_hundred_stalled_sessions_hold_nobody(running: Filter) -> None:
    stalled = [running.mta() for _ in range(200)]
    try:
        for mta in stalled:
            mta.connect()
        verdict(running.send())
    finally:
        for mta in stalled:
            mta.close()


@pytest.mark.parametrize("begins", ["connect", "data", "headers"])
def test_libmilter_has_nothing_to_complain_of_to_syslog(
    start: Callable[..., Filter], tmp_path: Path, begins: str
) -> None:
    """As it does, for each mail, of a step that we answer though we agreed not to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "syslog"))
        syslog.settimeout(PATIENCE_S)
        runner = ["unshare", "--mount", "sh", "-c", _OWN_SYSLOG, str(tmp_path)]
        one = start(runner=runner, start=begins)
        assert verdict(one.send(Mail(GOOD)))["begun"]
        assert verdict(one.send(Mail(())))["fields"] == 0
        with socket.socket(socket.AF_UNIX) as bad:  # what it does complain of
            bad.connect(one.socket)
            bad.sendall(struct.pack(">I", 2) + b"O!")
            assert b"len too short" in syslog.recv(4096)


#: Runs a command with a /dev of its own, in which log leads to the socket "syslog" in folder $0.
_OWN_SYSLOG = """
set -e
mkdir "$0/dev"
mount --bind /dev "$0/dev"
mount -t tmpfs none /dev
for name in null zero random urandom; do ln -s "$0/dev/$name" /dev; done
ln -s "$0/syslog" /dev/log
exec "$@"
"""


def test_one_printable_line_is_logged_for_a_mail(running: Filter) -> None:
    running.send(Mail(macros={b"i": b"4LOGLINE"}))
    wait_until(lambda: "qid=4LOGLINE" in running.log, "the line")
    (line,) = (line for line in running.log.splitlines() if "qid=4LOGLINE" in line)
    assert line.startswith("INFO qid=4LOGLINE verdict=echo hostile=a_b??c? spent_ms=")

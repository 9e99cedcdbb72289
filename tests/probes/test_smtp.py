"""What answers on port 25, and how politely it is asked."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import time
from ipaddress import ip_address

import pytest

from botmilter.clock import Deadline
from botmilter.model import Observation, Status, Target
from botmilter.probes import smtp
from botmilter.probes.base import NO_IPV6
from botmilter.probes.smtp import SmtpProbe
from tests.fakes.programs import free_port
from tests.fakes.router import Router, refusing
from tests.fakes.smtp import Behaviour, SmtpServer

HERE = Target(ip_address("127.0.0.1"))
MANY_LINES = b"220-mx.example ESMTP\r\n220-no spam\r\n220 go ahead\r\n"


def look(port: int, limit_s: float = 1.0) -> Observation:
    return SmtpProbe(limit_s, "me.example", port).measure(HERE, Deadline.after(limit_s))


@pytest.mark.parametrize(
    ("behaviour", "outcome", "greeting"),
    [
        (SmtpServer.says(b"220 mx.example ESMTP\r\n"), "greeting", "220 mx.example ESMTP"),
        (SmtpServer.says(b"220\r\n"), "greeting", "220"),
        (SmtpServer.says(b"220 a\n"), "greeting", "220 a"),
        (SmtpServer.says(MANY_LINES), "greeting", "220-mx.example ESMTP"),
        (SmtpServer.says(b"220 a\r\n", after_s=0.3), "greeting", "220 a"),
        (SmtpServer.says(b"220 \xff\x1b[2J\r\n"), "greeting", "220 ??[2J"),
        (SmtpServer.says(b"421 too busy\r\n"), "rejecting", "421 too busy"),
        (SmtpServer.says(b"554-no\r\n554 really\r\n"), "rejecting", "554-no"),
        (SmtpServer.says(b"SSH-2.0-OpenSSH_9.2\r\n"), "other", "SSH-2.0-OpenSSH_9.2"),
        (SmtpServer.says(b"2200 x\r\n"), "other", "2200 x"),
        (SmtpServer.says(b"\r\n"), "other", ""),
        (SmtpServer.says(b"22x"), "other", "22x"),
        (SmtpServer.is_silent, "slow", ""),
        (SmtpServer.drips(b"220 mx.example ESMTP\r\n", 0.4), "slow", "220"),
        (SmtpServer.drips(b"421 busy\r\n", 0.4), "slow", "421"),
        (SmtpServer.drips(b"hello\r\n", 0.4), "other", "hel"),
        (SmtpServer.floods(b"220-more\r\n"), "greeting", "220-more"),
        (SmtpServer.floods(b"x"), "other", "x" * 197 + "..."),
        (SmtpServer.closes, "other", ""),
        (SmtpServer.resets, "other", ""),
    ],
)
def test_what_listens_is_told_by_its_greeting(
    behaviour: Behaviour, outcome: str, greeting: str
) -> None:
    with SmtpServer(behaviour) as server:
        seen = look(server.port)
    assert (seen.status, seen.facts["outcome"]) == (Status.ANSWERED, outcome)
    assert seen.facts["greeting"] == greeting


def test_nobody_there_is_refused() -> None:
    seen = look(free_port())
    assert (seen.status, seen.facts["outcome"]) == (Status.ANSWERED, "refused")


@pytest.mark.parametrize(
    ("at_once", "later", "status"),
    [
        (errno.EHOSTUNREACH, 0, Status.FAILED),
        (errno.ENETUNREACH, 0, Status.FAILED),
        (errno.EACCES, 0, Status.FAILED),
        (errno.EPERM, 0, Status.FAILED),
        (errno.ECONNREFUSED, 0, Status.ANSWERED),
        (errno.EINPROGRESS, errno.ECONNREFUSED, Status.ANSWERED),
        (errno.EINPROGRESS, errno.ETIMEDOUT, Status.SILENT),
        (errno.EINPROGRESS, errno.EHOSTUNREACH, Status.SILENT),
        (errno.EINPROGRESS, errno.ENETUNREACH, Status.SILENT),
        (errno.EINPROGRESS, errno.EACCES, Status.SILENT),
        (errno.EINPROGRESS, errno.ENOBUFS, Status.FAILED),
        (errno.EINPROGRESS, errno.ECONNRESET, Status.ANSWERED),
    ],
)
def test_what_the_network_says_is_told_from_our_own_trouble(
    at_once: int, later: int, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: at_once)
    monkeypatch.setattr(smtp, "_outcome", lambda *_: later)
    assert look(25).status is status


def test_silence_counts_only_where_there_was_time_for_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.EINPROGRESS)
    monkeypatch.setattr(smtp, "_outcome", lambda *_: errno.ETIMEDOUT)
    assert look(25, 0.5).status is Status.SKIPPED
    assert look(25, 1.0).status is Status.SILENT


@pytest.mark.parametrize("code", [0, 1, 2, 5, 6, 7, 9, 10, 13])
def test_what_a_router_says_is_about_the_host_and_never_our_own_trouble(code: int) -> None:
    """Anybody's router may say it, and three failures running would pause the probe for all."""
    with Router():
        seen = SmtpProbe(1.0, "me.example").measure(Target(refusing(code)), Deadline.after(1.0))
    assert (seen.status, seen.facts.get("outcome")) == (Status.SILENT, "filtered")


@pytest.mark.parametrize("kind", ["unreachable", "prohibit", "blackhole"])
def test_our_own_route_is_no_evidence_about_the_host(kind: str) -> None:
    ip = ip_address("198.19.251.9")
    subprocess.run(["ip", "route", "add", kind, str(ip)], check=True)
    try:
        seen = SmtpProbe(1.0, "me.example").measure(Target(ip), Deadline.after(1.0))
    finally:
        subprocess.run(["ip", "route", "del", kind, str(ip)], check=True)
    assert seen.status is Status.FAILED


def test_an_ipv6_host_is_skipped_where_this_machine_has_no_ipv6() -> None:
    target = Target(ip_address("2606:4700::1111"))  # no route to it in the tests' namespace
    seen = SmtpProbe(1.0, "me.example").measure(target, Deadline.after(1.0))
    assert (seen.status, seen.reason) == (Status.SKIPPED, NO_IPV6)


def test_without_a_free_descriptor_the_trouble_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socket", full)
    seen = look(25)
    assert (seen.status, seen.reason) == (Status.FAILED, "connect: Too many open files")


def test_we_greet_take_our_leave_and_say_nothing_else() -> None:
    with SmtpServer(SmtpServer.says(MANY_LINES, b"250-mx.example hi\r\n250 PIPELINING\r\n")) as it:
        seen = look(it.port)
    assert it.heard == [b"EHLO me.example\r\n", b"QUIT\r\n"]
    assert seen.facts["ehlo"] == "mx.example"


@pytest.mark.parametrize("greeting", [b"554 no\r\n", b"SSH-2.0-x\r\n", b"220-wait for it\r\n"])
def test_whoever_has_not_asked_us_to_speak_hears_nothing(greeting: bytes) -> None:
    with SmtpServer(SmtpServer.says(greeting)) as server:
        look(server.port)
    assert server.heard == []


def test_the_first_line_suffices_where_the_rest_is_held_back() -> None:
    """postscreen's trap for those who speak too early."""
    with SmtpServer(SmtpServer.says(b"220-wait for it\r\n")) as server:
        started = time.monotonic()
        seen = look(server.port, 8.0)
        assert time.monotonic() - started < 1.0
    assert seen.facts["outcome"] == "greeting"


@pytest.mark.parametrize(
    "answer", [b"", b"502 what?\r\n", b"250\r\n", b"250-\xff\x00\r\n250 \r\n", b"250-" * 2000]
)
def test_an_odd_answer_to_ehlo_changes_nothing_else(answer: bytes) -> None:
    with SmtpServer(SmtpServer.says(b"220 a\r\n", answer)) as server:
        seen = look(server.port, 0.6)
    assert seen.facts["outcome"] == "greeting"
    assert seen.facts["ehlo"].isascii()
    json.dumps(dict(seen.facts))


@pytest.mark.parametrize(
    ("facts", "helo", "signals"),
    [
        ({"outcome": "refused"}, None, ["smtp.refused"]),
        ({"outcome": "filtered"}, None, ["smtp.filtered"]),
        ({"outcome": "greeting"}, None, ["smtp.banner"]),
        ({"outcome": "rejecting"}, None, ["smtp.rejecting"]),
        ({"outcome": "slow"}, None, ["smtp.slow"]),
        ({"outcome": "other"}, None, ["smtp.other"]),
        ({"outcome": "greeting", "ehlo": "mx.a.example"}, None, ["smtp.banner"]),
        ({"outcome": "greeting", "ehlo": "mx.b.example"}, "mx.a.example", ["smtp.banner"]),
        (
            {"outcome": "greeting", "ehlo": "MX.a.example"},
            "mx.A.example.",
            ["smtp.banner", "smtp.ehlo_match"],
        ),
    ],
)
def test_what_the_facts_mean(facts: dict[str, str], helo: str | None, signals: list[str]) -> None:
    seen = Observation("smtp", "k", Status.ANSWERED, {"greeting": "", "ehlo": "", **facts})
    found = SmtpProbe(1.0, "me.example").interpret(seen, Target(HERE.ip, helo))
    assert [one.name for one in found] == signals

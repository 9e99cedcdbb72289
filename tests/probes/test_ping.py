"""The real ICMP to this machine, without the privilege, and answers that lie."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from ipaddress import ip_address
from typing import Any

import ping3
import pytest

from botmilter.clock import Deadline
from botmilter.errors import SetupError
from botmilter.model import IPAddress, Observation, Status, Target
from botmilter.probes import ping
from botmilter.probes.ping import PingProbe, echo

HERE = ip_address("127.0.0.1")


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_this_machine_answers(ip: str) -> None:
    seen = PingProbe(2.0, echo).measure(Target(ip_address(ip)), Deadline.after(2))
    assert seen.status is Status.ANSWERED
    assert 0 <= seen.facts["rtt_s"] < 1


def test_many_threads_get_their_own_answers_over_ipv6() -> None:
    answers: list[Any] = []

    def ask() -> None:
        answers.extend(echo(ip_address("::1"), 5.0)["rtt_s"] for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(answers) == 80
    assert None not in answers


def test_without_the_privilege_the_trouble_is_ours() -> None:
    code = (
        "from ipaddress import ip_address\n"
        "from botmilter.clock import Deadline\n"
        "from botmilter.model import Target\n"
        "from botmilter.probes.ping import PingProbe, echo\n"
        "target = Target(ip_address('127.0.0.1'))\n"
        "seen = PingProbe(2.0, echo).measure(target, Deadline.after(2))\n"
        "print(seen.status, seen.reason)\n"
    )
    drop = "setpriv --bounding-set=-net_raw --inh-caps=-net_raw --"
    closed = "ip link set lo up; echo 1 0 >/proc/sys/net/ipv4/ping_group_range"
    done = subprocess.run(
        [
            "unshare",
            "--net",
            "sh",
            "-c",
            f'{closed}; exec {drop} "$0" -c "$1"',
            sys.executable,
            code,
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.strip() == "failed ping needs CAP_NET_RAW: start botmilter as root", done


@pytest.mark.parametrize(
    "error", [PermissionError(13), OSError(101, "x"), ValueError("NaN"), UnicodeError("\udc80")]
)
def test_whatever_is_raised_is_our_trouble(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ping3, "ping", fail)
    seen = PingProbe(2.0, echo).measure(Target(HERE), Deadline.after(2))
    assert seen.status is Status.FAILED
    assert seen.reason.isascii()


@pytest.mark.parametrize(
    ("answer", "status"), [(None, "silent"), (False, "silent"), (0.0, "answered"), (-5, "answered")]
)
def test_the_time_is_our_own_and_zero_is_an_answer(
    answer: object, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ping3, "ping", lambda *_, **__: answer)
    seen = PingProbe(2.0, echo).measure(Target(HERE), Deadline.after(2))
    assert seen.status == status
    assert seen.facts["rtt_s"] is None or 0 <= seen.facts["rtt_s"] < 1


def test_nobody_waits_longer_than_his_time_for_others_ipv6_pings() -> None:
    started = time.monotonic()
    with ping._one_at_a_time, pytest.raises(SetupError, match="other IPv6 hosts"):
        echo(ip_address("::1"), 0.2)
    assert time.monotonic() - started < 0.4
    assert echo(ip_address("::1"), 2.0)["rtt_s"] is not None


def test_the_privileged_process_that_does_not_answer_is_our_trouble() -> None:
    def late(ip: IPAddress, limit_s: float) -> dict[str, Any]:
        raise TimeoutError("no answer within 2 s")

    seen = PingProbe(2.0, late).measure(Target(HERE), Deadline.after(2))
    assert (seen.status, seen.reason) == (Status.FAILED, "no answer within 2 s")


@pytest.mark.parametrize(
    ("rtt_s", "signal", "detail"), [(None, "ping.silent", ""), (0.0123, "ping.answered", "12 ms")]
)
def test_what_the_facts_mean(rtt_s: float | None, signal: str, detail: str) -> None:
    seen = Observation("ping", "k", Status.ANSWERED, {"rtt_s": rtt_s})
    (found,) = PingProbe(2.0, echo).interpret(seen, Target(HERE))
    assert (found.name, found.detail) == (signal, detail)

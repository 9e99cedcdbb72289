"""The real ICMP to this machine, without the privilege, and answers that lie."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import time
from ipaddress import ip_address
from typing import Any

import ping3
import pytest

from botmilter.clock import Deadline
from botmilter.model import IPAddress, Observation, Status, Target
from botmilter.probes import ping
from botmilter.probes.base import NO_IPV6
from botmilter.probes.ping import PingProbe, echo
from tests.lab import worlds
from tests.lab.host import Host
from tests.lab.lab import Lab

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
    ("error", "status"),
    [
        (PermissionError(13), Status.FAILED),
        (OSError(101, "x"), Status.FAILED),
        (struct.error("unpack requires a buffer of 8 bytes"), Status.SKIPPED),
        (ValueError("NaN"), Status.SKIPPED),
        (OverflowError("timestamp out of range"), Status.SKIPPED),
        (IndexError("\udc80"), Status.SKIPPED),
    ],
)
def test_only_what_is_our_own_trouble_fails(
    error: Exception, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a stranger's packet can bring about must not pause the probe for every host."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ping3, "ping", fail)
    seen = PingProbe(2.0, echo).measure(Target(HERE), Deadline.after(2))
    assert seen.status is status
    assert seen.reason.isascii()
    assert seen.reason.isprintable()


@pytest.mark.parametrize("host", [worlds.CUT_PING, worlds.CUT_PING_ERROR])
def test_malformed_icmp_is_not_taken_for_a_broken_probe(host: Host) -> None:
    with Lab([host]):
        seen = PingProbe(1.0, echo).measure(Target(host.ip), Deadline.after(1))
    assert (seen.status, seen.facts) == (Status.SKIPPED, {})
    assert seen.reason.startswith("malformed ICMP came in: ")


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


def test_other_ipv6_hosts_pings_cost_nobody_his_time_and_break_no_probe() -> None:
    target = Target(ip_address("::1"))
    started = time.monotonic()
    with ping._one_at_a_time:
        seen = PingProbe(0.4, echo).measure(target, Deadline.after(0.4))
    assert (seen.status, seen.reason) == (Status.SKIPPED, "other IPv6 hosts came first")
    assert 0.2 <= time.monotonic() - started < 0.4  # half is left to whoever gets his turn
    assert echo(target.ip, 2.0)["rtt_s"] is not None


def test_an_ipv6_host_is_skipped_where_this_machine_has_no_ipv6() -> None:
    target = Target(ip_address("2606:4700::1111"))  # no route to it in the tests' namespace
    seen = PingProbe(1.0, echo).measure(target, Deadline.after(1.0))
    assert (seen.status, seen.reason) == (Status.SKIPPED, NO_IPV6)


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

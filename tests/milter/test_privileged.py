"""The privileged process takes an operation, an address and a limit, and nothing else."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from botmilter.errors import SetupError
from botmilter.milter import privileged
from botmilter.milter.privileged import PrivilegedClient, Prober
from botmilter.model import IPAddress
from botmilter.net import ProbeGuard

CAP_SYS_RESOURCE = 24

HOST = ip_address("198.18.0.1")
GUARD = ProbeGuard(allow_networks=(ip_network("198.18.0.0/15"),))
SLOW_S = 0.2


def echo(ip: IPAddress, limit_s: float) -> dict[str, Any]:
    return {"ip": str(ip)}


def slow(ip: IPAddress, limit_s: float) -> dict[str, Any]:
    time.sleep(SLOW_S)
    return {}


def large(ip: IPAddress, limit_s: float) -> dict[str, Any]:
    return {"xml": "x" * 500_000}


def odd(ip: IPAddress, limit_s: float) -> dict[str, Any]:
    return {"not JSON": ip}


@pytest.fixture
def channel() -> Iterator[socket.socket]:
    """The workers' end, with a prober at the other."""
    theirs, ours = privileged.channel()
    operations = {"echo": echo, "slow": slow, "large": large, "odd": odd}
    prober = threading.Thread(target=Prober(theirs, operations, GUARD).serve)
    prober.start()
    yield ours
    ours.close()
    prober.join(10)
    assert not prober.is_alive(), "it must end when nobody can ask any more"
    theirs.close()


def test_what_an_operation_measured_comes_back(channel: socket.socket) -> None:
    client = PrivilegedClient(channel)
    assert client.call("echo", HOST, 1.0) == {"ip": "198.18.0.1"}
    assert client.operation("echo")(HOST, 1.0) == {"ip": "198.18.0.1"}
    assert len(client.call("large", HOST, 1.0)["xml"]) == 500_000


def test_one_operation_takes_no_room_of_another_s() -> None:
    theirs, ours = privileged.channel()
    begun, go = threading.Semaphore(0), threading.Event()

    def ping(ip: IPAddress, limit_s: float) -> dict[str, Any]:
        begun.release()
        go.wait(10)
        return {}

    operations = {"ping": ping, "echo": echo}
    prober = Prober(theirs, operations, GUARD, at_once={"ping": 3, "echo": 1})
    serving = threading.Thread(target=prober.serve)
    serving.start()
    client = PrivilegedClient(ours)
    asking = [threading.Thread(target=client.call, args=("ping", HOST, 9.0)) for _ in range(3)]
    for one in asking:
        one.start()
    for _ in asking:
        assert begun.acquire(timeout=10)
    assert client.call("echo", HOST, 1.0) == {"ip": "198.18.0.1"}
    with pytest.raises(SetupError, match="busy: as many are under way as may be"):
        client.call("ping", HOST, 1.0)
    go.set()
    for one in (*asking, serving):
        if one is serving:
            ours.close()
        one.join(10)
    theirs.close()


def test_operations_run_beside_each_other(channel: socket.socket) -> None:
    client = PrivilegedClient(channel)
    asking = [threading.Thread(target=client.call, args=("slow", HOST, 1.0)) for _ in range(10)]
    began = time.monotonic()
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(10)
    assert time.monotonic() - began < 5 * SLOW_S


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (b"\xff", "error"),
        (b"[]", "error"),
        (b"null", "error"),
        (b'{"operation": "echo"}', "'ip'"),
        ({"operation": "echo", "ip": "198.18.0.1 -iL /etc/passwd", "limit_s": 1}, "ValueError"),
        ({"operation": "echo", "ip": "198.18.0.0/24", "limit_s": 1}, "ValueError"),
        ({"operation": "echo", "ip": "localhost", "limit_s": 1}, "ValueError"),
        ({"operation": "echo", "ip": "127.0.0.1", "limit_s": 1}, "must not be probed"),
        ({"operation": "echo", "ip": "::ffff:10.0.0.1", "limit_s": 1}, "must not be probed"),
        ({"operation": "echo", "ip": 3323068417, "limit_s": 1}, "ValueError"),
        ({"operation": "echo", "ip": "198.18.0.1", "limit_s": "inf"}, "limit_s from 0"),
        ({"operation": "echo", "ip": "198.18.0.1", "limit_s": "nan"}, "limit_s from 0"),
        ({"operation": "echo", "ip": "198.18.0.1", "limit_s": -1}, "limit_s from 0"),
        ({"operation": "__class__", "ip": "198.18.0.1", "limit_s": 1}, "KeyError"),
        ({"operation": ["echo"], "ip": "198.18.0.1", "limit_s": 1}, "KeyError"),
    ],
)
def test_a_hostile_request_is_refused_and_the_next_one_served(
    channel: socket.socket, request_: bytes | dict[str, object], message: str
) -> None:
    mine, theirs = socket.socketpair()
    raw = request_ if isinstance(request_, bytes) else json.dumps(request_).encode()
    with mine, theirs:
        socket.send_fds(channel, [raw], [theirs.fileno()])
        theirs.close()
        mine.settimeout(10)
        answer = json.loads(mine.recv(4096))
    assert "result" not in answer
    if message != "error":
        assert message in answer["error"]
    assert PrivilegedClient(channel).call("echo", HOST, 1.0)


def test_a_request_without_a_place_for_the_answer_does_no_harm(channel: socket.socket) -> None:
    channel.send(b'{"operation": "echo", "ip": "198.18.0.1", "limit_s": 1}')
    assert PrivilegedClient(channel).call("echo", HOST, 1.0)


def test_a_descriptor_that_is_no_socket_ends_nothing_and_is_not_kept(
    channel: socket.socket, tmp_path: Path
) -> None:
    request = b'{"operation": "echo", "ip": "198.18.0.1", "limit_s": 1}'
    with (tmp_path / "file").open("w") as file:
        socket.send_fds(channel, [request], [file.fileno()])
        assert PrivilegedClient(channel).call("echo", HOST, 1.0)
        kept = [one for one in Path("/proc/self/fd").iterdir() if one.exists()]
        assert sum(one.samefile(file.name) for one in kept) == 1


def test_a_prober_that_dies_in_mid_answer_is_said() -> None:
    theirs, ours = privileged.channel()

    def die_answering() -> None:
        _, (fd,), _, _ = socket.recv_fds(theirs, 1024, 1)
        with socket.socket(fileno=fd) as reply:
            reply.sendall(b'{"result": {"xml": "xx')

    prober = threading.Thread(target=die_answering)
    prober.start()
    with theirs, ours:
        with pytest.raises(SetupError, match="echo: the privileged process ended"):
            PrivilegedClient(ours).call("echo", HOST, 1.0)
        prober.join(10)


def test_a_result_that_is_not_json_is_an_error(channel: socket.socket) -> None:
    with pytest.raises(SetupError, match="ended"):
        PrivilegedClient(channel).call("odd", HOST, 1.0)


def test_nobody_there_is_over_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileged, "_GRACE_S", 0.1)
    theirs, ours = privileged.channel()
    with theirs, ours:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="no answer in time"):
            PrivilegedClient(ours).call("echo", HOST, 0.1)
        assert time.monotonic() - began < 1.0


def test_a_channel_without_a_prober_is_said() -> None:
    theirs, ours = privileged.channel()
    with ours:
        theirs.close()
        with pytest.raises(SetupError, match="no privileged process"):
            PrivilegedClient(ours).call("echo", HOST, 0.1)


def test_a_busy_process_says_so_and_serves_again(channel: socket.socket) -> None:
    client = PrivilegedClient(channel)
    busy: list[str] = []
    done: list[dict[str, Any]] = []

    def ask() -> None:
        try:
            done.append(client.call("slow", HOST, 5.0))
        except SetupError as error:
            busy.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(done) + len(busy) == 150
    assert len(done) >= 64
    assert busy
    assert all("busy" in reason for reason in busy)
    time.sleep(SLOW_S)
    assert client.call("echo", HOST, 1.0) == {"ip": "198.18.0.1"}


@pytest.mark.parametrize(
    ("asked", "got"),
    [("::ffff:198.18.0.1", "198.18.0.1"), ("2606:4700::1111%--script=x", "2606:4700::1111")],
)
def test_an_operation_gets_a_canonical_address_only(
    channel: socket.socket, asked: str, got: str
) -> None:
    assert PrivilegedClient(channel).call("echo", ip_address(asked), 1.0) == {"ip": got}


@pytest.mark.skipif(
    CAP_SYS_RESOURCE not in privileged.permitted(), reason="root may not raise limits here"
)
def test_what_another_user_s_prober_starts_may_take_its_part_after_standing_back() -> None:
    code = (
        "import os; from botmilter.milter import privileged as p;"
        "p.let_children_hurry(); p.become('nobody', frozenset({p.CAP_NET_RAW}));"
        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0));"
        "os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0));"
        "print(os.getuid() > 0, os.sched_getscheduler(0) == os.SCHED_OTHER)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]

"""The daemon as an admin and a service manager see it."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from botmilter.errors import SetupError
from botmilter.milter import listener
from tests.fakes.mta import Delivery, Mail, Mta, send_one
from tests.fakes.programs import children
from tests.milter.conftest import Filter, exists, verdict, wait_until

Start = Callable[..., Filter]


def test_a_session_open_at_sigterm_is_served_to_its_end(start: Start) -> None:
    one = start()
    with one.mta() as mta:
        mta.connect()
        mta.helo()
        one.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not Path(one.socket).exists(), "the socket to go")
        verdict(mta.deliver(Mail()))
        time.sleep(0.5)
        verdict(mta.deliver(Mail()))
        assert one.process.poll() is None
    assert one.process.wait(10) == 0


def test_nobody_new_is_let_in_after_sigterm(start: Start) -> None:
    one = start()
    with one.mta() as mta:
        mta.connect()
        one.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not Path(one.socket).exists(), "the socket to go")
        with pytest.raises(OSError, match="No such file"):
            Mta(one.socket)


def test_a_stop_ends_stalled_sessions_after_the_grace(start: Start) -> None:
    one = start(stop_grace_s=0.5)
    pids = children(one.process.pid)
    with one.mta() as mta:
        mta.connect()
        began = time.monotonic()
        assert one.stop() == 0
        assert time.monotonic() - began < 5
    assert not any(exists(pid) for pid in pids)


def test_an_idle_daemon_stops_at_once(start: Start) -> None:
    one = start(workers=2)
    began = time.monotonic()
    assert one.stop() == 0
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("pinned", [True, False])
def test_a_worker_keeps_to_one_cpu_unless_told_otherwise(start: Start, pinned: bool) -> None:
    one = start(workers=2, pin_workers=pinned)
    cpus = sorted(os.sched_getaffinity(0))
    seen = sorted(sorted(os.sched_getaffinity(pid)) for pid in children(one.process.pid))
    kept = [[cpus[-1]], [cpus[-2 % len(cpus)]]] if pinned else [cpus, cpus]
    assert seen == sorted([cpus, *kept])  # the prober goes where it likes


def test_a_reload_serves_by_the_new_configuration(start: Start) -> None:
    one = start(mark="old")
    with one.mta() as mta:
        mta.connect()
        mta.helo()
        one.configure(mark="new")
        one.reload()
        one.wait_for("reload: done")
        assert verdict(one.send())["mark"] == "new"
        assert verdict(mta.deliver(Mail()))["mark"] == "old"
    assert verdict(one.send())["mark"] == "new"


def test_no_mail_is_lost_while_reloading(start: Start) -> None:
    one = start(workers=2)
    done: list[Delivery] = []
    stop = threading.Event()

    def flow() -> None:
        while not stop.is_set():
            done.append(one.send())

    threads = [threading.Thread(target=flow) for _ in range(3)]
    for thread in threads:
        thread.start()
    for count in (1, 2, 3):
        one.reload()
        one.wait_for("reload: done", count)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert len(done) > 10
    for delivery in done:
        verdict(delivery)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "a table expected"),
        ('{"socket": "unix:/elsewhere"}', "socket cannot change"),
        (
            '{"socket": "SAME", "socket_mode": 438}',
            "[milter] socket_mode or socket_group cannot change at a reload: restart",
        ),
        (
            '{"socket": "SAME", "user": "nobody"}',
            "[milter] user cannot change at a reload: restart",
        ),
        ('{"socket": "SAME", "mark": "broken"}', "this configuration cannot work"),
    ],
)
def test_a_broken_configuration_keeps_the_old_one(start: Start, text: str, why: str) -> None:
    one = start(mark="old")
    one.config.write_text(text.replace("SAME", f"unix:{one.socket}"))
    one.reload()
    one.wait_for("the old configuration stays")
    assert why in one.log
    assert verdict(one.send())["mark"] == "old"


def test_hup_stops_nothing(start: Start) -> None:
    one = start()
    one.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    verdict(one.send())


def test_a_killed_worker_is_replaced_and_mail_waits_for_it(start: Start) -> None:
    one = start()
    first = verdict(one.send())["pid"]
    os.kill(first, signal.SIGKILL)
    second = verdict(one.send())["pid"]
    assert second != first
    assert "worker 1 ended with -9" in one.log


def test_nothing_is_left_when_the_parent_is_killed(start: Start) -> None:
    one = start(workers=2, stop_grace_s=0.5)
    pids = children(one.process.pid)
    assert len(pids) == 3
    one.process.kill()
    one.process.wait(10)
    wait_until(lambda: not any(exists(pid) for pid in pids), "the children to end")


def test_the_socket_of_a_killed_daemon_is_replaced(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "milter.sock"))
        stale.listen()
    verdict(start().send())


def test_a_socket_that_cannot_be_tried_is_left_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "milter.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others:
        others.bind(str(path))
        with pytest.raises(SetupError, match="cannot be tried"):
            listener.listen(f"unix:{path}", 0o660, "", "", "milter")
    assert path.exists()


def test_a_second_daemon_on_a_live_socket_says_so(start: Start) -> None:
    one = start()
    second = Filter(one.folder)
    assert second.process.wait(10) != 0
    assert "another filter listens" in second.log
    verdict(one.send())


def test_the_socket_has_the_configured_mode(start: Start) -> None:
    one = start(socket_mode=0o660)
    assert stat.S_IMODE(Path(one.socket).stat().st_mode) == 0o660


@pytest.mark.parametrize(("kind", "host"), [("inet", "127.0.0.1"), ("inet6", "::1")])
def test_mail_comes_by_tcp_too(start: Start, kind: str, host: str) -> None:
    family = socket.AF_INET6 if kind == "inet6" else socket.AF_INET
    with socket.socket(family) as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    start(socket=f"{kind}:{port}@{host}")
    began = time.monotonic()
    for _ in range(20):
        verdict(send_one((host, port)))
    assert time.monotonic() - began < 20 * 0.030, "as slow as without TCP_NODELAY"


def test_the_service_manager_hears_of_each_step(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        one = start()
        one.reload()
        one.wait_for("reload: done")
        one.stop()
        heard: list[str] = []
        while not heard or heard[-1] != "STOPPING=1":
            heard.append(manager.recv(200).decode().splitlines()[0])
    steps = [step for step in heard if step != "WATCHDOG=1"]
    assert steps == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert "WATCHDOG=1" in heard
    reloading = heard.index("RELOADING=1")
    meanwhile = heard[reloading : heard.index("READY=1", reloading)]
    assert "WATCHDOG=1" in meanwhile  # the workers of before still serve


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@needs_root
def test_workers_started_as_root_hold_no_privilege(start: Start) -> None:
    said = verdict(start(user="nobody", socket_mode=0o666).send())
    assert said["uid"] == pwd.getpwnam("nobody").pw_uid
    assert said["capabilities"] == 0


def asked(one: Filter, operation: str, ip: str = "198.18.0.1") -> object:
    """What a worker got from the privileged process."""
    mail = Mail(sender=f"<a@{operation}.ask.example>".encode())
    return verdict(one.send(mail, ip))["asked"]


def test_the_privileged_process_measures_for_the_workers(start: Start) -> None:
    assert asked(start(), "double") == {"ip": "198.18.0.1", "limit_s": 2.0}


@needs_root
def test_the_privileged_process_holds_one_capability_and_hands_it_on(start: Start) -> None:
    net_raw = 1 << 13
    expected = {"uid": pwd.getpwnam("nobody").pw_uid, "capabilities": net_raw, "ambient": net_raw}
    assert asked(start(user="nobody", socket_mode=0o666), "status") == expected


@pytest.mark.parametrize(
    ("operation", "ip", "message"),
    [
        ("double", "10.0.0.1", "10.0.0.1 must not be probed: private or reserved"),
        ("unheard-of", "198.18.0.1", "KeyError"),
        ("fail", "198.18.0.1", "OSError: nmap?is away"),
        ("die", "198.18.0.1", "the privileged process ended"),
    ],
)
def test_what_the_privileged_process_refuses_comes_back_as_an_error(
    start: Start, operation: str, ip: str, message: str
) -> None:
    answer = asked(start(), operation, ip)
    assert isinstance(answer, str)
    assert answer.startswith("SetupError: ")
    assert message in answer


def test_a_privileged_process_that_died_is_replaced(start: Start) -> None:
    one = start()
    asked(one, "die")
    one.wait_for("prober ended with 9")
    wait_until(lambda: isinstance(asked(one, "double"), dict), "the next prober")

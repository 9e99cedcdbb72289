"""The processes below the parent: started, or not where the machine has no room for one."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from botmilter.clock import Deadline
from botmilter.errors import SetupError
from botmilter.milter.children import Child, end, listen_for_ready, start
from botmilter.milter.daemon import Daemon
from botmilter.milter.worker import Worker
from tests.fakes.programs import runs
from tests.milter.filter import load


def no_room() -> int:
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


def test_a_machine_without_room_for_a_process_costs_a_pause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    child = Child(lambda _: 7, "worker 1")
    with monkeypatch.context() as full:
        full.setattr(os, "fork", no_room)
        assert not start(child, lambda: None)
    assert child.not_before > time.monotonic()
    assert caplog.messages == [
        "worker 1 cannot start: Resource temporarily unavailable; next try in 1.0 s"
    ]
    assert start(child, lambda: None)
    assert child.control is not None
    child.control.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == 7


def test_a_generation_for_which_there_is_no_room_is_no_generation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At a reload the old one stays."""
    config = tmp_path / "settings.json"
    config.write_text(json.dumps({"socket": f"unix:{tmp_path}/socket"}))
    daemon = Daemon(lambda: load(config))
    monkeypatch.setattr(os, "fork", no_room)
    with pytest.raises(SetupError, match="the workers do not start"):
        daemon._begin(load(config))
    assert daemon._generations == []


def test_a_worker_that_can_be_told_nothing_any_more_ends() -> None:
    control, ours = socket.socketpair()
    if (pid := os.fork()) == 0:
        worker = Worker(None, ours, ours, 1.0)  # type: ignore[arg-type]  # it does not come so far
        worker._live(None)  # type: ignore[arg-type]  # what it fails at
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 70
    control.close()
    ours.close()


def test_a_process_that_is_killed_takes_its_programs_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def run_nmap(control: socket.socket) -> int:
        with subprocess.Popen(["sleep", "60"], process_group=0) as nmap:
            pid_file.write_text(str(nmap.pid))
            control.send(b"r")
        return 0

    child = Child(run_nmap, "prober")
    assert start(child, lambda: None)
    while not child.is_ready:
        listen_for_ready([child], Deadline.after(5.0))
    nmap = int(pid_file.read_text())
    assert runs(nmap)
    end(child)
    deadline = Deadline.after(5.0)
    while runs(nmap):
        assert not deadline.is_over
        time.sleep(0.02)

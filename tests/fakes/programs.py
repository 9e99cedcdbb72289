"""Starts a real server program for a test and stops it, by pid, afterwards; finds its children."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest


def find(program: str) -> str:
    """The path of *program*; fails the test where tests/run did not provide it."""
    path = _path(program)
    if path is None:
        pytest.fail(f"{program} is missing: start the tests with tests/run, which installs it")
    return path


def is_there(program: str) -> bool:
    """For one that not every distribution has a package of."""
    return _path(program) is not None


def _path(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextlib.contextmanager
def running(
    command: Sequence[str], is_ready: Callable[[], bool], folder: Path, at_most_s: float = 10.0
) -> Iterator[subprocess.Popen[bytes]]:
    """*command* running and ready; its output goes to ``folder/output``."""
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        _wait(process, is_ready, folder, at_most_s)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _wait(
    process: subprocess.Popen[bytes], is_ready: Callable[[], bool], folder: Path, at_most_s: float
) -> None:
    end = time.monotonic() + at_most_s
    while not is_ready():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(
                f"{process.args!r} did not start: {(folder / 'output').read_text()[-2000:]}"
            )
        time.sleep(0.02)


def free_port() -> int:
    """A TCP port on loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(0.2)
        return client.connect_ex(("127.0.0.1", port)) == 0


def children(pid: int) -> list[int]:
    """The living processes that *pid* started, those of a thread in the order of their birth
    (proc(5)).  Raises OSError where it has gone."""
    found: list[int] = []
    for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda task: int(task.name)):
        with contextlib.suppress(OSError):  # that thread has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""A running filter for the tests: :class:`Filter` starts the daemon of ``filter.py``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.mta import Delivery, Mail, Mta, send_one

#: How long anything may take that takes no time.
PATIENCE_S = 15.0


class Filter:
    """The daemon in a process of its own, started by *runner* if there is one."""

    def __init__(self, folder: Path, runner: Sequence[str] = (), **settings: Any) -> None:
        self.folder = folder
        self.socket = str(folder / "milter.sock")
        self.settings = {"socket": f"unix:{self.socket}", **settings}
        self.configure()
        with self.log_file.open("w") as log:
            command = [*runner, sys.executable, "-m", "tests.milter.filter", str(self.config)]
            self.process = subprocess.Popen(command, stderr=log)

    @property
    def config(self) -> Path:
        return self.folder / "settings.json"

    @property
    def log_file(self) -> Path:
        return self.folder / "log"

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def configure(self, **settings: Any) -> None:
        self.settings |= settings
        self.config.write_text(json.dumps(self.settings))

    def wait_for(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.log.count(text) >= times, f"{text!r} in the log:\n{self.log}")

    def reload(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    def send(self, mail: Mail | None = None, ip: str = "198.18.0.1") -> Delivery:
        return send_one(self.socket, mail, ip=ip)

    def mta(self, **options: Any) -> Mta:
        return Mta(self.socket, **options)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(PATIENCE_S)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def verdict(delivery: Delivery) -> dict[str, Any]:
    """What the echoing judge wrote into the one verdict field there must be."""
    (value,) = delivery.values(b"X-Bot-Verdict")
    said: dict[str, Any] = json.loads(value)
    return said


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="session")
def running() -> Iterator[Filter]:
    """One filter for all tests that leave it as they found it."""
    with tempfile.TemporaryDirectory() as folder:
        one = Filter(Path(folder))
        try:
            one.wait_for("serving")
            yield one
        finally:
            one.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Filter]]:
    """Start a filter of one's own."""
    begun: list[Filter] = []

    def start_one(**settings: Any) -> Filter:
        begun.append(Filter(tmp_path, **settings))
        begun[-1].wait_for("serving")
        return begun[-1]

    yield start_one
    for one in begun:
        one.kill()

"""``botmilter worker``: a survey past one machine, with one of its workers killed half-way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from botmilter.cli.surveyor import HOSTS_PER_NMAP
from tests.fakes.programs import free_port, running
from tests.fakes.redis_servers import redis_cli, redis_server
from tests.lab import worlds
from tests.lab.dns import NameServer
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.survey import study

pytestmark = pytest.mark.slow

_LIMIT_S = 90.0
_DEAD_AFTER_S = 3.0
_AT_ONCE = 2


def _hosts() -> list[Host]:
    """Twenty-four of the study's."""
    found = study.hosts()
    return [*found["xp"], *found["server"], *found["linux"][:6], *found["other"][:6]]


def _settings(port: int) -> list[str]:
    chosen = (
        'probe.allow_networks=["198.18.0.0/15"]',
        "probe.in_all_per_minute=100000",
        "probe.per_network_per_minute=10000",
        # what a killed worker had claimed is free again after the limit
        "probe.osdetect.limit_s=6",
        'store.kind="redis"',
        f'store.url="redis://127.0.0.1:{port}/0"',
    )
    return [word for one in chosen for word in ("--set", one)]


def _command(name: str, port: int, *words: object) -> list[str]:
    queue = f"redis://127.0.0.1:{port}/1"
    return [sys.executable, "-m", "botmilter", name, "--queue", queue, *map(str, words),
            *_settings(port)]  # fmt: skip


@contextmanager
def _worker(port: int, folder: Path, number: int) -> Iterator[subprocess.Popen[bytes]]:
    place = folder / f"worker{number}"
    place.mkdir()
    words = ("--at-once", _AT_ONCE, "--dead-after", _DEAD_AFTER_S)
    said = place / "output"
    command = _command("worker", port, *words)
    with running(command, lambda: b"waiting for hosts" in said.read_bytes(), place) as worker:
        yield worker


def _lines(folder: Path) -> list[bytes]:
    path = folder / "records.jsonl"
    return path.read_bytes().splitlines() if path.exists() else []


def _wait_for_records(folder: Path, count: int, survey: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _LIMIT_S
    while len(_lines(folder)) < count:
        assert survey.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


def test_of_three_workers_one_is_killed_and_every_host_is_recorded_once(tmp_path: Path) -> None:
    hosts = _hosts()
    (tmp_path / "spam.mbox").write_bytes(study.mbox(host.ip for host in hosts))
    port = free_port()
    out = tmp_path / "out"
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(hosts))
        stack.enter_context(NameServer(hosts, worlds.RECORDS))
        stack.enter_context(redis_server(tmp_path, port))
        workers = [stack.enter_context(_worker(port, tmp_path, number)) for number in range(3)]
        survey = subprocess.Popen(
            _command("survey", port, tmp_path / "spam.mbox", "--out", out), stderr=subprocess.PIPE
        )
        _wait_for_records(out, 4, survey)
        workers[0].send_signal(signal.SIGKILL)
        at_kill = len(_lines(out))
        _, said = survey.communicate(timeout=_LIMIT_S)
        echoes = {flow.dst: count for flow, count in lab.flows().items() if flow.protocol == 1}
    assert survey.returncode == 0, said.decode()
    found = [json.loads(line) for line in _lines(out)]
    assert at_kill < len(hosts) / 2
    assert Counter(one["ip"] for one in found) == Counter(str(host.ip) for host in hosts)
    # a ping and two of nmap's; hosts under way when their worker was killed may get more
    again = [ip for ip, count in echoes.items() if count > 3]
    assert len(again) <= _AT_ONCE * HOSTS_PER_NMAP


def test_ctrl_c_ends_the_session_and_resume_goes_on_by_itself(tmp_path: Path) -> None:
    hosts = _hosts()[:3]
    (tmp_path / "spam.mbox").write_bytes(study.mbox(host.ip for host in hosts))
    port, out = free_port(), tmp_path / "out"
    alive = ("-n", "1", "keys", "*survey:alive*")
    command = _command("survey", port, "--out", out)
    with redis_server(tmp_path, port):
        survey = subprocess.Popen([*command, tmp_path / "spam.mbox"], stderr=subprocess.DEVNULL)
        until = time.monotonic() + _LIMIT_S
        while not redis_cli(port, *alive).strip():
            assert survey.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        survey.send_signal(signal.SIGINT)
        assert survey.wait(_LIMIT_S) == 130
        assert not redis_cli(port, *alive).strip()
    # the queue is gone: without it the same run goes on, here with what may not be probed
    command = [sys.executable, "-m", "botmilter", "survey", "--resume", "--out", str(out)]
    done = subprocess.run(
        [*command, "--set", 'store.kind="memory"'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(_lines(out)) == 3


def test_workers_need_a_store_to_share(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "botmilter", "worker", "--queue", "redis://127.0.0.1:1/0"]
    done = subprocess.run(
        [*command, "--set", 'store.kind="memory"'], capture_output=True, text=True, check=False
    )
    assert (done.returncode, 'expected "redis"' in done.stderr) == (78, True)


def test_a_queue_that_is_not_there_is_said() -> None:
    done = subprocess.run(
        _command("worker", free_port()), capture_output=True, text=True, check=False
    )
    assert (done.returncode, "ConnectionError" in done.stderr) == (69, True)
    assert "Traceback" not in done.stderr

"""What an admin does to the filter, and what the machine does, while mail flows."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.mta import CONTINUE, Delivery, Mail, Mta
from tests.reliability.rig import BUDGET_S, SLACK_S, Flow, Rig, hosts

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def answering_hosts() -> Iterator[None]:
    with hosts():
        yield


def all_well(flow: Flow) -> None:
    assert flow.lost == []
    assert flow.cut == 0
    assert len(flow.took_s) == flow.sent
    assert flow.slowest_s <= BUDGET_S + SLACK_S


#: Nothing that costs this machine's two cores more than the mails themselves.
LIGHT = {"probe.osdetect.enabled": False, "probe.rdns.enabled": False}


def test_two_hundred_sessions_in_flight_at_sigterm_end_with_their_verdicts(tmp_path: Path) -> None:
    got: list[Delivery] = []
    with Rig(tmp_path, 0, LIGHT | {"milter.workers": 2}) as rig:
        place = str(tmp_path / "milter.sock")
        sessions = [Mta(place, timeout_s=30) for _ in range(200)]
        for number, mta in enumerate(sessions):
            assert mta.connect(f"198.18.9.{number}") == CONTINUE
        os.kill(rig.pid, signal.SIGTERM)
        while Path(place).exists():
            time.sleep(0.02)
        started = time.monotonic()
        threads = [
            threading.Thread(target=lambda mta: got.append(mta.deliver(Mail())), args=(mta,))
            for mta in sessions
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        took_s = time.monotonic() - started
        for mta in sessions:
            mta.close()
        assert "cut off" not in rig.log
    assert len(got) == 200
    assert all(one.reply == CONTINUE and one.values(b"X-Bot-Verdict") for one in got)
    print(f"200 mails in {took_s:.1f} s after SIGTERM")
    assert took_s < BUDGET_S + SLACK_S + 2.0  # two hundred at once, and two hundred clients beside


def test_reload_after_reload_loses_no_mail(tmp_path: Path) -> None:
    with Rig(tmp_path, 0, LIGHT | {"milter.workers": 2}) as rig, rig.flow(20) as flow:
        for count in range(1, 6):
            rig.reload()
            rig.wait_for("reload: done", count)
            time.sleep(0.3)
    all_well(flow)


def test_two_filters_on_one_store_share_it_in_peace(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    shared = LIGHT | {"store.path": str(tmp_path / "shared.sqlite"), "log.level": "info"}
    with Rig(tmp_path / "one", 0, shared) as one, Rig(tmp_path / "two", 0, shared) as two:
        with one.flow() as first, two.flow() as second:
            time.sleep(8)
        all_well(first)
        all_well(second)
        for rig in (one, two):
            assert "WARNING store" not in rig.log


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


#: A user that nothing else here runs as: the limit is on all that a user runs.
USER = "games"


@pytest.mark.parametrize(
    ("what", "used", "spare"), [("nofile", open_files, 1), ("nproc", threads, 6)]
)
def test_where_the_machine_gives_no_more_mail_flows_on(
    tmp_path: Path, what: str, used: Callable[[int], int], spare: int
) -> None:
    """*spare* more than filter and prober have at most when they serve at their usual pace.  Six
    threads because libmilter itself, with none for a new session, never comes back to it."""
    settings = {"probe.rdns.enabled": False, "milter.user": USER, "store.kind": "memory"}
    with Rig(tmp_path, 0, settings | {"store.path": ""}) as rig, rig.flow() as flow:
        time.sleep(1.5)
        (worker,) = rig.workers
        in_use = 0
        for _ in range(40):
            in_use = max(in_use, used(worker) + (used(rig.prober) if what == "nproc" else 0))
            time.sleep(0.05)
        as_user = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]
        for number in (str(in_use + spare), "1024"):
            limit = ["prlimit", f"--pid={worker}", f"--{what}={number}:"]
            subprocess.run([*as_user, *limit], check=True)
            time.sleep(2.5)
    all_well(flow)
    assert "Traceback" not in rig.log

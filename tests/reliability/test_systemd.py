"""The unit under the real systemd: started, sandboxed, watched, reloaded, stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from botmilter import header
from tests.fakes.mta import Mail, send_one
from tests.lab import worlds
from tests.lab.dns import NameServer
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.systemd import Systemd

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
UNIT = "botmilter.service"
_LIMIT_S = 30.0
_WATCHDOG_S = 3

_CONFIGURATION = """\
[probe]
allow_networks = ["198.18.0.0/15"]
[probe.osdetect]
limit_s = 15.0
[budget]
per_mail_s = 15.0
"""

#: The project's own place may be below a home, which the unit closes.
_DROP_IN = """\
[Service]
Environment=PYTHONPATH={project}:{packages}
ExecStart=
ExecStart={python} -m botmilter run --config {config}
ExecReload=
ExecReload={python} -m botmilter reload --pid $MAINPID
WatchdogSec={watchdog_s}
StandardError=append:/run/botmilter.log
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("systemd")
    for path in (folder, *folder.parents[:2]):  # pytest's own, closed to others
        path.chmod(0o755)
    (folder / "botmilter.toml").write_text(_CONFIGURATION)
    return folder / "botmilter.toml"


@pytest.fixture(scope="module")
def manager(config: Path) -> Iterator[Systemd]:
    folder = config.parent
    project = folder / "project"
    project.mkdir()
    # the user that contrib/install makes; /etc is our own layer here
    made = ["useradd", "--system", "--user-group", "--no-create-home", "botmilter"]
    subprocess.run(made, check=True)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    drop_in = _DROP_IN.format(
        project=project,
        packages=project / Path(packages).relative_to(ROOT),
        python=os.path.realpath(sys.executable),
        config=config,
        watchdog_s=_WATCHDOG_S,
    )
    units = {
        UNIT: (ROOT / "contrib/systemd" / UNIT).read_text(),
        f"{UNIT}.d/here.conf": drop_in,
    }
    with ExitStack() as stack:
        subprocess.run(["mount", "--rbind", str(ROOT), str(project)], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", str(project)], check=True)
        stack.enter_context(Lab(worlds.ALL))
        stack.enter_context(NameServer(worlds.ALL, worlds.RECORDS))
        yield stack.enter_context(Systemd(folder, units))


@pytest.fixture
def running(manager: Systemd) -> Systemd:
    manager.call("systemctl", "reset-failed", UNIT)
    started = manager.call("systemctl", "start", UNIT)
    assert started.returncode == 0, manager.log + _said(manager)
    return manager


def _said(manager: Systemd) -> str:
    log = manager.root / "run/botmilter.log"
    return log.read_text() if log.exists() else ""


def _judged(manager: Systemd, host: Host = worlds.INFECTED_PC) -> header.Value:
    place = manager.root / "run/botmilter/botmilter.sock"
    got = send_one(str(place), Mail(), ip=str(host.ip))
    (verdict,) = got.values(b"X-Bot-Verdict")
    return header.parse(verdict.decode())


def _comes(what: Callable[[], bool]) -> bool:
    until = time.monotonic() + _LIMIT_S
    while not what() and time.monotonic() < until:
        time.sleep(0.1)
    return what()


def _main(manager: Systemd) -> str:
    return manager.show(UNIT, "MainPID")


def _is_up(manager: Systemd) -> bool:
    return manager.show(UNIT, "ActiveState") == "active"


def test_it_judges_with_all_probes_within_the_whole_sandbox(running: Systemd) -> None:
    for host in (worlds.INFECTED_PC, worlds.WINDOWS_7, worlds.HOME_ROUTER):
        verdict = _judged(running, host)
        assert verdict.label == "bot", _said(running)
        assert not {"ping", "osdetect"} & set(verdict.missing), _said(running)
    children = running.call("pgrep", "--parent", _main(running)).stdout.split()
    statuses = [running.call("cat", f"/proc/{pid}/status").stdout for pid in children]
    for status in statuses:
        assert re.search(r"^Seccomp:\s2$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s1$", status, re.MULTILINE)
    powerless = [status for status in statuses if "CapEff:\t0000000000000000" in status]
    assert len(statuses) - len(powerless) == 1, "the prober alone keeps CAP_NET_RAW"
    assert (running.root / "var/lib/botmilter/botmilter.sqlite").exists()


def test_a_reload_is_done_or_fails_with_the_reason_and_the_old_goes_on(
    running: Systemd, config: Path
) -> None:
    before = _main(running)
    assert running.call("systemctl", "reload", UNIT).returncode == 0, _said(running)
    config.write_text("[budget]\nper_mail_s = 'soon'\n")
    try:
        assert running.call("systemctl", "reload", UNIT).returncode != 0
    finally:
        config.write_text(_CONFIGURATION)
    assert (_main(running), _is_up(running)) == (before, True)
    assert "per_mail_s" in _said(running)
    assert _judged(running).label == "bot"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stalled"])
def test_a_parent_that_is_gone_or_hangs_is_replaced(
    running: Systemd, number: signal.Signals
) -> None:
    before = _main(running)
    running.call("kill", f"-{number.value}", before)
    assert _comes(lambda: _main(running) not in (before, "0") and _is_up(running)), running.log
    assert _judged(running).label == "bot"


@pytest.mark.parametrize(("grace_s", "state"), [(30, "ok"), (60, "wrong")])
def test_the_doctor_knows_whether_systemd_waits_long_enough_at_a_stop(
    running: Systemd, config: Path, grace_s: int, state: str
) -> None:
    environment = running.show(UNIT, "Environment").split()
    python = os.path.realpath(sys.executable)
    looked = running.call(
        *("env", *environment, python, "-m", "botmilter", "doctor", "--json"),
        *("--config", str(config), "--set", f"milter.stop_grace_s={grace_s}"),
    )
    found = {one["check"]: one for one in json.loads(looked.stdout)["findings"]}
    assert found["stop"]["state"] == state, found["stop"]
    assert "systemd waits 1min at a stop" in found["stop"]["found"]


def test_it_stops_and_leaves_nothing_behind(running: Systemd) -> None:
    stopped = running.call("systemctl", "stop", UNIT)
    assert stopped.returncode == 0, stopped.stderr
    assert running.show(UNIT, "Result") == "success"
    assert running.show(UNIT, "ActiveState") == "inactive"
    assert not (running.root / "run/botmilter").exists()
    assert "botmilter" not in running.call("ps", "-e", "-o", "args").stdout

"""``botmilter reload`` against a running ``botmilter run``."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from botmilter.store.sqlite import SqliteStore
from tests.cli.test_run import RUN, TROUBLE_LIMIT_S, configuration
from tests.fakes.mta import send_one
from tests.fakes.programs import children
from tests.lab.mta import open_folder
from tests.milter.conftest import wait_until

RELOAD = (sys.executable, "-m", "botmilter", "reload")
NET_RAW = 1 << 13

#: As the unit starts it: another user, one capability, no way to more.
AS_SERVICE = (
    *("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs"),
    *("--bounding-set=-all,+net_raw", "--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw"),
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class Running:
    """A filter whose files are in *folder*."""

    def __init__(self, folder: Path, within: Sequence[str] = ()) -> None:
        self.config = folder / "botmilter.toml"
        self.config.write_text(configuration(folder))
        self.socket = folder / "milter.sock"
        self.log_file = folder / "log"
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                [*within, *RUN, "--config", str(self.config)], stderr=log
            )
        wait_until(lambda: "serving" in self.log, "the filter")

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def change(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def reload(
        self, *arguments: str, within: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*within, *RELOAD, "--config", str(self.config), *arguments],
            capture_output=True,
            text=True,
            timeout=TROUBLE_LIMIT_S,
            check=False,
        )

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(TROUBLE_LIMIT_S) == 0


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    one = Running(tmp_path)
    yield one
    one.stop()


def test_a_reload_is_confirmed_and_the_log_level_is_the_new_one(running: Running) -> None:
    send_one(str(running.socket))
    assert running.log.count("verdict=") == 1
    running.change("[milter]", '[log]\nlevel = "warning"\n[milter]')
    done = running.reload()
    assert (done.returncode, done.stderr) == (0, "")
    assert f"reloaded: process {running.process.pid}" in done.stdout
    send_one(str(running.socket))
    assert running.log.count("verdict=") == 1


def test_a_wrong_configuration_is_refused_with_every_reason(running: Running) -> None:
    running.change("workers = 1", "worker = 1")
    for arguments in ((), ("--pid", str(running.process.pid))):
        done = running.reload(*arguments)
        assert done.returncode == 78
        assert "worker" in done.stderr
        assert "Traceback" not in done.stderr
    assert "refused, the old configuration stays" in done.stderr
    assert send_one(str(running.socket)).headers


def test_a_place_that_cannot_be_used_is_refused(running: Running, tmp_path: Path) -> None:
    running.change('kind = "memory"', f'path = "{tmp_path}/nowhere/store"')
    done = running.reload()
    assert done.returncode == 69
    assert "the folder of" in done.stderr
    assert send_one(str(running.socket)).headers


def test_a_new_socket_needs_a_restart(running: Running) -> None:
    running.change("milter.sock", "other.sock")
    done = running.reload()
    assert done.returncode == 69
    assert "a changed [milter] socket needs a restart" in done.stderr.lower()
    done = running.reload("--pid", str(running.process.pid))
    assert "cannot change at a reload" in done.stderr


def test_mail_under_way_is_not_disturbed(running: Running) -> None:
    stop, lost = threading.Event(), []

    def flow() -> None:
        while not stop.is_set():
            if not send_one(str(running.socket)).values(b"X-Bot-Verdict"):
                lost.append(1)

    sender = threading.Thread(target=flow)
    sender.start()
    assert [running.reload().returncode for _ in range(2)] == [0, 0]
    stop.set()
    sender.join(TROUBLE_LIMIT_S)
    assert lost == []


def test_what_was_being_measured_is_free_for_the_next_workers(
    running: Running, tmp_path: Path
) -> None:
    lab = 'nameservers = ["127.0.0.1"]\nallow_networks = ["198.18.0.0/15"]'
    running.change("[trust]", f"[budget]\nper_mail_s = 1.0\n[probe]\n{lab}\n[trust]")
    running.change("[probe.rdns]\nenabled = false", "[probe.rdns]\nlimit_s = 60")
    running.change('kind = "memory"', f'path = "{tmp_path}/store.sqlite"')
    assert running.reload().returncode == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute_resolver:
        mute_resolver.bind(("127.0.0.1", 53))
        send_one(str(running.socket), ip="198.18.7.12")
        store = SqliteStore(tmp_path / "store.sqlite")
        assert not store.claim("rdns 198.18.7.12", 100.0)
        assert running.reload().returncode == 0
        wait_until(lambda: store.claim("rdns 198.18.7.12", 100.0), "the old worker's claim")
        store.close()


def test_a_setting_that_the_filter_would_not_hear_of_is_refused(
    running: Running, tmp_path: Path
) -> None:
    done = running.reload("--set", "weights.os.client=-9")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--set weights.os.client=-9: the running filter does not hear of it" in done.stderr
    assert "only milter.socket" in " ".join(done.stderr.split())
    place = f'milter.socket="unix:{running.socket}"'
    running.config = tmp_path / "other.toml"
    running.config.touch()
    assert running.reload("--set", place).returncode == 0


def test_without_a_filter_it_says_so(tmp_path: Path) -> None:
    config = tmp_path / "botmilter.toml"
    for place, message in (
        (f"unix:{tmp_path}/none", "is botmilter running"),
        ("inet:8891@127.0.0.1", "--pid"),
    ):
        config.write_text(f'[milter]\nsocket = "{place}"\n')
        done = subprocess.run(
            [*RELOAD, "--config", str(config)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, "Traceback" in done.stderr) == (69, False)
        assert message in done.stderr


def test_a_process_that_is_no_filter_is_not_signalled() -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        done = subprocess.run([*RELOAD, "--pid", str(stranger.pid)], capture_output=True, text=True)
        assert stranger.poll() is None
        stranger.kill()
    assert done.returncode == 69
    assert "no running botmilter" in done.stderr


def _capabilities(pid: int, kind: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith(f"{kind}:"))


def _held_by_children(parent: int) -> dict[int, int]:
    """What each kind of child can use, and the process that does."""
    with suppress(OSError):  # gone meanwhile
        return {_capabilities(pid, "CapEff"): pid for pid in children(parent)}
    return {}


@needs_root
def test_as_a_service_only_the_prober_can_use_the_capability() -> None:
    with open_folder() as folder:
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        one = Running(folder, AS_SERVICE)
        try:
            parent = one.process.pid
            done = one.reload("--pid", str(parent), within=AS_SERVICE)  # as ExecReload= does
            assert (done.returncode, done.stderr) == (0, "")
            wait_until(lambda: sorted(_held_by_children(parent)) == [0, NET_RAW], "its children")
            assert _capabilities(parent, "CapPrm") == NET_RAW, "for the next prober"
            assert _capabilities(parent, "CapEff") == _capabilities(parent, "CapAmb") == 0
            prober = _held_by_children(parent)[NET_RAW]
            subprocess.run([*AS_SERVICE, "kill", "-KILL", str(prober)], check=True)
            wait_until(
                lambda: _held_by_children(parent).get(NET_RAW, prober) != prober, "the next prober"
            )
        finally:
            one.stop()

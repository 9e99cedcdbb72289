"""The real nmap run, killed, missing, broken; and what its facts mean."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from ipaddress import ip_address
from pathlib import Path

import nmap
import pytest

from botmilter.clock import Deadline
from botmilter.errors import SetupError
from botmilter.model import IPAddress, Observation, Status, Target
from botmilter.probes import osdetect
from botmilter.probes.osdetect import OsDetectProbe
from tests.fakes.programs import runs

HERE = ip_address("127.0.0.1")
WINDOWS_XP = {
    "type": "general purpose",
    "vendor": "Microsoft",
    "family": "Windows",
    "generation": "XP",
    "accuracy": 100,
}
SERVER_2008 = {**WINDOWS_XP, "generation": "2008"}
VISTA = {**WINDOWS_XP, "generation": "Vista"}
LINUX = {**WINDOWS_XP, "vendor": "Linux", "family": "Linux", "generation": "4.X"}


@pytest.fixture
def nmap_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is taken for nmap."""
    program = tmp_path / "nmap"
    monkeypatch.setattr(osdetect, "_found", [str(program)])
    return program


def script(program: Path, text: str) -> None:
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.slow
def test_the_real_nmap_calls_this_machine_a_unix() -> None:
    facts = osdetect.scan(HERE, 10.0)
    probe = OsDetectProbe(10.0, False, lambda *_: facts)
    seen = probe.measure(Target(HERE), Deadline.after(10))
    assert seen.status is Status.ANSWERED
    assert facts["ports"].keys() == set(osdetect.PORTS.split(","))


@pytest.mark.slow
def test_without_the_privilege_nmap_s_own_words_are_passed_on() -> None:
    code = (
        "from ipaddress import ip_address\n"
        "from botmilter.errors import SetupError\n"
        "from botmilter.probes import osdetect\n"
        "try: osdetect.scan(ip_address('127.0.0.1'), 5.0)\n"
        "except SetupError as error: print(error)\n"
    )
    drop = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", "--"]
    done = subprocess.run(
        [*drop, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "nmap ended with" in done.stdout, done.stderr


def test_an_nmap_that_hangs_is_killed_with_its_children_and_reaped(nmap_is: Path) -> None:
    pids = nmap_is.with_name("pids")
    script(nmap_is, f"sleep 60 & echo $$ $! >{pids}; wait")
    started = time.monotonic()
    with pytest.raises(SetupError, match="not done within"):
        osdetect.scan(HERE, 0.5)
    assert time.monotonic() - started < 2.0
    end = time.monotonic() + 5
    while any(runs(int(pid)) for pid in pids.read_text().split()):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_nmap_stands_back_at_first_and_then_takes_its_part(nmap_is: Path) -> None:
    stats = nmap_is.with_name("stats")
    look = f"cat /proc/$$/stat >>{stats}"
    script(nmap_is, f"sleep 0.3; {look}; while [ ! -e {stats}.go ]; do sleep 0.1; done; {look}")
    go = threading.Timer(1.5, Path(f"{stats}.go").touch)
    go.start()
    with pytest.raises(SetupError, match="not XML"):
        osdetect.scan(HERE, 3.0)
    go.join()
    seen = [line.rpartition(")")[2].split() for line in stats.read_text().splitlines()]
    # as proc(5) counts them
    assert [int(fields[41 - 3]) for fields in seen] == [os.SCHED_IDLE, os.SCHED_OTHER]
    # another session would be a group of its own to the scheduler
    assert {int(fields[6 - 3]) for fields in seen} == {os.getsid(0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo '<nmaprun><host>'", "not XML"),
        ("echo '<nmaprun></nmaprun>'", "cut short"),
        ("echo QUITTING >&2; exit 1", "nmap ended with 1: QUITTING"),
        ("kill -SEGV $$", "nmap ended with -11: no message"),
        ("echo 'requires root privileges.' >&2", "start botmilter as root"),
    ],
)
def test_a_broken_nmap_is_trouble_of_ours(nmap_is: Path, text: str, message: str) -> None:
    script(nmap_is, text)
    with pytest.raises(SetupError, match=message):
        osdetect.scan(HERE, 5.0)


def test_a_missing_nmap_is_said_and_found_once_it_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(osdetect, "_found", [])
    with monkeypatch.context() as without:
        without.setattr(nmap.PortScanner, "__init__", _not_there)
        with pytest.raises(SetupError, match="not installed"):
            osdetect.scan(HERE, 5.0)
    assert osdetect.program().endswith("nmap")


def _not_there(self: object) -> None:
    raise nmap.PortScannerError("nmap program was not found in path")


def test_a_vanished_nmap_is_looked_for_again(nmap_is: Path) -> None:
    with pytest.raises(SetupError, match="cannot be started"):
        osdetect.scan(HERE, 5.0)
    assert osdetect.program() != str(nmap_is)


@pytest.mark.parametrize("ip", ["198.18.7.12", "2001:db8::1"])
@pytest.mark.parametrize("limit_s", [0.1, 3.0, 4.9, 15.0])
def test_the_argument_list_holds_our_fixed_words_and_one_address(
    ip: str, limit_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], limit_s: float) -> tuple[bytes, bytes, int]:
        ran.append(command)
        return b"<nmaprun><runstats/></nmaprun>", b"", 0

    monkeypatch.setattr(osdetect, "_run", run)
    osdetect.scan(ip_address(ip), limit_s)
    (command,) = ran
    assert command[-1] == ip
    timeout = command[command.index("--host-timeout") + 1]
    fixed = {*osdetect._ALWAYS, *osdetect._THOROUGH, *osdetect._QUICK, "--host-timeout", "-6"}
    assert set(command[1:-1]) - {timeout, "--privileged"} <= fixed
    assert timeout.removesuffix("ms").isdigit()
    assert ("-6" in command) is (":" in ip)


def observation(*matches: tuple[int, list[dict[str, object]]]) -> Observation:
    found = [{"name": "x", "accuracy": percent, "classes": classes} for percent, classes in matches]
    return Observation("osdetect", "k", Status.ANSWERED, {"matches": found})


@pytest.mark.parametrize(
    ("seen", "signal", "strength"),
    [
        (observation((100, [WINDOWS_XP])), "os.client", 1.0),
        (observation((100, [VISTA]), (100, [SERVER_2008])), "os.both", 1.0),
        (observation((100, [VISTA]), (96, [SERVER_2008])), "os.client", 1.0),
        (observation((90, [WINDOWS_XP])), "os.client", 0.5),
        (observation((100, [LINUX])), "os.unix", 1.0),
        (observation((80, [WINDOWS_XP])), None, 0.0),
        (observation((100, [])), None, 0.0),
        (observation(), None, 0.0),
    ],
)
def test_what_the_facts_mean(seen: Observation, signal: str | None, strength: float) -> None:
    probe = OsDetectProbe(10.0, False, osdetect.scan)
    signals = list(probe.interpret(seen, Target(HERE)))
    assert [one.name for one in signals] == ([signal] if signal else [])
    if signals:
        assert signals[0].strength == pytest.approx(strength)


def scan_says(timed_out: bool) -> dict[str, object]:
    return {"state": "up", "timed_out": timed_out, "ports": {}, "matches": []}


@pytest.mark.parametrize(("timed_out", "status"), [(False, "answered"), (True, "silent")])
def test_a_host_that_ran_out_of_time_was_silent(timed_out: bool, status: str) -> None:
    probe = OsDetectProbe(10.0, False, lambda *_: scan_says(timed_out))
    assert probe.measure(Target(HERE), Deadline.after(5)).status == status


def test_ipv6_is_left_alone_unless_switched_on() -> None:
    asked: list[IPAddress] = []

    def scan(ip: IPAddress, limit_s: float) -> dict[str, object]:
        asked.append(ip)
        return scan_says(False)

    target = Target(ip_address("2001:db8::1"))
    off = OsDetectProbe(10.0, False, scan).measure(target, Deadline.after(5))
    on = OsDetectProbe(10.0, True, scan).measure(target, Deadline.after(5))
    assert (off.status, on.status, len(asked)) == (Status.SKIPPED, Status.ANSWERED, 1)

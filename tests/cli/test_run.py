"""``botmilter run`` as one process, with the real engine and no probe."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from botmilter import header, names
from botmilter.cli import run
from botmilter.config import Settings
from botmilter.milter import listener
from botmilter.milter.daemon import Daemon
from botmilter.model import Label, Observation, Status
from botmilter.probes import osdetect
from botmilter.store.sqlite import SqliteStore
from tests.fakes.mta import Delivery, Mail, send_one

RUN = (sys.executable, "-m", "botmilter", "run")
PROBES = ("rdns", "smtp", "ping", "osdetect", "senderhost")
TROUBLE_LIMIT_S = 30.0


def configuration(folder: Path) -> str:
    off = "".join(f"[probe.{name}]\nenabled = false\n" for name in PROBES)
    return (
        f'[milter]\nsocket = "unix:{folder}/milter.sock"\nworkers = 1\n'
        f'[store]\nkind = "memory"\n[trust]\nnetworks = ["203.216.244.210"]\n{off}'
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "botmilter.toml"
    file.write_text(configuration(tmp_path))
    return file


@pytest.fixture
def filter_socket(config: Path, tmp_path: Path) -> Iterator[str]:
    with subprocess.Popen([*RUN, "--config", str(config)], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"serving" in process.stderr.readline()
        yield str(tmp_path / "milter.sock")
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(TROUBLE_LIMIT_S) == 0


def said(delivery: Delivery) -> header.Value:
    (value,) = delivery.values(b"X-Bot-Verdict")
    return header.parse(value.decode())


def received(peer: str, by: str) -> tuple[bytes, bytes]:
    line = f"from a.example ([{peer}])\n\tby {by} with SMTP; Sun, 1 Mar 2009 12:00:00 +0000"
    return b"Received", line.encode()


def test_below_the_trusted_forwarder_its_client_is_the_origin_and_the_rest_is_not_believed(
    filter_socket: str,
) -> None:
    mail = Mail([received("61.48.71.52", "forwarder.example"), received("192.0.2.9", "forged")])
    verdict = said(send_one(filter_socket, mail, ip="203.216.244.210"))
    assert str(verdict.origin) == "61.48.71.52"


def test_mail_of_the_machine_itself_is_exempt_and_forgeries_go_there_too(
    filter_socket: str,
) -> None:
    mail = Mail([(b"x-bot-verdict", b"clean; origin=none"), (b"X-BOT-LEVEL", b"*")])
    delivery = send_one(filter_socket, mail, ip="127.0.0.1")
    assert said(delivery).label is Label.EXEMPT
    assert [name for name, _ in delivery.headers] == [b"X-Bot-Verdict"]


def test_the_list_of_suffixes_is_read_before_there_are_workers(
    monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    read: list[bool] = []
    monkeypatch.setattr(names, "load", lambda: read.append(True))
    monkeypatch.setattr(Daemon, "run", lambda _: 0 if read else 1)
    done = CliRunner().invoke(run.command, ["--config", str(config)])
    assert done.exit_code == 0, done.output


def test_a_missing_nmap_and_privilege_are_said_before_the_first_mail(
    config: Path, tmp_path: Path
) -> None:
    config.write_text(config.read_text().replace("enabled = false", "enabled = true"))
    drop = [shutil.which("setpriv") or "", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
    command = [*drop, *RUN, "--config", str(config)]
    bare = {**os.environ, "PATH": str(tmp_path)}
    # python-nmap has places of its own, where this machine may have it
    (tmp_path / "nmap.py").write_text(
        "class PortScannerError(Exception): pass\ndef PortScanner(): raise PortScannerError\n"
    )
    bare["PYTHONPATH"] = str(tmp_path)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=bare) as process:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(TROUBLE_LIMIT_S) == 0
    assert "nmap is not installed" in said[0]
    assert "no CAP_NET_RAW for ping and osdetect: start botmilter as root" in said[1]
    assert "serving" in said[2]


def test_an_nmap_that_the_probe_finds_is_not_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A unit's or cron's PATH may lack the folder, python-nmap looks into it all the same."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(osdetect, "_found", [])
    place = Path(osdetect.program())
    assert place.is_absolute()
    assert place.exists()
    assert not [one for one in run._shortcomings(Settings()) if "nmap" in one]


@pytest.mark.parametrize(
    ("setting", "exit_code", "message"),
    [
        ('milter.socket="unix:/proc/milter.sock"', 69, "[milter] socket"),
        ('milter.socket="unix:/dev/null"', 69, "is no socket"),
        ('milter.socket_group="no such group"', 69, "there is no group"),
        ("milter.worker=1", 78, "worker"),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_one_line(
    config: Path, setting: str, exit_code: int, message: str
) -> None:
    done = subprocess.run(
        [*RUN, "--config", str(config), "--set", setting],
        capture_output=True,
        text=True,
        timeout=TROUBLE_LIMIT_S,
        check=False,
    )
    assert done.returncode == exit_code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("key", ["milter.socket", "query.socket", "web.listen"])
def test_the_folder_of_a_mistyped_socket_is_named_and_not_made(
    config: Path, tmp_path: Path, key: str
) -> None:
    folder = tmp_path / "botmitler"
    done = subprocess.run(
        [*RUN, "--config", str(config), "--set", f'{key}="unix:{folder}/socket"'],
        capture_output=True,
        text=True,
        timeout=TROUBLE_LIMIT_S,
        check=False,
    )
    table, _, name = key.partition(".")
    assert done.returncode == 69
    assert done.stderr == (
        f"[{table}] {name}: there is no folder {folder}: make it, or correct the path\n"
    )
    assert not folder.exists()


def test_the_folder_of_the_shipped_socket_is_made_after_a_boot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert Settings().milter.socket == f"unix:{listener.OWN_FOLDER}/botmilter.sock"
    monkeypatch.setattr(listener, "OWN_FOLDER", tmp_path / "botmilter")
    for name in ("botmilter.sock", "query.sock"):
        listener.take_down(listener.listen(f"unix:{tmp_path}/botmilter/{name}"))
    assert (tmp_path / "botmilter").stat().st_mode & 0o777 == 0o755


def test_what_is_kept_too_long_leaves_the_store_without_any_mail(
    config: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "store.sqlite"
    store = SqliteStore(file)
    old = Observation("rdns", "198.18.7.12", Status.ANSWERED, taken_at=time.time() - 60)
    store.put(old, 30.0)
    store.close()
    text = config.read_text()
    config.write_text(text.replace('kind = "memory"', f'kind = "sqlite"\npath = "{file}"'))
    request.getfixturevalue("filter_socket")
    end = time.monotonic() + TROUBLE_LIMIT_S
    while _rows(file) and time.monotonic() < end:
        time.sleep(0.05)
    assert _rows(file) == 0


def _rows(file: Path) -> int:
    with closing(sqlite3.connect(file)) as db:
        (rows,) = db.execute("SELECT count(*) FROM observations").fetchone()
    return int(rows)


def test_it_does_not_start_on_a_store_of_a_newer_version(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite"
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 99")
    store = f'store={{path="{file}", kind="sqlite"}}'
    done = subprocess.run(
        [*RUN, "--config", str(config), "--set", store],
        capture_output=True,
        text=True,
        timeout=TROUBLE_LIMIT_S,
        check=False,
    )
    assert done.returncode == 69, done.stderr
    assert "written by a newer botmilter (schema 99" in done.stderr


def test_a_file_of_the_store_is_left_to_the_workers_to_make(tmp_path: Path) -> None:
    """Made by the parent it would be root's."""
    file = tmp_path / "store.sqlite"
    run._require_known_version(SqliteStore(file))
    assert not file.exists()

"""``botmilter survey`` and ``report``: the study of 2009, repeated in the laboratory."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.lab import worlds
from tests.lab.dns import NameServer
from tests.lab.lab import Lab
from tests.survey import study

pytestmark = pytest.mark.slow

_LIMIT_S = 120.0
_SETTINGS = (
    *("--set", 'probe.allow_networks=["198.18.0.0/15"]', "--set", 'store.kind="memory"'),
    *("--set", "probe.in_all_per_minute=100000", "--set", "probe.per_network_per_minute=10000"),
)


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "botmilter", *map(str, arguments)]


def _run(*arguments: object) -> str:
    done = subprocess.run(
        _command(*arguments), capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


_BOTS = ("198.18.101.1", "198.18.101.2")


def _labels(folder: Path) -> dict[str, str]:
    lines = (folder / "records.jsonl").read_text().splitlines()
    return {one["ip"]: one["verdict"]["label"] for one in map(json.loads, lines)}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """August, then October with some hosts gone; August is killed once and resumed."""
    place = tmp_path_factory.mktemp("study")
    hosts = [host for some in study.hosts().values() for host in some]
    (place / "spam.mbox").write_bytes(study.mbox(host.ip for host in hosts))
    with Lab(hosts) as lab, NameServer(hosts, worlds.RECORDS):
        august = ("survey", place / "spam.mbox", "--out", place / "august", *_SETTINGS)
        _kill_half_way(_command(*august), place / "august" / "records.jsonl")
        _run(*august, "--resume")
        lab.remove(*study.left())
        _run("survey", "--repeat", place / "august", "--out", place / "october", *_SETTINGS)
        # nothing may be sent from here on
        lab.forget_flows()
        _run("survey", "--rejudge", place / "august", "--set", "weights.os.client=-9",
             "--out", place / "rejudged", *_SETTINGS)  # fmt: skip
        (place / "sent").write_text(json.dumps(sorted(lab.destinations())))
    _run("report", place / "august", place / "october", "--csv", place / "csv",
         "--html", place / "page.html")  # fmt: skip
    return place


def _kill_half_way(command: list[str], records: Path) -> None:
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + _LIMIT_S
        while not records.exists() or records.read_bytes().count(b"\n") < 10:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert records.read_bytes().count(b"\n") < 69


def test_the_tables_of_the_study_come_out(folder: Path) -> None:
    first, second = _rows(folder / "csv" / "study.csv")
    assert list(first.values()) == ["august", "2", "10", "22", "35", "69"]
    assert list(second.values()) == ["october", "0", "5", "19", "20", "44"]


def test_every_host_that_left_is_gone_in_the_second_run(folder: Path) -> None:
    hosts = {
        row["ip"]: row for row in _rows(folder / "csv" / "hosts.csv") if row["run"] == "october"
    }
    gone = {ip for ip, row in hosts.items() if row["os_row"] == "no answer"}
    assert gone == {str(ip) for ip in study.left()}


def test_killed_and_resumed_each_host_was_measured_once(folder: Path) -> None:
    lines = (folder / "august" / "records.jsonl").read_text().splitlines()
    measured = {(json.loads(line)["ip"], json.loads(line)["began_at"]) for line in lines}
    assert len(measured) == len({ip for ip, _ in measured}) == 69
    assert len(list((folder / "august" / "logs").iterdir())) == 69


def test_the_two_bots_stand_side_by_side_with_their_second_run(folder: Path) -> None:
    rows = [
        row for row in _rows(folder / "csv" / "flagged.csv") if row["address"] == "198.18.101.1"
    ]
    told = [(row["verdict"], row["ping"], row["operating system"], row["port 25"]) for row in rows]
    assert told[0] == ("bot", "yes", worlds.XP, "time-out")
    assert told[1][1:] == ("no", "N/A", "time-out")


def test_rejudging_changes_verdicts_and_sends_nothing(folder: Path) -> None:
    labels = {name: _labels(folder / name) for name in ("august", "rejudged")}
    assert [labels["august"][ip] for ip in _BOTS] == ["bot", "bot"]
    assert [labels["rejudged"][ip] for ip in _BOTS] == ["clean", "clean"]
    assert json.loads((folder / "sent").read_text()) == []


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href") and not (value or "").startswith(
                ("#", "data:")
            ):
                self.loads.append(value or "")


def test_the_page_stands_alone(folder: Path) -> None:
    page = _Page()
    page.feed((folder / "page.html").read_text())
    assert page.loads == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 6
    assert len(page.ids) == len(set(page.ids))


def test_an_interrupted_survey_asks_for_resume(folder: Path, tmp_path: Path) -> None:
    from botmilter.survey.worklist import WorkList

    with WorkList(tmp_path) as work:
        work.begin()
    command = _command("survey", folder / "spam.mbox", "--out", tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "--resume" in done.stderr) == (69, True)

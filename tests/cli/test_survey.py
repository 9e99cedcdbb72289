"""``botmilter survey`` and ``report``: the study of 2009, repeated in the laboratory."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from botmilter.survey import analyse
from contrib.study import command, steps
from tests.lab import worlds
from tests.survey import study

pytestmark = pytest.mark.slow

_LIMIT_S = 180.0


def _run(folder: Path, *words: str) -> None:
    done = subprocess.run(
        command(words), cwd=folder, capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr


_BOTS = ("198.18.101.1", "198.18.101.2")


def _labels(folder: Path) -> dict[str, str]:
    lines = (folder / "records.jsonl").read_text().splitlines()
    return {one["ip"]: one["verdict"]["label"] for one in map(json.loads, lines)}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The walk of docs/survey.md; but August is killed once and resumed, and judged anew."""
    place = tmp_path_factory.mktemp("study")
    for lab, words in steps(place):
        if "august" in words and "--repeat" not in words and words[0] == "survey":
            _kill_half_way(place, words)
            words.append("--resume")
        _run(place, *words)
        if "--repeat" in words:
            # nothing may be sent from here on
            lab.forget_flows()
            _run(place, "survey", "--config", "botmilter.toml", "--rejudge", "august",
                 "--set", "weights.os.client=-9", "--out", "rejudged")  # fmt: skip
            (place / "sent").write_text(json.dumps(sorted(lab.destinations())))
    return place


def _kill_half_way(folder: Path, words: list[str]) -> None:
    records = folder / "august" / "records.jsonl"
    with subprocess.Popen(command(words), cwd=folder, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + _LIMIT_S
        while not records.exists() or records.read_bytes().count(b"\n") < 10:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert records.read_bytes().count(b"\n") < 69


def test_the_tables_of_the_study_come_out(folder: Path) -> None:
    first, second = _rows(folder / "tables" / "study.csv")
    assert list(first.values()) == ["august", "2", "10", "22", "35", "69"]
    assert list(second.values()) == ["october", "0", "5", "19", "20", "44"]


#: What each of the laboratory's systems has to come out as.
_ROWS = {
    worlds.XP: analyse.OLD_CLIENT,
    worlds.W7: analyse.NEW_CLIENT,
    worlds.SERVER_2016: analyse.SERVER,
    worlds.LINUX: analyse.LINUX,
    worlds.FREEBSD: analyse.UNIX,
    worlds.ROUTER: analyse.APPLIANCE,
    worlds.PRINTER: analyse.APPLIANCE,
    worlds.WEBCAM: analyse.APPLIANCE,
}


def test_every_host_comes_out_as_it_was_set_up(folder: Path) -> None:
    rows = {(row["run"], row["ip"]): row["os_row"] for row in _rows(folder / "tables/hosts.csv")}
    hosts = [host for some in study.hosts().values() for host in some]
    august = {("august", str(host.ip)): _ROWS[str(host.persona)] for host in hosts}
    assert {key: row for key, row in rows.items() if key[0] == "august"} == august


def test_an_address_that_changed_hands_is_told_from_those_that_are_gone(folder: Path) -> None:
    moves = {(row["before"], row["after"]): int(row["hosts"])
             for row in _rows(folder / "tables/churn.csv")}  # fmt: skip
    assert moves[analyse.SERVER, analyse.APPLIANCE] == 1
    assert moves[analyse.SERVER, analyse.NO_ANSWER] == 4
    assert moves[analyse.SERVER, analyse.SERVER] == 5
    assert moves[analyse.OLD_CLIENT, analyse.NO_ANSWER] == 2


def test_every_host_that_left_is_gone_in_the_second_run(folder: Path) -> None:
    hosts = {
        row["ip"]: row for row in _rows(folder / "tables" / "hosts.csv") if row["run"] == "october"
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
        row for row in _rows(folder / "tables" / "flagged.csv") if row["address"] == "198.18.101.1"
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
    page.feed((folder / "report.html").read_text())
    assert page.loads == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 6
    assert len(page.ids) == len(set(page.ids))


def test_an_interrupted_survey_asks_for_resume(folder: Path, tmp_path: Path) -> None:
    from botmilter.survey.worklist import WorkList

    with WorkList(tmp_path) as work:
        work.begin()
    words = command(["survey", str(folder / "spam.mbox"), "--out", str(tmp_path)])
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "--resume" in done.stderr) == (69, True)

"""What every report of ``contrib/bench`` begins with, and how its figures are shown."""

from __future__ import annotations

import json
import os
import platform
import re

import pytest

from botmilter import __version__
from contrib.benchmarks import kit

USES = ("pymilter", "libmilter", "Postfix", "Redis", "redis-py", "SQLite", "nmap")
ROWS = [{"way": "ours", "s": kit.median_spread([1.5, 1.0, 4.0]), "exact": 3}]
NOTE = "opendkim is left out: it is not installed here"


def reported(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    parser = kit.arguments("anything", None)
    parser.add_argument("--rounds", type=int, default=3)
    kit.report(parser.parse_args(arguments), USES, ROWS, [NOTE], more=ROWS)
    return capsys.readouterr().out


def test_the_machine_and_all_that_was_used_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    machine, programs, run = reported(capsys).splitlines()[:3]
    assert re.fullmatch(rf".+, \d+ CPUs, Linux {re.escape(platform.release())}", machine)
    for name in USES:
        assert re.search(rf"\b{name} \d+\.\d", programs), name
    assert f"Python {platform.python_version()}, botmilter {__version__}, " in programs
    assert run.endswith(", rounds 3")


def test_a_program_that_is_not_there_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "nmap not there" in reported(capsys)


def test_figures_are_shown_as_median_and_spread_with_what_is_to_be_said_below(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = ["way   s            exact", "ours  1.5 (1-4)      3"]
    shown = [re.sub(" +", " ", line).strip() for line in reported(capsys).splitlines()[3:]]
    assert shown == [*(re.sub(" +", " ", line) for line in table * 2), NOTE]


def test_programs_get_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(reported(capsys, "--json"))
    assert told["cpus"] == len(os.sched_getaffinity(0))
    assert set(told["versions"]) == set(USES)
    assert told["arguments"] == {"rounds": 3}
    assert told["rows"] == told["more"] == ROWS
    assert told["notes"] == [NOTE]

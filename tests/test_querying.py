"""Questions about addresses to the real filter in the laboratory."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from botmilter import header
from tests.lab import mta, worlds
from tests.lab.dns import NameServer
from tests.lab.filter import Filter
from tests.lab.lab import Lab

pytestmark = pytest.mark.slow

PC = worlds.INFECTED_PC.ip
BUDGET_S = 10.0  # nmap waits for a busy machine
SLACK_S = 1.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(worlds.DEMO) as running, NameServer(worlds.DEMO, worlds.RECORDS):
        yield running


@pytest.fixture(scope="module")
def path(lab: Lab) -> Iterator[Path]:
    with mta.open_folder() as folder:
        place = folder / "query.sock"
        settings = {"query.socket": f"unix:{place}", "budget.per_mail_s": BUDGET_S}
        with Filter(folder / "milter", settings):
            yield place


def ask(path: Path, **question: str) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(json.dumps(question).encode() + b"\n")
        answer: dict[str, Any] = json.loads(client.makefile().readline())
    return answer


def test_four_at_once_about_one_host_measure_it_once(lab: Lab, path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: ask(path, ip=str(PC), helo="home-pc"), range(4)))
    assert [answer["verdict"] for answer in said] == ["bot"] * 4
    packets = sum(lab.flows().values())
    assert ask(path, ip=str(PC))["verdict"] == "bot"
    assert sum(lab.flows().values()) == packets


def test_the_command_prints_the_header_of_a_mail(path: Path) -> None:
    command = [sys.executable, "-m", "botmilter", "query", "--helo", "home-pc", str(PC)]
    where = ["--set", f'query.socket="unix:{path}"']
    done = subprocess.run([*command, *where], capture_output=True, text=True, check=True)
    name, _, value = done.stdout.partition(": ")
    verdict = header.parse(value.partition("X-Bot-Score")[0])
    assert (name, verdict.label, verdict.origin) == ("X-Bot-Verdict", "bot", PC)


@pytest.mark.parametrize(
    "ip", ["10.0.0.1", "192.0.2.1", "224.0.0.1", "127.0.0.1", "::1", "fe80::1"]
)
def test_what_must_not_be_probed_gets_no_packet(lab: Lab, path: Path, ip: str) -> None:
    lab.forget_flows()
    assert ask(path, ip=ip)["verdict"] in ("unknown", "exempt")
    assert lab.destinations() == set()


def test_a_black_hole_costs_the_budget_and_no_more(path: Path) -> None:
    began = time.monotonic()
    said = ask(path, ip=str(worlds.BLACK_HOLE.ip), sender="<>")
    assert said["verdict"] in ("unknown", "suspect")
    assert time.monotonic() - began < BUDGET_S + SLACK_S

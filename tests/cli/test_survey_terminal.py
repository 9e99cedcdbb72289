"""``botmilter survey`` as somebody sees it at a terminal, with a DNS list and a p0f to be asked."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from botmilter.net import dnsbl_name
from contrib.study import CONFIGURATION, command
from tests.lab import p0f, worlds
from tests.lab.dns import NameServer, Record
from tests.lab.lab import Lab
from tests.survey import study

pytestmark = pytest.mark.slow

_LIMIT_S = 60.0
_HOSTS = (worlds.INFECTED_PC, worlds.MAIL_SERVER)
_LISTED = Record(dnsbl_name(worlds.INFECTED_PC.ip, "list.example"), "A", "127.0.0.4")
_ASKED = """
[[probe.dnsbl.zones]]
name = "list.example"

[probe.p0f]
socket = "{socket}"
"""


def _shown(words: Sequence[str], folder: Path) -> str:
    """What the command wrote to its terminal, without colours."""
    ours, theirs = pty.openpty()
    shown, until = b"", time.monotonic() + _LIMIT_S
    with subprocess.Popen(
        command(words),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "160"},
    ) as process:
        os.close(theirs)
        with suppress(OSError):  # the other end is closed
            while select.select([ours], [], [], until - time.monotonic())[0]:
                shown += os.read(ours, 65536)
        os.close(ours)
        assert process.wait(_LIMIT_S) == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


@pytest.fixture(scope="module")
def shown(folder: Path) -> str:
    (folder / "spam.mbox").write_bytes(study.mbox(host.ip for host in _HOSTS))
    with (
        Lab(_HOSTS),
        NameServer(_HOSTS, (*worlds.RECORDS, _LISTED)),
        p0f.listening(folder) as socket,
    ):
        (folder / "botmilter.toml").write_text(CONFIGURATION + _ASKED.format(socket=socket))
        p0f.greet(p0f.XP)
        p0f.ask(socket, p0f.XP.ip)
        words = ("survey", "--config", "botmilter.toml", "--out", "august", "spam.mbox")
        return _shown(words, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("survey")


@pytest.fixture(scope="module")
def records(folder: Path, shown: str) -> Mapping[str, Any]:
    assert shown
    lines = (folder / "august" / "records.jsonl").read_text().splitlines()
    return {one["ip"]: one for one in map(json.loads, lines)}


def test_the_bar_tells_how_many_are_done_how_fast_and_what_came_out(shown: str) -> None:
    assert "mails: 2 new, 0 known" in shown
    last = shown.replace("\r", "\n").strip().rpartition("\n")[2]
    assert re.search(r"hosts .* 2/2 [0-9.]+/s 0:00:0\d bot=1 clean=1", last), shown


@pytest.mark.parametrize(
    ("ip", "listed", "system"),
    [
        (worlds.INFECTED_PC.ip, {"list.example": ["127.0.0.4"]}, "Windows"),
        (worlds.MAIL_SERVER.ip, {"list.example": []}, None),
    ],
    ids=["listed and seen by p0f", "neither"],
)
def test_a_list_and_p0f_are_asked_for_each_host(
    records: Mapping[str, Any], ip: object, listed: Mapping[str, Any], system: str | None
) -> None:
    seen = {one["probe"]: one for one in records[str(ip)]["observations"]}
    assert seen["dnsbl"]["facts"]["listed"] == listed
    assert seen["p0f"]["facts"].get("os") == system


def test_what_they_say_counts(records: Mapping[str, Any]) -> None:
    reasons = {one["signal"] for one in records[str(worlds.INFECTED_PC.ip)]["verdict"]["reasons"]}
    assert {"dnsbl.listed", "p0f.client"} <= reasons

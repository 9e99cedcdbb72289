"""``botmilter stats`` over SQLite and Redis, and what ``store forget`` takes out of it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from ipaddress import ip_network

import pytest
from click.testing import CliRunner

from botmilter import config
from botmilter.cli import botmilter, build
from botmilter.counters import Taken
from botmilter.store.redis_tally import RedisTally
from botmilter.store.tally import SLOT_S, Pending, Row, SqliteTally, Tally
from botmilter.summary import summarise
from tests.cli.fakes import Run

HOSTILE = "\x1b[31m[bold]"


@pytest.fixture
def tally(chosen: list[str]) -> Tally:
    """With an hour's mails and one of yesterday, as workers write them."""
    settings = config.load(None, chosen[1::2]).store
    store = build.store(settings)
    made = build.tally(settings, store)
    assert made is not None
    store.purge(time.time(), 86400)  # the file has to be there
    now, pending = time.time(), Pending()
    counts = {"mails bot": 3.0, "mails clean": 5.0, "lookups memory": 9.0, "lookups nowhere": 1.0}
    origins = Counter({("198.18.7.12", "bot"): 3, ("198.18.25.25", "clean"): 5})
    systems = Counter({f"Windows XP {HOSTILE}": 3})
    entry = {"at": round(now), "score": 8.5, "system": "Windows XP", "reasons": []}
    pending.add(Taken(counts, origins, systems, {"198.18.7.12": entry}), now)
    pending.add(Taken({"mails bot": 2.0}), now - 7200)
    made.add(pending)
    return made


@pytest.mark.usefixtures("tally")
def test_the_last_hour_and_day_are_told(run: Run) -> None:
    said = run("stats")
    assert said.exit_code == 0, said.stderr
    rows = [line.split() for line in said.stdout.splitlines() if line.strip()]
    assert ["last", "hour", "3", "0", "5", "0", "0", "8", "90%"] in rows
    assert ["last", "day", "5", "0", "5", "0", "0", "10", "90%"] in rows
    assert ["198.18.25.25", "0", "0", "5", "0"] in rows
    assert ["Windows", "XP", "?[31m[bold]", "3"] in rows


@pytest.mark.usefixtures("tally")
def test_programs_get_the_same(run: Run) -> None:
    told = json.loads(run("stats", "--json").stdout)
    assert told["last hour"]["mails"] == {
        "bot": 3, "suspect": 0, "clean": 5, "unknown": 0, "exempt": 0
    }  # fmt: skip
    assert told["last day"]["mails"]["bot"] == 5
    assert told["last day"]["origins"] == {"198.18.25.25": {"clean": 5}, "198.18.7.12": {"bot": 3}}


FOREIGN_BOTS = {
    "no JSON": "{",
    "no object": "[]",
    "no time": '{"score": 1, "system": "", "reasons": []}',
    "no number": '{"at": "soon", "score": 1, "system": "", "reasons": []}',
    "no time of this world": '{"at": 1e300, "score": 1, "system": "", "reasons": []}',
    "endless": '{"at": 1, "score": Infinity, "system": "", "reasons": []}',
    "half a reason": '{"at": 1, "score": 1, "system": "", "reasons": [["helo.no_dot"]]}',
    "deep": "[" * 100_000,
}


def test_what_others_wrote_into_the_store_is_left_out(run: Run, tally: Tally) -> None:
    slot = int(time.time() // SLOT_S)
    words: dict[str | bytes, str] = {"origin 198.18.9.9": "1", "mails bot x": "many"}
    if isinstance(tally, SqliteTally):
        with closing(sqlite3.connect(tally.path)) as db, db:
            rows = [(slot, word, counted) for word, counted in words.items()]
            db.executemany("INSERT INTO tallies VALUES (?, ?, ?)", rows)
            bots = [(host, time.time(), entry) for host, entry in FOREIGN_BOTS.items()]
            db.executemany("INSERT INTO bots VALUES (?, ?, ?)", bots)
    else:
        assert isinstance(tally, RedisTally)
        with tally._store.client() as redis:
            redis.hset(f"botmilter:1:tally:{slot}", mapping=words | {b"\xff": "1"})
            redis.hset("botmilter:1:tally-bots", mapping=FOREIGN_BOTS)
    told = run("stats", "--json")
    assert told.exit_code == 0, told.stderr
    assert json.loads(told.stdout)["last day"]["origins"].keys() == {"198.18.7.12", "198.18.25.25"}
    assert list(tally.bots()) == ["198.18.7.12"]


def test_a_forgotten_host_leaves_no_name_behind(run: Run, tally: Tally) -> None:
    assert run("store", "forget", "198.18.7.0/24").exit_code == 0
    told = json.loads(run("stats", "--json").stdout)["last day"]
    assert told["origins"] == {"198.18.25.25": {"clean": 5}}
    assert told["mails"]["bot"] == 5
    assert not tally.bots()
    assert tally.forget(ip_network("198.18.7.0/24")) == 0


def test_purge_drops_what_is_older_than_the_store_keeps(run: Run, tally: Tally) -> None:
    before = time.time() - 2 * 86400
    entry = {"at": round(before), "score": 8.5, "system": "Windows XP", "reasons": []}
    pending = Pending()
    origins = Counter({("198.18.7.77", "bot"): 1})
    pending.add(Taken({"mails bot": 1.0}, origins, Counter(), {"198.18.7.77": entry}), before)
    tally.add(pending)
    assert set(tally.bots()) == {"198.18.7.12", "198.18.7.77"}
    assert run("store", "purge", "--set", "store.keep_days=1").exit_code == 0
    assert set(tally.bots()) == {"198.18.7.12"}
    if isinstance(tally, SqliteTally):  # in Redis a slot ends by itself
        assert not [r for r in tally.rows(before) if r.slot <= before // SLOT_S]
    assert {r.word for r in tally.rows(time.time() - 600)} >= {"mails bot", "mails clean"}


def test_purge_leaves_of_a_slot_that_is_over_the_busiest_origins(tally: Tally) -> None:
    now = time.time()
    before = now - 2 * SLOT_S
    pending = Pending()
    for number in range(300):
        host = f"198.18.{number // 256}.{number % 256}"
        pending.rows[int(before // SLOT_S), f"origin {host} bot"] = number + 1
    pending.rows[int(before // SLOT_S), "mails unknown"] = 1
    tally.add(pending)
    for _ in range(2):
        tally.purge(now, 86400.0)
        rows = [row for row in tally.rows(before) if row.slot == int(before // SLOT_S)]
        left = sorted(row.counted for row in rows if row.word.startswith("origin "))
        assert left == list(range(251, 301))
        assert "mails unknown" in {row.word for row in rows}
    left_words = {row.word for row in tally.rows(now - SLOT_S)}
    assert "origin 198.18.7.12 bot" in left_words  # of a slot that is not over


def test_in_memory_there_is_nothing_to_tell() -> None:
    said = CliRunner().invoke(botmilter, ["stats", "--set", 'store.kind="memory"'])
    assert said.exit_code == 69
    assert "memory" in said.stderr


def test_before_the_first_mail_it_says_so(run: Run, chosen: list[str]) -> None:
    if "sqlite" not in chosen[1]:
        assert "last hour" in run("stats").stdout
        return
    said = run("stats")
    assert (said.exit_code, said.stdout) == (69, "")
    assert "nothing is stored there yet" in said.stderr


@pytest.mark.usefixtures("tally")
def test_watching_ends_quietly(chosen: list[str]) -> None:
    command = [sys.executable, "-m", "botmilter", "stats", "--watch", *chosen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        while b"Systems of bots" not in watching.stdout.readline():
            assert watching.poll() is None
        os.kill(watching.pid, signal.SIGINT)
        _, said = watching.communicate(timeout=20)
    assert (watching.returncode, said) == (130, b"")


@pytest.mark.usefixtures("tally")
def test_programs_that_watch_get_an_object_a_line(chosen: list[str]) -> None:
    command = [sys.executable, "-m", "botmilter", "stats", "--watch", "--json", *chosen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        told = [json.loads(watching.stdout.readline()) for _ in range(2)]
        os.kill(watching.pid, signal.SIGINT)
        _, said = watching.communicate(timeout=20)
    assert [one["last hour"]["mails"]["bot"] for one in told] == [3, 3]
    assert (watching.returncode, said) == (130, b"")


def test_what_is_older_than_the_span_is_left_out() -> None:
    rows = [
        Row(10, "mails bot", 1),
        Row(11, "mails bot", 2),
        Row(11, "origin 2001:db8::/64 bot", 2),
    ]
    found = summarise(rows, 11 * SLOT_S + 5)
    assert found.total == 2
    assert found.busiest == [("2001:db8::/64", Counter(bot=2))]
    assert found.known_share is None

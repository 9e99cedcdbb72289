"""The embedded store over crashes, locks and versions."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from botmilter.errors import StoreError
from botmilter.model import Observation, Status
from botmilter.store.base import OptOut, Window
from botmilter.store.sqlite import BUSY_MS, SCHEMA_VERSION, SqliteStore
from tests.store.conftest import Opener

SEEN = Observation("rdns", "198.18.7.12", Status.ANSWERED, {"names": []})


def test_two_processes_share_what_is_known_and_claimed(opened: Opener, tmp_path: Path) -> None:
    one, other = opened(tmp_path / "s.db"), opened(tmp_path / "s.db")
    one.put(SEEN, 60)
    assert other.get("rdns", "198.18.7.12", 0.0) == SEEN
    assert one.claim("k", 60)
    assert not other.claim("k", 60)


def test_a_claim_is_not_taken_over_by_who_read_the_clock_earlier(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, clock = opened(tmp_path / "s.db"), opened(tmp_path / "s.db"), time.time
    assert one.claim("k", 60)
    monkeypatch.setattr(time, "time", lambda: clock() - 1.0)  # and waited for his turn since
    assert not other.claim("k", 60)
    monkeypatch.setattr(time, "time", lambda: clock() - 3600.0)  # the clock was set back
    assert other.claim("k", 60)


def test_of_many_who_claim_in_the_same_moment_one_gets_it(opened: Opener, tmp_path: Path) -> None:
    stores = [opened(tmp_path / "s.db") for _ in range(8)]
    together = threading.Barrier(len(stores))

    def claim(store: SqliteStore) -> list[bool]:
        got = []
        for number in range(40):
            together.wait(60.0)
            got.append(store.claim(f"k{number}", 60))
        return got

    with ThreadPoolExecutor(len(stores)) as pool:
        got = list(pool.map(claim, stores))
    assert [sum(each) for each in zip(*got, strict=True)] == [1] * 40


def test_a_claim_that_ran_out_and_is_another_s_is_not_given_back(
    opened: Opener, tmp_path: Path
) -> None:
    one, other, third = (opened(tmp_path / "s.db") for _ in range(3))
    assert one.claim("k", 0.01)
    time.sleep(0.02)
    assert other.claim("k", 60)
    one.release("k")
    assert not third.claim("k", 60)
    other.release("k")
    assert third.claim("k", 60)


def test_many_threads_do_not_wait_for_another_process_one_after_the_other(
    opened: Opener, tmp_path: Path
) -> None:
    store = opened(tmp_path / "s.db")
    store.put(SEEN, 60)

    def count(_: int) -> float:
        started = time.monotonic()
        with pytest.raises(StoreError):
            store.count("tempfail 198.18.7.0/24", 60, time.time())
        return time.monotonic() - started

    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(20) as threads:
            assert max(threads.map(count, range(20))) < 2.0
        another.execute("ROLLBACK")


def test_processes_that_make_the_file_at_once_all_get_it(tmp_path: Path) -> None:
    puts = [_put(tmp_path, str(child)) for child in range(4)]
    begin = time.time() + 0.1
    for put in puts:
        assert put.stdin is not None
        put.stdin.write(f"{begin}\n")
        put.stdin.flush()
    assert [put.wait(30) for put in puts] == [0] * 4
    for put in puts:
        put.communicate()


def _put(folder: Path, key: str) -> subprocess.Popen[str]:
    """A process, not a fork of this one, which would carry what all tests before have left; ready
    to put something into ten files, one after the other, from the time that it reads."""
    code = f"""
import sys, time
from pathlib import Path
from botmilter.model import Observation, Status
from botmilter.store.sqlite import SqliteStore
print("ready", flush=True)
begin = float(sys.stdin.readline())
for number in range(10):
    time.sleep(max(0.0, begin + number * 0.05 - time.time()))
    SqliteStore(Path(sys.argv[1]) / f"{{number}}.db").put(
        Observation("rdns", "{key}", Status.ANSWERED, {{}}), 60)
"""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, str(folder)]
    put = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert put.stdout is not None
    assert put.stdout.readline() == "ready\n"
    return put


def test_what_was_put_survives_kill_9(opened: Opener, tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from botmilter.model import Observation, Status
from botmilter.store.sqlite import SqliteStore
seen = Observation("rdns", "198.18.7.12", Status.ANSWERED, {"names": []})
SqliteStore(Path(sys.argv[1])).put(seen, 60)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", code, tmp_path / "s.db"], check=False)
    assert ended.returncode == -signal.SIGKILL
    found = opened(tmp_path / "s.db").get("rdns", "198.18.7.12", 0.0)
    assert found is not None
    assert (found.status, found.facts) == (SEEN.status, SEEN.facts)


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(
    opened: Opener, tmp_path: Path
) -> None:
    db = sqlite3.connect(tmp_path / "s.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match=r"newer botmilter.*99"):
        opened(tmp_path / "s.db").get("rdns", "x", 0.0)
    assert not list(tmp_path.glob("*.corrupt*"))


def test_another_process_s_lock_is_an_error_soon_and_passes(opened: Opener, tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    store.put(SEEN, 60)
    locker = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    with pytest.raises(StoreError, match="locked"):
        store.put(SEEN, 60)
    assert time.monotonic() - started < BUSY_MS / 1000 + 1
    locker.execute("COMMIT")
    locker.close()
    store.put(SEEN, 60)


def test_a_directory_that_is_gone_is_an_error_and_no_traceback(
    opened: Opener, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="unable to open"):
        opened(tmp_path / "gone" / "s.db").get("rdns", "x", 0.0)


def test_rows_that_are_not_ours_are_as_if_not_there(opened: Opener, tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    store.put(SEEN, 60)
    db = sqlite3.connect(tmp_path / "s.db")
    db.execute("UPDATE observations SET observation = '{\"probe\": 1}'")
    db.commit()
    db.close()
    assert store.get("rdns", "198.18.7.12", 0.0) is None


def test_many_threads_share_one_connection(opened: Opener, tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    won: list[int] = []

    def work(number: int) -> None:
        if store.claim("the one", 60):
            won.append(number)
        store.put(Observation("p", str(number), Status.ANSWERED), 60)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(won) == 1
    assert all(store.get("p", str(number), 0.0) is not None for number in range(16))


# -- versions and strangers' bytes --------------------------------------------------------------

#: As version 1 made it.
_VERSION_1 = """
CREATE TABLE observations (
    probe TEXT NOT NULL, key TEXT NOT NULL, expires_at REAL NOT NULL, observation TEXT NOT NULL,
    PRIMARY KEY (probe, key)
) WITHOUT ROWID;
CREATE INDEX observations_expire ON observations (expires_at);
CREATE TABLE claims (key TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE counts (
    key TEXT PRIMARY KEY, until REAL NOT NULL, counted INTEGER NOT NULL
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def test_a_file_of_the_first_version_is_taken_over_with_what_it_knows(
    opened: Opener, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "s.db")) as db:
        db.executescript(_VERSION_1)
        row = (SEEN.probe, SEEN.key, time.time() + 60, json.dumps(SEEN.to_json()))
        db.execute("INSERT INTO observations VALUES (?, ?, ?, ?)", row)
        db.commit()
    store = opened(tmp_path / "s.db")
    assert store.get("rdns", "198.18.7.12", time.time()) == SEEN
    store.opt_out(OptOut(ip_network("198.18.7.0/24")))
    assert len(store.opt_outs()) == 1
    with closing(sqlite3.connect(tmp_path / "s.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


HOSTILE_ROWS = (
    b"\xff\xfe malformed database disk image",
    b"[" * 50_000,
    b'{"probe": "rdns", "key": "198.18.7.12", "status": "answered"}',
    json.dumps({**SEEN.to_json(), "taken_at": 10**400}).encode(),
    json.dumps(SEEN.to_json()).replace("0.0", "NaN").encode(),
    json.dumps({**SEEN.to_json(), "key": "198.18.7.13"}).encode(),
    json.dumps({**SEEN.to_json(), "facts": 7}).encode(),
    json.dumps({**SEEN.to_json(), "facts": {"a": float("inf")}}).encode(),
    json.dumps({**SEEN.to_json(), "facts": {"a": 7.5}}).replace("7.5", "1e999").encode(),
    b"",
)


@pytest.mark.parametrize("kind", ["TEXT", "BLOB"])
@pytest.mark.parametrize("text", HOSTILE_ROWS)
def test_hostile_rows_break_nothing_and_can_be_forgotten(
    opened: Opener, tmp_path: Path, text: bytes, kind: str
) -> None:
    store = opened(tmp_path / "s.db")
    store.put(replace(SEEN, key="198.18.7.14", taken_at=time.time()), 60)
    with closing(sqlite3.connect(tmp_path / "s.db")) as db:
        sql = f"INSERT INTO observations VALUES ('rdns', '198.18.7.12', 1e300, CAST(? AS {kind}))"
        db.execute(sql, (text,))
        db.execute("INSERT INTO opt_outs VALUES (CAST(? AS TEXT), ?, 'x')", (text, text))
        db.commit()
    assert store.get("rdns", "198.18.7.12", 0.0) is None
    assert [row.seen.key for row in store.rows()] == ["198.18.7.14"]
    assert store.opt_outs() == ()
    assert store.purge(time.time(), 600.0) == 1, "what ends later than anything may"
    assert store.forget_network(ip_network("198.18.7.0/24")) == 1
    assert not list(tmp_path.glob("*.corrupt*"))


def test_what_was_forgotten_is_in_no_file_any_more(opened: Opener, tmp_path: Path) -> None:
    store = opened(tmp_path / "s.db")
    store.put(replace(SEEN, facts={"names": ["gone.example"]}), 1e12)
    store.forget_network(ip_network(SEEN.key))
    for file in tmp_path.iterdir():
        assert b"gone.example" not in file.read_bytes(), file


def test_after_its_time_no_table_has_anything_about_a_host(opened: Opener, tmp_path: Path) -> None:
    store, now = opened(tmp_path / "s.db"), time.time()
    store.put(replace(SEEN, taken_at=now), 1e9)
    store.claim("rdns 198.18.7.12", 1e5)
    store.count("tempfail 198.18.7.0/24", 86400.0, now)
    store.admit([Window("rate 198.18.7.12", 9, 3600.0)], now)
    store.purge(now + 2 * 86400, 86400.0)
    store.close()
    with closing(sqlite3.connect(tmp_path / "s.db")) as db:
        for table in ("observations", "claims", "counts"):
            assert db.execute(f"SELECT * FROM {table}").fetchall() == []

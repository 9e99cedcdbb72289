"""A broken SQLite file: set aside by one, begun anew for all, kept no longer than its rows."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from ipaddress import ip_network
from pathlib import Path

import pytest

from botmilter.errors import StoreError
from botmilter.store import corrupt
from botmilter.store.base import OptOut
from botmilter.store.tally import SqliteTally
from tests.store.conftest import Opener
from tests.store.test_sqlite import SEEN


@pytest.mark.parametrize(
    "content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_corrupt_file_is_set_aside_and_a_new_one_begun(
    opened: Opener, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "s.db").write_bytes(content)
    store = opened(tmp_path / "s.db")
    with pytest.raises(StoreError):
        store.put(SEEN, 60)
    store.put(SEEN, 60)
    assert store.get("rdns", "198.18.7.12", 0.0) == SEEN
    assert len(list(tmp_path.glob("s.db.corrupt-*"))) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_who_opens_a_file_that_is_being_set_aside_shares_it_with_the_others(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """His log would be taken for the old file's, and all that came later have another one."""
    path, rename = tmp_path / "s.db", Path.rename
    path.write_bytes(b"this is no database" * 100)
    network = ip_network("198.18.7.0/24")
    other = threading.Thread(target=lambda: opened(path).opt_out(OptOut(network, "please", 1.0)))

    def rename_slowly(old: Path, new: Path) -> Path:
        if moment == "before":
            other.start()
            other.join(0.05)
        moved = rename(old, new)
        if moment == "after":
            other.start()
            other.join(0.05)
        return moved

    monkeypatch.setattr(Path, "rename", rename_slowly)
    with pytest.raises(StoreError):
        opened(path).opt_outs()
    other.join()
    assert [one.network for one in opened(path).opt_outs()] == [network]
    assert len(list(tmp_path.glob("s.db.corrupt-*"))) == 1


def test_of_two_who_set_the_same_file_aside_the_second_leaves_the_new_one(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = tmp_path / "s.db", Path.rename
    path.write_bytes(b"this is no database" * 100)
    broken, error = corrupt.identity(path), sqlite3.DatabaseError("file is not a database")
    second = threading.Thread(target=corrupt.set_aside, args=(path, broken, error))

    def rename_slowly(old: Path, new: Path) -> Path:
        second.start()
        second.join(0.05)
        return rename(old, new)

    monkeypatch.setattr(Path, "rename", rename_slowly)
    corrupt.set_aside(path, broken, error)
    opened(path).put(SEEN, 60)
    second.join()
    assert opened(path).get("rdns", "198.18.7.12", 0.0) == SEEN
    assert {one.name.partition(".corrupt-")[0] for one in tmp_path.iterdir()} == {
        *("s.db", "s.db-wal", "s.db-shm")
    }


def test_one_that_stands_still_while_it_opens_the_file_keeps_nobody_from_it(
    opened: Opener, tmp_path: Path
) -> None:
    place = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(place, fcntl.LOCK_EX)
    opened(tmp_path / "s.db").put(SEEN, 60)
    os.close(place)


def test_what_was_set_aside_stays_no_longer_than_what_is_stored(
    opened: Opener, tmp_path: Path
) -> None:
    now = time.time()
    for age_s in (50, 150):
        (tmp_path / f"s.db.corrupt-{now - age_s:.0f}").write_bytes(b"x")
    (tmp_path / "s.db.corrupt-by-hand").write_bytes(b"x")
    opened(tmp_path / "s.db").purge(now, 100.0)
    left = {one.name for one in tmp_path.glob("*.corrupt-*")}
    assert left == {f"s.db.corrupt-{now - 50:.0f}", "s.db.corrupt-by-hand"}


def test_a_corrupt_file_of_statistics_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "s.stats.sqlite"
    path.write_bytes(b"this is no database" * 100)
    tally = SqliteTally(path)
    with pytest.raises(StoreError, match="not a database"):
        tally.rows(0.0)
    assert tally.rows(0.0) == []
    tally.close()
    assert len(list(tmp_path.glob("s.stats.sqlite.corrupt-*"))) == 1

"""The work list under the threads of a survey that is interrupted."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from botmilter.survey.harvest import Sighting, Taken
from botmilter.survey.worklist import WorkList

IP = "198.18.7.12"


def taken(number: int) -> Taken:
    seen = Sighting(IP, "origin", 0, "friend", "from friend")
    return Taken(number.to_bytes(16), "a@x.example", "b@x.example", "", "x.example", "", (seen,))


@pytest.mark.parametrize("attempt", range(20))
def test_closing_while_threads_read_crashes_nothing(attempt: int, tmp_path: Path) -> None:
    work = WorkList(tmp_path)
    run = work.begin()
    for number in range(200):
        work.enter(run, "box", taken(number))
    work.flush()
    reading = threading.Semaphore(0)
    ended: list[str] = []

    def read() -> None:
        try:
            while True:
                assert work.host(run, IP).mail_count == 200
                reading.release()
        except sqlite3.ProgrammingError as error:
            ended.append(str(error))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for _ in readers:
        assert reading.acquire(timeout=10)
    work.close()
    for reader in readers:
        reader.join(10)
    assert ended == ["Cannot operate on a closed database."] * 4

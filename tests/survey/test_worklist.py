"""The work list under the threads of a survey that is interrupted."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from botmilter.model import Trust
from botmilter.survey import harvest
from botmilter.survey.worklist import FILE, Entry, WorkList
from tests.survey import study

IP = "198.18.7.12"
TRUST = Trust()


def entry(number: int) -> Entry:
    header = harvest.kept(study.mail(IP, number))
    return Entry(
        harvest.mail_id(header), f"box#{number}", header, harvest.take(header, TRUST, False)
    )


@pytest.mark.parametrize("attempt", range(20))
def test_closing_while_threads_read_crashes_nothing(attempt: int, tmp_path: Path) -> None:
    work = WorkList(tmp_path)
    run = work.begin()
    work.enter(run, [entry(number) for number in range(200)])
    reading = threading.Semaphore(0)
    ended: list[str] = []

    def read() -> None:
        try:
            while True:
                assert work.host(run, IP, TRUST).mail_count == 200
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


def test_of_a_run_that_has_ended_only_the_hashes_stay(tmp_path: Path) -> None:
    with WorkList(tmp_path) as work:
        run = work.begin()
        work.enter(run, [entry(1)])
        assert work.addresses(run) == [IP]
        work.end(run)
        assert work.addresses(run) == []
        assert work.known([entry(1).id, entry(2).id]) == {entry(1).id}
    assert b"cheap.example" not in (tmp_path / FILE).read_bytes()


def test_mails_are_entered_all_or_none(tmp_path: Path) -> None:
    with WorkList(tmp_path) as work:
        run = work.begin()
        with pytest.raises(sqlite3.IntegrityError):
            work.enter(run, [entry(1), entry(1)])
        assert work.known([entry(1).id]) == set()
        assert work.addresses(run) == []

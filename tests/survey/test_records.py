"""records.jsonl keeps what was measured, also when its writer is killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from botmilter.errors import InputError
from botmilter.survey import records
from botmilter.survey.records import Journal, Record
from tests.survey.values import osdetect, ping, record, smtp

XP = record("198.18.7.12", ping(True), smtp("filtered"), osdetect("Windows", "XP"), label="bot")
DEAD = record("2001:db8::1", ping(False))


def write(folder: Path, *found: Record) -> None:
    with Journal(folder) as journal:
        for one in found:
            journal.append(one)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path, XP, DEAD)
    assert list(records.read(tmp_path)) == [XP, DEAD]


def test_a_line_says_what_the_schema_promises(tmp_path: Path) -> None:
    write(tmp_path, XP)
    line = json.loads((tmp_path / records.FILE).read_text())
    assert line["schema"] == records.SCHEMA
    assert (line["ip"], line["role"], line["proved"]) == ("198.18.7.12", "origin", True)
    assert line["os"] == {
        "kind": "client", "systems": ["Windows XP"], "accuracy": 100, "name": "Windows XP"
    }  # fmt: skip
    assert [one["probe"] for one in line["observations"]] == ["ping", "smtp", "osdetect"]


@pytest.mark.parametrize("cut", [1, 10, 70_000])
def test_a_line_cut_by_a_kill_is_passed_over_and_then_removed(tmp_path: Path, cut: int) -> None:
    write(tmp_path, XP)
    with (tmp_path / records.FILE).open("ab") as file:
        file.write(b"{" * cut)
    assert list(records.read(tmp_path)) == [XP]
    write(tmp_path, DEAD)
    assert list(records.read(tmp_path)) == [XP, DEAD]


def test_a_file_of_nothing_but_a_cut_line_is_emptied(tmp_path: Path) -> None:
    (tmp_path / records.FILE).write_bytes(b'{"schema": 1, "ru')
    write(tmp_path, XP)
    assert list(records.read(tmp_path)) == [XP]


@pytest.mark.parametrize(
    "line", ["[]", "null", "{}", "no json", '{"schema": 99}', '{"schema": 1, "run": 1}']
)
def test_a_line_of_another_schema_is_an_error_that_names_it(tmp_path: Path, line: str) -> None:
    write(tmp_path, XP)
    with (tmp_path / records.FILE).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match="line 2"):
        list(records.read(tmp_path))


def test_of_a_host_measured_twice_the_newest_record_counts(tmp_path: Path) -> None:
    newer = record("198.18.7.12", ping(False), run=2)
    write(tmp_path, XP, DEAD, newer)
    assert records.latest(tmp_path) == {"198.18.7.12": newer, "2001:db8::1": DEAD}


def test_a_folder_without_a_survey_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no survey"):
        records.latest(tmp_path)

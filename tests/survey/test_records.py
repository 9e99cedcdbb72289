"""What a survey keeps on disk, and that neither a kill nor hostile text spoils it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from botmilter import mailbox
from botmilter.errors import InputError, SetupError
from botmilter.measuring import DOUBTED
from botmilter.model import Observation, Signal, Status, Trust
from botmilter.survey import harvest, logs, records
from botmilter.survey.intake import Counts, Intake
from botmilter.survey.records import Host, Journal, MailNote, Record
from botmilter.survey.run import measured, settled
from botmilter.survey.worklist import WorkList
from tests.survey import study

_VERDICT = {"label": "clean", "score": 1.0, "why": "", "reasons": [], "missing": []}


def a_record(ip: str = "192.0.2.1", *observations: Observation) -> Record:
    note = MailNote("00", "a#1", "From\n\x1b[31m", "to", "date", "", 0, "helo", "from x")
    host = Host(ip, "origin", "", 1, (note,), (Signal("helo.no_dot", 1.0, "helo"),))
    return Record(1, 1249268195.0, host, observations, _VERDICT)


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    one = a_record("2001:db8::1", Observation("ping", "k", Status.SILENT, taken_at=1.0))
    with Journal(tmp_path) as journal:
        journal.append(one)
    assert list(records.read(tmp_path)) == [one]


def test_a_line_that_was_cut_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(a_record("192.0.2.1"))
        journal.append(a_record("192.0.2.2"))
    path = tmp_path / records.FILE
    path.write_bytes(path.read_bytes()[:-40])
    assert [one.host.ip for one in records.read(tmp_path)] == ["192.0.2.1"]
    with Journal(tmp_path) as journal:
        journal.append(a_record("192.0.2.3"))
    assert [one.host.ip for one in records.read(tmp_path)] == ["192.0.2.1", "192.0.2.3"]


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / records.FILE).symlink_to("/dev/full")
    said = r"records\.jsonl: cannot be written: No space left"
    with pytest.raises(SetupError, match=said), Journal(tmp_path) as journal:
        journal.append(a_record())


@pytest.mark.parametrize("line", ["{}", "no json", '{"schema": 99}', "[]", '"text"'])
def test_a_line_of_another_kind_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / records.FILE).write_text(line + "\n")
    with pytest.raises(InputError, match="line 1"):
        list(records.read(tmp_path))


def test_a_log_is_printable_and_its_name_has_no_colon() -> None:
    one = a_record("2001:db8::1", Observation("smtp", "k", Status.FAILED, reason="no"))
    assert logs.file_name(one) == "2001-db8--1_20090803T025635Z.log"
    assert all(line.isascii() and line.isprintable() for line in logs.text(one).splitlines())
    assert "From: From??[31m" in logs.text(one)


def _take(folder: Path, file: Path, move_to: Path | None = None) -> tuple[Counts, list[str]]:
    with WorkList(folder) as work:
        run = work.begin()
        intake = Intake(work, run, Trust(), move_to=move_to)
        counts = intake.take(mailbox.messages(file), lambda _: None)
        return counts, work.addresses(run)


def test_a_growing_mailbox_gives_only_its_new_mails(tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.write_bytes(study.mbox(["198.18.1.1", "198.18.1.2", "198.18.1.1"]))
    assert _take(tmp_path / "out", box) == (Counts(new=3), ["198.18.1.1", "198.18.1.2"])
    box.write_bytes(study.mbox(["198.18.1.1", "198.18.1.2", "198.18.1.1", "198.18.1.9"]))
    assert _take(tmp_path / "out", box) == (Counts(new=1, known=3), ["198.18.1.9"])


def test_mails_taken_are_moved_where_that_is_wanted(tmp_path: Path) -> None:
    box, old = tmp_path / "1.eml", tmp_path / "old"
    for _ in range(2):
        box.write_bytes(study.mail("198.18.1.1", 1))
        _take(tmp_path / "out", box, old)
        assert not box.exists()
    assert sorted(path.name for path in old.iterdir()) == ["1.eml", "1.eml.1"]


def test_all_hops_are_taken_with_what_is_proved_of_them() -> None:
    header = b"Received: from a (a [198.18.1.1]) by mx.example with SMTP id 1; Mon, 3 Aug 2009 \
23:16:35 +0900\nReceived: from b (b [198.18.1.2]) by a with SMTP id 2; Mon, 3 Aug 2009 23:11:22 \
+0900\n\n"
    trust = Trust()
    assert [seen.ip for seen in harvest.take(header, trust, False).sightings] == ["198.18.1.1"]
    both = {seen.ip: seen.role for seen in harvest.take(header, trust, True).sightings}
    assert both == {"198.18.1.1": "origin", "198.18.1.2": "claimed"}


def test_two_surveys_never_write_into_one_folder(tmp_path: Path) -> None:
    with WorkList(tmp_path), pytest.raises(SetupError, match="another survey"):
        WorkList(tmp_path)


def test_each_host_is_measured_once_and_a_trouble_is_not_lost() -> None:
    addresses = [f"192.0.2.{n}" for n in range(50)]
    done = [record.host.ip for record in measured(addresses, a_record, 8)]
    assert sorted(done) == sorted(addresses)

    def broken(ip: str) -> Record:
        raise OSError(ip)

    with pytest.raises(OSError, match="192"):
        list(measured(addresses, broken, 8))


def test_a_host_at_a_rate_limit_is_measured_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botmilter.survey.run.WINDOW_S", 0.05)
    limited = Observation("ping", "k", Status.SKIPPED, reason="rate limit: in all")
    tries = itertools.count()

    def measure(ip: str) -> Record:
        return a_record(ip, *((limited,) if next(tries) < 3 else ()))

    (record,) = measured(["192.0.2.1"], measure, 1)
    assert record.observations == ()
    assert next(tries) == 4


_DOUBTED = Observation("ping", "k", Status.FAILED, reason=DOUBTED[Status.SILENT])


@pytest.mark.parametrize(("answered", "becomes"), [(5, Status.SILENT), (0, Status.FAILED)])
def test_silence_is_believed_where_others_answered(answered: int, becomes: Status) -> None:
    alive = [a_record("192.0.2.2", Observation("ping", "k", Status.ANSWERED))] * answered
    doubted = a_record("192.0.2.1", _DOUBTED)
    *_, last = doubted, *settled(lambda: [doubted, *alive], lambda record: record)
    assert [one.status for one in last.observations] == [becomes]

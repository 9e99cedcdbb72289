"""Mails become a work list: each mail once, each host once a run."""

from __future__ import annotations

import gzip
from ipaddress import ip_network
from pathlib import Path

import pytest

from botmilter import mailbox
from botmilter.errors import InputError, SetupError
from botmilter.model import Trust
from botmilter.survey.intake import Counts, Intake, again
from botmilter.survey.worklist import FILE, WorkList
from tests.survey import study
from tests.survey.values import mail, record

OURS = Trust(networks=(ip_network("192.0.2.1/32"),))
THREE = ("198.18.0.1", "198.18.0.2", "198.18.0.3")


def take(work: WorkList, run: int, *places: Path, move_to: Path | None = None) -> Counts:
    mails = mailbox.of_all(map(str, places), lambda place: None)
    return Intake(work, run, OURS, move_to=move_to).take(mails, lambda counts: None)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    path = tmp_path / "box"
    path.write_bytes(study.mbox(THREE))
    return path


def test_each_host_is_listed_once_with_all_its_mails(tmp_path: Path, box: Path) -> None:
    box.write_bytes(study.mbox([*THREE, THREE[0]]))
    with WorkList(tmp_path / "out") as work:
        run = work.begin()
        assert take(work, run, box) == Counts(new=4)
        assert work.addresses(run) == list(THREE)
        host = work.host(run, THREE[0], OURS)
    assert (host.role, host.mail_count, len(host.mails)) == ("origin", 2, 2)
    assert [note.name for note in host.mails] == [str(box), f"{box}#4"]


def test_hosts_come_in_the_order_of_their_mails_arrival(tmp_path: Path) -> None:
    folder = tmp_path / "mails"
    folder.mkdir()
    for name, ip, number in (("1", THREE[0], 9), ("2", THREE[1], 3), ("3", THREE[2], 6)):
        (folder / name).write_bytes(study.mail(ip, number))
    with WorkList(tmp_path / "out") as work:
        run = work.begin()
        take(work, run, folder)
        assert work.addresses(run) == [THREE[1], THREE[2], THREE[0]]


def test_of_a_mailbox_that_grew_only_the_new_mails_are_taken(tmp_path: Path, box: Path) -> None:
    with WorkList(tmp_path / "out") as work:
        first = work.begin()
        take(work, first, box)
        work.end(first)
    box.write_bytes(study.mbox([*THREE, "198.18.0.4"]))
    with WorkList(tmp_path / "out") as work:
        second = work.begin()
        assert take(work, second, box) == Counts(new=1, known=3)
        assert work.addresses(second) == ["198.18.0.4"]


def test_the_same_mail_in_another_file_is_known(tmp_path: Path, box: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(box.read_bytes())
    with WorkList(tmp_path / "out") as work:
        assert take(work, work.begin(), box, copy) == Counts(new=3, known=3)


def test_a_mail_without_a_host_is_counted(tmp_path: Path) -> None:
    local = tmp_path / "local.eml"
    local.write_bytes(b"From: cron@reader.example\nSubject: done\n\n")
    with WorkList(tmp_path / "out") as work:
        run = work.begin()
        assert take(work, run, local) == Counts(new=1, without_host=1)
        assert work.addresses(run) == []


def test_an_unreadable_place_is_told_of_and_does_not_keep_the_others_out(
    tmp_path: Path, box: Path
) -> None:
    more = tmp_path / "more"
    more.write_bytes(study.mail("198.18.0.4", 9))
    with WorkList(tmp_path / "out") as work:
        run = work.begin()
        counts = take(work, run, box, tmp_path / "missing", more)
        assert (counts.new, counts.known) == (4, 0)
        assert (
            counts.unreadable
            == f"{tmp_path / 'missing'}: cannot be read: No such file or directory"
        )
        assert set(work.addresses(run)) == {*THREE, "198.18.0.4"}


def test_a_file_that_cannot_be_read_to_its_end_is_not_moved(tmp_path: Path, box: Path) -> None:
    cut = tmp_path / "a.gz"
    cut.write_bytes(gzip.compress(study.mbox(["198.18.0.4"]) + b"text\n" * 200_000)[:-40])
    with WorkList(tmp_path / "out") as work:
        counts = take(work, work.begin(), cut, tmp_path / "missing", box, move_to=tmp_path / "old")
    assert counts.new == 4
    assert cut.exists()
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["box"]


def test_taken_mails_are_moved_and_none_is_overwritten(tmp_path: Path, box: Path) -> None:
    old = tmp_path / "old"
    with WorkList(tmp_path / "out") as work:
        run = work.begin()
        take(work, run, box, move_to=old)
        assert not box.exists()
        box.write_bytes(study.mbox(["198.18.0.4"]))
        take(work, run, box, move_to=old)
    assert {path.name for path in old.iterdir()} == {"box", "box.1"}
    assert (old / "box").read_bytes() == study.mbox(THREE)


def test_a_second_survey_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with WorkList(tmp_path), pytest.raises(SetupError, match="another survey"):
        WorkList(tmp_path)


def test_a_file_that_is_no_work_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match=FILE):
        WorkList(tmp_path)


def test_a_host_proved_by_one_mail_is_proved(tmp_path: Path) -> None:
    forged = tmp_path / "forged.eml"
    line = f"Received: from b ([{THREE[0]}]) by a; Mon, 3 Aug 2009 14:00:00 +0000\nFrom: "
    forged.write_bytes(study.mail(THREE[1], 1).replace(b"From: ", line.encode(), 1))
    honest = tmp_path / "honest.eml"
    honest.write_bytes(study.mail(THREE[0], 2))
    with WorkList(tmp_path / "out") as work:
        run = work.begin()
        intake = Intake(work, run, OURS, all_hops=True)
        intake.take(mailbox.messages(forged), lambda counts: None)
        assert work.host(run, THREE[0], OURS).role == "claimed"
        intake.take(mailbox.messages(honest), lambda counts: None)
        assert work.host(run, THREE[0], OURS).role == "origin"


def test_a_repetition_has_the_former_hosts_with_their_mails(tmp_path: Path) -> None:
    with WorkList(tmp_path) as work:
        run = work.begin()
        again([record(THREE[0]), record(THREE[1], role="claimed")], work, run)
        assert work.addresses(run) == list(THREE[:2])
        first, second = (work.host(run, ip, OURS) for ip in THREE[:2])
    assert first.mails == (mail(),)
    assert first.signals == record(THREE[0]).host.signals
    assert second.role == "claimed"

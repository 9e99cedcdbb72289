"""Records become the study's tables."""

from __future__ import annotations

import pytest

from botmilter.survey import analyse
from botmilter.survey.analyse import Seen
from tests.survey.values import osdetect, ping, record, smtp


def seen(*observations: object, ip: str = "198.18.7.12", **changes: object) -> Seen:
    return analyse.seen(record(ip, *observations, **changes).to_json())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "generation", "row"),
    [
        ("Windows", "98", analyse.OLD_CLIENT),
        ("Windows", "XP", analyse.OLD_CLIENT),
        ("Windows", "Vista", analyse.NEW_CLIENT),
        ("Windows", "11", analyse.NEW_CLIENT),
        ("Windows", "2003", analyse.SERVER),
        ("Windows", "2019", analyse.SERVER),
        ("Linux", "5.X", analyse.LINUX),
        ("FreeBSD", "12.X", analyse.UNIX),
        ("IOS", "12.X", analyse.OTHER),
    ],
)
def test_each_system_has_its_row(family: str, generation: str, row: str) -> None:
    assert seen(ping(True), osdetect(family, generation)).os_row == row


@pytest.mark.parametrize(
    ("kind", "systems", "row"),
    [
        ("both", ["Windows 7", "Windows 2008", "Windows Vista"], analyse.EITHER),
        ("both", ["Windows 2000", "Windows XP"], analyse.OLD_CLIENT),
        ("both", ["macOS 11.X"], analyse.OTHER),
        ("appliance", ["embedded"], analyse.APPLIANCE),
        ("server", ["OpenVMS 8.X"], analyse.OTHER),
    ],
)
def test_matches_that_leave_it_open_have_their_row(kind: str, systems: list[str], row: str) -> None:
    assert analyse.system_row(kind, systems) == row


def test_a_host_that_answers_but_is_not_named_is_not_the_same_as_one_that_is_gone() -> None:
    assert seen(ping(True), smtp("filtered")).os_row == analyse.UNNAMED
    assert seen(ping(False), smtp("filtered")).os_row == analyse.NO_ANSWER
    assert seen().os_row == analyse.NOT_PROBED


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 10, 0.0, 0.2775),
        (1, 10, 0.0179, 0.4042),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (2, 69, 0.0080, 0.0997),
    ],
)
def test_the_interval_is_wilsons(count: int, total: int, low: float, high: float) -> None:
    assert analyse.wilson(count, total) == pytest.approx((low, high), abs=5e-4)


def test_shares_add_up_to_one_and_keep_the_order_of_the_rows() -> None:
    found = [seen(ping(True), osdetect("Linux", "5.X"))] * 3 + [seen(ping(False))]
    shares = analyse.os_shares(found)
    assert [(one.row, one.count) for one in shares] == [
        (analyse.LINUX, 3),
        (analyse.NO_ANSWER, 1),
    ]
    assert sum(one.share for one in shares) == pytest.approx(1)


def test_the_studys_table_counts_what_nmap_named() -> None:
    found = [
        seen(ping(True), osdetect("Windows", "XP")),
        seen(ping(True), osdetect("Windows", "2008")),
        seen(ping(True), osdetect("Linux", "5.X")),
        seen(ping(True), osdetect("FreeBSD", "12.X")),
        seen(ping(True)),
        seen(ping(False)),
    ]
    assert analyse.study_row(found) == {
        analyse.OLD_CLIENT: 1,
        analyse.SERVER: 1,
        analyse.LINUX: 1,
        analyse.OTHER: 1,
        "total": 4,
    }


XP = (ping(True), smtp("filtered"), osdetect("Windows", "XP"))
LINUX = (ping(True), smtp("greeting"), osdetect("Linux", "5.X"))
FIRST = [
    seen(*XP, ip="198.18.0.1", label="bot", score=8.5),
    seen(*XP, ip="198.18.0.2", label="suspect", score=3.5),
    seen(*LINUX, ip="198.18.0.3"),
    seen(*LINUX, ip="198.18.0.4"),
    seen(ping(False), ip="198.18.0.5"),
]
SECOND = [
    seen(ping(False), ip="198.18.0.1"),
    seen(*LINUX, ip="198.18.0.2"),
    seen(*LINUX, ip="198.18.0.3"),
    seen(*LINUX, ip="198.18.0.5"),
]


def test_churn_counts_who_stayed_changed_went_and_came_back() -> None:
    moves = analyse.churn(FIRST, SECOND)
    assert moves[(analyse.OLD_CLIENT, analyse.NO_ANSWER)] == 1
    assert analyse.churn_summary(moves) == {
        analyse.SAME: 1,
        analyse.CHANGED: 1,
        analyse.GONE: 1,
        analyse.BACK: 1,
        analyse.MISSING: 1,
    }


def test_flagged_hosts_stand_side_by_side_worst_first() -> None:
    (worst, (before, after)), (second, _) = analyse.flagged([FIRST, SECOND])
    assert (worst, second) == ("198.18.0.1", "198.18.0.2")
    assert before is not None
    assert after is not None
    assert (before.ping, before.system, before.smtp) == ("yes", "Windows XP", "time-out")
    assert (after.ping, after.system) == ("no", "")


def test_the_hour_of_a_mail_is_the_receivers() -> None:
    assert analyse.hours([seen(*XP)])[23] == 1

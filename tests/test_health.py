"""A broken probe is left alone for a while and tried again."""

from __future__ import annotations

import pytest

from botmilter.health import FIRST_PAUSE_S, LONGEST_PAUSE_S, Health, Sameness
from botmilter.model import Status


def broken(at: float = 0.0) -> Health:
    health = Health()
    for _ in range(3):
        health.record(Status.FAILED, "nmap is not installed", at)
    return health


def test_one_failure_is_the_host_s_and_three_running_are_ours() -> None:
    health = Health()
    said = [health.record(Status.FAILED, "no route", 0.0) for _ in range(3)]
    assert said == [None, None, "does not work: no route"]
    assert health.pause_reason(1.0) == "paused: no route"


def test_an_answer_in_between_starts_the_count_anew() -> None:
    health = Health()
    for status in [Status.FAILED, Status.FAILED, Status.SILENT, Status.FAILED, Status.FAILED]:
        assert health.record(status, "x", 0.0) is None
    assert health.pause_reason(0.0) is None


def test_what_was_not_tried_says_nothing() -> None:
    health = broken()
    assert health.record(Status.SKIPPED, "", 1.0) is None
    assert health.pause_reason(1.0) is not None


def test_an_attempt_that_told_neither_way_leaves_it_to_the_next() -> None:
    health = broken()
    assert health.pause_reason(FIRST_PAUSE_S) is None
    assert health.record(Status.SKIPPED, "off for IPv6", FIRST_PAUSE_S) is None
    assert health.pause_reason(FIRST_PAUSE_S) is None
    health.undecided()
    assert health.pause_reason(FIRST_PAUSE_S) is None
    assert health.pause_reason(FIRST_PAUSE_S) is not None


def test_after_the_pause_one_attempt_is_let_through() -> None:
    health = broken()
    assert health.pause_reason(FIRST_PAUSE_S) is None
    assert health.pause_reason(FIRST_PAUSE_S) is not None


def test_the_attempt_s_success_is_told_once() -> None:
    health = broken()
    assert health.record(Status.ANSWERED, "", 20.0) == "works again"
    assert health.record(Status.ANSWERED, "", 21.0) is None


def test_each_failed_attempt_doubles_the_pause_up_to_a_bound() -> None:
    health, now, pauses = broken(), 0.0, []
    for _ in range(8):
        started = now
        while health.pause_reason(now) is not None:
            now += 1.0
        pauses.append(now - started)
        assert health.record(Status.FAILED, "still", now) is None
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert max(pauses) == LONGEST_PAUSE_S


def test_what_was_under_way_as_the_pause_began_does_not_lengthen_it() -> None:
    health = broken()
    for _ in range(50):
        health.record(Status.FAILED, "late", 0.5)
    assert health.pause_reason(FIRST_PAUSE_S) is None


def run_until_suspect(sameness: Sameness, look: str = "silent", at_most: int = 5000) -> int:
    for number in range(at_most):
        if sameness.is_suspect:
            return number
        sameness.record(look)
    return at_most


def test_a_probe_that_says_the_same_of_every_host_is_suspected_itself() -> None:
    assert run_until_suspect(Sameness()) == 26


def test_where_few_hosts_ever_look_different_it_takes_longer() -> None:
    sameness = Sameness()
    for number in range(2000):
        sameness.record(None if number % 20 == 0 else "silent")
    assert 150 < run_until_suspect(sameness) < 250


def test_each_look_has_a_past_of_its_own() -> None:
    sameness = Sameness()
    for number in range(2000):
        sameness.record(None if number % 20 == 0 else "silent")
    assert run_until_suspect(sameness, "refused") == 10


def test_hosts_that_look_different_by_turns_are_not_suspected() -> None:
    sameness = Sameness()
    told = {sameness.record(look) for _ in range(500) for look in ("silent", "refused")}
    assert told == {None}


def test_a_probe_that_was_shown_to_work_is_trusted_and_the_run_belongs_to_its_past() -> None:
    sameness = Sameness()
    assert run_until_suspect(sameness) == 26
    sameness.trust()
    assert not sameness.is_suspect
    assert run_until_suspect(sameness) > 80


@pytest.mark.parametrize("other", [None, "refused"])
def test_one_that_looks_different_ends_the_suspicion_and_both_are_told_once(
    other: str | None,
) -> None:
    sameness = Sameness()
    told = [sameness.record("silent") for _ in range(40)] + [sameness.record(other)]
    assert [line for line in told if line] == [
        "26 hosts running look the same: is our own way out blocked?",
        "hosts look different again",
    ]
    assert not sameness.is_suspect

"""A broken probe is left alone for a while and tried again."""

from __future__ import annotations

from botmilter.health import FIRST_PAUSE_S, LONGEST_PAUSE_S, Health
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

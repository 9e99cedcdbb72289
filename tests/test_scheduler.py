"""The scheduler: bounded, one flight for each key, never in the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from botmilter.scheduler import BREATH_S, LaneState, Scheduler, Wanted

WAIT_S = 5.0


class Gate:
    """A job that waits until it is let go, and counts how often it ran."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.go = threading.Event()
        self.runs = 0

    def __call__(self) -> str:
        self.runs += 1
        self.started.release()
        self.go.wait(WAIT_S)
        return "done"


def collector() -> tuple[list[str], Callable[[str], None], threading.Semaphore]:
    got: list[str] = []
    arrived = threading.Semaphore(0)

    def done(result: str) -> None:
        got.append(result)
        arrived.release()

    return got, done, arrived


def test_a_second_caller_for_the_same_key_joins_the_first() -> None:
    scheduler: Scheduler[str] = Scheduler({"lane": 4}, 100, "undone")
    gate = Gate()
    got, done, arrived = collector()
    for _ in range(20):
        assert scheduler.submit("lane", "host", gate, done)
    gate.go.set()
    for _ in range(20):
        assert arrived.acquire(timeout=WAIT_S)
    assert gate.runs == 1
    assert got == ["done"] * 20


def test_after_a_flight_landed_the_key_is_free_again() -> None:
    scheduler: Scheduler[str] = Scheduler({"lane": 1}, 100, "undone")
    _, done, arrived = collector()
    ran: list[int] = []
    for number in range(3):

        def job(number: int = number) -> str:
            ran.append(number)
            return "x"

        scheduler.submit("lane", "host", job, done)
        assert arrived.acquire(timeout=WAIT_S)
    assert ran == [0, 1, 2]


@pytest.mark.parametrize("paced", [(), ("lane",)], ids=["at once", "paced"])
def test_as_many_jobs_run_at_once_as_the_lane_has_threads(paced: tuple[str, ...]) -> None:
    scheduler: Scheduler[str] = Scheduler({"lane": 3}, 100, "undone", paced)
    gate = Gate()
    _, done, arrived = collector()
    for number in range(10):
        assert scheduler.submit("lane", str(number), gate, done)
    for _ in range(3):
        assert gate.started.acquire(timeout=WAIT_S)
    assert not gate.started.acquire(timeout=0.1)
    assert scheduler.lanes["lane"] == LaneState(queued=7, busy=3, refused=0)
    gate.go.set()
    for _ in range(10):
        assert arrived.acquire(timeout=WAIT_S)
    assert gate.runs == 10


def test_a_full_queue_refuses_at_once() -> None:
    scheduler: Scheduler[str] = Scheduler({"lane": 1}, 2, "undone")
    gate = Gate()
    _, done, _ = collector()
    assert scheduler.submit("lane", "running", gate, done)
    assert gate.started.acquire(timeout=WAIT_S)
    assert scheduler.submit("lane", "first", gate, done)
    assert scheduler.submit("lane", "second", gate, done)
    assert not scheduler.submit("lane", "third", gate, done)
    assert scheduler.lanes["lane"] == LaneState(queued=2, busy=1, refused=1)
    gate.go.set()


def test_what_nobody_wants_by_its_turn_is_not_done() -> None:
    scheduler: Scheduler[str] = Scheduler({"lane": 1}, 100, "undone")
    gate, never = Gate(), Gate()
    got, done, arrived = collector()
    assert scheduler.submit("lane", "running", gate, done)
    assert gate.started.acquire(timeout=WAIT_S)
    assert scheduler.submit("lane", "gone", never, done, lambda: Wanted.NOT)
    assert scheduler.submit("lane", "joined", gate, done, lambda: Wanted.NOT)
    assert scheduler.submit("lane", "joined", gate, done)
    gate.go.set()
    for _ in range(4):
        assert arrived.acquire(timeout=WAIT_S)
    assert (sorted(got), never.runs, gate.runs) == (["done", "done", "done", "undone"], 0, 2)


def test_what_somebody_waits_for_goes_first_and_makes_room_for_itself() -> None:
    scheduler: Scheduler[str] = Scheduler({"lane": 1}, 2, "undone")
    gate = Gate()
    order: list[str] = []
    _, done, arrived = collector()

    def submit(key: str, wanted: Wanted) -> bool:
        def job() -> str:
            order.append(key)
            return "x"

        return scheduler.submit("lane", key, job, done, lambda: wanted)

    assert scheduler.submit("lane", "running", gate, done)
    assert gate.started.acquire(timeout=WAIT_S)
    assert submit("later", Wanted.LATER)
    assert submit("later still", Wanted.LATER)
    assert submit("now", Wanted.NOW)
    assert arrived.acquire(timeout=WAIT_S), "the one that made room is told"
    assert submit("now, too", Wanted.NOW)
    assert not submit("no room", Wanted.NOW)
    gate.go.set()
    for _ in range(4):
        assert arrived.acquire(timeout=WAIT_S)
    assert order == ["now", "now, too"]


def test_jobs_of_paced_lanes_begin_a_breath_apart_and_need_few_threads() -> None:
    scheduler: Scheduler[str] = Scheduler(
        {"paced": 32, "other": 32}, 100, "undone", ["paced", "other"]
    )
    _, done, arrived = collector()
    began: list[float] = []
    threads: set[int] = set()

    def job() -> str:
        began.append(time.monotonic())
        threads.add(threading.get_ident())
        return "x"

    for number in range(40):
        assert scheduler.submit(("paced", "other")[number % 2], str(number), job, done)
    for _ in range(40):
        assert arrived.acquire(timeout=WAIT_S)
    assert max(began) - min(began) >= 38 * BREATH_S
    assert len(threads) < 20


def test_no_job_is_left_to_a_thread_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botmilter.scheduler._IDLE_S", 0.01)
    scheduler: Scheduler[str] = Scheduler({"lane": 1}, 100, "undone")
    _, done, arrived = collector()
    take_one = Scheduler._take_one
    at_its_end: list[str] = []

    def take_one_and_at_the_end_bring_another(*of: Any) -> bool:
        goes_on = take_one(*of)
        if not goes_on and of[0] is scheduler and not at_its_end:
            at_its_end.append("brought")
            assert scheduler.submit("lane", "late", lambda: "x", done)
        return goes_on

    monkeypatch.setattr(Scheduler, "_take_one", take_one_and_at_the_end_bring_another)
    assert scheduler.submit("lane", "first", lambda: "x", done)
    for _ in range(2):
        assert arrived.acquire(timeout=WAIT_S)


def test_a_machine_out_of_threads_makes_do_with_those_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler: Scheduler[str] = Scheduler({"lane": 4}, 100, "undone")
    gate = Gate()
    _, done, arrived = collector()
    assert scheduler.submit("lane", "first", gate, done)
    assert gate.started.acquire(timeout=WAIT_S)

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    assert scheduler.submit("lane", "second", gate, done)
    gate.go.set()
    for _ in range(2):
        assert arrived.acquire(timeout=WAIT_S)


def test_one_lane_s_hung_jobs_do_not_hold_another_lane() -> None:
    scheduler: Scheduler[str] = Scheduler({"slow": 1, "quick": 1}, 100, "undone")
    gate = Gate()
    _, done, arrived = collector()
    scheduler.submit("slow", "hangs", gate, done)
    scheduler.submit("quick", "answers", lambda: "x", done)
    assert arrived.acquire(timeout=WAIT_S)
    gate.go.set()


def test_a_job_that_raises_costs_neither_its_key_nor_the_lane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: told.set())
    scheduler: Scheduler[str] = Scheduler({"lane": 1}, 100, "undone")
    results, done, arrived = collector()

    def broken() -> str:
        raise RuntimeError("a bug")

    for job in (broken, lambda: "x"):
        scheduler.submit("lane", "host", job, done)
        assert arrived.acquire(timeout=WAIT_S)
    assert results == ["undone", "x"]
    assert told.wait(WAIT_S)


def test_a_later_call_that_raises_keeps_no_other_from_its_time() -> None:
    scheduler: Scheduler[str] = Scheduler({}, 0, "undone")
    came = threading.Event()

    def broken() -> None:
        raise RuntimeError("a bug")

    scheduler.later(0.01, broken)
    scheduler.later(0.02, came.set)
    assert came.wait(WAIT_S)


def test_later_calls_come_though_the_machine_had_no_thread_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler: Scheduler[str] = Scheduler({}, 0, "undone")
    came = threading.Semaphore(0)

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", none_left)
        scheduler.later(0.01, came.release)
    scheduler.later(0.02, came.release)
    for _ in range(2):
        assert came.acquire(timeout=WAIT_S)


def test_later_calls_in_the_order_of_their_time() -> None:
    scheduler: Scheduler[str] = Scheduler({}, 0, "undone")
    order: list[str] = []
    last = threading.Event()

    def second() -> None:
        order.append("second")
        last.set()

    scheduler.later(0.06, second)
    scheduler.later(0.01, lambda: order.append("first"))
    assert last.wait(WAIT_S)
    assert order == ["first", "second"]

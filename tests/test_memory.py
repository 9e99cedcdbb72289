"""What is kept for how long, and life without the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest

from botmilter.errors import StoreError
from botmilter.health import FAILURES_TO_PAUSE
from botmilter.memory import Lifetimes, Memory, Rates
from botmilter.model import Observation, Status
from botmilter.store.base import Notices, Window
from botmilter.store.memory import MemoryStore

LIFETIMES = Lifetimes(clears_s=1000, accuses_s=100, unknown_s=10, failed_s=5)
RATES = Rates(in_all_per_minute=100, per_network_per_minute=100, per_host_per_hour=100)


def seen(status: Status = Status.ANSWERED, ttl_s: float | None = None) -> Observation:
    return Observation("rdns", "k", status, taken_at=time.time(), ttl_s=ttl_s)


@pytest.mark.parametrize(
    ("status", "ttl_s", "points", "kept_s"),
    [
        (Status.ANSWERED, None, -2.0, 1000),
        (Status.ANSWERED, None, 1.5, 100),
        (Status.SILENT, None, 1.5, 100),
        (Status.ANSWERED, None, 0.0, 10),
        (Status.FAILED, None, -2.0, 5),
        (Status.ANSWERED, 60.0, -2.0, 60),
        (Status.ANSWERED, 1.0, -2.0, 5),  # a TTL of 0 must not mean asking for each mail
        (Status.ANSWERED, 9999.0, 1.0, 100),
    ],
)
def test_what_clears_is_kept_long_and_what_accuses_short(
    status: Status, ttl_s: float | None, points: float, kept_s: float
) -> None:
    assert LIFETIMES.of(seen(status, ttl_s), points) == kept_s


def test_a_probe_may_have_lifetimes_of_its_own() -> None:
    own = Lifetimes(clears_s=20_000, accuses_s=2, unknown_s=7, failed_s=3)
    both = replace(LIFETIMES, by_probe={"rdns": own}, keep_s=15_000)
    of_smtp = replace(seen(), probe="smtp")
    assert [both.of(seen(), points) for points in (-1.0, 1.0, 0.0)] == [15_000, 2, 7]
    assert both.of(seen(Status.FAILED), 0.0) == 3
    assert [both.of(of_smtp, points) for points in (-1.0, 1.0, 0.0)] == [1000, 100, 10]
    assert both.longest_s == 15_000  # who held an address is kept as long as what is known of it


def test_a_failure_of_ours_is_not_told_to_others() -> None:
    shared = MemoryStore(10)
    Memory(MemoryStore(10), shared, LIFETIMES, RATES).remember(seen(Status.FAILED), 0.0)
    assert shared.get("rdns", "k", time.time()) is None


def test_a_purge_drops_what_has_expired_here_and_in_the_store() -> None:
    cache, shared = MemoryStore(10), MemoryStore(10)
    for store in (cache, shared):
        store.put(seen(), -1.0)
    cache.put(Observation("smtp", "k", Status.ANSWERED, taken_at=time.time()), 60.0)
    assert Memory(cache, shared, LIFETIMES, RATES).purge() == 2
    assert Memory(cache, cache, LIFETIMES, RATES).purge() == 0
    assert cache.get("smtp", "k", time.time()) is not None


class Counted(MemoryStore):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__(10)
        self.exchanges: list[Sequence[tuple[str, str]]] = []

    def get_many(self, asked: Sequence[tuple[str, str]], now: float) -> list[Observation]:
        self.exchanges.append(asked)
        return super().get_many(asked, now)


def test_of_a_host_all_that_is_not_at_hand_is_asked_for_in_one_exchange() -> None:
    cache, shared = MemoryStore(10), Counted()
    memory = Memory(cache, shared, LIFETIMES, RATES)
    rdns, smtp, ping = (replace(seen(), probe=probe) for probe in ("rdns", "smtp", "ping"))
    cache.put(rdns, 60.0)
    for one in (smtp, ping):
        shared.put(one, 60.0)
    keys = dict.fromkeys(("rdns", "smtp", "osdetect", "ping"), "k")
    found = memory.recall_many(keys, lambda _: 0.0)
    assert sorted(found, key=str) == sorted((rdns, smtp, ping), key=str)
    assert [set(asked) for asked in shared.exchanges] == [
        {("smtp", "k"), ("osdetect", "k"), ("ping", "k")}
    ]
    del keys["osdetect"]
    assert len(memory.recall_many(keys, lambda _: 0.0)) == 3
    assert len(shared.exchanges) == 1


def test_a_store_out_of_reach_does_not_stop_the_purge_of_the_cache() -> None:
    cache = MemoryStore(10)
    cache.put(seen(), -1.0)
    assert Memory(cache, Flaky(10), LIFETIMES, RATES).purge() == 1


class Flaky(MemoryStore):
    """A store that is out of reach while told so, and takes its time to count."""

    down = True
    asked = 0

    def get(self, probe: str, key: str, now: float) -> Observation | None:
        self.asked += 1
        if self.down:
            raise StoreError("connection refused")
        return super().get(probe, key, now)

    def claim(self, key: str, for_s: float) -> bool:
        if self.down:
            raise StoreError("connection refused")
        return super().claim(key, for_s)

    def purge(self, now: float, keep_s: float) -> int:
        if self.down:
            raise StoreError("connection refused")
        return super().purge(now, keep_s)

    def notices(self) -> Notices:
        if self.down:
            raise StoreError("connection refused")
        return super().notices()

    def count(self, key: str, window_s: float, now: float) -> int:
        if self.down:
            time.sleep(0.7)
            raise StoreError("database is locked")
        return super().count(key, window_s, now)

    def admit(self, windows: Sequence[Window], now: float) -> int | None:
        if self.down:
            raise StoreError("connection refused")
        return super().admit(windows, now)


def test_a_rate_that_the_store_has_counted_is_not_granted_again_when_it_goes() -> None:
    store = Flaky(10)
    memory = Memory(MemoryStore(10), store, LIFETIMES, replace(RATES, per_host_per_hour=5))
    host, said = ip_address("198.18.7.12"), []
    for number in range(10):
        store.down = number % 3 == 2
        said.append(memory.refusal(host))
    assert said.count(None) == 5, said


def test_a_lost_store_is_logged_once_and_so_is_its_return(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("botmilter.health.FIRST_PAUSE_S", 0.05)
    store = Flaky(10)
    memory = Memory(MemoryStore(10), store, LIFETIMES, RATES)
    for _ in range(50):
        assert memory.recall("rdns", "k", lambda _: 0.0) is None
        assert memory.claim("k", 1.0)
    assert store.asked < 10
    store.down = False
    for number in range(100):
        memory.recall("rdns", "k", lambda _: 0.0)
        memory.claim(f"k{number}", 1.0)
        time.sleep(0.005)
    assert [record.getMessage() for record in caplog.records] == [
        "store does not work: connection refused",
        "store works again",
    ]


def test_a_store_that_has_come_back_is_asked_again_though_its_pause_is_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("botmilter.notices.LOOK_EVERY_S", 0.0)
    store = Flaky(10)
    memory = Memory(MemoryStore(10), store, LIFETIMES, RATES)
    for _ in range(FAILURES_TO_PAUSE):
        memory.recall("rdns", "k", lambda _: 0.0)
    memory.look()
    store.down = False
    memory.recall("rdns", "k", lambda _: 0.0)
    assert store.asked == FAILURES_TO_PAUSE
    memory.look()
    memory.recall("rdns", "k", lambda _: 0.0)
    memory.recall("rdns", "k", lambda _: 0.0)
    assert store.asked == FAILURES_TO_PAUSE + 2


def test_a_mail_that_is_put_off_waits_for_no_store_that_stalls() -> None:
    store = Flaky(10)
    memory = Memory(MemoryStore(10), store, LIFETIMES, RATES)
    store.down = False
    ip = ip_address("198.18.0.1")
    assert memory.count_tempfail(ip) == 1
    store.down = True
    started = time.monotonic()
    counted = [memory.count_tempfail(ip) for _ in range(2)]
    assert time.monotonic() - started < 0.6
    assert counted == [2, 3]  # none is put off once more because the store has gone


def test_a_claim_held_elsewhere_is_waited_for_no_longer_than_said() -> None:
    store = MemoryStore(10)
    store.claim("k", 60)
    started = time.monotonic()
    assert not Memory(MemoryStore(10), store, LIFETIMES, RATES).claim("k", 0.2)
    assert 0.2 <= time.monotonic() - started < 1.0


class Busy(MemoryStore):
    """Takes nothing for so many calls."""

    for_calls = 0

    def _is_free(self) -> None:
        self.for_calls -= 1
        if self.for_calls >= 0:
            raise StoreError("database is locked")

    def claim(self, key: str, for_s: float) -> bool:
        self._is_free()
        return super().claim(key, for_s)

    def put(self, seen: Observation, ttl_s: float) -> None:
        self._is_free()
        super().put(seen, ttl_s)

    def release(self, key: str) -> None:
        self._is_free()
        super().release(key)


def test_a_store_that_is_busy_for_a_moment_does_not_grant_what_another_has_claimed() -> None:
    store = Busy(10)
    store.claim("k", 60)
    store.for_calls = 1
    assert not Memory(MemoryStore(10), store, LIFETIMES, RATES).claim("k", 0.2)


def test_what_was_claimed_is_given_back_though_the_store_was_busy() -> None:
    store = Busy(10)
    memory = Memory(MemoryStore(10), store, LIFETIMES, RATES)
    assert memory.claim("k", 60)
    store.for_calls = 1
    memory.release("k")
    assert store.claim("k", 60)


def test_what_was_seen_while_the_store_was_busy_is_told_to_others() -> None:
    store = Busy(10)
    store.for_calls = 1
    Memory(MemoryStore(10), store, LIFETIMES, RATES).remember(seen(), 0.0)
    other = Memory(MemoryStore(10), store, LIFETIMES, RATES)
    assert other.recall("rdns", "k", lambda _: 0.0) is not None


def test_a_store_that_was_busy_is_still_asked_what_others_have_seen() -> None:
    store = Busy(10)
    store.put(seen(), 60)
    memory = Memory(MemoryStore(10), store, LIFETIMES, RATES)
    store.for_calls = 2
    memory.remember(replace(seen(), key="another"), 0.0)
    assert memory.errors == 2
    assert memory.recall("rdns", "k", lambda _: 0.0) is not None


def test_at_its_end_a_process_gives_back_what_it_has_claimed() -> None:
    store = MemoryStore(10)
    memory = Memory(MemoryStore(10), store, LIFETIMES, RATES)
    assert [memory.claim(key, 60) for key in ("a", "b")] == [True, True]
    memory.release("a")
    assert store.claim("a", 60)
    memory.close()
    assert store.claim("b", 60)
    assert not store.claim("a", 60)  # another's by now


class Full(MemoryStore):
    """Answers and takes nothing, like a Redis at its maxmemory."""

    is_full = True

    def put(self, seen: Observation, ttl_s: float) -> None:
        if self.is_full:
            raise StoreError("out of memory")


@pytest.fixture
def full(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> tuple[Full, Memory]:
    """A store without room and the memory over it, which tries again after 0.1 s."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("botmilter.health.FIRST_PAUSE_S", 0.1)
    store = Full(10)
    return store, Memory(MemoryStore(10), store, LIFETIMES, RATES)


def remember_one(memory: Memory) -> None:
    memory.remember(Observation("rdns", "k", Status.ANSWERED, taken_at=time.time()), 0.0)


def test_a_full_store_that_still_answers_is_not_said_to_work(
    full: tuple[Full, Memory], caplog: pytest.LogCaptureFixture
) -> None:
    store, memory = full

    def some_mails() -> None:
        for number in range(60):
            memory.recall("rdns", f"k{number}", lambda _: 0.0)
            remember_one(memory)
            time.sleep(0.01)

    some_mails()
    assert caplog.messages == ["store does not work: out of memory"]
    store.is_full = False
    some_mails()
    assert caplog.messages == ["store does not work: out of memory", "store works again"]


def test_what_takes_no_room_does_not_use_up_the_one_attempt_after_a_pause(
    full: tuple[Full, Memory], caplog: pytest.LogCaptureFixture
) -> None:
    store, memory = full
    for _ in range(FAILURES_TO_PAUSE):
        remember_one(memory)
    store.is_full = False
    time.sleep(0.25)
    memory.release("k")
    remember_one(memory)
    assert caplog.messages == ["store does not work: out of memory", "store works again"]

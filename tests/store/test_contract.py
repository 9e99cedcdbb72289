"""What every store promises, shown on each."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from botmilter.model import Observation, Status
from botmilter.store.base import Store, Window
from botmilter.store.fresh import FreshStore
from botmilter.store.memory import MemoryStore
from botmilter.store.redis import RedisStore
from botmilter.store.sqlite import SqliteStore
from tests.fakes.programs import find, free_port, listens, running

NOW = time.time()
SEEN = Observation(
    "rdns", "198.18.7.12", Status.ANSWERED, {"names": ["pc.example"]}, "", NOW, 0.1, 300.0
)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    command = [find("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with running(command, lambda: listens(port), tmp_path_factory.mktemp("redis")):
        yield f"redis://127.0.0.1:{port}"


@pytest.fixture(params=["memory", "sqlite", "redis", "fresh"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with ExitStack() as stack:
        made: Store
        if request.param == "memory":
            made = MemoryStore(100)
        elif request.param == "sqlite":
            made = SqliteStore(tmp_path / "s.db")
        elif request.param == "fresh":
            made = FreshStore(MemoryStore(100), since=0.0)
        else:
            url = request.getfixturevalue("redis_url")
            made = RedisStore(url)
            port = url.rpartition(":")[2]
            subprocess.run([find("redis-cli"), "-p", port, "flushall"], check=True)
        stack.callback(made.close)
        yield made


def test_what_was_put_comes_back_equal(store: Store) -> None:
    store.put(SEEN, 60)
    assert store.get("rdns", "198.18.7.12", NOW + 59) == SEEN


def test_what_has_expired_is_not_there(store: Store) -> None:
    store.put(SEEN, 60)
    assert store.get("rdns", "198.18.7.12", NOW + 61) is None


def test_neither_another_probe_nor_another_host_gets_it(store: Store) -> None:
    store.put(SEEN, 60)
    assert store.get("smtp", "198.18.7.12", NOW) is None
    assert store.get("rdns", "198.18.7.13", NOW) is None


def test_a_later_observation_takes_the_place_of_the_earlier(store: Store) -> None:
    store.put(SEEN, 60)
    later = Observation("rdns", "198.18.7.12", Status.SILENT, taken_at=NOW + 1)
    store.put(later, 60)
    assert store.get("rdns", "198.18.7.12", NOW + 2) == later


def test_a_claim_is_held_by_one_until_released(store: Store) -> None:
    assert store.claim("k", 60)
    assert not store.claim("k", 60)
    assert store.claim("other", 60)
    store.release("k")
    assert store.claim("k", 60)


def test_a_dead_owner_s_claim_ends_by_itself(store: Store) -> None:
    assert store.claim("k", 0.01)
    time.sleep(0.05)
    assert store.claim("k", 60)


def test_what_expired_can_be_purged_without_harm_to_the_rest(store: Store) -> None:
    store.put(SEEN, 60)
    store.put(Observation("rdns", "other", Status.ANSWERED, taken_at=NOW), 600)
    assert store.purge(NOW + 61) in (0, 1)
    assert store.get("rdns", "198.18.7.12", NOW + 61) is None
    assert store.get("rdns", "other", NOW + 61) is not None


def test_what_is_forgotten_is_not_there_and_the_rest_is(store: Store) -> None:
    store.put(SEEN, 60)
    store.put(replace(SEEN, probe="smtp"), 60)
    store.put(replace(SEEN, key="198.18.7.13"), 60)
    store.forget(["rdns", "ping"], SEEN.key)
    left = [("rdns", SEEN.key), ("smtp", SEEN.key), ("rdns", "198.18.7.13")]
    assert [store.get(*one, NOW) is not None for one in left] == [False, True, True]


START = NOW // 60 * 60


def test_events_are_admitted_up_to_the_limit_of_their_window(store: Store) -> None:
    two = Window("host", 2, 60)
    assert [store.admit([two], START + second) for second in (0, 30, 59)] == [None, None, 0]
    assert store.admit([Window("another", 1, 60)], START) is None
    assert [store.admit([two], START + second) for second in (60, 61, 62)] == [None, None, 0]


def test_where_one_window_is_full_no_other_is_used_up(store: Store) -> None:
    host, network = Window("host", 1, 3600), Window("network", 3, 60)
    assert [store.admit([host, network], START) for _ in range(9)] == [None, *[0] * 8]
    assert [store.admit([network], START) for _ in range(3)] == [None, None, 0]
    assert store.admit([Window("another", 5, 60), network], START) == 1


def test_events_are_counted_within_their_window(store: Store) -> None:
    assert [store.count("host", 60, START + second) for second in (0, 30, 59)] == [1, 2, 3]
    assert store.count("another", 60, START) == 1
    assert store.count("host", 60, START + 60) == 1


def test_the_last_place_goes_to_one_of_many(store: Store) -> None:
    window = Window("host", 7, 60)
    with ThreadPoolExecutor(16) as many:
        found = list(many.map(lambda _: store.admit([window], START), range(64)))
    assert found.count(None) == 7

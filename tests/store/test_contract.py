"""What every store promises, shown on each."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from botmilter.model import Observation, Status
from botmilter.store.base import Store
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


def test_events_are_counted_within_their_window(store: Store) -> None:
    start = NOW // 60 * 60
    assert [store.count("host", 60, start + second) for second in (0, 30, 59)] == [1, 2, 3]
    assert store.count("another", 60, start) == 1
    assert store.count("host", 60, start + 60) == 1

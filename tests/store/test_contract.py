"""What every store promises, shown on each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from botmilter.model import Observation, Status
from botmilter.store.base import Store
from botmilter.store.memory import MemoryStore
from botmilter.store.sqlite import SqliteStore

NOW = 1_790_000_000.0
SEEN = Observation(
    "rdns", "198.18.7.12", Status.ANSWERED, {"names": ["pc.example"]}, "", NOW, 0.1, 300.0
)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore(100) if request.param == "memory" else SqliteStore(tmp_path / "s.db")
    yield made
    made.close()


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
    assert store.claim("k", 0.0)
    assert store.claim("k", 60)


def test_purge_drops_what_expired_and_nothing_else(store: Store) -> None:
    store.put(SEEN, 60)
    store.put(Observation("rdns", "other", Status.ANSWERED, taken_at=NOW), 600)
    assert store.purge(NOW + 61) == 1
    assert store.get("rdns", "other", NOW + 61) is not None

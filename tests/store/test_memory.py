from __future__ import annotations

from dataclasses import replace

from botmilter.model import Observation, Status
from botmilter.store.memory import MemoryStore


def test_the_least_recently_used_goes_first() -> None:
    store = MemoryStore(2)
    for name in ("a", "b"):
        store.put(Observation("p", name, Status.ANSWERED), 60)
    assert store.get("p", "a", 0.0) is not None
    store.put(Observation("p", "c", Status.ANSWERED), 60)
    assert [store.get("p", name, 0.0) is not None for name in "abc"] == [True, False, True]


def test_it_holds_just_what_was_put_until_that_expires() -> None:
    store, place, now = MemoryStore(9), ("p", "a"), 1000.0
    seen = Observation(*place, Status.ANSWERED, taken_at=now)
    assert store.holds([(place, None)], now)
    store.put(seen, 60)
    assert store.holds([(place, seen), (("p", "b"), None)], now + 59)
    assert not store.holds([(place, None)], now)
    assert not store.holds([(("p", "b"), None), (place, replace(seen))], now), "another object"
    assert not store.holds([(place, seen)], now + 60)
    assert store.holds([(place, None)], now + 60)


def test_what_is_asked_whether_it_holds_is_used_recently() -> None:
    store = MemoryStore(2)
    seen = [Observation("p", name, Status.ANSWERED) for name in "abc"]
    store.put(seen[0], 60)
    store.put(seen[1], 60)
    assert store.holds([(("p", "a"), seen[0])], 0.0)
    store.put(seen[2], 60)
    assert [store.get("p", name, 0.0) is not None for name in "abc"] == [True, False, True]

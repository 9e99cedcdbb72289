from __future__ import annotations

from botmilter.model import Observation, Status
from botmilter.store.memory import MemoryStore


def test_the_least_recently_used_goes_first() -> None:
    store = MemoryStore(2)
    for name in ("a", "b"):
        store.put(Observation("p", name, Status.ANSWERED), 60)
    assert store.get("p", "a", 0.0) is not None
    store.put(Observation("p", "c", Status.ANSWERED), 60)
    assert [store.get("p", name, 0.0) is not None for name in "abc"] == [True, False, True]

"""What a survey does not believe: facts from before its run."""

from __future__ import annotations

from dataclasses import replace

from botmilter.store.base import Window
from botmilter.store.fresh import FreshStore
from botmilter.store.memory import MemoryStore
from tests.store.test_contract import NOW, SEEN

_KEY = (SEEN.probe, SEEN.key)


def test_what_was_learnt_before_is_not_used_and_not_lost() -> None:
    beneath = MemoryStore(100)
    beneath.put(SEEN, 60)
    assert FreshStore(beneath, since=SEEN.taken_at + 1).get(*_KEY, NOW) is None
    assert beneath.get(*_KEY, NOW) == SEEN


def test_what_is_learnt_since_is_used_and_shared() -> None:
    beneath = MemoryStore(100)
    fresh = FreshStore(beneath, since=NOW)
    newer = replace(SEEN, taken_at=NOW + 1)
    fresh.put(newer, 60)
    assert fresh.get(*_KEY, NOW + 2) == beneath.get(*_KEY, NOW + 2) == newer


def test_rights_and_rates_are_shared_with_all() -> None:
    beneath = MemoryStore(100)
    fresh = FreshStore(beneath, since=NOW)
    assert fresh.claim("ping 198.18.7.12", 60)
    assert not beneath.claim("ping 198.18.7.12", 60)
    rate = Window("rate", 1, 60.0)
    assert beneath.admit([rate], NOW) is None
    assert fresh.admit([rate], NOW) == 0

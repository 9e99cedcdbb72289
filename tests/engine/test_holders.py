"""What was known of an address that has changed hands counts no more."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from botmilter.holders import HeldBy
from botmilter.memory import Memory, Rates
from botmilter.model import Label, Observation, Status
from botmilter.probes.rdns import holder
from botmilter.store.memory import MemoryStore
from tests.fakes.engine import LIFETIMES, engine, nmap, origin, policy, rdns, smtp


@pytest.mark.parametrize("is_shared", [False, True])
def test_of_an_address_with_another_name_nothing_known_before_counts(
    is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its new holder is looked at anew, for this very mail, in this process and in the others."""
    monkeypatch.setattr("botmilter.holders._BESIDE_S", 0.0)
    shared = MemoryStore(100) if is_shared else None
    probes = (rdns("host.confirmed"), smtp("smtp.banner"))
    made = engine(*probes, store=shared, lifetimes=replace(LIFETIMES, clears_s=60))
    assert made.result(made.begin(origin(), policy(thorough=True))).label is Label.CLEAN
    other = engine(nothing := smtp("smtp.banner"), store=shared)
    other.result(other.begin(origin(), policy()))

    name, service = probes
    name.says, service.says = "rdns.dynamic", "smtp.refused"
    made._memory._cache.forget(["rdns"], "198.18.7.12")
    if shared is not None:
        shared.forget(["rdns"], "198.18.7.12")
    verdict = made.result(made.begin(origin(), policy(thorough=True)))
    assert {reason.signal.name for reason in verdict.reasons} == {"rdns.dynamic", "smtp.refused"}
    assert [len(probe.asked) for probe in probes] == [2, 2]
    assert len(nothing.asked) == (0 if is_shared else 1)
    if shared is not None:
        seen = shared.get("smtp", "198.18.7.12", time.time())
        assert seen is not None
        assert seen.facts["says"] == "smtp.refused"


@pytest.mark.parametrize(("age_s", "stays"), [(0, True), (14, True), (16, False)])
def test_what_was_measured_just_before_the_change_was_heard_of_stays(
    age_s: float, stays: bool
) -> None:
    """It is the new holder's: to forget it would be to measure twice."""
    now = time.time()
    cache, store = MemoryStore(100), MemoryStore(100)
    held_by = HeldBy(holder, frozenset({"smtp"}))
    lifetimes = replace(LIFETIMES, unknown_s=100)
    memory = Memory(cache, store, lifetimes, Rates(9, 9, 9), held_by)

    def remember(probe: str, taken_at: float, **facts: object) -> None:
        key = "198.18.7.12"
        memory.remember(Observation(probe, key, Status.ANSWERED, facts, taken_at=taken_at), 0.0)

    remember("rdns", now - 20, names=["old.example"])
    remember("smtp", now - age_s)
    remember("rdns", now, names=["new.example"])
    found = [one.get("smtp", "198.18.7.12", now) for one in (cache, store)]
    assert [one is not None for one in found] == [stays, stays]


class CountedClaims(MemoryStore):
    claims = 0

    def claim(self, key: str, for_s: float) -> bool:
        self.claims += 1
        return super().claim(key, for_s)


@pytest.mark.parametrize("known", ["in the store", "in the process"])
def test_a_process_that_hears_of_the_change_last_asks_once(known: str) -> None:
    """It has what was known of the one before, but never knew who that was."""
    store, a_minute_ago = CountedClaims(100), time.time() - 60
    holder = Observation(
        "holder", "198.18.7.12", Status.ANSWERED, {"holder": "old"}, taken_at=a_minute_ago
    )
    service = Observation(
        "smtp", "198.18.7.12", Status.ANSWERED, {"says": "smtp.banner"}, taken_at=a_minute_ago
    )
    store.put(holder, 1000)
    store.put(service, 1000)
    made = engine(rdns(takes_s=0.05), asked := smtp("smtp.refused"), store=store)
    if known == "in the process":
        made._memory._cache.put(service, 1000)
    verdict = made.result(made.begin(origin(), policy(thorough=True)))
    assert {reason.signal.name for reason in verdict.reasons} == {"rdns.dynamic", "smtp.refused"}
    time.sleep(0.1)  # what goes round and round does so without a mail
    assert len(asked.asked) == 1
    assert store.claims <= 3
    made.result(made.begin(origin(), policy()))
    assert len(asked.asked) == 1


def test_a_change_noted_while_the_clock_was_ahead_outdates_nothing_measured_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = engine(name := rdns("host.confirmed"), asked := smtp("smtp.banner"))
    clock, now = time.time, time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: now)
    made.result(made.begin(origin(), policy()))
    name.says = "rdns.dynamic"
    made._memory._cache.forget(["rdns"], "198.18.7.12")
    made.result(made.begin(origin(), policy()))
    monkeypatch.setattr(time, "time", clock)
    made._memory._cache.clear()
    asked.asked.clear()
    for _ in range(3):
        made.result(made.begin(origin(), policy()))
    assert len(asked.asked) == 1


def test_a_holder_s_row_that_says_nothing_is_passed_over() -> None:
    store = MemoryStore(100)
    store.put(Observation("holder", "198.18.7.12", Status.ANSWERED, taken_at=time.time()), 1000)
    made = engine(rdns(), smtp(), store=store)
    verdict = made.result(made.begin(origin(), policy()))
    assert {reason.signal.name for reason in verdict.reasons} == {"rdns.dynamic", "smtp.refused"}


def test_the_same_name_again_leaves_what_is_known() -> None:
    probes = (rdns("host.confirmed"), smtp("smtp.banner"), nmap("os.unix"))
    made = engine(*probes)
    made.result(made.begin(origin(), policy(thorough=True)))
    made._memory._cache.forget(["rdns"], "198.18.7.12")
    made.result(made.begin(origin(), policy(thorough=True)))
    assert [len(probe.asked) for probe in probes] == [2, 1, 1]

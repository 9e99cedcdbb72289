"""What an administrator told all processes, heeded a second later and while nobody can ask."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from botmilter.errors import StoreError
from botmilter.memory import Lifetimes, Memory, Rates
from botmilter.model import Observation, Status
from botmilter.notices import LOOK_EVERY_S, NOT_READ, OPTED_OUT, Noticed
from botmilter.store.base import Notices, OptOut
from botmilter.store.memory import MemoryStore
from tests.fakes.engine import engine, nmap, origin, policy, rdns, smtp, wait_until

IP, OTHER = ip_address("198.18.7.12"), ip_address("198.18.8.12")
ENTRY = OptOut(ip_network("198.18.7.0/24"), "ticket 7", 1.0)
MOMENT_S = LOOK_EVERY_S + 0.05


class Away(MemoryStore):
    """A store that can be out of reach."""

    is_away = False
    asked = 0

    def notices(self) -> Notices:
        self.asked += 1
        if self.is_away:
            raise StoreError("connection refused")
        return super().notices()


def noticed(store: MemoryStore) -> Noticed:
    return Noticed(store, lambda: None)


def test_who_opts_out_is_refused_a_moment_later_and_not_asked_about_for_each_packet() -> None:
    store = Away(10)
    made = noticed(store)
    assert made.refusal(IP) is None
    store.opt_out(ENTRY)
    time.sleep(MOMENT_S)
    assert [made.refusal(ip) for ip in (IP, OTHER, IP)] == [OPTED_OUT, None, OPTED_OUT]
    assert store.asked == 2
    store.opt_in(ENTRY.network)
    time.sleep(MOMENT_S)
    assert made.refusal(IP) is None


def test_while_the_store_is_away_the_last_list_holds() -> None:
    store = Away(10)
    store.opt_out(ENTRY)
    made = noticed(store)
    made.look()
    store.is_away = True
    time.sleep(MOMENT_S)
    assert [made.refusal(ip) for ip in (IP, OTHER)] == [OPTED_OUT, None]


def test_a_list_never_read_may_have_anybody_on_it() -> None:
    store = Away(10)
    store.is_away = True
    made = noticed(store)
    assert made.refusal(OTHER) == NOT_READ
    store.is_away = False
    time.sleep(MOMENT_S)
    assert made.refusal(OTHER) is None


def test_a_store_that_lost_its_list_is_given_it_back_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Away(10)
    store.opt_out(ENTRY)
    made = noticed(store)
    made.look()
    empty = Away(10)
    made._store = empty
    time.sleep(MOMENT_S)
    with caplog.at_level(logging.WARNING):
        made.look()
    assert empty.opt_outs() == (ENTRY,)
    assert "list of opt-outs is gone; 1 put back" in caplog.text
    assert made.is_opted_out(IP)


def test_a_list_emptied_on_purpose_stays_empty() -> None:
    store = Away(10)
    store.opt_out(ENTRY)
    made = noticed(store)
    made.look()
    store.opt_in(ENTRY.network)
    time.sleep(MOMENT_S)
    made.look()
    assert store.opt_outs() == ()
    assert not made.is_opted_out(IP)


# -- in the engine ------------------------------------------------------------------------------


def test_no_probe_that_sends_packets_is_run_and_the_verdict_says_why() -> None:
    shared = MemoryStore(100)
    shared.opt_out(ENTRY)
    name, port, system = rdns(), smtp(), nmap()
    made = engine(name, port, system, store=shared)
    verdict = made.result(made.begin(origin(), policy()))
    assert (name.asked != [], port.asked, system.asked) == (True, [], [])
    assert {one.probe: one.reason for one in verdict.missing} == {
        "smtp": OPTED_OUT,
        "osdetect": "no sign of life",
    }
    again = made.result(made.begin(origin(), policy()))
    assert {one.probe: one.reason for one in again.missing}["osdetect"] == OPTED_OUT


def test_what_was_measured_before_is_not_used_once_the_network_has_opted_out() -> None:
    shared = MemoryStore(100)
    made = engine(rdns(), smtp(), nmap(), store=shared)
    for _ in range(2):  # the second verdict stands on the first
        made.result(made.begin(origin(), policy()))
    assert wait_until(lambda: not made.result(made.begin(origin(), policy())).missing)
    shared.opt_out(ENTRY)
    time.sleep(MOMENT_S)
    made._memory.look()
    verdict = made.result(made.begin(origin(), policy()))
    assert {one.probe: one.reason for one in verdict.missing} == {
        "smtp": OPTED_OUT,
        "osdetect": OPTED_OUT,
    }


def test_a_control_host_that_opted_out_is_left_alone() -> None:
    shared = MemoryStore(100)
    shared.opt_out(OptOut(ip_network("198.18.99.1")))
    silent = smtp("smtp.filtered", status=Status.SILENT)
    made = engine(silent, store=shared, control_hosts=["198.18.99.1", "198.18.99.2"])
    for number in range(60):
        made.result(made.begin(origin(f"198.18.7.{number}"), policy()))
    asked = {str(target.ip) for target in silent.asked}
    assert "198.18.99.2" in asked
    assert "198.18.99.1" not in asked


# -- what was forgotten -------------------------------------------------------------------------

LIFETIMES = Lifetimes(clears_s=1000, accuses_s=100, unknown_s=10, failed_s=5)
RATES = Rates(100, 100, 100)
SEEN = Observation("rdns", str(IP), Status.ANSWERED)


def test_a_copy_of_what_was_forgotten_is_not_used_a_moment_later() -> None:
    shared = MemoryStore(10)
    one, other = (Memory(MemoryStore(10), shared, LIFETIMES, RATES) for _ in range(2))
    one.remember(replace(SEEN, taken_at=time.time()), 1.0)
    for memory in (one, other):
        memory.look()
        assert memory.recall("rdns", SEEN.key, lambda _: 1.0) is not None
    shared.forget_network(ip_network(SEEN.key))
    time.sleep(MOMENT_S)
    for memory in (one, other):
        memory.look()
        assert memory.at_hand("rdns", SEEN.key) is None
        assert memory.recall("rdns", SEEN.key, lambda _: 1.0) is None


class Slow(MemoryStore):
    """While it answers, the row is forgotten and that is noticed."""

    memory: Memory

    def get(self, probe: str, key: str, now: float) -> Observation | None:
        seen = super().get(probe, key, now)
        self.forget_network(ip_network(SEEN.key))
        time.sleep(MOMENT_S)
        self.memory.look()
        return seen


def test_what_is_forgotten_while_it_is_read_is_not_copied() -> None:
    shared = Slow(10)
    shared.put(replace(SEEN, taken_at=time.time()), 60)
    shared.memory = Memory(MemoryStore(10), shared, LIFETIMES, RATES)
    shared.memory.look()
    shared.memory.recall("rdns", SEEN.key, lambda _: 1.0)
    assert shared.memory.at_hand("rdns", SEEN.key) is None


def test_no_lifetime_is_longer_than_what_may_be_kept() -> None:
    short = replace(LIFETIMES, keep_s=7.0)
    for status, points in ((Status.ANSWERED, -1.0), (Status.ANSWERED, 1.0), (Status.SILENT, 0.0)):
        assert short.of(replace(SEEN, status=status), points) == 7.0
    assert short.of(replace(SEEN, status=Status.FAILED), 0.0) == 5.0
    assert short.longest_s == 7.0

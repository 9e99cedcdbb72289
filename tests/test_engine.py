"""begin() and result(): budget, single flight, what is remembered, what is left out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from botmilter.clock import Deadline
from botmilter.engine import Engine
from botmilter.health import FAILURES_TO_PAUSE
from botmilter.inquiry import Policy, Ticket
from botmilter.memory import Rates
from botmilter.model import (
    Hop,
    HopKind,
    HopSource,
    Label,
    Observation,
    Origin,
    OriginWhy,
    Signal,
    Status,
    Target,
    Verdict,
)
from botmilter.net import ProbeGuard
from botmilter.store.memory import MemoryStore
from tests.fakes.engine import (
    LAB,
    LIFETIMES,
    PLENTY,
    Scripted,
    engine,
    nmap,
    origin,
    policy,
    rdns,
    smtp,
    wait_until,
)


def missing(verdict_missing: Iterable[Observation]) -> dict[str, Status]:
    return {seen.probe: seen.status for seen in verdict_missing}


def test_a_client_system_without_service_is_a_bot() -> None:
    made = engine(rdns(), smtp(), nmap())
    verdict = made.result(made.begin(origin(), policy(thorough=True)))  # rdns may come last
    assert (verdict.label, verdict.score) == (Label.BOT, 8.5)
    assert not verdict.missing


def test_the_verdict_goes_out_at_the_budget_with_the_slow_probe_listed_as_late() -> None:
    made = engine(rdns(), smtp(), nmap(takes_s=3))
    started = time.monotonic()
    verdict = made.result(made.begin(origin(), policy(budget_s=0.2)))
    assert 0.198 <= time.monotonic() - started < 1.0  # a hundredth for judging itself
    assert missing(verdict.missing) == {"osdetect": Status.LATE}
    assert {reason.signal.name for reason in verdict.reasons} == {"rdns.dynamic", "smtp.refused"}


def test_a_late_answer_serves_the_next_mail() -> None:
    slow = nmap(takes_s=0.3)
    made = engine(rdns(), smtp(), slow)
    assert made.result(made.begin(origin(), policy(0.05))).label is not Label.BOT
    assert wait_until(lambda: made.result(made.begin(origin(), policy(0))).label is Label.BOT)
    assert len(slow.asked) == 1


def test_many_mails_at_once_from_one_host_run_each_probe_once() -> None:
    probes = (rdns(takes_s=0.1), smtp(takes_s=0.1), nmap(takes_s=0.1))
    made = engine(*probes)
    with ThreadPoolExecutor(20) as mails:
        verdicts = list(mails.map(lambda _: made.result(made.begin(origin(), policy())), range(20)))
    assert {verdict.label for verdict in verdicts} == {Label.BOT}
    assert [len(probe.asked) for probe in probes] == [1, 1, 1]


def test_a_known_host_s_mail_waits_for_nothing() -> None:
    made = engine(rdns(), smtp(), nmap(takes_s=0.2))
    made.result(made.begin(origin(), policy()))
    again = made.result(made.begin(origin(), policy()))
    assert again.label is Label.BOT
    assert again.spent_s < 0.1


def test_a_second_process_on_the_same_store_measures_nothing_again() -> None:
    shared = MemoryStore(100)
    first = engine(rdns(), smtp(), nmap(), store=shared)
    first.result(first.begin(origin(), policy()))
    probes = (rdns(), smtp(), nmap())
    second = engine(*probes, store=shared)
    assert second.result(second.begin(origin(), policy())).label is Label.BOT
    assert [len(probe.asked) for probe in probes] == [0, 0, 0]


def test_two_processes_at_once_measure_once() -> None:
    shared = MemoryStore(100)
    groups = [(rdns(takes_s=0.2), smtp(takes_s=0.2), nmap(takes_s=0.2)) for _ in range(2)]
    with ThreadPoolExecutor(2) as processes:

        def judge(probes: tuple[Scripted, ...]) -> Label:
            made = engine(*probes, store=shared)
            return made.result(made.begin(origin(), policy())).label

        assert list(processes.map(judge, groups)) == [Label.BOT, Label.BOT]
    assert [len(a.asked) + len(b.asked) for a, b in zip(*groups, strict=True)] == [1, 1, 1]


@pytest.mark.parametrize("shared", [True, False])
def test_from_memory_nothing_is_measured(shared: bool) -> None:
    store = MemoryStore(100) if shared else None
    first = engine(rdns(), smtp(), store=store)
    if shared:
        first.result(first.begin(origin(), policy()))
    probes = (rdns(), smtp(), nmap())
    made = engine(*probes, store=store)
    verdict = made.result(made.begin(origin(), policy(from_memory=True)))
    assert not any(probe.asked for probe in probes)
    unknown = {"osdetect"} if shared else {"rdns", "smtp", "osdetect"}
    assert {seen.probe: seen.reason for seen in verdict.missing} == dict.fromkeys(
        unknown, "not in the store"
    )


class Slow(MemoryStore):
    """A store that takes its time to answer."""

    def get(self, probe: str, key: str, now: float) -> Observation | None:
        time.sleep(0.1)
        return super().get(probe, key, now)


@pytest.fixture
def slow() -> Slow:
    """One that knows a host."""
    store = Slow(100)
    first = engine(rdns(), smtp(), nmap(), store=store)
    assert not first.result(first.begin(origin(), policy(thorough=True))).missing
    return store


def test_from_memory_a_slow_store_is_waited_for(slow: Slow) -> None:
    made = engine(rdns(), smtp(), nmap(), store=slow)
    asked = policy(from_memory=True, settle_s=0.05)
    assert not made.result(made.begin(origin(), asked)).missing


def test_from_memory_each_mail_gets_what_its_own_probes_have_seen(slow: Slow) -> None:
    made = engine(rdns(), smtp(), nmap(), store=slow)
    pairs = (("rdns", "smtp"), ("smtp", "osdetect"))
    asked = [Policy(5.0, frozenset(names), from_memory=True) for names in pairs]
    tickets = [made.begin(origin(), one) for one in asked]
    for ticket, names in zip(tickets, pairs, strict=True):
        assert not made.result(ticket).missing
        assert ticket.seen.keys() == set(names)


def test_nmap_is_not_started_for_a_host_without_a_sign_of_life() -> None:
    never = nmap()
    made = engine(rdns(""), smtp("smtp.filtered", status=Status.SILENT), never)
    verdict = made.result(made.begin(origin(), policy()))
    assert verdict.label is Label.UNKNOWN
    assert not never.asked
    assert missing(verdict.missing) == {"osdetect": Status.SKIPPED}


def test_a_confirmed_server_with_a_banner_needs_no_nmap() -> None:
    never = nmap()
    made = engine(rdns("host.confirmed"), smtp("smtp.banner"), never)
    verdict = made.result(made.begin(origin(), policy(settle_s=2.0)))
    assert (verdict.label, never.asked) == (Label.CLEAN, [])
    assert missing(verdict.missing)["osdetect"] is Status.SKIPPED  # and rdns, where it comes last


def begun_early(settle_s: float, *probes: Scripted) -> tuple[Engine, Ticket]:
    """An inquiry before its mail is there, for which all cheap probes have answered."""
    made = engine(*probes)
    ticket = made.begin(origin(), policy(settle_s=settle_s))
    assert wait_until(lambda: len(ticket.observations) == 2)
    return made, ticket


def test_nmap_starts_for_a_mail_that_takes_its_time() -> None:
    begun_early(0.2, rdns(), smtp(), asked := nmap())
    assert not asked.asked
    assert wait_until(lambda: len(asked.asked) == 1)


def test_nmap_starts_at_once_when_a_mail_waits() -> None:
    made, ticket = begun_early(30.0, rdns(), smtp(), asked := nmap())
    assert made.result(ticket).label is Label.BOT
    assert len(asked.asked) == 1


def test_nmap_does_not_start_for_a_mail_that_is_rejected_meanwhile() -> None:
    _, ticket = begun_early(0.2, rdns(), smtp(), asked := nmap())
    ticket.abandon()
    time.sleep(0.4)
    assert not asked.asked


def test_the_survey_asks_that_server_all_the_same() -> None:
    made = engine(rdns("host.confirmed"), smtp("smtp.banner"), always := nmap("os.unix"))
    verdict = made.result(made.begin(origin(), policy(thorough=True)))
    assert len(always.asked) == 1
    assert not verdict.missing


def test_the_wait_ends_when_nothing_open_can_change_the_label() -> None:
    made = engine(smtp("smtp.banner"), nmap(), rdns("host.confirmed", takes_s=3))
    made_policy = Policy(5.0, frozenset({"smtp", "rdns"}))
    verdict = made.result(made.begin(origin(), made_policy))
    assert verdict.spent_s < 1.0
    assert missing(verdict.missing) == {"rdns": Status.SKIPPED}


@pytest.mark.filterwarnings("error")
def test_a_probe_that_raises_is_logged_and_failed_and_the_others_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = engine(rdns(), smtp(raises=RuntimeError("a bug")), nmap())
    verdict = made.result(made.begin(origin(), policy()))
    assert missing(verdict.missing) == {"smtp": Status.FAILED, "osdetect": Status.SKIPPED}
    assert "a bug" in caplog.text


def test_a_broken_probe_is_paused_loudly_once_and_recovers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("botmilter.health.FIRST_PAUSE_S", 0.2)
    broken = smtp(status=Status.FAILED)
    made = engine(broken)
    for number in range(20):
        verdict = made.result(made.begin(origin(f"198.18.0.{number + 1}"), policy()))
        assert verdict.label is Label.UNKNOWN
    assert len(broken.asked) == FAILURES_TO_PAUSE
    broken.status = Status.ANSWERED
    assert wait_until(lambda: not made.result(made.begin(origin("198.18.9.9"), policy())).missing)
    assert [record.getMessage() for record in caplog.records] == [
        "probe=smtp does not work: told to",
        "probe=smtp works again",
    ]


@pytest.mark.parametrize(
    "ip",
    ["10.1.2.3", "192.168.0.1", "127.0.0.1", "224.0.0.1", "198.51.100.1", "2002:c612:70c::1",
     "64:ff9b::c612:70c", "fe80::1", "::ffff:10.0.0.1", "255.255.255.255", "198.18.66.6"],
)  # fmt: skip
def test_an_address_that_must_not_be_probed_is_not(ip: str) -> None:
    guard = ProbeGuard(LAB.allow_networks, (ip_network("198.18.66.0/24"),))
    probes = (smtp(), nmap())
    made = engine(*probes, guard=guard)
    verdict = made.result(made.begin(origin(ip), policy()))
    assert set(missing(verdict.missing).values()) == {Status.SKIPPED}
    assert not any(probe.asked for probe in probes)


@pytest.mark.parametrize(
    ("why", "label"),
    [
        (OriginWhy.SUBMISSION, Label.EXEMPT),
        (OriginWhy.LOCAL, Label.EXEMPT),
        (OriginWhy.ALLOWED, Label.EXEMPT),
        (OriginWhy.UNREADABLE, Label.UNKNOWN),
    ],
)
def test_without_an_origin_nobody_is_asked(why: OriginWhy, label: Label) -> None:
    probe = smtp()
    made = engine(probe)
    ip = ip_address("198.18.7.12") if why is OriginWhy.ALLOWED else None
    verdict = made.result(made.begin(Origin(why, ip), policy()))
    assert (verdict.label, probe.asked, verdict.missing) == (label, [], ())


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


def test_an_abandoned_mail_starts_no_nmap() -> None:
    never = nmap()
    made = engine(asked := smtp(takes_s=0.2), never)
    ticket = made.begin(origin(), policy())
    assert wait_until(lambda: len(asked.asked) == 1)
    ticket.abandon()
    assert wait_until(lambda: any(seen.probe == "smtp" for seen in ticket.observations))
    time.sleep(0.05)
    assert not never.asked


@pytest.mark.parametrize("is_shared", [False, True])
def test_nmap_is_asked_where_only_what_the_mail_says_makes_it_count(is_shared: bool) -> None:
    """Begun before the header was there, it was needless."""
    shared = MemoryStore(100) if is_shared else None
    made = engine(rdns(), smtp("smtp.banner"), asked := nmap(), store=shared)
    ticket = made.begin(origin(), policy())
    assert wait_until(lambda: len(ticket.observations) == 3)
    assert not asked.asked
    said = (Signal("chain.by_is_helo"), Signal("chain.broken_link"))
    verdict = made.result(ticket, said)
    assert len(asked.asked) == 1
    assert "os.client" in {reason.signal.name for reason in verdict.reasons}


def test_an_nmap_that_waits_for_its_turn_is_not_run_for_a_mail_that_is_gone() -> None:
    probes = (smtp(), asked := nmap(takes_s=0.3))
    made = engine(*probes, at_once=1)
    running = made.begin(origin("198.18.0.1"), policy())
    assert wait_until(lambda: len(asked.asked) == 1)
    gone = [made.begin(origin(f"198.18.1.{number}"), policy()) for number in range(5)]
    last = made.begin(origin("198.18.0.2"), policy())
    assert wait_until(lambda: made.lanes["osdetect"].queued == 6)
    for ticket in gone:
        ticket.abandon()
    assert made.result(last).label is Label.BOT
    assert made.result(running).label is Label.BOT
    assert [str(target.ip) for target in asked.asked] == ["198.18.0.1", "198.18.0.2"]


def test_an_nmap_that_waited_is_not_run_where_it_can_no_longer_change_the_label() -> None:
    alive = rdns("host.confirmed", shows_life=True)
    service = smtp("smtp.banner", takes_s=0.2)
    made = engine(alive, service, asked := nmap("os.unix", takes_s=0.8), at_once=1)
    first = made.begin(origin("198.18.0.1"), policy())
    assert wait_until(lambda: len(asked.asked) == 1)
    second = made.begin(origin("198.18.0.2"), policy())
    assert wait_until(lambda: made.lanes["osdetect"].queued == 1)
    assert made.result(second).label is Label.CLEAN
    assert made.result(first).label is Label.CLEAN
    time.sleep(0.8)
    assert len(asked.asked) == 1


def test_what_a_mail_waits_for_goes_before_what_serves_the_next_one() -> None:
    made = engine(smtp(), asked := nmap(takes_s=0.3), at_once=1)
    made.begin(origin("198.18.0.1"), policy())
    assert wait_until(lambda: len(asked.asked) == 1)
    for number in range(3):  # these have their verdicts while nmap is still to begin
        made.result(made.begin(origin(f"198.18.1.{number}"), policy(0.01)))
    assert made.result(made.begin(origin("198.18.0.2"), policy())).label is Label.BOT
    assert [str(target.ip) for target in asked.asked[:2]] == ["198.18.0.1", "198.18.0.2"]
    assert wait_until(lambda: len(asked.asked) == 5)


def test_a_queue_full_of_what_nobody_waits_for_has_room() -> None:
    made = engine(smtp(), asked := nmap(takes_s=0.3), at_once=1)
    made._scheduler._queue_limit = 1
    made.begin(origin("198.18.0.1"), policy())
    assert wait_until(lambda: len(asked.asked) == 1)
    early = made.begin(origin("198.18.0.2"), policy(0.01))
    assert wait_until(lambda: made.lanes["osdetect"].queued == 1)
    made.result(early)
    assert made.result(made.begin(origin("198.18.0.3"), policy())).label is Label.BOT
    seen = {one.probe: one.reason for one in early.observations}
    assert seen["osdetect"] == "nobody waits for it"


@pytest.mark.parametrize("way_out", ["off for IPv6", "rate limit"])
def test_an_attempt_after_a_pause_that_did_not_come_about_leaves_the_next_one(
    way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botmilter.health.FIRST_PAUSE_S", 0.1)
    rates = Rates(10**6, 10**6, 1) if way_out == "rate limit" else PLENTY
    made = engine(probe := smtp(raises=RuntimeError("ill")), rates=rates)
    for number in range(FAILURES_TO_PAUSE):
        made.result(made.begin(origin(f"198.18.0.{number}"), policy()))
    time.sleep(0.15)
    probe.raises = None
    if way_out == "off for IPv6":
        probe.status = Status.SKIPPED
    made._memory._cache.clear()
    made.result(made.begin(origin("198.18.0.0"), policy()))
    probe.status = Status.ANSWERED
    made.result(made.begin(origin("198.18.0.9"), policy()))
    assert str(probe.asked[-1].ip) == "198.18.0.9"


def test_a_full_queue_shows_as_skipped_and_holds_nobody() -> None:
    made = engine(smtp(takes_s=0.5), at_once=1)
    made._scheduler._queue_limit = 0
    made.begin(origin("198.18.0.1"), policy())
    verdict = made.result(made.begin(origin("198.18.0.2"), policy()))
    assert [(m.status, m.reason) for m in verdict.missing] == [(Status.SKIPPED, "queue full")]


@pytest.mark.parametrize(
    ("rates", "ips", "asked", "reason"),
    [
        (Rates(10**6, 10**6, 2), ["198.18.7.12"] * 9, 2, "rate limit: 198.18.7.12"),
        (Rates(10**6, 3, 99), [f"198.18.7.{n}" for n in range(9)], 3, "rate limit: 198.18.7.0/24"),
        (Rates(4, 10**6, 99), [f"198.18.{n}.1" for n in range(9)], 4, "rate limit: in all"),
    ],
)
def test_no_more_packets_are_sent_than_the_rate_allows(
    rates: Rates, ips: list[str], asked: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_790_000_000.0)  # no window's end in between
    probe = smtp()
    made = engine(probe, rates=rates)
    monkeypatch.setattr(MemoryStore, "put", lambda *_: None)  # as if every answer had expired
    verdicts = [made.result(made.begin(origin(ip), policy())) for ip in ips]
    assert len(probe.asked) == asked
    assert [m.reason for m in verdicts[-1].missing] == [reason]


def test_a_long_wait_is_told_of_while_it_lasts_and_a_short_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("botmilter.engine.WAITING_EVERY_S", 0.2)
    made = engine(smtp(takes_s=3))
    told: list[int] = []
    ticket = made.begin(origin(), policy(0.1))
    made.result(ticket, (), lambda: told.append(threading.get_ident()))
    assert not told
    ticket = made.begin(origin(), policy(0.5))
    verdict = made.result(ticket, (), lambda: told.append(threading.get_ident()))
    assert told == [threading.get_ident()] * 2
    assert 0.495 <= verdict.spent_s < 1.0


def test_many_mails_waiting_at_once_wait_shorter() -> None:
    made = engine(smtp(takes_s=2), at_once=100)
    patient = Policy(1.5, frozenset({"smtp"}), under_load_s=0.1, load_mails=5)
    with ThreadPoolExecutor(8) as mails:

        def judge(ip: str) -> Verdict:
            return made.result(made.begin(origin(ip), patient))

        first = [mails.submit(judge, f"198.18.1.{number}") for number in range(5)]
        assert wait_until(lambda: made.waiting == 5)
        sixth = judge("198.18.2.1")
        assert all(mail.result().spent_s >= 1.484 for mail in first)  # 4 ms for each other
    assert 0.09 <= sixth.spent_s < 1.0  # a tenth less
    assert made.waiting == 0


def test_what_the_others_will_take_of_the_processor_comes_off_the_wait() -> None:
    made = engine(smtp(takes_s=1), at_once=100)
    asked = policy(1.0)
    assert made.budget_s(asked) == pytest.approx(0.99)  # judging itself takes a little, too
    with ThreadPoolExecutor(60) as mails:
        verdicts = []
        for number in range(60):
            ticket = made.begin(origin(f"198.18.1.{number}"), asked)
            verdicts.append(mails.submit(made.result, ticket))
            if number == 9:
                assert wait_until(lambda: made.waiting == 10)
                assert made.budget_s(asked) == pytest.approx(0.96)
        assert wait_until(lambda: made.waiting == 60)
        assert made.budget_s(asked) == pytest.approx(0.9)  # a tenth at most
        assert all(verdict.result().spent_s >= 0.9 for verdict in verdicts)


def test_a_mail_is_woken_only_by_what_ends_its_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine(rdns(takes_s=0.1), smtp(takes_s=0.3), nmap(takes_s=0.2))
    ticket = made.begin(origin(), policy())
    woken: list[frozenset[str]] = []
    notify = ticket.changed.notify_all

    def note() -> None:
        woken.append(frozenset(ticket.seen))
        notify()

    monkeypatch.setattr(ticket.changed, "notify_all", note)
    assert made.result(ticket).label is Label.BOT
    assert woken == [frozenset({"rdns", "smtp", "osdetect"})]


@pytest.mark.parametrize(
    ("says", "status"),
    [("smtp.filtered", Status.SILENT), ("smtp.refused", Status.ANSWERED)],
    ids=["dropped", "reset"],
)
def test_when_every_host_looks_the_same_it_convicts_nobody(says: str, status: Status) -> None:
    blocked = smtp(says, status=status)
    always_up = Scripted("ping", "ping.answered", shows_life=True)
    made = engine(blocked, always_up, nmap())
    asked = Policy(5.0, frozenset({"smtp", "ping", "osdetect"}))
    labels = [
        made.result(made.begin(origin(f"198.18.3.{number}"), asked)).label for number in range(40)
    ]
    assert labels[0] is Label.BOT
    assert Label.BOT not in labels[26:]


@pytest.mark.parametrize(
    ("says", "status"),
    [("smtp.filtered", Status.SILENT), ("smtp.refused", Status.ANSWERED)],
    ids=["dropped", "reset"],
)
@pytest.mark.parametrize(("answers", "is_believed"), [("198.18.25.25", True), ("", False)])
def test_when_every_host_looks_the_same_the_control_hosts_decide(
    answers: str, is_believed: bool, says: str, status: Status
) -> None:
    asked = Policy(5.0, frozenset({"smtp"}))
    probe = smtp(says, status=status, answers_of=answers)
    made = engine(probe, control_hosts=["198.18.25.26", "198.18.25.25"])
    verdicts = [
        made.result(made.begin(origin(f"198.18.3.{number}"), asked)) for number in range(60)
    ]
    assert [bool(verdict.missing) for verdict in verdicts[30:]] == [not is_believed] * 30
    controls = [target for target in probe.asked if str(target.ip).startswith("198.18.25.")]
    assert len(controls) == 2, "asked once, not for each mail"


def test_no_host_is_claimed_while_the_control_hosts_are_asked() -> None:
    """Another process would wait for it all that time, or measure it once more."""
    claimed: list[set[str]] = []

    class Watched(Scripted):
        def measure(self, target: Target, deadline: Deadline) -> Observation:
            if str(target.ip) == "198.18.25.25":
                claimed.append(set(made._memory._claims))
            return super().measure(target, deadline)

    probe = Watched("smtp", "smtp.refused", shows_life=True, may_say="smtp.banner")
    made = engine(probe, control_hosts=["198.18.25.25"])
    for number in range(40):
        made.result(made.begin(origin(f"198.18.3.{number}"), Policy(5.0, frozenset({"smtp"}))))
    assert claimed == [set()]


def test_stored_facts_are_judged_anew_without_asking() -> None:
    first = engine(rdns(), smtp(), nmap())
    ticket = first.begin(origin(), policy())
    verdict = first.result(ticket)
    probes = (rdns(), smtp(), nmap())
    again = engine(*probes).rejudge(origin(), ticket.observations)
    assert (again.label, again.score) == (verdict.label, verdict.score)
    assert not any(probe.asked for probe in probes)


def test_a_verdict_stands_while_what_it_rests_on_does() -> None:
    """Asking the store, or whether nmap could change the label, is done once and not each mail."""
    store, never = Counting(1000), nmap()
    made = engine(rdns("host.confirmed"), smtp("smtp.banner"), never, store=store)
    mail, how = origin(), policy(settle_s=2.0)
    first = made.result(made.begin(mail, how))
    asked = store.asked
    second = made.result(made.begin(origin(), how))
    assert (second.label, second.score, second.reasons) == (
        (first.label, first.score, first.reasons)
    )
    assert missing(second.missing) == missing(first.missing)
    assert 0 < asked == store.asked
    assert not never.asked


@pytest.mark.parametrize(
    ("helo", "said"),
    [("another.example", ()), ("pc.example", (Signal("chain.bad_zone"),))],
    ids=["it greets otherwise", "its mail says something"],
)
def test_a_verdict_stands_for_the_same_mail_only(helo: str, said: tuple[Signal, ...]) -> None:
    store = Counting(1000)
    made = engine(rdns("host.confirmed"), smtp("smtp.banner"), nmap(), store=store)
    how = policy(settle_s=2.0)
    made.result(made.begin(origin(), how))
    asked = store.asked
    hop = Hop(0, HopSource.CONNECTION, HopKind.RELAY, ip_address("198.18.7.12"), helo=helo)
    verdict = made.result(made.begin(Origin(OriginWhy.CLIENT, hop.ip, hop), how), said)
    assert store.asked > asked
    assert verdict.origin.hop is hop
    assert {one.name for one in said} <= {reason.signal.name for reason in verdict.reasons}


def test_a_verdict_falls_with_an_observation() -> None:
    made = engine(rdns("host.confirmed"), first := smtp("smtp.banner"), nmap("os.unix"))
    how = policy(settle_s=2.0)
    made.result(made.begin(origin(), how))
    made._memory.remember(
        Observation("smtp", "198.18.7.12", Status.ANSWERED, {"says": ""}, taken_at=time.time()), 0
    )
    verdict = made.result(made.begin(origin(), how))
    assert "smtp.banner" not in {reason.signal.name for reason in verdict.reasons}
    assert len(first.asked) == 1


def test_what_was_late_does_not_stand() -> None:
    made = engine(rdns(), smtp(), nmap(takes_s=0.3))
    how = policy(0.05)
    assert made.result(made.begin(origin(), how)).label is not Label.BOT
    assert wait_until(lambda: made.result(made.begin(origin(), how)).label is Label.BOT)


class Counting(MemoryStore):
    """Counts how often it is asked for what it knows."""

    asked = 0

    def get(self, probe: str, key: str, now: float) -> Observation | None:
        self.asked += 1
        return super().get(probe, key, now)

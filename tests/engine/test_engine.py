"""begin() and result(): budget, single flight, what is remembered, what is left out."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network

import pytest

from botmilter.engine import Engine
from botmilter.health import FAILURES_TO_PAUSE
from botmilter.inquiry import Policy, Ticket
from botmilter.model import Label, Observation, Origin, OriginWhy, Status
from botmilter.net import ProbeGuard
from botmilter.store.memory import MemoryStore
from tests.fakes.engine import (
    LAB,
    Scripted,
    engine,
    missing,
    nmap,
    origin,
    policy,
    rdns,
    smtp,
    wait_until,
)


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

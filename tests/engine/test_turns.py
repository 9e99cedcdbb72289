"""Who comes first: lanes, queues, rates, and how long a mail waits."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from botmilter.health import FAILURES_TO_PAUSE
from botmilter.inquiry import Policy
from botmilter.memory import Rates
from botmilter.model import Label, Signal, Status, Verdict
from botmilter.store.memory import MemoryStore
from tests.fakes.engine import PLENTY, engine, nmap, origin, policy, rdns, smtp, wait_until


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

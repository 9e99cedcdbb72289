"""Events add up to the right numbers under the right words."""

from __future__ import annotations

import threading
import time
from collections import Counter
from ipaddress import ip_address

import pytest

from botmilter import plan
from botmilter.counters import Journal
from botmilter.model import (
    Label,
    Observation,
    Origin,
    OriginWhy,
    Reason,
    Signal,
    Status,
    Verdict,
)

BUDGET_S = 4.0


def verdict(label: Label, ip: str | None = "198.18.0.1", **more: object) -> Verdict:
    origin = Origin(OriginWhy.CLIENT, ip_address(ip) if ip else None)
    return Verdict(label, 6.0, origin, **more)  # type: ignore[arg-type]  # any of its fields


def missing(probe: str, reason: str, status: Status = Status.SKIPPED) -> Observation:
    return Observation(probe, "k", status, reason=reason)


def test_a_mail_counts_by_label_time_and_share_of_the_budget() -> None:
    journal = Journal(BUDGET_S)
    journal.mail("clean", verdict(Label.CLEAN), 0.0004)
    journal.mail("unknown", verdict(Label.UNKNOWN, spent_s=3.0), 3.1)
    journal.mail("unknown", verdict(Label.UNKNOWN, spent_s=5.0), 99.0)
    assert journal.take(0.0).counts == pytest.approx(
        {
            "mails clean": 1,
            "mails unknown": 2,
            "latency 0.001": 1,
            "latency 5.0": 1,
            "latency inf": 1,
            "latency_s": 102.1004,
            "budget 0.75": 1,
            "budget inf": 1,
            "budget_share": 2.0,
        }
    )


def test_what_was_taken_is_not_taken_again() -> None:
    journal = Journal(BUDGET_S)
    journal.recalled("memory", 3)
    journal.failure()
    assert journal.take(0.0).counts == {"lookups memory": 3, "failures": 1}
    assert journal.take(0.0).counts == {}


def test_a_measurement_counts_by_status_and_time() -> None:
    journal = Journal(BUDGET_S)
    journal.measured(Observation("smtp", "k", Status.SILENT, took_s=8.0))
    assert journal.take(0.0).counts == {
        "probes smtp silent": 1,
        "took smtp 10.0": 1,
        "took_s smtp": 8.0,
    }


def test_why_evidence_is_missing_is_one_of_few_words() -> None:
    journal = Journal(BUDGET_S)
    without = (
        missing("a", plan.NOT_NEEDED),
        missing("b", plan.NO_LIFE),
        missing("c", "rate limit: 198.18.0.0/24"),
        missing("d", "queue full"),
        missing("e", "paused: nmap is away", Status.FAILED),
        missing("f", plan.MEASURING, Status.LATE),
        missing("g", "whatever a host says", Status.FAILED),
    )
    why = ("not_needed", "no_life", "rate_limit", "queue_full", "paused", "late", "failed")
    journal.mail("unknown", verdict(Label.UNKNOWN, missing=without), 0.0)
    counts = journal.take(0.0).counts
    for seen, word in zip(without, why, strict=True):
        assert counts[f"missing {seen.probe} {word}"] == 1


def test_a_sealed_mail_counts_without_an_origin() -> None:
    journal = Journal(BUDGET_S)
    journal.mail("bot", None, 0.0)
    taken = journal.take(0.0)
    assert (taken.counts["mails bot"], taken.counts["sealed"]) == (1, 1)
    assert not taken.origins


def test_bots_are_told_with_system_and_reasons_and_nothing_unprintable() -> None:
    against = Reason(Signal("os.client", 1.0, "Windows\x1b XP (96 %)"), 3.0, 3.0)
    cleared = Reason(Signal("smtp.answers", 1.0, "220"), -1.0, -1.0)
    journal = Journal(BUDGET_S)
    for ip in ("198.18.0.1", "2001:db8::1", "2001:db8::2"):
        journal.mail("bot", verdict(Label.BOT, ip, reasons=(against, cleared)), 0.0)
    journal.mail("exempt", verdict(Label.EXEMPT), 0.0)
    journal.mail("unknown", verdict(Label.UNKNOWN, None), 0.0)
    taken = journal.take(1000.4)
    assert taken.origins == {("198.18.0.1", "bot"): 1, ("2001:db8::/64", "bot"): 2}
    assert taken.systems == {"Windows? XP": 3}
    assert list(taken.bots) == ["198.18.0.1", "2001:db8::/64"]
    assert taken.bots["198.18.0.1"] == {
        "at": 1000,
        "score": 6.0,
        "system": "Windows? XP",
        "reasons": [["os.client", 3.0, "Windows? XP (96 %)"]],
    }


def test_adding_up_makes_way_for_the_mails(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(BUDGET_S)
    for _ in range(250):
        journal.recalled("store", 1)
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    assert journal.take(0.0).counts == {"lookups store": 250}
    assert pauses == [0.001, 0.001]


def test_nothing_is_lost_while_many_threads_note() -> None:
    journal = Journal(BUDGET_S)

    def note() -> None:
        for _ in range(5000):
            journal.recalled("store", 1)

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    counted: Counter[str] = Counter()
    while any(thread.is_alive() for thread in threads):
        counted.update({word: int(many) for word, many in journal.take(0.0).counts.items()})
    counted.update({word: int(many) for word, many in journal.take(0.0).counts.items()})
    assert counted == {"lookups store": 20_000}

"""A verdict stands while what it rests on does; stored facts are judged anew without asking."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_address

import pytest

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
)
from botmilter.store.memory import MemoryStore
from tests.fakes.engine import engine, nmap, origin, policy, rdns, smtp, wait_until


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
    how = policy(settle_s=2.0)
    first = made.result(made.begin(origin(), how))
    asked = store.asked
    standing = made.standing(origin(), how)
    assert standing is not None
    assert standing.verdict == replace(first, spent_s=0.0)
    assert 0 < asked == store.asked
    assert not never.asked


@pytest.mark.parametrize(
    ("helo", "said"),
    [("another.example", ()), ("pc.example", (Signal("chain.bad_zone"),))],
    ids=["it greets otherwise", "its mail says something"],
)
def test_a_verdict_stands_for_the_same_mail_only(helo: str, said: tuple[Signal, ...]) -> None:
    made = engine(rdns("host.confirmed"), smtp("smtp.banner"), nmap())
    how = policy(settle_s=2.0)
    made.result(made.begin(origin(), how))
    hop = Hop(0, HopSource.CONNECTION, HopKind.RELAY, ip_address("198.18.7.12"), helo=helo)
    another = Origin(OriginWhy.CLIENT, hop.ip, hop)
    assert made.standing(another, how, None, said) is None
    verdict = made.result(made.begin(another, how), said)
    assert verdict.origin.hop is hop
    assert {one.name for one in said} <= {reason.signal.name for reason in verdict.reasons}


def test_a_verdict_falls_with_an_observation() -> None:
    made = engine(rdns("host.confirmed"), first := smtp("smtp.banner"), nmap("os.unix"))
    how = policy(settle_s=2.0)
    made.result(made.begin(origin(), how))
    assert made.standing(origin(), how) is not None
    made._memory.remember(
        Observation("smtp", "198.18.7.12", Status.ANSWERED, {"says": ""}, taken_at=time.time()), 0
    )
    assert made.standing(origin(), how) is None
    verdict = made.result(made.begin(origin(), how))
    assert "smtp.banner" not in {reason.signal.name for reason in verdict.reasons}
    assert len(first.asked) == 1


@pytest.mark.parametrize("step_s", [-3600.0, 10 * 365 * 86400.0], ids=["back", "ahead"])
def test_a_verdict_falls_with_the_clock(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    """What was seen in the future is of a time when the clock was wrong, or is over by now."""
    made, clock = engine(only := smtp("smtp.banner")), time.time
    how = policy(20.0)
    made.result(made.begin(origin(), how))
    made.result(made.begin(origin(), how))
    assert len(only.asked) == 1
    assert made.standing(origin(), how) is not None
    monkeypatch.setattr(time, "time", lambda: clock() + step_s)
    assert made.standing(origin(), how) is None
    made.result(made.begin(origin(), how))
    assert len(only.asked) == 2


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

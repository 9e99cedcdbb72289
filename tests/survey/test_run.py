"""Many hosts at once through the engine, each to its end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from botmilter import config
from botmilter.cli import build
from botmilter.measuring import DOUBTED
from botmilter.model import Observation, Signal, Status
from botmilter.survey import run
from botmilter.survey.records import Record
from botmilter.survey.run import Surveyor, measured, settled
from tests.cli.fakes import FakeProbe
from tests.survey.values import host, ping, record, smtp

HOSTS = [f"198.18.0.{n}" for n in range(1, 41)]
_LAB = ('probe.allow_networks=["198.18.0.0/15"]', 'store.kind="memory"')


def surveyor(probes: Iterable[FakeProbe], *overrides: str, probe_claimed: bool = False) -> Surveyor:
    settings = config.load(None, (*_LAB, *overrides))
    machine = build.machine(settings, tuple(probes))
    policy = replace(machine.policy(settings, 5.0), thorough=True)
    return Surveyor(machine.engine, policy, machine.guard, probe_claimed)


def bot_probes() -> list[FakeProbe]:
    return [
        FakeProbe("smtp", [Signal("smtp.filtered")], shows_life=True),
        FakeProbe("ping", status=Status.FAILED, reason="no privilege", shows_life=True),
    ]


def test_a_record_has_the_verdict_and_every_observation() -> None:
    found = surveyor(bot_probes()).measure(3, host())
    assert (found.run, found.host) == (3, host())
    assert {one.probe: one.status for one in found.observations} == {
        "smtp": Status.ANSWERED,
        "ping": Status.FAILED,
    }
    assert "smtp.filtered" in [reason["signal"] for reason in found.verdict["reasons"]]
    assert [one["probe"] for one in found.verdict["missing"]] == ["ping"]


def test_what_the_chain_says_counts() -> None:
    found = surveyor(bot_probes()).measure(1, host())
    assert "helo.no_dot" in [reason["signal"] for reason in found.verdict["reasons"]]


@pytest.mark.parametrize(
    ("role", "probe_claimed", "asked"),
    [("origin", False, 1), ("trusted", False, 1), ("claimed", False, 0), ("claimed", True, 1)],
)
def test_a_claimed_address_is_probed_only_on_demand(
    role: str, probe_claimed: bool, asked: int
) -> None:
    probe = FakeProbe("smtp")
    found = surveyor([probe], probe_claimed=probe_claimed).measure(1, host(role=role))
    assert len(probe.asked) == asked
    assert (found.verdict["why"] == run.CLAIMED) is (asked == 0)


def test_stored_facts_are_judged_anew_without_a_packet() -> None:
    found = surveyor(bot_probes()).measure(1, host())
    probes = bot_probes()
    harsher = surveyor(probes, "weights.smtp.filtered=4.5").rejudge(found)
    assert harsher.verdict["score"] > found.verdict["score"]
    assert harsher.observations == found.observations
    assert [probe.asked for probe in probes] == [[], []]


def test_every_host_is_measured_once_and_so_many_at_a_time() -> None:
    lock, now, most = threading.Lock(), Counter[str](), [0]

    def measure(ip: str) -> Record:
        with lock:
            now["running"] += 1
            most[0] = max(most[0], now["running"])
        time.sleep(0.002)
        with lock:
            now["running"] -= 1
        return record(ip)

    found = [one.host.ip for one in measured(HOSTS, measure, 8)]
    assert Counter(found) == Counter(HOSTS)
    assert most[0] <= 8


def test_nothing_to_do_is_done_at_once() -> None:
    assert list(measured([], record, 8)) == []


def test_an_error_in_a_measurement_reaches_the_caller() -> None:
    def measure(ip: str) -> Record:
        raise OSError(f"no space for {ip}")

    with pytest.raises(OSError, match="no space"):
        list(measured(HOSTS, measure, 4))


def test_closed_in_the_middle_it_starts_no_more() -> None:
    begun: list[str] = []

    def measure(ip: str) -> Record:
        begun.append(ip)
        time.sleep(0.01)
        return record(ip)

    found = measured(HOSTS, measure, 2)
    next(found)
    found.close()
    time.sleep(0.05)
    assert len(begun) <= 5


def test_a_host_that_met_a_rate_limit_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WINDOW_S", 0.05)
    limited = Observation("smtp", "k", Status.SKIPPED, reason="rate limit: in all")
    tries: Counter[str] = Counter()

    def measure(ip: str) -> Record:
        tries[ip] += 1
        return record(ip, limited) if tries[ip] == 1 else record(ip, ping(True))

    found = list(measured(HOSTS[:3], measure, 2))
    assert {one.host.ip for one in found} == set(HOSTS[:3])
    assert all(one.observations == (ping(True),) for one in found)
    assert set(tries.values()) == {2}


def test_a_limit_that_never_lifts_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WINDOW_S", 0.01)
    monkeypatch.setattr(run, "WINDOWS_AT_MOST", 2)
    limited = Observation("smtp", "k", Status.SKIPPED, reason="rate limit: 198.18.0.1")
    (found,) = measured(HOSTS[:1], lambda ip: record(ip, limited), 1)
    assert found.observations == (limited,)


# -- silence that the engine did not believe ------------------------------------------------------

_DOUBTED = Observation("ping", "k", Status.FAILED, reason=DOUBTED[Status.SILENT])
_FAILED = Observation("ping", "k", Status.FAILED, reason="no privilege")


def anew(*found: Record) -> list[Record]:
    return list(settled(lambda: found, lambda record: record))


def test_where_other_hosts_answered_the_doubted_silence_was_silence() -> None:
    (settled_one,) = anew(record(HOSTS[0], _DOUBTED), record(HOSTS[1], ping(True)))
    (silent,) = settled_one.observations
    assert settled_one.host.ip == HOSTS[0]
    assert (silent.status, silent.reason) == (Status.SILENT, "")


def test_where_nobody_ever_answered_the_way_out_may_be_blocked() -> None:
    assert anew(*(record(ip, _DOUBTED) for ip in HOSTS)) == []


def test_a_probe_that_answered_says_nothing_of_another() -> None:
    others = (record(ip, smtp("greeting")) for ip in HOSTS[1:])
    assert anew(record(HOSTS[0], _DOUBTED), *others) == []


def test_a_failure_of_ours_stays_one() -> None:
    assert anew(record(HOSTS[0], _FAILED), record(HOSTS[1], ping(True))) == []


@pytest.mark.parametrize(("others", "becomes"), [("filtered", Status.ANSWERED), ("refused", None)])
def test_a_doubted_refusal_was_one_where_other_hosts_did_not_refuse(
    others: str, becomes: Status | None
) -> None:
    refused = smtp("refused")
    doubted = replace(refused, status=Status.FAILED, reason=DOUBTED[Status.ANSWERED])
    found = anew(record(HOSTS[0], doubted), *(record(ip, smtp(others)) for ip in HOSTS[1:9]))
    assert [one.observations for one in found] == ([(refused,)] if becomes else [])


def test_what_was_settled_is_judged_anew() -> None:
    doubted = replace(smtp("filtered"), status=Status.FAILED, reason=_DOUBTED.reason)
    found = (record(HOSTS[0], doubted), record(HOSTS[1], smtp("greeting")))
    judge = surveyor([FakeProbe("smtp", [Signal("smtp.filtered")])])
    (judged,) = settled(lambda: found, judge.rejudge)
    assert "smtp.filtered" in [reason["signal"] for reason in judged.verdict["reasons"]]

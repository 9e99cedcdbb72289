"""What the query socket says of an address: the real engine, one probe, no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from botmilter import header
from botmilter.cli import build
from botmilter.cli.answers import Answers
from botmilter.clock import Deadline
from botmilter.config import Settings
from botmilter.milter.query import Question
from botmilter.model import Observation, Signal, Status, Target
from botmilter.net import parse_ip

SIGNALS = ("os.client", "smtp.refused", "rdns.dynamic")


class Probe:
    """Calls everybody a bot, and remembers whom it was asked about."""

    name = "osdetect"
    limit_s = 5.0
    signals = frozenset(SIGNALS)
    shows_life = wants_life = False
    sends_to_host = True

    def __init__(self) -> None:
        self.asked: list[Target] = []

    def store_key(self, target: Target) -> str:
        return str(target.ip)

    def measure(self, target: Target, deadline: Deadline) -> Observation:
        self.asked.append(target)
        return Observation(self.name, self.store_key(target), Status.ANSWERED)

    def interpret(self, seen: Observation, target: Target) -> Sequence[Signal]:
        return tuple(Signal(name) for name in SIGNALS)


def ask(probe: Probe, ip: str, helo: str | None = None, **trust: object) -> dict[str, Any]:
    settings = Settings.model_validate(
        {
            "store": {"kind": "memory"},
            "probe": {"allow_networks": ["198.18.0.0/15"]},
            "trust": trust,
        }
    )
    machine = build.machine(settings, (probe,))
    address = parse_ip(ip)
    assert address is not None
    said = Answers(machine, settings)(Question(address, helo, "example.com"))
    given: dict[str, Any] = json.loads(json.dumps(said))
    return given


def test_an_address_is_judged_as_if_its_host_had_connected() -> None:
    probe = Probe()
    said = ask(probe, "198.18.7.12", "198.18.7.12")
    assert [(str(one.ip), one.helo, one.sender_domain) for one in probe.asked] == [
        ("198.18.7.12", "198.18.7.12", "example.com")
    ]
    assert said["verdict"] == "bot"
    assert said["origin"] == {"ip": "198.18.7.12", "why": "client", "note": said["origin"]["note"]}
    signals = {reason["signal"] for reason in said["reasons"]}
    assert signals >= {*SIGNALS, "helo.bare_address"}
    fields = dict(said["header"])
    assert header.parse(fields["X-Bot-Verdict"]).label == "bot"
    assert fields["X-Bot-Score"] == str(said["score"])


def test_the_answer_has_the_shape_of_check_s() -> None:
    keys = {"verdict", "score", "why", "origin", "reasons", "missing", "spent_s", "header"}
    assert ask(Probe(), "198.18.7.12").keys() == keys


@pytest.mark.parametrize("ip", ["10.1.2.3", "192.168.0.1", "224.0.0.1", "fe80::1", "64:ff9b::1"])
def test_what_the_guard_refuses_is_unknown_and_gets_no_packet(ip: str) -> None:
    probe = Probe()
    said = ask(probe, ip)
    assert (said["verdict"], probe.asked) == ("unknown", [])
    assert said["missing"][0]["status"] == "skipped"


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", "192.0.2.5", "198.51.100.9"])
def test_our_own_and_allowed_hosts_are_exempt(ip: str) -> None:
    probe = Probe()
    said = ask(probe, ip, networks=["192.0.2.0/24"], exempt_networks=["198.51.100.0/24"])
    assert (said["verdict"], said["score"], probe.asked) == ("exempt", None, [])


def test_who_asks_has_passed_our_relays_by_himself() -> None:
    assert ask(Probe(), "198.18.7.12", own_relays=2)["verdict"] == "bot"

"""What a ticket knows of its own mail."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from botmilter.inquiry import Policy, Ticket
from botmilter.model import Observation, Origin, OriginWhy, Signal, Status, Target
from tests.fakes.engine import Scripted

SEEN = Observation("smtp", "198.18.0.1", Status.ANSWERED)


@dataclass
class Asked(Scripted):
    """Notes what it is asked to interpret."""

    interpreted: list[Observation] = field(default_factory=list)

    def interpret(self, seen: Observation, target: Target) -> list[Signal]:
        self.interpreted.append(seen)
        return [Signal("smtp.refused")]


def test_what_was_seen_is_interpreted_once_and_anew_when_seen_anew() -> None:
    probe = Asked("smtp", "smtp.refused")
    ip = ip_address("198.18.0.1")
    policy = Policy(1.0, frozenset({"smtp"}))
    ticket = Ticket(Origin(OriginWhy.CLIENT, ip), Target(ip), policy, [probe])
    for _ in range(3):
        assert ticket.meaning(SEEN) == [Signal("smtp.refused")]
    again = replace(SEEN, taken_at=1.0)
    ticket.meaning(again)
    assert probe.interpreted == [SEEN, again]


def test_without_a_target_nothing_has_a_meaning() -> None:
    ticket = Ticket(Origin(OriginWhy.UNREADABLE), None, Policy(1.0, frozenset({"smtp"})), ())
    assert ticket.meaning(SEEN) == []

"""A probe that says the same of every host convicts nobody."""

from __future__ import annotations

import pytest

from botmilter.clock import Deadline
from botmilter.inquiry import Policy
from botmilter.model import Label, Observation, Status, Target
from tests.fakes.engine import Scripted, engine, nmap, origin, smtp


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

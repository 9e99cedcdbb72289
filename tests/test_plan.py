"""What runs next."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from botmilter import plan
from botmilter.model import Observation, Status
from botmilter.plan import Step


@dataclass(frozen=True)
class Kind:
    name: str
    shows_life: bool = False
    wants_life: bool = False


PROBES = (
    Kind("rdns"),
    Kind("smtp", shows_life=True),
    Kind("ping", shows_life=True),
    Kind("os", wants_life=True),
)
UP, DOWN, BROKEN = Status.ANSWERED, Status.SILENT, Status.FAILED
DEAD = {"smtp": DOWN, "ping": DOWN}
ALL_UP = {"rdns": UP, "smtp": UP, "ping": UP}


@pytest.mark.parametrize(
    ("seen", "running", "can_change", "settled", "step"),
    [
        pytest.param({}, "", True, False, Step(("rdns", "smtp", "ping")), id="cheap ones together"),
        pytest.param({}, "rdns smtp ping", True, True, Step(), id="no life yet"),
        pytest.param({"ping": UP}, "rdns smtp", True, False, Step(), id="a moment for the cheap"),
        pytest.param({"ping": UP}, "rdns smtp", True, True, Step(("os",)), id="moment over"),
        pytest.param({"smtp": UP}, "rdns ping", True, True, Step(("os",)), id="a reset is life"),
        pytest.param(ALL_UP, "", True, False, Step(("os",)), id="all cheap ones in"),
        pytest.param(
            ALL_UP, "", False, True, Step((), (("os", plan.NOT_NEEDED),)), id="changes nothing"
        ),
        pytest.param(DEAD, "rdns", True, True, Step((), (("os", plan.NO_LIFE),)), id="dead"),
        pytest.param(
            {"smtp": DOWN, "ping": BROKEN}, "", True, True,
            Step(("rdns",), (("os", plan.NO_LIFE),)), id="a broken witness saw no life",
        ),
        pytest.param({**ALL_UP, "os": UP}, "", True, True, Step(), id="all done"),
    ],
)  # fmt: skip
def test_the_next_step(
    seen: dict[str, Status], running: str, can_change: bool, settled: bool, step: Step
) -> None:
    known = {name: Observation(name, "k", status) for name, status in seen.items()}
    assert plan.next_step(PROBES, known, set(running.split()), lambda: can_change, settled) == step


@pytest.mark.parametrize(("settled", "start"), [(False, ()), (True, ("os",))])
def test_while_nobody_waits_the_dear_probe_has_a_moment_s_patience(
    settled: bool, start: tuple[str, ...]
) -> None:
    known = {name: Observation(name, "k", status) for name, status in ALL_UP.items()}
    step = plan.next_step(PROBES, known, set(), lambda: True, settled, awaited=False)
    assert step.start == start


def test_without_any_witness_configured_the_dear_probe_runs() -> None:
    probes = (Kind("rdns"), Kind("os", wants_life=True))
    known = {"rdns": Observation("rdns", "k", UP)}
    assert plan.next_step(probes, known, set(), lambda: True, False).start == ("os",)


def test_a_survey_looks_at_hosts_that_show_no_life_too() -> None:
    known = {name: Observation(name, "k", status) for name, status in DEAD.items()}
    step = plan.next_step(PROBES, known, {"rdns"}, lambda: True, True, silent_too=True)
    assert step == Step(("os",))

"""Each part of the filter broken for real while mail flows: no mail is lost or late, the log says
once what is wrong and once when it is over, and nobody restarts anything.

All scenarios that were chosen run side by side, each with a filter of its own, because each waits
for a pause of ten seconds to pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from botmilter.clock import Deadline
from tests.reliability.rig import BUDGET_S, SLACK_S, Flow, hosts
from tests.reliability.scenarios import SCENARIOS, Scenario, World

pytestmark = pytest.mark.slow

_AT_ONCE = 4
#: Of each: together they are to leave the machine half its time.
_RATE_PER_S = 5.0
#: How long mail flows before a part is broken, and after it works again.
_WELL_S = 1.5
_BROKEN_S = 3.0
#: By then what was broken has its part in verdicts again, however busy the machine.
_RECOVERS_WITHIN_S = 30.0


@dataclass(frozen=True)
class Outcome:
    flow: Flow
    log: str
    share_without: float
    """Of the verdicts after the part had been mended, those without it."""
    workers_before: list[int]
    workers_after: list[int]


def play(scenario: Scenario, folder: Path, number: int) -> Outcome:
    folder.mkdir()
    with ExitStack() as stack:
        world = World(folder, number, scenario, stack)
        stack.enter_context(world.rig)
        with world.rig.flow(_RATE_PER_S) as flow:
            time.sleep(_WELL_S)
            before = world.rig.workers
            scenario.breaks(world)
            broken_at = time.monotonic()
            if scenario.says:
                world.rig.wait_for(scenario.says)
            time.sleep(max(0.0, broken_at + _BROKEN_S - time.monotonic()))
            scenario.mends(world)
            if scenario.over:
                world.rig.wait_for(scenario.over)
            time.sleep(BUDGET_S)
            without = share_without(scenario.part, flow)
        return Outcome(flow, world.rig.told, without, before, world.rig.workers)


def share_without(part: str, flow: Flow) -> float:
    """Of the mails of a moment those judged without *part*; where a busy machine makes them late,
    of a later moment."""
    deadline = Deadline.after(_RECOVERS_WITHIN_S)
    while True:
        since = time.monotonic()
        time.sleep(_WELL_S)
        share = flow.share_without(part, since) if part else 0.0
        if share < 0.5 or deadline.is_over:
            return share


def is_said_by_turns(log: str, wrong: str, over: str) -> bool:
    """Whether what is wrong is said once, and no more before it is *over*: what was under way may
    end well after others had failed."""
    lines = [line for line in log.splitlines() if wrong in line or over in line]
    return [over in line for line in lines] in ([False, True], [False, True] * 2)


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Future[Outcome]]]:
    """What comes of the scenarios that were chosen, all begun at once."""
    items = (item for item in request.session.items if item.path == request.path)
    chosen = {item.name.partition("[")[2].rstrip("]") for item in items}
    folder = tmp_path_factory.mktemp("broken")
    with hosts(), ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {
            one.name: pool.submit(play, one, folder / str(number), number)
            for number, one in enumerate(SCENARIOS)
            if one.name in chosen
        }


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_mail_flows_on_and_the_log_says_it_once(
    scenario: Scenario, outcomes: Mapping[str, Future[Outcome]]
) -> None:
    seen = outcomes[scenario.name].result(120)
    print(f"{scenario.name}: {seen.flow.sent} mails, slowest {seen.flow.slowest_s:.2f} s")
    assert seen.flow.lost == []
    open_at_most = int(_RATE_PER_S * (BUDGET_S + SLACK_S)) if scenario.kills_worker else 0
    assert seen.flow.cut <= open_at_most
    assert len(seen.flow.took_s) == seen.flow.sent - seen.flow.cut
    assert seen.flow.slowest_s <= BUDGET_S + SLACK_S
    if scenario.says and scenario.over:
        assert is_said_by_turns(seen.log, scenario.says, scenario.over), seen.log
    else:
        assert not scenario.says or seen.log.count(scenario.says) == 1, seen.log
        assert not scenario.over or seen.log.count(scenario.over) == 1
    assert "Traceback" not in seen.log
    assert seen.share_without < 0.5  # while it was broken all were
    assert scenario.kills_worker or seen.workers_before == seen.workers_after

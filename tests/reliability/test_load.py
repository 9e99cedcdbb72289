"""The heavy runs, small; ``contrib/bench flood`` and ``contrib/bench soak`` run them large."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability import load

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]


def test_a_flood_from_unknown_hosts_stays_within_the_rates(tmp_path: Path) -> None:
    seen = load.flood(tmp_path, mails=4_000, addresses=2_000)
    assert seen.sent.failed == 0
    assert seen.sent.slowest_s < 2 * 5.0  # nobody waits a second budget; contrib/bench times it
    assert seen.is_within_rates, seen
    assert seen.by_rate_limit > 1_000
    assert seen.peak["threads"] < 400


def test_a_thousand_connections_of_which_two_hundred_stall(tmp_path: Path) -> None:
    """How fast the others are served beside them, contrib/bench soak says."""
    seen = load.crowd(tmp_path, stalled=200, at_once=800, mails=1_000)
    assert seen.alone.failed == seen.among_stalled.failed == 0


def test_ten_thousand_mails_leave_nothing_behind(tmp_path: Path) -> None:
    seen = load.soak(tmp_path, warm=4_000, mails=10_000, settle_s=3.0)
    assert seen.warm.failed == seen.rest.failed == 0
    assert seen.growth < 0.05
    after, end = seen.after_warm, seen.at_end
    assert end.zombies == 0
    assert end.processes <= after.processes
    assert end.open_files <= after.open_files + 4  # a probe's, now and then

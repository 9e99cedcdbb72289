"""No mail makes us send a packet to somebody else; ``contrib/bench attack`` runs it large."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.hostile import attack

pytestmark = pytest.mark.slow


def test_packets_leave_only_for_hosts_that_handed_in_a_mail(tmp_path: Path) -> None:
    seen = attack(tmp_path, 1_000)
    assert seen.packets > 100
    assert seen.strangers == ()
    assert seen.unmarked == 0

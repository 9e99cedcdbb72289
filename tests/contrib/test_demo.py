"""What contrib/quickstart shows is what the README promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

_VERDICT = re.compile(r"X-Bot-Verdict: (\w+); score=[\d.-]+; origin=([\d.]+)")


def test_the_demonstration_shows_the_readmes_verdicts() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "contrib.demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    shown = _VERDICT.findall(run.stdout)
    in_readme = _VERDICT.findall((ROOT / "README.md").read_text())
    assert shown == in_readme[1:]  # the first is the opening's own
    assert [label for label, _ in shown] == ["bot", "clean", "bot"]


def test_quickstart_refuses_what_it_does_not_know() -> None:
    run = subprocess.run(
        [ROOT / "contrib/quickstart", "--frobnicate"], capture_output=True, text=True, timeout=30
    )
    assert (run.returncode, run.stdout) == (64, "")
    assert "--no-demo" in run.stderr

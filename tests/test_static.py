"""What is checked without running anything: types, style, format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "tool",
    [
        pytest.param(("mypy",), id="mypy --strict has no complaint"),
        pytest.param(("ruff", "check"), id="ruff has no complaint"),
        pytest.param(("ruff", "format", "--check"), id="every file has ruff's format"),
    ],
)
def test_static_check(tool: tuple[str, ...]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stdout + run.stderr

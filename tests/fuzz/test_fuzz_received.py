"""The header parser stands coverage-guided fuzzing, begun from every known shape of line."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: The minute that the tests give to fuzzing, in all targets together.
FUZZ_S = 60


@pytest.mark.slow
def test_no_input_raises(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris cannot be installed for this Python")
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    for path in sorted((HERE.parent / "data" / "received").glob("*.toml")):
        for number, case in enumerate(tomllib.loads(path.read_text("utf-8"))["case"]):
            (seeds / f"{path.stem}-{number}").write_bytes(b"Received: " + case["line"].encode())
    ran = subprocess.run(
        [
            sys.executable,
            str(HERE / "fuzz_received.py"),
            f"-max_total_time={FUZZ_S}",
            "-timeout=5",
            "-max_len=4096",
            f"-artifact_prefix={tmp_path}/",
            str(seeds),
        ],
        # not under coverage.py, which the fuzzer's own tracing and exit disturb
        env={name: text for name, text in os.environ.items() if not name.startswith("COVERAGE")},
        capture_output=True,
        text=True,
        timeout=FUZZ_S * 5,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]

"""What a store gives back stands coverage-guided fuzzing, begun from a row of each probe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from botmilter.model import Observation, Status

HERE = Path(__file__).parent
FUZZ_S = 5

#: Facts as the probes store them.
FACTS: dict[str, dict[str, object]] = {
    "rdns": {"names": ["a.example"], "confirmed": [], "unchecked": [], "neighbours": {}},
    "smtp": {"outcome": "filtered", "greeting": "220 x", "ehlo": "x"},
    "ping": {"round_trip_ms": 1.5},
    "osdetect": {"state": "up", "ports": {"25": "open"}, "matches": []},
    "senderhost": {"found": "mx", "by": "mx.example"},
}


@pytest.mark.slow
def test_no_row_raises(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris cannot be installed for this Python")
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    for probe, facts in FACTS.items():
        key = "198.18.7.12 a.example b.example" if probe == "senderhost" else "198.18.7.12"
        row = Observation(probe, key, Status.ANSWERED, facts, "", 1e9, 0.5, 60.0).to_json()
        (seeds / probe).write_bytes(f"{probe}\n{key}\n{json.dumps(row)}".encode())
    ran = subprocess.run(
        [
            sys.executable,
            str(HERE / "fuzz_store.py"),
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
        timeout=FUZZ_S * 10,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]

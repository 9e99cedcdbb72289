"""What comes from outside stands coverage-guided fuzzing, begun from what is known; what was found
once stays as a case in ``found/TARGET/``."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import dns.message
import dns.rrset
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: Three quarters of a minute in all, and as much again for starting.
SECONDS: Mapping[str, int] = {
    "received": 25,
    "header": 5,
    "config": 5,
    "nmap": 5,
    "dns": 5,
    "banner": 5,
}


def _received() -> Iterable[bytes]:
    for path in sorted((HERE.parent / "data" / "received").glob("*.toml")):
        for case in tomllib.loads(path.read_text("utf-8"))["case"]:
            yield b"Received: " + case["line"].encode()


def _dns() -> Iterable[bytes]:
    query = dns.message.make_query("a.example", "TXT")
    for kind, text in (("TXT", '"v=spf1 -all"'), ("MX", "10 m.example."), ("CNAME", "b.example.")):
        answer = dns.message.make_response(query)
        answer.answer = [dns.rrset.from_text("a.example.", 60, "IN", kind, text)]
        yield answer.to_wire()


def _seeds(target: str) -> Iterable[bytes]:
    match target:
        case "received":
            return _received()
        case "dns":
            return _dns()
        case "config":
            return [(ROOT / "etc" / "botmilter.toml").read_bytes(), b"[trust]\nnetworks = ['::/0']"]
        case "nmap":
            match = b'<osmatch name="x" accuracy="9"><osclass type="y" accuracy="9"/></osmatch>'
            return [b"<nmaprun><host><os>" + match + b"</os></host><runstats/></nmaprun>"]
        case "banner":
            return [b"220-a\r\n220 b\r\n250-c\r\n250 d\r\n", b"554 no\r\n", b"220"]
        case _:
            return [b"bot; score=8.5; origin=192.0.2.1; reasons=os.client; missing=dnsbl"]


def _command(target: str) -> list[str]:
    if target == "received":
        return [sys.executable, str(HERE / "fuzz_received.py")]
    return [sys.executable, str(HERE / "fuzz_network.py"), target]


def _run(command: list[str], at_most_s: float) -> None:
    """Fails with the exception that *command* ended by, and its input in base64."""
    # not under coverage.py, which the fuzzer's own tracing and exit disturb
    env = {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE")}
    env["PYTHONPATH"] = str(ROOT)
    ran = subprocess.run(  # the exception goes to stdout, the input and all else to stderr
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", timeout=at_most_s, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-8000:]


@pytest.mark.slow
@pytest.mark.parametrize("target", SECONDS)
def test_no_input_raises(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris cannot be installed for this Python")
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    for number, seed in enumerate(_seeds(target)):
        (seeds / str(number)).write_bytes(seed)
    found = sorted(str(path) for path in (HERE / "found" / target).glob("*"))
    if found:
        _run([*_command(target), *found], 60)
    limits = [f"-max_total_time={SECONDS[target]}", "-timeout=5", "-max_len=4096"]
    _run([*_command(target), *limits, f"-artifact_prefix={tmp_path}/", str(seeds)], 120)

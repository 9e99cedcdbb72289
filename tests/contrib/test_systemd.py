"""The systemd unit: systemd itself reads it, and finds the sandbox tight."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from botmilter import config
from tests.fakes.programs import find

UNIT = Path(__file__).parents[2] / "contrib/systemd/botmilter.service"

#: systemd's own scale goes from 0 (safe) to 10 (unsafe).
EXPOSURE_AT_MOST = 2.0


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there, because systemd looks."""
    copy = tmp_path / UNIT.name
    text = UNIT.read_text()
    copy.write_text(re.sub(r"^(Exec\w+)=\S+", r"\1=/bin/true", text, flags=re.MULTILINE))
    return copy


def _service() -> dict[str, str]:
    """The [Service] section; of a key that is there twice the last."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys as they are written
    parser.read(UNIT)
    return dict(parser["Service"])


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [find("systemd-analyze"), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    result = _analyze("verify", "--man=no", str(unit))
    complaints = [line for line in result.stderr.splitlines() if UNIT.name in line]
    assert (result.returncode, complaints) == (0, [])


def test_a_misspelt_line_would_be_found(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectSystem=", "ProtectSytem="))
    assert "ProtectSytem" in _analyze("verify", "--man=no", str(unit)).stderr


def test_systemd_finds_the_sandbox_tight(unit: Path) -> None:
    result = _analyze("security", "--offline=true", "--no-pager", str(unit))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", result.stdout)
    assert found is not None, result.stderr
    assert float(found[1]) <= EXPOSURE_AT_MOST


def test_the_service_holds_the_one_capability_that_probes_need() -> None:
    service = _service()
    assert service["User"] != "root"
    assert service["AmbientCapabilities"] == service["CapabilityBoundingSet"] == "CAP_NET_RAW"
    assert {"AF_UNIX", "AF_INET", "AF_INET6", "AF_PACKET", "AF_NETLINK"} == set(
        service["RestrictAddressFamilies"].split()
    )


def test_systemd_waits_longer_than_the_daemon_lets_sessions_end() -> None:
    grace_s = config.load(None).milter.stop_grace_s
    assert float(_service()["TimeoutStopSec"]) > grace_s

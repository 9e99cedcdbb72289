"""The real p0f 3, which sees one packet of each host and is asked what it makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from botmilter.clock import Deadline
from botmilter.model import Status, Target
from botmilter.probes.p0f import P0fProbe
from tests.lab.p0f import LINUX, SEVEN, XP, Stack, ask, greet, listening

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with listening(tmp_path_factory.mktemp("p0f")) as path:
        yield path


@pytest.mark.parametrize(
    ("stack", "system", "flavour", "signal"),
    [
        (XP, "Windows", "XP", "p0f.client"),
        (SEVEN, "Windows", "7 or 8", "p0f.both"),
        (LINUX, "Linux", "3.11 and newer", "p0f.unix"),
    ],
    ids=["XP", "7 or 8", "Linux"],
)
def test_the_system_is_named(
    api: Path, stack: Stack, system: str, flavour: str, signal: str
) -> None:
    greet(stack)
    seen = ask(api, stack.ip)
    assert seen.status is Status.ANSWERED, seen.reason
    assert (seen.facts["os"], seen.facts["flavour"]) == (system, flavour)
    found = P0fProbe(0.5, str(api)).interpret(seen, Target(ip_address(stack.ip)))
    assert [one.name for one in found] == [signal]


@pytest.mark.parametrize("ip", ["198.18.99.99", "2001:db8::7"])
def test_who_has_not_come_is_not_known(api: Path, ip: str) -> None:
    seen = P0fProbe(0.5, str(api)).measure(Target(ip_address(ip)), Deadline.after(0.5))
    assert (seen.status, seen.reason) == (Status.SKIPPED, "p0f has not seen this host")

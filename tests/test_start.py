"""At which step of a real MTA's conversation the client is probed first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.lab import mta, net, worlds
from tests.lab.client import Smtp
from tests.lab.filter import Filter
from tests.lab.lab import Lab
from tests.lab.mta import Postfix
from tests.lab.sendmail import Sendmail

pytestmark = pytest.mark.slow

PC = worlds.INFECTED_PC.ip
#: A packet within this time was sent for the step before.
_AT_ONCE_S = 0.5
#: One packet, and nobody waits long for the answer.
_PING_ALONE = {f"probe.{name}.enabled": False for name in ("rdns", "smtp", "osdetect")}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(worlds.DEMO) as lab:
        yield lab


@pytest.fixture(scope="module", params=["postfix", "sendmail"])
def folder(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Path]:
    """Of the filter's socket, ``milter``, which an MTA looks for."""
    with ExitStack() as stack:
        place = stack.enter_context(mta.open_folder())
        if request.param == "postfix":
            stack.enter_context(Postfix(place, (net.MTA,), f"unix:{place}/milter"))
        else:
            stack.enter_context(Sendmail(place, [net.MTA], f"S=unix:{place}/milter, T=S:30s;R:30s"))
        yield place


def _first_probed_at(lab: Lab) -> str:
    """The step by which the PC's mail brought it the first packet."""
    lab.forget_flows()
    with closing(Smtp(PC, helo="home-pc", timeout_s=10.0)) as client:
        steps: dict[str, Callable[[], object]] = {
            "greeting": lambda: None,
            "EHLO": client.ehlo,
            "MAIL": lambda: client.mail("somebody@sender.example"),
            "RCPT": lambda: client.rcpt(f"reader@{mta.DOMAIN}"),
            "DATA": lambda: client.docmd("DATA"),
            "dot": lambda: client.send("Subject: x\r\n\r\nHello.\r\n.\r\n"),
        }
        for name, step in steps.items():
            step()
            until = time.monotonic() + _AT_ONCE_S
            while time.monotonic() < until:
                if str(PC) in lab.destinations():
                    return name
                time.sleep(0.01)
    return "never"


@pytest.mark.parametrize(
    ("start", "step"), [("connect", "greeting"), ("data", "DATA"), ("headers", "dot")]
)
def test_probing_begins_with_the_step_that_is_configured(
    lab: Lab, folder: Path, start: str, step: str
) -> None:
    with Filter(folder / "milter", {**_PING_ALONE, "milter.start": start}):
        assert _first_probed_at(lab) == step

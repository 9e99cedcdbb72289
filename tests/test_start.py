"""At which step of a real MTA's conversation the client is probed first, and that a mail the MTA
rejects starts no nmap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path

import pytest

from tests.lab import mta, net, worlds
from tests.lab.client import Smtp
from tests.lab.filter import Filter
from tests.lab.host import CLOSED
from tests.lab.lab import Lab
from tests.lab.mta import Postfix
from tests.lab.scans import Scans
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
            (place / "checks").write_text("/^Subject: refused/ REJECT\n")
            options = {"header_checks": f"regexp:{place}/checks", "message_size_limit": "20000"}
            stack.enter_context(Postfix(place, (net.MTA,), f"unix:{place}/milter", options))
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


# -- what is rejected ---------------------------------------------------------------------------

_SENDER, _READER = "somebody@sender.example", f"reader@{mta.DOMAIN}"
#: How long nmap waits for the cheap probes; longer than the sessions, on a busy machine too.
_SETTLE_S = 1.0
#: From then on until the script in nmap's place has noted that it was started.
_STARTED_WITHIN_S = 0.7


def _to_nobody(client: Smtp) -> int:
    client.mail(_SENDER)
    return client.rcpt("reader@elsewhere.example")[0]


def _too_large_as_told(client: Smtp) -> int:
    return client.mail(_SENDER, ["SIZE=1000000"])[0]


def _too_large(client: Smtp) -> int:
    client.mail(_SENDER)
    client.rcpt(_READER)
    return client.data("Subject: x\r\n\r\n" + ("x" * 70 + "\r\n") * 1000)[0]


def _header_refused(client: Smtp) -> int:
    client.mail(_SENDER)
    client.rcpt(_READER)
    return client.data("Subject: refused\r\n\r\nHello.\r\n")[0]


def _taken(client: Smtp) -> int:
    client.mail(_SENDER)
    client.rcpt(_READER)
    return client.data("Subject: x\r\n\r\nHello.\r\n")[0]


_REJECTED = (_to_nobody, _too_large_as_told, _too_large, _header_refused)
#: The others take options of Postfix's.
_REJECTED_BY = {"postfix": _REJECTED, "sendmail": (_to_nobody,)}

_numbers = count(1)


def _stranger(lab: Lab) -> IPv4Address:
    """A PC that is up, looks like a bot and was never met."""
    host = worlds.pc(f"198.18.120.{next(_numbers)}", worlds.XP, CLOSED)
    lab.put(host)
    return host.ip


def _replied(ip: IPv4Address, send: Callable[[Smtp], int]) -> int:
    """To a mail in a session of its own, in which the client says QUIT."""
    with Smtp(ip, helo="home-pc", timeout_s=30.0) as client:
        client.ehlo()
        return send(client)


@pytest.mark.parametrize("start", ["connect", "data", "headers"])
def test_a_rejected_mail_starts_no_nmap(
    lab: Lab, folder: Path, start: str, request: pytest.FixtureRequest
) -> None:
    settings = {"milter.start": start, "milter.workers": 1, "probe.settle_s": _SETTLE_S}
    mta_name = request.node.callspec.params["folder"]
    with Scans() as scans, Filter(folder / "milter", settings):
        replies = [_replied(_stranger(lab), send) for send in _REJECTED_BY[mta_name]]
        assert all(code >= 400 for code in replies), replies
        time.sleep(_SETTLE_S + _STARTED_WITHIN_S)
        assert not scans.started
        assert _replied(_stranger(lab), _taken) == 250
        assert len(scans.started) == 1

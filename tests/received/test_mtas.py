"""What a real Postfix and a real Sendmail write of a hostile client is read as they meant it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import count

import pytest

from botmilter.clock import Deadline
from botmilter.model import HopKind
from botmilter.received import parse_line
from tests.lab import mta, net, worlds
from tests.lab.client import Smtp
from tests.lab.dns import NameServer
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.mta import Postfix
from tests.lab.sendmail import Sendmail

pytestmark = pytest.mark.slow

PATIENCE_S = 15.0

#: What DNS calls the client: a host each.
NAMES = (
    "ssl1.example", "authenticated.example", "tlsv1.3.example", "using", "client", "for", "account",
    "HELO", "envelope-from", "unix", "by.example", "squirrelmail.example", "192.0.2.7.example",
)  # fmt: skip
HOSTS = tuple(
    replace(worlds.MAIL_SERVER, ip=IPv4Address("198.18.70.0") + number, names=(name,))
    for number, name in enumerate(NAMES, 1)
)
CLIENT = worlds.MAIL_SERVER
GREETINGS = (
    "[192.0.2.7]", "h.example", "by", "ssl1.example", "authenticated",
    "x (r [192.0.2.7]) by y", 'x Client CN "', "x (Authenticated sender: y)", "x) by y; z",
)  # fmt: skip
#: RCPT's argument; the reader is filled in.  What an MTA does not take tells nothing.
ARGUMENTS = (
    "<{}@example.net>(authenticated)",
    "<{}@example.net>(a;(b)\\))",
    "<x ([127.0.0.1]) by fw2 <{}@example.net>>",
    "<x ([127.0.0.1]) by y with qmail-scanner <{}@example.net>>",
    "(\\)(Authenticated sender: x))<{}@example.net>",
    '<"{}"@example.net>',
    '<"{}+) (authenticated) by y; \\"(r [192.0.2.7])"@example.net>',
    "<{}+with_HTTP@example.net>",
)


@pytest.fixture(scope="module")
def laboratory() -> Iterator[None]:
    hosts = (CLIENT, *HOSTS)
    with Lab(hosts), NameServer(hosts, ()):
        yield


@pytest.fixture(scope="module", params=["postfix", "sendmail"])
def relay(request: pytest.FixtureRequest, laboratory: None) -> Iterator[Postfix | Sendmail]:
    with mta.open_folder() as folder:
        made: Postfix | Sendmail = (
            Postfix(folder, [net.MTA], options={"recipient_delimiter": "+"})
            if request.param == "postfix"
            else Sendmail(folder, [net.MTA], f"S=unix:{folder}/none")
        )
        with made:
            yield made


_numbers = count(1)


def _is_taken(relay: Postfix | Sendmail, client: IPv4Address, helo: str, argument: str) -> bool:
    """Send a mail; where the relay takes it, hold its own line to what it knows."""
    name = f"reader{next(_numbers)}"
    with Smtp(client, helo="h") as smtp:
        smtp.docmd("EHLO", helo)
        smtp.docmd("MAIL", "FROM:<a@sender.example>")
        code, _ = smtp.docmd("RCPT", f"TO:{argument.format(name)}")
        if code != 250 or smtp.data(f"Subject: {name}\n\nHello.\n")[0] != 250:
            return False
    end = Deadline.after(PATIENCE_S)
    while not (mails := [one for one in relay.delivered() if one["Subject"] == name]):
        assert not end.is_over, f"{argument} is taken and not delivered"
        time.sleep(0.05)
    line = mails[0].get_all("Received", [])[0]
    hop = parse_line(line.encode("utf-8", "surrogateescape"))
    assert (hop.ip, hop.kind, hop.by) == (client, HopKind.RELAY, mta.HOST), line
    assert not hop.authenticated, line
    assert hop.at is not None, line
    return True


@pytest.mark.parametrize("host", HOSTS, ids=NAMES)
def test_whatever_dns_calls_a_client(relay: Postfix | Sendmail, host: Host) -> None:
    assert _is_taken(relay, host.ip, "h", "<{}@example.net>")


@pytest.mark.parametrize("helo", GREETINGS)
def test_however_a_client_greets(relay: Postfix | Sendmail, helo: str) -> None:
    _is_taken(relay, CLIENT.ip, helo, "<{}@example.net>")


def test_whatever_a_client_writes_into_its_argument(relay: Postfix | Sendmail) -> None:
    taken = [one for one in ARGUMENTS if _is_taken(relay, CLIENT.ip, "h", one)]
    assert len(taken) >= 2, taken

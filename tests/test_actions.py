"""What the filter does by the verdict, seen by the client and in the queue of a real Postfix and a
real Sendmail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import EmailMessage
from itertools import count
from pathlib import Path

import pytest

from botmilter import header
from tests.lab import mta, net, worlds
from tests.lab.client import Smtp
from tests.lab.dns import NameServer
from tests.lab.filter import Filter
from tests.lab.host import Host, smtp
from tests.lab.lab import Lab
from tests.lab.mta import Postfix
from tests.lab.sendmail import Sendmail
from tests.lab.worlds import LINUX, server

pytestmark = pytest.mark.slow

PC = worlds.INFECTED_PC
SLOW = server("198.18.67.9", LINUX, "slow2.example", smtp("slow2.example ESMTP", 2.0))
HOSTS = (PC, worlds.MAIL_SERVER, SLOW)

#: One question only, so that what is late and what is known is certain.
_OTHERS = ("rdns", "ping", "osdetect", "senderhost")
ASK_PORT_25 = {f"probe.{name}.enabled": False for name in _OTHERS}


@dataclass
class System:
    """An MTA, and the filter in whatever configuration a test wants."""

    folder: Path
    mailbox: Callable[[str, float], EmailMessage]
    """The mail to a reader; TimeoutError where there is none after so many seconds."""
    held: Callable[[], list[str]]
    """The mails in quarantine."""
    queued: Callable[[], list[str]]
    numbers: Iterator[int]

    def filter(self, settings: Mapping[str, object]) -> Filter:
        """All of them share what is known of the hosts."""
        store = {"store.path": str(self.folder / "known.sqlite")}
        return Filter(self.folder / "milter", {**store, **settings})

    def send(self, host: Host = PC) -> tuple[str, str]:
        """Hand a mail in; what the client is told at its end, and who was to read it."""
        reader = f"reader{next(self.numbers)}"
        helo = host.names[0] if host is not PC else "home-pc"
        with Smtp(host.ip, helo=helo, timeout_s=60.0) as client:
            client.ehlo()
            client.mail("somebody@sender.example")
            client.rcpt(f"{reader}@{mta.DOMAIN}")
            code, text = client.data("Subject: x\n\nHello.\n")
        return f"{code} {text.decode()}", reader

    def delivered_to(self, reader: str) -> str:
        """The label of the mail to *reader*."""
        return header.parse(str(self.mailbox(reader, 10.0)["X-Bot-Verdict"])).label

    def nothing_came(self, reader: str) -> bool:
        """Whether *reader* got nothing, once a later mail has been delivered."""
        _, later = self.send(worlds.MAIL_SERVER)
        assert self.delivered_to(later) == "clean"
        with pytest.raises(TimeoutError):
            self.mailbox(reader, 0.3)
        return True


@pytest.fixture(scope="module", params=["postfix", "sendmail"])
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    with ExitStack() as stack:
        stack.enter_context(Lab(HOSTS))
        stack.enter_context(NameServer(HOSTS, worlds.RECORDS))
        folder = stack.enter_context(mta.open_folder())
        make = _postfix if request.param == "postfix" else _sendmail
        made = make(stack, folder)
        with made.filter({"budget.per_mail_s": 30}):  # what is known from here on
            assert made.delivered_to(made.send(PC)[1]) == "bot"
            assert made.delivered_to(made.send(worlds.MAIL_SERVER)[1]) == "clean"
        yield made


def _postfix(stack: ExitStack, folder: Path) -> System:
    postfix = stack.enter_context(Postfix(folder, (net.MTA,), f"unix:{folder}/milter"))
    return System(
        folder,
        lambda reader, limit_s: postfix.mail_to(f"{reader}@{mta.DOMAIN}", limit_s),
        lambda: _texts(folder / "queue/hold"),
        lambda: [text for name in ("incoming", "active", "deferred", "hold")
                 for text in _texts(folder / "queue" / name)],
        count(1),
    )  # fmt: skip


def _sendmail(stack: ExitStack, folder: Path) -> System:
    equates = f"S=unix:{folder}/milter, T=S:30s;R:30s"
    sendmail = stack.enter_context(Sendmail(folder, [net.MTA], equates))
    return System(
        folder,
        sendmail.mail_to,
        lambda: _texts(folder / "queue", "hf*"),
        lambda: _texts(folder / "queue", "?f*"),
        count(1),
    )


def _texts(folder: Path, pattern: str = "*") -> list[str]:
    files = (path for path in folder.rglob(pattern) if path.is_file())
    return [path.read_text("latin-1") for path in files]


def test_a_rejected_client_is_told_why_and_nothing_is_delivered(system: System) -> None:
    reply = "554 5.7.1 {ip} is no mail server: call +49 30 1234"
    with system.filter({"action.bot": "reject", "action.reject_reply": reply}) as acting:
        told, reader = system.send()
        assert told == "554 5.7.1 198.18.7.12 is no mail server: call +49 30 1234"
        assert "action=reject" in acting.log
        assert system.nothing_came(reader)
        assert not system.queued()


def test_a_discarded_mail_is_taken_and_thrown_away(system: System) -> None:
    with system.filter({"action.bot": "discard"}) as acting:
        told, reader = system.send()
        assert told.startswith("250 ")
        assert "action=discard" in acting.log
        assert system.nothing_came(reader)
        assert not system.queued()


def test_a_quarantined_mail_is_held_in_the_queue_with_its_verdict(system: System) -> None:
    with system.filter({"action.bot": "quarantine"}) as acting:
        told, reader = system.send()
        assert told.startswith("250 ")
        assert system.nothing_came(reader)
        (held,) = system.held()
        assert reader in held
        assert "bot; score=" in held
        assert "action=quarantine" in acting.log
        assert "does not let us" not in acting.log


def test_a_server_that_comes_back_after_a_tempfail_is_known_by_then(system: System) -> None:
    settings = {
        "action.unknown": "tempfail", "action.bot": "reject", "action.suspect": "reject",
        "budget.per_mail_s": 0.5, "budget.under_load_s": 0.5, **ASK_PORT_25,
    }  # fmt: skip
    with system.filter(settings) as acting:
        told, reader = system.send(SLOW)
        assert told.startswith("451 4.7.1 The host 198.18.67.9 is still being looked at")
        assert "action=tempfail" in acting.log
        end = time.monotonic() + 15.0
        while not told.startswith("250 ") and time.monotonic() < end:
            time.sleep(2.5)
            told, reader = system.send(SLOW)
        assert system.delivered_to(reader) == "clean"


def test_a_dry_run_only_says_what_it_would_have_done(system: System) -> None:
    with system.filter({"action.bot": "reject", "action.dry_run": True}) as acting:
        assert system.delivered_to(system.send()[1]) == "bot"
        assert "action=tag would=reject but=dry_run" in acting.log


def test_too_few_independent_reasons_refuse_nobody(system: System) -> None:
    with system.filter({"action.bot": "reject", "action.min_reasons": 6}) as acting:
        assert system.delivered_to(system.send()[1]) == "bot"
        assert "action=tag would=reject but=reasons_3_of_6" in acting.log


def test_exempt_mail_is_never_acted_on(system: System) -> None:
    settings = {
        "action.bot": "reject", "action.suspect": "reject", "action.unknown": "tempfail",
        "trust.exempt_networks": [f"{PC.ip}/32"],
    }  # fmt: skip
    with system.filter(settings):
        assert system.delivered_to(system.send()[1]) == "exempt"

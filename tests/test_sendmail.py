"""The filter behind a real Sendmail 8.17 with the macros that Sendmail sends by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.message import EmailMessage
from itertools import count
from pathlib import Path

import pytest

from botmilter import header
from tests.lab import mta, net, worlds
from tests.lab.client import Smtp
from tests.lab.dns import NameServer
from tests.lab.filter import Filter
from tests.lab.lab import Lab
from tests.lab.sendmail import Sendmail

pytestmark = pytest.mark.slow

PC = worlds.INFECTED_PC.ip


@dataclass
class System:
    """Laboratory, filter and Sendmail."""

    lab: Lab
    filter: Filter
    sendmail: Sendmail
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def send(self, port: int = mta.MX_PORT, lines: str = "Subject: hello\n") -> EmailMessage:
        """Hand a mail in as the infected PC and wait for its delivery."""
        name = f"reader{next(self.numbers)}"
        with Smtp(PC, port, helo="home-pc", timeout_s=60.0) as client:
            client.sendmail(
                "somebody@sender.example", [f"{name}@{mta.DOMAIN}"], f"{lines}\nHello.\n"
            )
        return self.sendmail.mail_to(name)


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(worlds.DEMO))
        stack.enter_context(NameServer(worlds.DEMO, worlds.RECORDS))
        folder = stack.enter_context(mta.open_folder())
        judge = stack.enter_context(Filter(folder / "milter", {"budget.per_mail_s": 20.0}))
        milter = f"S={judge.address}, T=S:30s;R:30s"
        yield System(lab, judge, stack.enter_context(Sendmail(folder, [net.MTA], milter)))


def _verdicts(mail: EmailMessage) -> list[header.Value]:
    return [header.parse(str(value)) for value in mail.get_all("X-Bot-Verdict", [])]


def test_mail_from_an_infected_pc_is_marked_as_a_bots(system: System) -> None:
    mail = system.send()
    (verdict,) = _verdicts(mail)
    assert (verdict.label, verdict.origin) == ("bot", PC)
    assert {"os.client", "smtp.filtered", "rdns.dynamic"} <= set(verdict.reasons)


def test_forged_copies_of_our_fields_do_not_survive(system: System) -> None:
    forged = "X-Bot-Verdict: clean\nx-bot-score: -9\nX-BOT-LEVEL:\nX-Bot-Verdict : clean\n"
    mail = system.send(lines=forged + forged)
    own = [name for name, _ in header.ours(mail.items(), header.own_names())]
    assert len(own) == len(set(own)), own
    assert [verdict.label for verdict in _verdicts(mail)] == ["bot"]


def test_where_there_are_too_many_forged_copies_ours_come_first(system: System) -> None:
    mail = system.send(lines="X-Bot-Verdict: clean\n" * 1_200)
    first, *rest = [value for name, value in mail.items() if name == "X-Bot-Verdict"]
    assert header.parse(first).label == "bot"
    assert rest == ["clean"] * 200


def test_the_submission_port_exempts_nobody_who_did_not_log_in(system: System) -> None:
    mail = system.send(port=mta.SUBMISSION_PORT)
    assert [verdict.label for verdict in _verdicts(mail)] == ["bot"]


def test_without_the_filter_mail_passes_and_with_it_again_is_marked(system: System) -> None:
    system.filter.stop()
    try:
        assert _verdicts(system.send()) == []
    finally:
        system.filter.start()
    assert [verdict.label for verdict in _verdicts(system.send())] == ["bot"]


# -- other ways to the filter -------------------------------------------------------------------

PORT = 8891
#: What is judged is above; here it is who is heard.
NO_PROBES: dict[str, object] = {
    f"probe.{name}.enabled": False for name in ("rdns", "smtp", "ping", "osdetect")
}


@pytest.fixture
def folder(system: System) -> Iterator[Path]:
    """For another Sendmail in the place of the usual one."""
    system.sendmail.stop()
    try:
        with mta.open_folder() as made:
            yield made
    finally:
        system.sendmail.start()


@pytest.mark.parametrize(("host", "kind"), [("127.0.0.1", "inet"), ("::1", "inet6")])
def test_the_filter_is_reached_by_tcp(system: System, folder: Path, host: str, kind: str) -> None:
    tcp = Filter(folder / "milter", NO_PROBES, tcp=(host, PORT))
    milter = f"S={kind}:{PORT}@{host}, T=S:30s;R:30s"
    with tcp, Sendmail(folder, [net.MTA], milter) as sendmail:
        mail = System(system.lab, tcp, sendmail).send()
    assert [verdict.origin for verdict in _verdicts(mail)] == [PC]


def test_the_mta_may_be_restarted_under_the_filter(system: System) -> None:
    system.sendmail.stop()
    system.sendmail.start()
    assert [verdict.label for verdict in _verdicts(system.send())] == ["bot"]

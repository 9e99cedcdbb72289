"""The filter behind a real Postfix: by TCP, gone, and back again.

The Unix socket and the submission port are in test_main_job.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from botmilter import header
from tests.lab import mta, net, worlds
from tests.lab.client import Smtp
from tests.lab.filter import Filter
from tests.lab.lab import Lab
from tests.lab.mta import Postfix

pytestmark = pytest.mark.slow

PC = worlds.INFECTED_PC.ip
PORT = 8891

#: What is judged is in test_main_job; here it is who is heard.
NO_PROBES: dict[str, object] = {
    f"probe.{name}.enabled": False for name in ("rdns", "smtp", "ping", "osdetect")
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with Lab(worlds.DEMO), mta.open_folder() as made:
        yield made


def _send(postfix: Postfix, reader: str) -> EmailMessage:
    recipient = f"{reader}@{mta.DOMAIN}"
    with Smtp(PC, helo="home-pc", timeout_s=60.0) as client:
        client.sendmail("somebody@sender.example", [recipient], "Subject: x\n\nHello.\n")
    return postfix.mail_to(recipient)


def _origins(mail: EmailMessage) -> list[object]:
    return [header.parse(str(value)).origin for value in mail.get_all("X-Bot-Verdict", [])]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_filter_is_reached_by_tcp(folder: Path, host: str) -> None:
    tcp = Filter(folder / "milter", NO_PROBES, tcp=(host, PORT))
    with tcp, Postfix(folder, (net.MTA,), tcp.address) as postfix:
        assert _origins(_send(postfix, "reader")) == [PC]


def test_mail_passes_without_the_filter_and_is_marked_again_when_it_is_back(folder: Path) -> None:
    judge = Filter(folder / "milter", NO_PROBES)
    with judge, Postfix(folder, (net.MTA,), judge.address) as postfix:
        assert _origins(_send(postfix, "before")) == [PC]
        judge.stop()
        assert _origins(_send(postfix, "without")) == []
        judge.start()
        assert _origins(_send(postfix, "after")) == [PC]


def test_the_mta_may_be_restarted_under_the_filter(folder: Path) -> None:
    judge = Filter(folder / "milter", NO_PROBES)
    with judge:
        for reader in ("first", "second"):
            with Postfix(folder, (net.MTA,), judge.address) as postfix:
                assert _origins(_send(postfix, reader)) == [PC]

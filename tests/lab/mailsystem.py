"""All of it together: simulated Internet, name server, private Postfix, and the real filter.

    with MailSystem(worlds.DEMO, {"trust.networks": ["198.18.44.210/32"]}) as system:
        delivery = system.send(Letter(worlds.INFECTED_PC.ip))
        delivery.mail["X-Bot-Verdict"]

Serves the tests of the main job and the demonstration.  Runs inside ``tests/lab/enter`` only.
"""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import mta, net, worlds
from tests.lab.client import Smtp
from tests.lab.dns import NameServer
from tests.lab.filter import Filter
from tests.lab.host import Host
from tests.lab.lab import Lab

_SMTP_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail to be sent, and by whom."""

    source: IPv4Address | str
    """The client's address: a simulated host, or loopback."""
    helo: str = "home-pc"
    sender: str = "somebody@sender.example"
    header: str = "Subject: hello\n"
    """Whole lines."""
    port: int = mta.MX_PORT


@dataclass(frozen=True, slots=True)
class Delivery:
    mail: EmailMessage
    took_s: float
    """From connecting until the MTA had taken the mail."""


class MailSystem:
    """Everything running from ``__enter__`` to ``__exit__``; *settings* are the filter's, as in
    :class:`tests.lab.filter.Filter`, *within* a command that runs it."""

    lab: Lab
    postfix: mta.Postfix
    filter: Filter
    _socket: Path

    def __init__(
        self,
        hosts: Iterable[Host],
        settings: Mapping[str, object] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self._hosts, self._settings, self._within = tuple(hosts), settings or {}, within
        self._running = ExitStack()
        self._numbers = count(1)

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            self.lab = starting.enter_context(Lab(self._hosts))
            starting.enter_context(NameServer(self._hosts, worlds.RECORDS))
            folder = starting.enter_context(mta.open_folder())
            self._socket = folder / "milter"
            self.filter = Filter(self._socket, self._settings, self._within)
            starting.enter_context(self.filter)
            self.postfix = mta.Postfix(folder, (net.MTA, "127.0.0.1"), self.filter.address)
            starting.enter_context(self.postfix)
            self._running = starting.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    @contextmanager
    def other_filter(
        self, settings: Mapping[str, object], within: Sequence[str] = ()
    ) -> Iterator[Filter]:
        """Another filter, which remembers nothing, in the place of the usual one."""
        self.filter.stop()
        try:
            with Filter(self._socket, settings, within) as other:
                yield other
        finally:
            self.filter.start()

    def send(self, letter: Letter) -> Delivery:
        """Hand *letter* in by SMTP and wait until it lies in the mailbox.

        Raises smtplib.SMTPException if the MTA refuses it, TimeoutError if it does not arrive.
        """
        recipient = f"reader{next(self._numbers)}@{mta.DOMAIN}"
        began = time.monotonic()
        with _client(letter) as client:
            client.sendmail(letter.sender, [recipient], f"{letter.header}\nHello.\n")
            took_s = time.monotonic() - began
        return Delivery(self.postfix.mail_to(recipient), took_s)


def _client(letter: Letter) -> smtplib.SMTP:
    if str(letter.source).startswith("127."):
        return smtplib.SMTP("127.0.0.1", letter.port, letter.helo, _SMTP_LIMIT_S)
    return Smtp(letter.source, letter.port, helo=letter.helo, timeout_s=_SMTP_LIMIT_S)

"""A filter process for the tests: the real daemon and callbacks over libmilter, with a judge
that says what it was asked.  ``python -m tests.milter.filter FILE``; FILE holds the settings as
JSON and is read again at a reload.

The sender's domain chooses what the judge does, so that one process serves all tests.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from botmilter import header
from botmilter.action import Action, Kind
from botmilter.errors import ConfigError, SetupError
from botmilter.milter.base import Begun, Judgement, LogFields
from botmilter.milter.daemon import Daemon, QueryService, Service
from botmilter.milter.privileged import PrivilegedClient
from botmilter.milter.query import Answer, Limits, Question
from botmilter.milter.session import Session, Transaction
from botmilter.model import IPAddress
from botmilter.net import ProbeGuard

SLOW_S = 0.5
SLOWER_S = 1.5


#: Nothing needs to begin early for this client.
KNOWN = ip_address("198.18.99.99")

#: What is done with a mail from these domains.
ACTIONS = {
    "reject.example": Action(Kind.REJECT, "550", "5.7.1", "not from 198.18.0.1"),
    "tempfail.example": Action(Kind.TEMPFAIL, "451", "4.7.1", "come back"),
    "discard.example": Action(Kind.DISCARD),
    "quarantine.example": Action(Kind.QUARANTINE, text="a bot's"),
}


class Ticket:
    def __init__(self) -> None:
        self.abandoned = False

    def abandon(self) -> None:
        self.abandoned = True
        logging.info("abandoned")


class EchoJudge:
    """Puts what it knows of the mail into the header."""

    failed = Judgement((("X-Bot-Verdict", "unknown"),), LogFields(verdict="unknown"))

    def __init__(self, client: PrivilegedClient, mark: str, may_quarantine: bool) -> None:
        if mark == "broken":
            raise SetupError("this configuration cannot work")
        self._client = client
        self._mark = mark
        self.may_quarantine = may_quarantine

    @property
    def own_names(self) -> frozenset[str]:
        return header.own_names()

    def knows(self, session: Session) -> bool:
        return session.client.ip == KNOWN

    def begin(self, mail: Transaction) -> Ticket:
        return Ticket()

    def judge(
        self,
        mail: Transaction,
        begun: Begun | None,
        while_waiting: Callable[[], None] | None = None,
    ) -> Judgement:
        if mail.sender_domain == "raise.example":
            raise RuntimeError("the judge is ill")
        if mail.sender_domain == "slow.example":
            time.sleep(SLOW_S)
        if mail.sender_domain == "slower.example":
            time.sleep(SLOWER_S)
        if mail.sender_domain == "patience.example" and while_waiting is not None:
            while_waiting()
            while_waiting()
        return Judgement(
            headers=(("X-Bot-Verdict", json.dumps(self._seen(mail, begun))),),
            log=LogFields(verdict="echo", hostile="a b\r\nc\udcff"),
            action=ACTIONS.get(mail.sender_domain or "", Action()),
        )

    def close(self) -> None:
        logging.info("judge closed")

    def _seen(self, mail: Transaction, begun: Begun | None) -> dict[str, object]:
        hop = mail.hop
        return {
            "ip": str(hop.ip),
            "kind": hop.kind.value,
            "rdns": hop.rdns,
            "verified": hop.rdns_verified,
            "helo": hop.helo,
            "by": hop.by,
            "id": hop.id,
            "authenticated": hop.authenticated,
            "tls": hop.tls,
            "sender": mail.sender_domain,
            "fields": len(mail.headers),
            "begun": begun is not None,
            "mark": self._mark,
            "pid": os.getpid(),
            "uid": os.getuid(),
            "capabilities": _status("CapEff"),
            "asked": self._asked(mail),
        }

    def _asked(self, mail: Transaction) -> object:
        """Sender domain ``OPERATION.ask.example`` has the privileged process do it."""
        operation, _, rest = (mail.sender_domain or "").partition(".")
        if rest != "ask.example" or mail.hop.ip is None:
            return None
        try:
            return self._client.call(operation, mail.hop.ip, 1.0)
        except (SetupError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"


def answer(mark: str) -> Answer:
    """Says what it was asked."""

    def said(question: Question) -> dict[str, Any]:
        if question.helo == "die":
            os._exit(9)
        return {
            "ip": str(question.ip),
            "helo": question.helo,
            "mark": mark,
            "pid": os.getpid(),
            "uid": os.getuid(),
            "capabilities": _status("CapEff"),
        }

    return said


def _query(given: Mapping[str, Any]) -> QueryService | None:
    if "query" not in given:
        return None
    mark = given.get("mark", "")
    limits = Limits(at_once=4, per_minute=1000)
    return QueryService(f"unix:{given['query']}", 0o600, "", "", limits, lambda _: answer(mark))


def load(path: Path) -> Service:
    given = json.loads(path.read_text())
    if not isinstance(given, dict):
        raise ConfigError(str(path), ["a table expected"])
    guard = ProbeGuard(allow_networks=(ip_network("198.18.0.0/15"),))
    return Service(
        socket=given["socket"],
        socket_mode=given.get("socket_mode", 0o600),
        socket_group="",
        user=given.get("user", ""),
        workers=given.get("workers", 1),
        start=given.get("start", "data"),
        pin_workers=given.get("pin_workers", True),
        stop_grace_s=given.get("stop_grace_s", 5.0),
        guard=guard,
        query=_query(given),
        operations={"double": double, "status": status, "fail": fail, "die": die},
        make_judge=lambda client, uplink: EchoJudge(
            client, given.get("mark", ""), given.get("may_quarantine", False)
        ),
    )


def double(ip: IPAddress, limit_s: float) -> dict[str, Any]:
    return {"ip": str(ip), "limit_s": limit_s * 2}


def status(ip: IPAddress, limit_s: float) -> dict[str, Any]:
    return {"uid": os.getuid(), "capabilities": _status("CapEff"), "ambient": _status("CapAmb")}


def fail(ip: IPAddress, limit_s: float) -> dict[str, Any]:
    raise OSError("nmap\nis away")


def die(ip: IPAddress, limit_s: float) -> dict[str, Any]:
    os._exit(9)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith(key))


def main(path: str) -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    return Daemon(lambda: load(Path(path))).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

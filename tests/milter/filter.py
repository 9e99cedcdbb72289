"""A filter process for the tests: the real callbacks over libmilter, with a judge that says
what it was asked.  ``python -m tests.milter.filter CONNECTION START``.

The sender's domain chooses what the judge does, so that one process serves all tests.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import get_args

from botmilter.milter import app
from botmilter.milter.base import Begun, Judgement
from botmilter.milter.session import Transaction

SLOW_S = 0.5


class Ticket:
    def __init__(self) -> None:
        self.abandoned = False

    def abandon(self) -> None:
        self.abandoned = True
        print("abandoned", file=sys.stderr, flush=True)


class EchoJudge:
    """Puts what it knows of the mail into the header."""

    own_headers = frozenset({"x-bot-verdict", "x-bot-score", "x-bot-level"})

    def begin(self, mail: Transaction) -> Ticket:
        return Ticket()

    def judge(self, mail: Transaction, begun: Begun | None) -> Judgement:
        if mail.sender_domain == "raise.example":
            raise RuntimeError("the judge is ill")
        if mail.sender_domain == "slow.example":
            time.sleep(SLOW_S)
        return Judgement(
            headers=(("X-Bot-Verdict", json.dumps(self._seen(mail, begun))),),
            log={"verdict": "echo", "hostile": "a b\r\nc\udcff"},
        )

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
        }


def main(connection: str, start: str) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    (chosen,) = (one for one in get_args(app.Start) if one == start)
    app.open_socket(app.App(EchoJudge(), chosen), connection)
    print("ready", file=sys.stderr, flush=True)
    app.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])

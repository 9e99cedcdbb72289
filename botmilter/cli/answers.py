"""What the query socket answers: the verdict over an address, in the shape of ``check --json``."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from botmilter import header
from botmilter.cli import explain
from botmilter.cli.build import Machine
from botmilter.config import Settings
from botmilter.milter.base import log_line
from botmilter.milter.judge import log_fields
from botmilter.milter.query import Question
from botmilter.model import Chain, Hop, HopKind, HopSource, Origin, Signal, Verdict
from botmilter.received import forgery, origin

log = logging.getLogger(__name__)


class Answers:
    """Judges an address as if its host had just connected.  Safe for many threads."""

    def __init__(self, machine: Machine, chosen: Settings) -> None:
        self._machine = machine
        self._policy = machine.policy(chosen)
        # whoever asks has found the origin by himself: it is not the next of a row of relays
        self._trust = replace(chosen.trust, own_relays=0)
        self._header = chosen.header

    def __call__(self, question: Question) -> dict[str, Any]:
        """Blocks at most for the budget of a mail."""
        now = datetime.now(UTC)
        hop = Hop(0, HopSource.CONNECTION, HopKind.RELAY, question.ip, helo=question.helo, at=now)
        chain = Chain((hop,))
        found = origin.find(chain, self._trust)
        signals = forgery.signals(chain, found, self._trust)
        verdict = self._judged(found, question.sender_domain, signals)
        pairs = {**log_fields(verdict), "spent_ms": f"{verdict.spent_s * 1000:.0f}"}
        log.info("query %s", log_line(pairs))
        missing = explain.gaps(verdict, self._machine.probes, self._machine.rules)
        fields = header.render(verdict, self._header.prefix, self._header.host)
        return {**explain.to_json(verdict, missing), "header": [list(field) for field in fields]}

    def _judged(
        self, found: Origin, sender_domain: str | None, signals: tuple[Signal, ...]
    ) -> Verdict:
        engine = self._machine.engine
        if standing := engine.standing(found, self._policy, sender_domain, signals):
            return standing.verdict.of(found)
        return engine.result(engine.begin(found, self._policy, sender_domain), signals)

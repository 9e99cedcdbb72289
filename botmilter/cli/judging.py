"""Saved mails to verdicts, as ``check`` and ``tune`` need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from botmilter import offline, received, written
from botmilter.cli import build
from botmilter.cli.build import Machine
from botmilter.config import Settings
from botmilter.inquiry import Policy
from botmilter.mailbox import Mail
from botmilter.model import IPNetwork, Trust, Verdict
from botmilter.received import forgery, origin


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges saved mails one after the other."""

    machine: Machine
    policy: Policy
    trust: Trust
    by_header: bool
    """Whether the names that the receiver noted are evidence."""

    def verdict(self, mail: Mail) -> Verdict:
        chain = received.parse(mail.header)
        found = origin.find(chain, self.trust)
        signals = forgery.signals(chain, found, self.trust)
        if self.by_header:
            signals += offline.signals(mail.header, chain, found)
        sender_domain = written.read(written.fields(mail.header)).bounce_domain
        ticket = self.machine.engine.begin(found, self.policy, sender_domain)
        return self.machine.engine.result(ticket, signals)


def judge(
    chosen: Settings,
    trust: Sequence[IPNetwork],
    budget_s: float | None = None,
    *,
    by_header: bool = False,
    probing: bool = True,
    from_store: bool = False,
) -> Judge:
    """*trust* beside the configured; not *probing*: no probe takes part, *from_store*: those that
    the store remembers, and no packet."""
    probes = build.probes(chosen) if probing or from_store else ()
    machine = build.machine(chosen, probes)
    believed = replace(chosen.trust, networks=(*chosen.trust.networks, *trust))
    policy = machine.policy(chosen, budget_s)
    if from_store:
        policy = replace(policy, from_memory=True)
    return Judge(machine, policy, believed, by_header)

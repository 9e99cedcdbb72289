"""One mail's inquiry: how much it may cost, and how far it has come."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from botmilter import plan
from botmilter.measuring import interpret, not_run
from botmilter.model import Observation, Origin, Signal, Status, Target
from botmilter.probes.base import Probe
from botmilter.scheduler import Wanted


@dataclass(frozen=True, slots=True)
class Policy:
    """How much one inquiry may cost.  The milter, ``check`` and the survey differ in this."""

    budget_s: float
    """How long ``Engine.result`` may wait."""
    probes: frozenset[str]
    """Names of the probes to use, of those the engine has."""
    settle_s: float = 0.0
    """How long a probe that wants life waits for the cheap ones, and for the mail to come, counted
    from the start."""
    thorough: bool = False
    """Run and wait for all probes, also where they cannot change the label."""
    silent_too: bool = False
    """Let a probe that wants life look at a host that has shown none: the study had nmap look at
    every host, and a PC that drops ping and port 25 may answer elsewhere."""
    from_memory: bool = False
    """Use what is remembered and measure nothing."""
    under_load_s: float | None = None
    """The budget while *load_mails* and more wait in this process: a flood of mail from unknown
    hosts must not use up the MTA's processes (postscreen's stress-dependent timeouts)."""
    load_mails: int = 50


class Ticket:
    """One mail's inquiry under way: made by ``Engine.begin``, redeemed by ``Engine.result``.

    The fields below ``changed`` are guarded by it.
    """

    def __init__(
        self, origin: Origin, target: Target | None, policy: Policy, probes: Sequence[Probe]
    ) -> None:
        self.origin = origin
        self.target = target
        self.policy = policy
        self.probes = {probe.name: probe for probe in probes}
        self.keys: dict[str, str] = {}
        """What the store knows the target by, for each probe."""
        self.began = time.monotonic()
        self.changed = threading.Condition()
        self.seen: dict[str, Observation] = {}
        self.running: set[str] = set()
        self.recalling = False
        self.settled = policy.settle_s <= 0
        self.awaited = False
        """The mail is there and waits; before, the MTA may still reject it."""
        self.abandoned = False
        self.answered = False
        """The mail has its verdict: what comes now serves the next one."""
        self.mail_signals: tuple[Signal, ...] = ()
        self._meant: dict[str, tuple[Observation, list[Signal]]] = {}

    def abandon(self) -> None:
        """The mail is gone: start nothing more for it."""
        with self.changed:
            self.abandoned = True

    @property
    def wanted(self) -> Wanted:
        """How much what has not begun is wanted.  Takes no lock."""
        if self.abandoned:
            return Wanted.NOT
        return Wanted.LATER if self.answered else Wanted.NOW

    def meaning(self, seen: Observation) -> list[Signal]:
        """What *seen* means of the target.  Found out once, though it is asked for each time that
        another probe has answered; takes no lock."""
        if self.target is None:
            return []
        known = self._meant.get(seen.probe)
        if known is None or known[0] is not seen:
            known = seen, interpret(self.probes[seen.probe], seen, self.target)
            self._meant[seen.probe] = known
        return known[1]

    def answer(self, is_open: bool) -> dict[str, Observation]:
        """The mail gets its verdict now: of each probe what was seen, or why there is nothing;
        *is_open* tells whether waiting longer could change the label."""
        with self.changed:
            self.answered = True
            seen, running = dict(self.seen), frozenset(self.running)
        for name, key in self.keys.items():
            if name not in seen:
                late = (Status.LATE, plan.MEASURING if name in running else "not started in time")
                status, reason = late if is_open else (Status.SKIPPED, plan.NOT_NEEDED)
                seen[name] = not_run(name, key, status, reason)
        return seen

    @property
    def observations(self) -> tuple[Observation, ...]:
        """What is known now, in the probes' order."""
        with self.changed:
            return tuple(self.seen[name] for name in self.probes if name in self.seen)


def target_of(origin: Origin, sender_domain: str | None) -> Target | None:
    """What is to be probed; None where nothing is: no origin, or an exempt one."""
    if origin.ip is None or origin.why.is_exempt:
        return None
    return Target(origin.ip, origin.hop.helo if origin.hop is not None else None, sender_domain)

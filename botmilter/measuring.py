"""One measurement: claimed, counted, asked for, believed or not, remembered.

Runs on the scheduler's threads.  Whatever a probe throws is logged with its traceback and FAILED.

A probe that says the same against every host is suspected itself: our own provider may block the
port, by dropping (all are silent) or by a reset in their name (all refuse).  Then hosts that are
known to answer, ``control_hosts``, are asked before the next.  One that looks different clears the
probe.  While none does, or none is named, what it says counts as a failure of ours until a host
looks different; and the control hosts are asked again every ``CONTROL_EVERY_S``.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from botmilter import plan
from botmilter.clock import Deadline
from botmilter.counters import UNRECORDED, Recorder
from botmilter.health import Health, Sameness
from botmilter.memory import Memory
from botmilter.model import IPAddress, Observation, Signal, Status, Target
from botmilter.net import printable
from botmilter.probes.base import Probe

log = logging.getLogger(__name__)

CONTROL_EVERY_S = 60.0

#: Why what was seen counts for nothing, and what status it would have; a survey's end may know
#: better.
_DOUBTED = "every host looks the same to us"
DOUBTED: Mapping[Status, str] = {
    Status.SILENT: f"{_DOUBTED}: silent",
    Status.ANSWERED: f"{_DOUBTED}: not open",
}

#: What a job brings home.
Catch = tuple[Observation, ...]

#: What an observation adds to the score.
Points = Callable[[Observation], float]


class Measurer:
    """Measures by *probes*, once for all who share *memory*'s store.  Safe for many threads."""

    def __init__(
        self,
        probes: Iterable[Probe],
        memory: Memory,
        points: Callable[[Probe, Target], Points],
        control_hosts: Sequence[IPAddress] = (),
        recorder: Recorder = UNRECORDED,
    ) -> None:
        self._memory = memory
        self._points = points
        self._recorder = recorder
        self._health: Mapping[str, Health] = {probe.name: Health() for probe in probes}
        self._doubts = {probe.name: _Doubt() for probe in probes if probe.shows_life}
        self._controls = tuple(Target(ip) for ip in control_hosts)

    def pause_reason(self, probe: Probe) -> str | None:
        """Why *probe* should be left alone for now; see :class:`botmilter.health.Health`."""
        return self._health[probe.name].pause_reason(time.monotonic())

    def not_measured(self, probe: Probe) -> None:
        """What :meth:`pause_reason` allowed did not come about."""
        self._health[probe.name].undecided()

    def measure(self, probe: Probe, target: Target) -> Catch:
        """Blocks at most the probe's limit; while another process measures once more that, and
        once a while that much for each control host."""
        self._settle_doubt(probe)
        key = probe.store_key(target)
        claim = f"{probe.name} {key}"
        if not self._memory.claim(claim, probe.limit_s):
            self.not_measured(probe)
            return (not_run(probe.name, key, Status.LATE, plan.ELSEWHERE),)
        try:
            points = self._points(probe, target)
            seen = self._memory.recall(probe.name, key, points)
            if seen is not None:
                self.not_measured(probe)
                return (seen,)
            if probe.sends_to_host and (refusal := self._memory.refusal(target.ip)):
                self.not_measured(probe)
                return (not_run(probe.name, key, Status.SKIPPED, refusal),)
            seen = self._ask(probe, target, points)
            self._recorder.measured(seen)
            self._memory.remember(seen, points(seen))
            return (seen,)
        finally:
            self._memory.release(claim)

    def _ask(self, probe: Probe, target: Target, points: Points) -> Observation:
        taken_at, started = time.time(), time.monotonic()
        seen = _measured(probe, target)
        change = self._health[probe.name].record(seen.status, seen.reason, time.monotonic())
        if change:
            log.warning("probe=%s %s", probe.name, printable(change))
        took_s = round(time.monotonic() - started, 4)
        return replace(self._believed(probe, seen, points), taken_at=taken_at, took_s=took_s)

    def _believed(self, probe: Probe, seen: Observation, points: Points) -> Observation:
        """*seen*, or FAILED where the probe says the same against every host."""
        doubt = self._doubts.get(probe.name)
        if doubt is None or not seen.status.is_evidence:
            return seen
        look = _held_against(seen, points)
        change = doubt.sameness.record(look)
        if change:
            log.warning("probe=%s %s", probe.name, change)
        if look is None or not doubt.sameness.is_suspect:
            return seen
        return replace(seen, status=Status.FAILED, reason=DOUBTED[seen.status])

    def _settle_doubt(self, probe: Probe) -> None:
        """Ask the control hosts, if it is time to.  Before anything is claimed: no host is kept
        from other processes for as long as that takes."""
        doubt = self._doubts.get(probe.name)
        look = doubt.sameness.suspected_look if doubt is not None and self._controls else None
        if doubt is None or look is None or not doubt.is_due(time.monotonic()):
            return
        if self._a_control_differs(probe, look):
            doubt.sameness.trust()
            log.warning("probe=%s a control host looks different: it is the hosts", probe.name)

    def _a_control_differs(self, probe: Probe, look: str) -> bool:
        """Blocks at most the probe's limit for each; what they say is kept nowhere."""
        for control in self._controls:
            if not self._memory.is_opted_out(control.ip):
                seen = _measured(probe, control)
                held = _held_against(seen, self._points(probe, control))
                if seen.status is Status.ANSWERED and held != look:
                    return True
        return False


def _held_against(seen: Observation, points: Points) -> str | None:
    """The facts, where silence or they count against a host; None where nothing does."""
    if seen.status is not Status.SILENT and points(seen) <= 0:
        return None
    return json.dumps(dict(seen.facts), sort_keys=True)


@dataclass(slots=True)
class _Doubt:
    """What is held against one probe, and when the control hosts were last asked about it."""

    sameness: Sameness = field(default_factory=Sameness)
    asked_at: float = -CONTROL_EVERY_S
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_due(self, now: float) -> bool:
        """Whether the caller should ask them at *now* (monotonic); the others go on in doubt."""
        with self.lock:
            if now - self.asked_at < CONTROL_EVERY_S:
                return False
            self.asked_at = now
            return True


def _measured(probe: Probe, target: Target) -> Observation:
    try:
        return probe.measure(target, Deadline.after(probe.limit_s))
    except Exception:
        log.exception("probe=%s origin=%s raised: a bug, please report", probe.name, target.ip)
        return not_run(probe.name, probe.store_key(target), Status.FAILED, "internal error")


def not_run(probe: str, key: str, status: Status, reason: str) -> Observation:
    """What stands in for an observation of *probe* under *key* that was not made."""
    return Observation(probe, key, status, reason=reason, taken_at=time.time())


def interpret(probe: Probe, seen: Observation, target: Target) -> list[Signal]:
    """What *seen* means; stored facts may be another version's, so this is guarded too."""
    if not seen.status.is_evidence:
        return []
    try:
        return list(probe.interpret(seen, target))
    except Exception:
        log.exception("probe=%s cannot read its facts: a bug, please report", probe.name)
        return []

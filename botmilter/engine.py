"""Joins plan, memory, scheduler, probes and score: begin() and result().

``begin`` looks in the cache, starts what is missing and returns at once; ``result`` waits until
nothing that is still open could change the label, or the mail's budget is over, and judges by
what is there.  What comes later is remembered and serves the next mail from that host.

Two clocks: the mail's budget (:class:`botmilter.inquiry.Policy`) and each probe's own limit.
Nothing here raises for a probe's or the store's sake.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from botmilter import plan, score
from botmilter.clock import Deadline
from botmilter.counters import UNRECORDED, Recorder
from botmilter.inquiry import Policy, Ticket, target_of
from botmilter.measuring import Catch, Measurer, Points, interpret, not_run
from botmilter.memory import Memory
from botmilter.model import IPAddress, Label, Observation, Origin, Signal, Status, Target, Verdict
from botmilter.net import ProbeGuard
from botmilter.notices import OPTED_OUT
from botmilter.probes.base import Probe
from botmilter.scheduler import LaneState, Scheduler
from botmilter.score import Rules
from botmilter.standing import Basis, Standing, Standings

log = logging.getLogger(__name__)

#: Lane of the jobs that only ask the store.
RECALL_LANE = "recall"

NOT_REMEMBERED = "not in the store"

#: So often somebody who asked for it is told that a mail still waits.  Sendmail gives a milter
#: 10 s for an answer by default, and 300 s at the end of a mail, as Postfix does.
WAITING_EVERY_S = 8.0

#: Of many mails that wait each leaves this much before the one that came before it: twice what one
#: takes of a processor before and after its wait, so that known hosts' mails get through between.
_APART_S = 0.004
#: The shares of a budget that come off it for that: at least for this mail's own judgement, and at
#: most.
_OFF_AT_LEAST, _OFF_AT_MOST = 0.01, 0.1

#: So many answers to the question whether waiting can change a label are remembered: hosts about
#: which nothing is known yet are all alike, and a hundred of them may come at once.
_KINDS_OF_DOUBT = 256

#: Reasons for not running a probe that follow from what the others saw.
_FOLLOWS = frozenset({plan.NOT_NEEDED, plan.NO_LIFE})


class Engine:
    """Judges origins.  One for each process; safe for many threads.

    *probes* in order of cost; the scheduler needs a lane for each probe's name and ``recall``.
    *hosts_at_most* is for how many hosts a verdict is kept ready.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        memory: Memory,
        scheduler: Scheduler[Catch],
        guard: ProbeGuard,
        rules: Rules,
        control_hosts: Sequence[IPAddress] = (),
        recorder: Recorder = UNRECORDED,
        hosts_at_most: int = 1000,
    ) -> None:
        self._probes = tuple(probes)
        self._memory = memory
        self._scheduler = scheduler
        self._guard = guard
        self._rules = rules
        self._measurer = Measurer(self._probes, memory, self._points, control_hosts, recorder)
        self._recorder = recorder
        self._waiting: set[Ticket] = set()
        self._standings = Standings(memory.still_has, hosts_at_most)

        @lru_cache(_KINDS_OF_DOUBT)
        def label_can_change(known: frozenset[tuple[str, float]], possible: frozenset[str]) -> bool:
            return score.can_change([Signal(*one) for one in known], possible, rules)

        self._label_can_change = label_can_change

    # -- the calls ------------------------------------------------------------------------------

    def knows(self, target: Target, policy: Policy) -> bool:
        """Whether there is a verdict over *target*; :meth:`standing` tells if it stands.  2 us."""
        return self._standings.has(target, policy)

    def standing(
        self,
        origin: Origin,
        policy: Policy,
        sender_domain: str | None = None,
        signals: tuple[Signal, ...] = (),
    ) -> Standing | None:
        """What :meth:`begin` and :meth:`result` would come to, if that stands from a mail before,
        whose origin its verdict names.  4 us."""
        target = target_of(origin, sender_domain)
        standing = self._standings.find(target, policy) if target is not None else None
        if standing is None or standing.signals != signals:
            return None
        self._recorder.recalled("memory", len(standing.basis.rows))
        return standing

    def begin(
        self,
        origin: Origin,
        policy: Policy,
        sender_domain: str | None = None,
        instead_of: Ticket | None = None,
    ) -> Ticket:
        """Look in the cache, start what is missing, return at once.

        A second ``begin`` for the same host joins what the first one started; *instead_of* is
        given up; if it is for the same host, nmap has waited for the cheap probes since then.
        """
        target = target_of(origin, sender_domain)
        probes = [probe for probe in self._probes if probe.name in policy.probes]
        ticket = Ticket(origin, target, policy, probes if target is not None else ())
        if instead_of is not None:
            instead_of.abandon()
            if instead_of.origin.ip == origin.ip:
                ticket.began = instead_of.began
        if target is not None:
            self._look_around(ticket, target)
        return ticket

    def result(
        self,
        ticket: Ticket,
        signals: Iterable[Signal] = (),
        while_waiting: Callable[[], None] | None = None,
    ) -> Verdict:
        """Wait until all is answered, nothing can change the label or the budget is over; judge.

        *signals* is what the mail itself says (its chain).  Blocks at most ``policy.budget_s``.
        *while_waiting* is called on this thread, every ``WAITING_EVERY_S`` of a long wait; it
        must be short and not raise.
        """
        started = time.monotonic()
        self._heed(ticket, tuple(signals))
        seen = self._seen_in_time(ticket, while_waiting)
        verdict = self._verdict(ticket, seen, time.monotonic() - started)
        self._let_stand(ticket, seen, verdict)
        return verdict

    def rejudge(
        self, origin: Origin, seen: Iterable[Observation], signals: Iterable[Signal] = ()
    ) -> Verdict:
        """Judge *origin* by facts measured before.  No packet, no waiting."""
        known = {one.probe: one for one in seen}
        probes = [probe for probe in self._probes if probe.name in known]
        ticket = Ticket(origin, target_of(origin, None), Policy(0.0, frozenset(known)), probes)
        ticket.mail_signals = tuple(signals)
        return self._verdict(ticket, known, 0.0)

    @property
    def waiting(self) -> int:
        """How many mails wait for a verdict now."""
        return len(self._waiting)

    def is_under_load(self, policy: Policy) -> bool:
        """Whether a mail that comes now waits ``under_load_s`` at most."""
        return policy.under_load_s is not None and len(self._waiting) >= policy.load_mails

    def budget_s(self, policy: Policy) -> float:
        """How long a mail that comes now may wait.

        The last of a hundred that come at once has waited for the others before its own wait
        begins, and will again before its answer leaves: that comes off.
        """
        budget_s = policy.budget_s
        if policy.under_load_s is not None and self.is_under_load(policy):
            budget_s = policy.under_load_s
        off_s = max(len(self._waiting) * _APART_S, budget_s * _OFF_AT_LEAST)
        return budget_s - min(off_s, budget_s * _OFF_AT_MOST)

    @property
    def lanes(self) -> Mapping[str, LaneState]:
        """How full the queue of each probe is, and of ``recall``, by name."""
        return self._scheduler.lanes

    # -- one ticket's way -----------------------------------------------------------------------

    def _look_around(self, ticket: Ticket, target: Target) -> None:
        """Take in what needs no waiting, then ask the store for the rest, off this thread."""
        refusal = self._guard.refusal(target.ip)
        if refusal is None and self._memory.is_opted_out(target.ip):
            refusal = OPTED_OUT
        ticket.keys = {name: probe.store_key(target) for name, probe in ticket.probes.items()}
        unknown: dict[str, str] = {}
        at_hand = 0
        for name, key in ticket.keys.items():
            probe = ticket.probes[name]
            if refusal and (probe.sends_to_host or not self._guard.is_routable(target.ip)):
                ticket.seen[name] = not_run(name, key, Status.SKIPPED, refusal)
            elif (seen := self._memory.at_hand(name, key)) is not None:
                ticket.seen[name] = seen
                at_hand += 1
            else:
                unknown[name] = key
        self._recorder.recalled("memory", at_hand)
        if not unknown:
            return
        if not ticket.settled:
            settle_s = ticket.began + ticket.policy.settle_s - time.monotonic()
            self._scheduler.later(settle_s, lambda: self._settle(ticket))
        if self._memory.is_local:
            self._recorder.recalled("nowhere", len(unknown))
            self._advance(ticket)
            return

        def recall() -> Catch:
            known = self._memory.recall_many(
                unknown, lambda seen: self._weight(ticket.meaning(seen))
            )
            self._recorder.recalled("store", len(known))
            self._recorder.recalled("nowhere", len(unknown) - len(known))
            return tuple(known)

        ticket.recalling = True
        self._submit(ticket, RECALL_LANE, f"{RECALL_LANE} {unknown}", recall)

    def _heed(self, ticket: Ticket, said: tuple[Signal, ...]) -> None:
        """Take in what the mail says: what was needless without that may be needed after all, and
        what was held back until somebody waits may start."""
        with ticket.changed:
            ticket.mail_signals, ticket.awaited = said, True
            needless = [n for n, seen in ticket.seen.items() if seen.reason == plan.NOT_NEEDED]
            for name in needless:
                del ticket.seen[name]
            held_back = not (ticket.settled or ticket.recalling)
        if needless or held_back:
            self._advance(ticket)

    def _advance(self, ticket: Ticket) -> None:
        """Start what may run now and wake whoever waits."""
        with ticket.changed:
            if ticket.abandoned or ticket.target is None:
                return
            step = self._next_step(ticket)
            for name, reason in step.skip:
                ticket.seen[name] = not_run(name, ticket.keys[name], Status.SKIPPED, reason)
            ticket.running.update(step.start)
            if not self._is_open(ticket):
                ticket.changed.notify_all()
        for name in step.start:
            self._start(ticket, ticket.probes[name], ticket.target)

    def _next_step(self, ticket: Ticket) -> plan.Step:
        if ticket.policy.from_memory:
            unknown = () if ticket.recalling else ticket.probes.keys() - ticket.seen.keys()
            return plan.Step(skip=tuple((name, NOT_REMEMBERED) for name in unknown))
        return plan.next_step(
            ticket.probes.values(),
            ticket.seen,
            ticket.running,
            lambda: self._can_matter(ticket),
            ticket.settled,
            ticket.awaited,
            ticket.policy.silent_too,
        )

    def _settle(self, ticket: Ticket) -> None:
        ticket.settled = True
        self._advance(ticket)

    def _start(self, ticket: Ticket, probe: Probe, target: Target) -> None:
        name, key = probe.name, ticket.keys[probe.name]
        paused = self._measurer.pause_reason(probe)
        if paused is not None:
            self._take(ticket, (not_run(name, key, Status.FAILED, paused),), name)
            return

        def measure() -> Catch:
            if probe.wants_life and not self._is_needed(ticket):
                return ()
            return self._measurer.measure(probe, target)

        if not self._submit(ticket, name, f"{name} {key}", measure):
            self._measurer.not_measured(probe)
            self._take(ticket, (not_run(name, key, Status.SKIPPED, "queue full"),), name)

    def _is_needed(self, ticket: Ticket) -> bool:
        """Whether a dear probe that waited for its turn can still change something."""
        with ticket.changed:
            return self._can_matter(ticket)

    def _submit(self, ticket: Ticket, lane: str, flight: str, job: Callable[[], Catch]) -> bool:
        def done(catch: Catch) -> None:
            self._take(ticket, catch, lane)

        if self._scheduler.submit(lane, flight, job, done, lambda: ticket.wanted):
            return True
        if lane == RECALL_LANE:
            done(())
        return False

    def _take(self, ticket: Ticket, catch: Catch, lane: str) -> None:
        """Take in what the job of *lane* brought; nothing, where it was not done."""
        if not catch and lane in ticket.probes:
            self._measurer.not_measured(ticket.probes[lane])
            if ticket.answered:
                catch = (not_run(lane, ticket.keys[lane], Status.SKIPPED, "nobody waits for it"),)
        with ticket.changed:
            ticket.recalling = False
            ticket.running.discard(lane)
            for seen in catch:
                ticket.seen[seen.probe] = seen
            for seen in [one for one in ticket.seen.values() if self._memory.is_outdated(one)]:
                del ticket.seen[seen.probe]
        self._advance(ticket)

    def _seen_in_time(
        self, ticket: Ticket, while_waiting: Callable[[], None] | None
    ) -> dict[str, Observation]:
        """An observation of each probe: what is there when the wait is over, or why not."""
        deadline = Deadline.after(self.budget_s(ticket.policy))
        self._waiting.add(ticket)
        while (is_open := self._wait(ticket, deadline)) and not deadline.is_over:
            if while_waiting is not None:
                while_waiting()
        self._waiting.discard(ticket)
        return ticket.answer(is_open)

    def _wait(self, ticket: Ticket, deadline: Deadline) -> bool:
        """Wait until *deadline*, at most ``WAITING_EVERY_S``; whether something is still open."""
        until = Deadline.after(deadline.left(at_most=WAITING_EVERY_S))
        with ticket.changed:
            while (is_open := self._is_open(ticket)) and not until.is_over:
                ticket.changed.wait(until.left())
        return is_open

    def _is_open(self, ticket: Ticket) -> bool:
        """Whether waiting longer can still change the label (called with the ticket's lock)."""
        if ticket.seen.keys() >= ticket.probes.keys():
            return False
        return ticket.recalling or self._can_matter(ticket)

    def _can_matter(self, ticket: Ticket) -> bool:
        """Whether what is outstanding can change the label, or is wanted whatever it says."""
        if ticket.policy.thorough:
            return True
        outstanding = [p for name, p in ticket.probes.items() if name not in ticket.seen]
        possible = frozenset[str]().union(*(probe.signals for probe in outstanding))
        known = frozenset((one.name, one.strength) for one in self._signals(ticket, ticket.seen))
        return self._label_can_change(known, possible)

    # -- what it means --------------------------------------------------------------------------

    def _verdict(self, ticket: Ticket, seen: Mapping[str, Observation], spent_s: float) -> Verdict:
        origin = ticket.origin
        missing = tuple(one for one in seen.values() if not one.status.is_evidence)
        if origin.why.is_exempt:
            return Verdict(Label.EXEMPT, 0.0, origin, why=origin.note or str(origin.why))
        judged = score.judge(self._signals(ticket, seen), self._rules)
        label = judged.label if origin.ip is not None else Label.UNKNOWN
        why = judged.why if origin.ip is not None else origin.note or str(origin.why)
        return Verdict(label, judged.score, origin, judged.reasons, missing, spent_s, why)

    def _signals(self, ticket: Ticket, seen: Mapping[str, Observation]) -> list[Signal]:
        found = list(ticket.mail_signals)
        for name in ticket.probes:
            if name in seen:
                found.extend(ticket.meaning(seen[name]))
        return found

    def _let_stand(self, ticket: Ticket, seen: Mapping[str, Observation], verdict: Verdict) -> None:
        """Keep *verdict* for the next mail, if all it rests on is in memory or follows from it."""
        target, policy = ticket.target, ticket.policy
        if target is None or policy.thorough or policy.from_memory:
            return
        basis = []
        for name, key in ticket.keys.items():
            at_hand = self._memory.at_hand(name, key)
            if at_hand is not seen[name] and not (
                at_hand is None and seen[name].reason in _FOLLOWS
            ):
                return
            basis.append(((name, key), at_hand))
        standing = Standing(
            replace(verdict, spent_s=0.0), policy, ticket.mail_signals, Basis(basis)
        )
        self._standings.keep(target, standing)

    def _points(self, probe: Probe, target: Target) -> Points:
        return lambda seen: self._weight(interpret(probe, seen, target))

    def _weight(self, found: Iterable[Signal]) -> float:
        return sum(self._rules.weight(signal.name) * signal.strength for signal in found)

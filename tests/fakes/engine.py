"""An engine over probes that do as told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from botmilter import signals
from botmilter.clock import Deadline
from botmilter.engine import RECALL_LANE, Engine
from botmilter.holders import HeldBy
from botmilter.inquiry import Policy
from botmilter.measuring import Catch
from botmilter.memory import Lifetimes, Memory, Rates
from botmilter.model import (
    Hop,
    HopKind,
    HopSource,
    Observation,
    Origin,
    OriginWhy,
    Signal,
    Status,
    Target,
)
from botmilter.net import ProbeGuard
from botmilter.scheduler import Scheduler
from botmilter.score import Rules
from botmilter.store.base import Store
from botmilter.store.memory import MemoryStore

LAB = ProbeGuard(allow_networks=(ip_network("198.18.0.0/15"),))
LIFETIMES = Lifetimes(clears_s=1000, accuses_s=100, unknown_s=10, failed_s=0.05)
PLENTY = Rates(in_all_per_minute=10**6, per_network_per_minute=10**6, per_host_per_hour=10**6)
RULES = Rules(signals.DEFAULT_WEIGHTS, bot=5.0, suspect=3.0)


@dataclass
class Scripted:
    """A probe that does as told; counts how often it was asked."""

    name: str
    says: str = ""
    status: Status = Status.ANSWERED
    takes_s: float = 0.0
    shows_life: bool = False
    wants_life: bool = False
    sends_to_host: bool = True
    limit_s: float = 5.0
    may_say: str = ""
    raises: Exception | None = None
    answers_of: str = ""
    """The one address that answers well, whatever is said of the others."""
    asked: list[Target] = field(default_factory=list)

    @property
    def signals(self) -> frozenset[str]:
        return frozenset(f"{self.says} {self.may_say}".split())

    def store_key(self, target: Target) -> str:
        return str(target.ip)

    def measure(self, target: Target, deadline: Deadline) -> Observation:
        self.asked.append(target)
        time.sleep(deadline.left(self.takes_s))
        if self.raises is not None:
            raise self.raises
        answers = str(target.ip) == self.answers_of
        status, says = (Status.ANSWERED, "") if answers else (self.status, self.says)
        reason = "" if status.is_evidence else "told to"
        return Observation(self.name, str(target.ip), status, {"says": says}, reason)

    def interpret(self, seen: Observation, target: Target) -> Iterable[Signal]:
        return [Signal(name) for name in str(seen.facts["says"]).split()]


def smtp(says: str = "smtp.refused", **how: object) -> Scripted:
    return Scripted("smtp", says, shows_life=True, may_say="smtp.banner smtp.filtered", **how)  # type: ignore[arg-type]  # test shorthand


def nmap(says: str = "os.client", **how: object) -> Scripted:
    return Scripted("osdetect", says, wants_life=True, may_say="os.client os.unix", **how)  # type: ignore[arg-type]  # test shorthand


def rdns(says: str = "rdns.dynamic", **how: object) -> Scripted:
    return Scripted("rdns", says, sends_to_host=False, may_say="host.confirmed", **how)  # type: ignore[arg-type]  # test shorthand


def engine(
    *probes: Scripted,
    store: Store | None = None,
    guard: ProbeGuard = LAB,
    at_once: int = 8,
    rates: Rates = PLENTY,
    control_hosts: Sequence[str] = (),
    lifetimes: Lifetimes = LIFETIMES,
) -> Engine:
    cache = MemoryStore(1000)
    lanes = {probe.name: at_once for probe in probes} | {RECALL_LANE: 8}
    scheduler: Scheduler[Catch] = Scheduler(lanes, 100, undone=())
    held_by = HeldBy(
        lambda seen: str(seen.facts["says"]) if seen.probe == "rdns" else None,
        frozenset({"smtp", "osdetect"}),
    )
    memory = Memory(cache, store or cache, lifetimes, rates, held_by)
    controls = [ip_address(ip) for ip in control_hosts]
    return Engine(probes, memory, scheduler, guard, RULES, controls)


def origin(ip: str = "198.18.7.12") -> Origin:
    hop = Hop(0, HopSource.CONNECTION, HopKind.RELAY, ip_address(ip), helo="pc.example")
    return Origin(OriginWhy.CLIENT, hop.ip, hop)


def policy(budget_s: float = 5.0, **more: object) -> Policy:
    names = frozenset({"rdns", "smtp", "osdetect"})
    return Policy(budget_s, names, **more)  # type: ignore[arg-type]  # test shorthand


def wait_until(true: Callable[[], bool], at_most_s: float = 20.0) -> bool:
    deadline = Deadline.after(at_most_s)
    while not deadline.is_over:
        if true():
            return True
        time.sleep(0.02)
    return False


def missing(verdict_missing: Iterable[Observation]) -> dict[str, Status]:
    return {seen.probe: seen.status for seen in verdict_missing}

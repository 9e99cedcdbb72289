"""Measure many hosts at once, each with all probes, and hand back records as they are done.

Threads wait for the engine's tickets; how many nmaps run at once is the scheduler's business.
Best on two cores are 16 (docs/survey.md): nmap computes for a third of a second each.  A host
whose probe met a rate limit is put back until the limit's next window, so that nothing is lost to
politeness.
"""

from __future__ import annotations

import heapq
import itertools
import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from botmilter.engine import Engine
from botmilter.inquiry import Policy
from botmilter.measuring import DOUBTED
from botmilter.model import Hop, HopKind, HopSource, Observation, Origin, OriginWhy, Status, Verdict
from botmilter.net import ProbeGuard, parse_ip
from botmilter.plan import RATE_LIMIT
from botmilter.survey.records import Host, Record, verdict_json

CLAIMED = "claimed only, not probed"
#: Windows of the limits by minute begin with the minute.
WINDOW_S = 60.0
#: After so many windows the host is recorded as it is: the limit for one host is by the hour.
WINDOWS_AT_MOST = 70


@dataclass(frozen=True, slots=True)
class Surveyor:
    """Measures one host."""

    engine: Engine
    policy: Policy
    guard: ProbeGuard
    probe_claimed: bool = False

    def would_send(self, host: Host) -> bool:
        """Whether *host* would get packets."""
        ip = parse_ip(host.ip)
        may_be = host.is_proved or self.probe_claimed
        return may_be and ip is not None and self.guard.refusal(ip) is None

    def measure(self, run: int, host: Host) -> Record:
        """Blocks at most the policy's budget."""
        began_at, origin = time.time(), _origin(host)
        if not host.is_proved and not self.probe_claimed:
            verdict = replace(self.engine.rejudge(origin, ()), why=CLAIMED)
            return Record(run, began_at, host, (), verdict_json(verdict))
        ticket = self.engine.begin(origin, self.policy, host.sender_domain or None)
        verdict = self.engine.result(ticket, host.signals)
        seen = {one.probe: one for one in (*verdict.missing, *ticket.observations)}
        return Record(run, began_at, host, tuple(seen.values()), verdict_json(verdict))

    def rejudge(self, record: Record) -> Record:
        """The same facts, judged by the engine's weights.  No packet."""
        host = record.host
        verdict: Verdict = self.engine.rejudge(_origin(host), record.observations, host.signals)
        if not record.observations:
            verdict = replace(verdict, why=str(record.verdict["why"]))
        return replace(record, verdict=verdict_json(verdict))


def _origin(host: Host) -> Origin:
    ip = parse_ip(host.ip)
    hop = Hop(0, HopSource.HEADER, HopKind.RELAY, ip=ip, helo=host.helo)
    return Origin(OriginWhy.RELAY, ip, hop, note=f"{host.role} in a mail's chain")


def measured(
    addresses: Sequence[str], measure: Callable[[str], Record], at_once: int
) -> Generator[Record, None, None]:
    """*measure* each of *addresses* on *at_once* threads; records in the order they are done.

    Whatever *measure* raises is raised here.  Closing the iterator starts nothing more.
    """
    todo = _ToDo(addresses)
    done: queue.SimpleQueue[Record | BaseException] = queue.SimpleQueue()
    for _ in range(min(at_once, len(addresses))):
        threading.Thread(target=_work, args=(todo, measure, done), daemon=True).start()
    try:
        for _ in addresses:
            record = done.get()
            if isinstance(record, BaseException):
                raise record
            yield record
    finally:
        todo.close()


def _work(
    todo: _ToDo,
    measure: Callable[[str], Record],
    done: queue.SimpleQueue[Record | BaseException],
) -> None:
    while (item := todo.take()) is not None:
        try:
            record = measure(item.ip)
        except BaseException as error:  # the caller's to raise
            done.put(error)
            return
        if is_limited(record) and item.windows < WINDOWS_AT_MOST:
            todo.put_back(item)
        else:
            done.put(record)


def is_limited(record: Record) -> bool:
    """Whether the host should be tried again in the limits' next window."""
    return any(
        one.status is Status.SKIPPED and one.reason.startswith(RATE_LIMIT)
        for one in record.observations
    )


def to_next_window_s() -> float:
    return WINDOW_S - time.time() % WINDOW_S


@dataclass(frozen=True, slots=True, order=True)
class _Item:
    due_at: float
    number: int
    ip: str
    windows: int = 0


class _ToDo:
    """Addresses by the time they are due."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._heap = [_Item(0.0, next(self._numbers), ip) for ip in addresses]
        self._closed = False

    def take(self) -> _Item | None:
        """The next address, waiting until one is due; None when there will be no more."""
        with self._changed:
            while not self._closed:
                if self._heap and self._heap[0].due_at <= time.time():
                    return heapq.heappop(self._heap)
                left = self._heap[0].due_at - time.time() if self._heap else None
                self._changed.wait(left)
            return None

    def put_back(self, item: _Item) -> None:
        due_at = time.time() + to_next_window_s()
        with self._changed:
            again = _Item(due_at, next(self._numbers), item.ip, item.windows + 1)
            heapq.heappush(self._heap, again)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


#: Where this share of all hosts looked different to a probe, its way out is open.
_OPEN_FROM = 0.1


def settled(
    read: Callable[[], Iterable[Record]], rejudge: Callable[[Record], Record]
) -> Iterator[Record]:
    """Of the records of a whole run those anew that have something the engine did not believe.

    Hosts that answer do so in milliseconds and silent ones after seconds, so with many under way
    the silent come in a row, which to the engine looks like a blocked way out.  Over the whole
    run it can be told: if enough hosts looked different, it was the hosts.  *read* is called
    thrice, so that no record need be kept in memory.
    """
    doubted = {key for record in read() for one in record.observations if (key := _doubted(one))}
    if not doubted:
        return
    asked: Counter[str] = Counter()
    same: Counter[_Look] = Counter()
    for record in read():
        for one in record.observations:
            if (look := _doubted(one) or _look(one)) is not None:
                asked[one.probe] += 1
                same.update({look} & doubted)
    believed = {look for look in doubted if same[look] <= (1 - _OPEN_FROM) * asked[look.probe]}
    for record in read():
        observations = tuple(_anew(one, believed) for one in record.observations)
        if observations != record.observations:
            yield rejudge(replace(record, observations=observations))


class _Look(NamedTuple):
    """What one host looked like to a probe."""

    probe: str
    status: Status
    facts: str


def _look(one: Observation) -> _Look | None:
    """None where *one* is no evidence."""
    if not one.status.is_evidence:
        return None
    return _Look(one.probe, one.status, json.dumps(dict(one.facts), sort_keys=True))


def _doubted(one: Observation) -> _Look | None:
    """How *one* would look, had it been believed; None where it was, or never could be."""
    if one.status is not Status.FAILED:
        return None
    meant = next((status for status, reason in DOUBTED.items() if reason == one.reason), None)
    return None if meant is None else _look(replace(one, status=meant))


def _anew(one: Observation, believed: Container[_Look]) -> Observation:
    look = _doubted(one)
    return replace(one, status=look.status, reason="") if look and look in believed else one

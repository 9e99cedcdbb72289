"""Jobs on bounded daemon threads, one at a time for each key.

In come *(lane, key, job, done)*; each *done* gets what the job returned.  Asked twice for a key
whose job is queued or running, the second caller joins the first (*single flight*).  A lane is a
kind of job with a thread limit of its own, so that slow nmaps never keep a DNS answer waiting.

Callers say whether they still want the job: what somebody waits for goes before what will serve
somebody later, and makes room for itself where the queue is full; what nobody wants any more by
its turn is not done.

A hundred mails that come in the same moment bring some hundred jobs.  So the jobs of a *paced*
lane begin one after the other, a breath apart: what begins a little later loses nothing, and
between them the mails themselves, those of known hosts among them, find the processor free.

Daemon threads rather than ``ThreadPoolExecutor``: with one hung job the executor held the
interpreter's exit for the job's 6.2 s, a daemon thread let go in 0.14 s; and its queue has no
bound.  Knows no mail and no score.  All methods are safe to be called from any thread; none
blocks.  Jobs should not raise: what they throw ends in ``threading.excepthook``, and their callers
get what stands for a job that was not done.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

from botmilter.clock import Deadline

log = logging.getLogger(__name__)

T = TypeVar("T")


#: A thread without work ends after this long; the next job starts a new one in 0.1 ms.
_IDLE_S = 30.0

#: Between the beginnings of two jobs of a paced lane, each of which takes some 0.3 ms of a CPU.
BREATH_S = 0.001


class Wanted(IntEnum):
    """How much a caller still wants a job that has not begun."""

    NOT = 0
    LATER = 1
    """Nobody waits for it, but it will be of use."""
    NOW = 2


def _now() -> Wanted:
    return Wanted.NOW


class Scheduler(Generic[T]):
    """*lanes* maps a lane's name to its thread limit; *queue_limit* bounds what waits in each.
    Jobs of the lanes named in *paced* begin a breath apart.  *undone* is what callers get in place
    of a job's result where it was not done."""

    def __init__(
        self,
        lanes: Mapping[str, int],
        queue_limit: int,
        undone: T,
        paced: Collection[str] = (),
    ) -> None:
        self._lock = threading.Lock()
        self._lanes: dict[str, _Lane[T]] = {
            name: _Lane(limit, threading.Condition(self._lock), name in paced)
            for name, limit in lanes.items()
        }
        self._queue_limit = queue_limit
        self._undone = undone
        self._turn = threading.Lock()
        self._next = Deadline.after(0.0)
        self._flights: dict[str, _Flight[T]] = {}
        self._timers = _Timers()

    def submit(
        self,
        lane: str,
        key: str,
        job: Callable[[], T],
        done: Callable[[T], None],
        wanted: Callable[[], Wanted] = _now,
    ) -> bool:
        """Run *job* unless one for *key* is under way, then call *done* on the job's thread.

        *wanted* is asked under a lock: it must be short and take none.  False: the lane's queue is
        full of what others wait for, or the machine gives no thread; nothing was started and
        *done* will not be called.
        """
        given_up = None
        with self._lock:
            if key in self._flights:
                self._flights[key].callers.append((done, wanted))
                return True
            place = self._lanes[lane]
            if not self._has_room(place):
                given_up = self._unwanted(place)
                if given_up is None:
                    place.refused += 1
                    return False
            self._flights[key] = flight = _Flight(key, job, [(done, wanted)])
            place.queue.append(flight)
            place.wake.notify()
        if given_up is not None:
            given_up.land(self._undone)
        return True

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call *call* on a thread of ours after *delay_s*; it must be short and not raise."""
        self._timers.add(delay_s, call)

    @property
    def lanes(self) -> dict[str, LaneState]:
        """How full each lane is now."""
        with self._lock:
            return {
                name: LaneState(len(lane.queue), lane.busy, lane.refused)
                for name, lane in self._lanes.items()
            }

    def _has_room(self, lane: _Lane[T]) -> bool:
        """Whether one more job can be taken; starts a thread for it where none is free."""
        if lane.threads == lane.busy:
            self._add_thread(lane)
        return lane.threads > 0 and len(lane.queue) < lane.limit - lane.busy + self._queue_limit

    def _unwanted(self, lane: _Lane[T]) -> _Flight[T] | None:
        """The oldest in the queue that nobody waits for, taken out of it."""
        for flight in lane.queue if lane.threads else ():
            if flight.wanted is not Wanted.NOW:
                lane.queue.remove(flight)
                del self._flights[flight.key]
                return flight
        return None

    def _add_thread(self, lane: _Lane[T]) -> None:
        if lane.threads == lane.limit:
            return
        with suppress(RuntimeError):  # the machine is out of threads: make do with those we have
            threading.Thread(target=self._work, args=(lane,), daemon=True).start()
            lane.threads += 1

    def _work(self, lane: _Lane[T]) -> None:
        try:
            while self._take_one(lane):
                pass
        except BaseException:
            with self._lock:
                lane.threads -= 1
            raise

    def _take_one(self, lane: _Lane[T]) -> bool:
        """Wait for a job and run it; False when none came for so long that the thread ends."""
        with self._lock:
            if not lane.wake.wait_for(lambda: bool(lane.queue), _IDLE_S):
                lane.threads -= 1  # at once: what comes from now on needs another
                return False
        if lane.is_paced:
            self._breathe()
        with self._lock:
            if not lane.queue:
                return True
            flight = lane.next()
            is_wanted = flight.wanted is not Wanted.NOT
            if is_wanted:
                lane.busy += 1
            else:
                del self._flights[flight.key]
            if lane.queue and lane.threads == lane.busy:
                self._add_thread(lane)
        if not is_wanted:
            flight.land(self._undone)
            return True
        try:
            self._fly(flight)
        finally:
            with self._lock:
                lane.busy -= 1
        return True

    def _breathe(self) -> None:
        """Wait for one's turn to begin a job (without the lock)."""
        with self._turn:
            time.sleep(self._next.left())
            self._next = Deadline.after(BREATH_S)

    def _fly(self, flight: _Flight[T]) -> None:
        result = self._undone
        try:
            result = flight.job()
        finally:
            with self._lock:
                del self._flights[flight.key]
            flight.land(result)


class LaneState(NamedTuple):
    queued: int
    """Jobs that wait for a thread."""
    busy: int
    """Threads at work."""
    refused: int
    """Jobs not taken because the queue was full, since the start."""


@dataclass(eq=False, slots=True)
class _Flight(Generic[T]):
    """A job, and who asked for it."""

    key: str
    job: Callable[[], T]
    callers: list[tuple[Callable[[T], None], Callable[[], Wanted]]] = field(default_factory=list)

    @property
    def wanted(self) -> Wanted:
        return max(wanted() for _, wanted in self.callers)

    def land(self, result: T) -> None:
        """Nobody joins it any more."""
        for done, _ in self.callers:
            done(result)


class _Lane(Generic[T]):
    """Its thread limit, what runs and what waits; guarded by the scheduler's lock."""

    def __init__(self, limit: int, wake: threading.Condition, is_paced: bool) -> None:
        self.limit = limit
        self.wake = wake
        self.threads = 0
        self.busy = 0
        self.refused = 0
        self.queue: deque[_Flight[T]] = deque()
        self.is_paced = is_paced

    def next(self) -> _Flight[T]:
        """The oldest that somebody waits for, else the oldest, taken out of the queue."""
        flight = next((one for one in self.queue if one.wanted is Wanted.NOW), self.queue[0])
        self.queue.remove(flight)
        return flight


class _Timers:
    """One thread that sleeps until the next call is due; started with the first, or with the next
    where the machine gave none, and never joined."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._changed = threading.Condition()
        self._count = 0
        self._is_running = False

    def add(self, delay_s: float, call: Callable[[], None]) -> None:
        with self._changed:
            self._count += 1
            entry = (time.monotonic() + delay_s, self._count, call)
            heapq.heappush(self._heap, entry)
            if not self._is_running:
                with suppress(RuntimeError):
                    threading.Thread(target=self._run, name="timers", daemon=True).start()
                    self._is_running = True
            if self._heap[0] is entry:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    due = self._heap[0][0] - time.monotonic() if self._heap else None
                    self._changed.wait(due)
                _, _, call = heapq.heappop(self._heap)
            try:
                call()
            except Exception:
                log.exception("what was to be done by now failed: a bug, please report")

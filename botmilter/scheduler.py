"""Jobs on bounded daemon threads, one at a time for each key.

In come *(lane, key, job, done)*; each *done* gets what the job returned.  Asked twice for a key
whose job is queued or running, the second caller joins the first (*single flight*).  A lane is a
kind of job with a thread limit of its own, so that slow nmaps never keep a DNS answer waiting.

A hundred mails that come in the same moment bring some hundred jobs.  So the jobs of a *paced*
lane begin one after the other, a breath apart: what begins a little later loses nothing, and
between them the mails themselves, those of known hosts among them, find the processor free.

Daemon threads rather than ``ThreadPoolExecutor``: with one hung job the executor held the
interpreter's exit for the job's 6.2 s, a daemon thread let go in 0.14 s; and its queue has no
bound.  Knows no mail and no score.  All methods are safe to be called from any thread; none
blocks.  Jobs must not raise: what they throw ends in ``threading.excepthook``.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

from botmilter.clock import Deadline

T = TypeVar("T")


#: A thread without work ends after this long; the next job starts a new one in 0.1 ms.
_IDLE_S = 30.0

#: Between the beginnings of two jobs of a paced lane, each of which takes some 0.3 ms of a CPU.
BREATH_S = 0.001


class Scheduler(Generic[T]):
    """*lanes* maps a lane's name to its thread limit; *queue_limit* bounds what waits in each.
    Jobs of the lanes named in *paced* begin a breath apart."""

    def __init__(
        self, lanes: Mapping[str, int], queue_limit: int, paced: Collection[str] = ()
    ) -> None:
        self._lock = threading.Lock()
        self._lanes: dict[str, _Lane[T]] = {
            name: _Lane(limit, threading.Condition(self._lock), name in paced)
            for name, limit in lanes.items()
        }
        self._queue_limit = queue_limit
        self._turn = threading.Lock()
        self._next = Deadline.after(0.0)
        self._flights: dict[str, list[Callable[[T], None]]] = {}
        self._timers = _Timers()

    def submit(self, lane: str, key: str, job: Callable[[], T], done: Callable[[T], None]) -> bool:
        """Run *job* unless one for *key* is under way, then call *done* on the job's thread.

        False: the lane's queue is full or the machine gives no thread; nothing was started and
        *done* will not be called.
        """
        with self._lock:
            if key in self._flights:
                self._flights[key].append(done)
                return True
            place = self._lanes[lane]
            if not self._has_room(place):
                place.refused += 1
                return False
            self._flights[key] = [done]
            place.queue.append((key, job))
            place.wake.notify()
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
            key, job = lane.queue.popleft()
            lane.busy += 1
            if lane.queue and lane.threads == lane.busy:
                self._add_thread(lane)
        try:
            self._fly(key, job)
        finally:
            with self._lock:
                lane.busy -= 1
        return True

    def _breathe(self) -> None:
        """Wait for one's turn to begin a job (without the lock)."""
        with self._turn:
            time.sleep(self._next.left())
            self._next = Deadline.after(BREATH_S)

    def _fly(self, key: str, job: Callable[[], T]) -> None:
        try:
            result = job()
        except BaseException:
            with self._lock:
                del self._flights[key]
            raise
        with self._lock:
            waiting = self._flights.pop(key)
        for done in waiting:
            done(result)


class LaneState(NamedTuple):
    queued: int
    """Jobs that wait for a thread."""
    busy: int
    """Threads at work."""
    refused: int
    """Jobs not taken because the queue was full, since the start."""


class _Lane(Generic[T]):
    """Its thread limit, what runs and what waits; guarded by the scheduler's lock."""

    def __init__(self, limit: int, wake: threading.Condition, is_paced: bool) -> None:
        self.limit = limit
        self.wake = wake
        self.threads = 0
        self.busy = 0
        self.refused = 0
        self.queue: deque[tuple[str, Callable[[], T]]] = deque()
        self.is_paced = is_paced


class _Timers:
    """One thread that sleeps until the next call is due; started with the first, never joined."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._changed = threading.Condition()
        self._count = 0

    def add(self, delay_s: float, call: Callable[[], None]) -> None:
        with self._changed:
            self._count += 1
            entry = (time.monotonic() + delay_s, self._count, call)
            heapq.heappush(self._heap, entry)
            if self._count == 1:
                threading.Thread(target=self._run, name="timers", daemon=True).start()
            if self._heap[0] is entry:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    due = self._heap[0][0] - time.monotonic() if self._heap else None
                    self._changed.wait(due)
                _, _, call = heapq.heappop(self._heap)
            call()

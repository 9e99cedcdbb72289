"""Things to do later, in the one thread of the laboratory's process."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count

Job = Callable[[float], None]


class Timers:
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Job]] = []
        self._order = count()

    def now(self) -> float:
        return time.monotonic()

    def at(self, when: float, job: Job) -> None:
        """Call *job* with the time of the call, at *when* on the monotonic clock or later."""
        heapq.heappush(self._heap, (when, next(self._order), job))

    def run(self, now: float) -> None:
        """Do what is due, not what the jobs themselves add for the same moment."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        for job in due:
            job(now)

    def wait_s(self, now: float, at_most: float) -> float:
        """How long nothing is due."""
        return at_most if not self._heap else min(at_most, max(0.0, self._heap[0][0] - now))

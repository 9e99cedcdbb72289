"""Deadlines.

Two clocks, never mixed: waiting is measured on the monotonic clock, because a wall clock can be
set back an hour in the middle of a mail; records carry Unix time, because they are read later and
elsewhere.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock by which something has to be over."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """The deadline *seconds* from now; a negative number gives one that is over."""
        return cls(time.monotonic() + seconds)

    def left(self, at_most: float | None = None) -> float:
        """Seconds left, never negative, never more than *at_most*."""
        left = max(0.0, self.at - time.monotonic())
        return left if at_most is None else min(left, at_most)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.at

    def earlier(self, other: Deadline) -> Deadline:
        return self if self.at <= other.at else other

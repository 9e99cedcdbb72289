"""Whether a probe itself works.  No I/O; the time is an argument.

A probe that fails several times running, whatever the host, is broken: nmap is missing, the
resolver is dead.  It is then left alone for a while, or it would be tried, and fail, for every
mail.  After the pause one attempt is let through; if that fails the next pause is twice as long.
"""

from __future__ import annotations

import threading

from botmilter.model import Status

#: One failure may be the host's path, three running are ours.
FAILURES_TO_PAUSE = 3
FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 300.0


class Health:
    """The state of one probe.  Safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._pause_s = 0.0
        self._paused_until = 0.0
        self._reason = ""

    def pause_reason(self, now: float) -> str | None:
        """Why the probe should not be tried at *now* (monotonic); None if it may be.

        The first caller after a pause gets None and is the attempt; the others wait for it.
        """
        with self._lock:
            if not self._pause_s:
                return None
            if now >= self._paused_until:
                self._paused_until = now + self._pause_s
                return None
            return f"paused: {self._reason}"

    def record(self, status: Status, reason: str, now: float) -> str | None:
        """Take in how an attempt ended; returns a line for the log when the state changes."""
        with self._lock:
            if status.is_evidence:
                was_broken, self._failures, self._pause_s = self._pause_s > 0, 0, 0.0
                return "works again" if was_broken else None
            if status is not Status.FAILED:
                return None
            self._failures += 1
            self._reason = reason
            if self._failures < FAILURES_TO_PAUSE:
                return None
            was_broken = self._pause_s > 0
            self._pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, self._pause_s * 2))
            self._paused_until = now + self._pause_s
            return None if was_broken else f"does not work: {reason}"

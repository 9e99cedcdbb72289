"""Whether a probe itself works, and whether it can be believed.  No I/O; time is an argument.

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
        self._is_trying = False
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
                self._is_trying = True
                return None
            return f"paused: {self._reason}"

    def record(self, status: Status, reason: str, now: float) -> str | None:
        """Take in how an attempt ended; returns a line for the log when the state changes."""
        with self._lock:
            if status.is_evidence:
                was_broken, self._failures, self._pause_s = self._pause_s > 0, 0, 0.0
                self._is_trying = False
                return "works again" if was_broken else None
            if status is not Status.FAILED:
                return None
            was_broken = self._pause_s > 0
            if was_broken and not self._is_trying:
                return None  # begun before the pause: no news
            self._failures += 1
            self._reason = reason
            self._is_trying = False
            if self._failures < FAILURES_TO_PAUSE:
                return None
            self._pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, self._pause_s * 2))
            self._paused_until = now + self._pause_s
            return None if was_broken else f"does not work: {reason}"


#: So unlikely must a run of silent hosts be, by the probe's own past, to be held against it.
UNBELIEVABLE = 1e-4
#: What a new probe is taken to have seen: three hosts of ten answered.
_PRIOR_ANSWERED, _PRIOR_ASKED = 3.0, 10.0
#: The past fades, so that a change of the traffic is learnt within some thousand hosts.
_PAST_AT_MOST = 2000.0


class Sameness:
    """Whether a probe has begun to say of every host that it is silent.

    Then it is more likely that our own provider blocks the port than that only dead hosts send
    mail, and *silent* must not count against anybody.  One answer ends it, or :meth:`trust`.
    Thread safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answered, self._asked = _PRIOR_ANSWERED, _PRIOR_ASKED
        self._silent_run = 0

    def record(self, answered: bool) -> str | None:
        """Take in one more host; returns a line for the log when the state changes."""
        with self._lock:
            was_suspect = self._is_suspect()
            if not answered:
                self._silent_run += 1
            else:
                self._asked += 1
                self._answered += 1
                self._learn()
            is_suspect = self._is_suspect()
        if is_suspect == was_suspect:
            return None
        if is_suspect:
            return f"{self._silent_run} hosts running did not answer: is our own way out blocked?"
        return "hosts answer again"

    def trust(self) -> None:
        """The probe was shown to work: this run of silent hosts is the hosts' own."""
        with self._lock:
            self._learn()

    @property
    def is_suspect(self) -> bool:
        with self._lock:
            return self._is_suspect()

    def _learn(self) -> None:
        """The run so far becomes part of the past."""
        self._asked += self._silent_run
        self._silent_run = 0
        fade = min(1.0, _PAST_AT_MOST / self._asked)
        self._answered, self._asked = self._answered * fade, self._asked * fade

    def _is_suspect(self) -> bool:
        silence = 1.0 - self._answered / self._asked
        return bool(silence**self._silent_run < UNBELIEVABLE)

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

    @property
    def is_broken(self) -> bool:
        """Whether it is left alone, or tried now after it was."""
        with self._lock:
            return self._pause_s > 0

    def try_now(self) -> None:
        """What was broken answers again, as somebody else has seen: the next caller is an attempt,
        before the pause is over."""
        with self._lock:
            if not self._is_trying:
                self._paused_until = 0.0

    def undecided(self) -> None:
        """The attempt told neither way: the next caller is another."""
        with self._lock:
            self._try_another()

    def _try_another(self) -> None:
        if self._is_trying:
            self._is_trying, self._paused_until = False, 0.0

    def record(self, status: Status, reason: str, now: float) -> str | None:
        """Take in how an attempt ended; returns a line for the log when the state changes."""
        with self._lock:
            if status.is_evidence:
                was_broken, self._failures, self._pause_s = self._pause_s > 0, 0, 0.0
                self._is_trying = False
                return "works again" if was_broken else None
            if status is not Status.FAILED:
                self._try_another()
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


#: So unlikely must a run of hosts that look the same be, by the probe's own past, to be held
#: against the probe.
UNBELIEVABLE = 1e-4
#: However unlikely: hosts do not send independently of each other.
_RUN_AT_LEAST = 10
#: What a new probe is taken to have seen: seven hosts of ten looked like those of the run.
_PRIOR_SAME, _PRIOR_ASKED = 7.0, 10.0
#: The past fades, so that a change of the traffic is learnt within some thousand hosts.
_PAST_AT_MOST = 2000.0


class Sameness:
    """Whether a probe has begun to say the same of every host: all are silent, all refuse.

    Then it is more likely that our own provider blocks the port than that only such hosts send
    mail, and it must not count against anybody.  One host that looks different ends it, or
    :meth:`trust`.  Thread safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._past: dict[str, float] = {}
        self._asked = 0.0
        self._look: str | None = None
        self._run = 0

    def record(self, look: str | None) -> str | None:
        """Take in one more host; returns a line for the log when the state changes.

        *look* is what is held against it, in words that are the same where hosts look the same;
        None where nothing is.
        """
        with self._lock:
            was_suspect = self._is_suspect()
            if look != self._look:
                self._learn()
                self._look = look
            self._run += 1
            is_suspect = self._is_suspect()
        if is_suspect == was_suspect:
            return None
        if is_suspect:
            return f"{self._run} hosts running look the same: is our own way out blocked?"
        return "hosts look different again"

    def trust(self) -> None:
        """The probe was shown to work: this run is the hosts' own."""
        with self._lock:
            self._learn()

    @property
    def is_suspect(self) -> bool:
        return self.suspected_look is not None

    @property
    def suspected_look(self) -> str | None:
        """What all hosts look like of late, where that cannot be believed."""
        with self._lock:
            return self._look if self._is_suspect() else None

    def _learn(self) -> None:
        """The run so far becomes part of the past."""
        self._asked += self._run
        if self._look is not None:
            self._past[self._look] = self._past.get(self._look, 0.0) + self._run
        self._run = 0
        if self._asked > _PAST_AT_MOST:
            fade = _PAST_AT_MOST / self._asked
            self._past = {look: n * fade for look, n in self._past.items() if n * fade >= 1.0}
            self._asked = _PAST_AT_MOST

    def _is_suspect(self) -> bool:
        if self._look is None or self._run < _RUN_AT_LEAST:
            return False
        same = self._past.get(self._look, 0.0) + _PRIOR_SAME
        return bool((same / (self._asked + _PRIOR_ASKED)) ** self._run < UNBELIEVABLE)

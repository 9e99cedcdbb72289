"""A worker's counts on their way out: to the observer, and into the store's tally.

On a thread of its own, so that no mail waits for it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

from botmilter.counters import Journal
from botmilter.errors import StoreError
from botmilter.milter import observer
from botmilter.milter.base import Begun, Judge, Judgement
from botmilter.milter.session import Transaction
from botmilter.store.tally import Pending, Tally

log = logging.getLogger(__name__)

REPORT_EVERY_S = 2.0
#: A commit of SQLite's for each worker; nobody looks at statistics by the second.
TALLY_EVERY_S = 10.0


class Reporter:
    """Takes what *journal* has, sends it up *uplink* and adds it to *tally*.

    *gauges* tells how things stand in this process; *totals* are further counts, since the start.
    """

    def __init__(
        self,
        journal: Journal,
        gauges: Callable[[], Mapping[str, float]],
        totals: Callable[[], Mapping[str, float]],
        uplink: socket.socket | None,
        tally: Tally | None,
    ) -> None:
        self._journal = journal
        self._gauges = gauges
        self._totals = totals
        self._uplink = uplink
        self._tally = tally
        self._lock = threading.Lock()
        self._reported: Mapping[str, float] = {}
        self._unsent: dict[str, float] = defaultdict(float)
        self._pending = Pending()
        self._tallied_at = time.monotonic()
        self._is_broken = False

    def run(self) -> None:
        """For ever; on a daemon thread."""
        while True:
            time.sleep(REPORT_EVERY_S)
            with self._lock:
                self._report()
                if time.monotonic() - self._tallied_at >= TALLY_EVERY_S:
                    self._write()

    def close(self) -> None:
        """Everything that is left."""
        with self._lock:
            self._report()
            self._write()

    def _report(self) -> None:
        taken = self._journal.take(time.time())
        totals = self._totals()
        for word, total in totals.items():
            self._unsent[word] += total - self._reported.get(word, 0.0)
        self._reported = totals
        for word, counted in taken.counts.items():
            self._unsent[word] += counted
        if self._tally is not None:
            self._pending.add(taken, time.time())
        if self._uplink is None:
            self._unsent.clear()
            return
        message = {"pid": os.getpid(), "counts": self._unsent, "gauges": self._gauges()}
        if observer.send(self._uplink, message):
            self._unsent.clear()

    def _write(self) -> None:
        self._tallied_at = time.monotonic()
        if self._tally is None or self._pending.is_empty:
            return
        try:
            self._tally.add(self._pending)
        except StoreError as error:
            if not self._is_broken:
                log.warning("statistics are not written: %s", error)
            self._is_broken = True
            self._pending.shorten()
            return
        self._is_broken = False
        self._pending = Pending()


class RecordedJudge:
    """*judge*, with a note of each mail."""

    def __init__(self, judge: Judge, journal: Journal, close: Callable[[], None]) -> None:
        self._judge = judge
        self._journal = journal
        self.close = close
        self.may_quarantine = judge.may_quarantine
        self.failed = judge.failed
        self.own_names = judge.own_names
        self.begin = judge.begin
        self.knows = judge.knows

    def judge(
        self,
        mail: Transaction,
        begun: Begun | None,
        while_waiting: Callable[[], None] | None = None,
    ) -> Judgement:
        started = time.monotonic()
        try:
            judgement = self._judge.judge(mail, begun, while_waiting)
        except Exception:
            self._journal.failure()
            raise
        took_s = time.monotonic() - started
        self._journal.mail(judgement.log["verdict"], judgement.verdict, took_s)
        return judgement

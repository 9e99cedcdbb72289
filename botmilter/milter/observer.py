"""The process that knows what all workers did: adds up, and shows it over HTTP.

Workers send what they counted since they last did, every two seconds and once more at their end,
as JSON datagrams on one SOCK_SEQPACKET pair that they share.  So a worker that drains, is
restarted or replaced at a reload takes nothing with it, nothing is left behind for those that
died, and the process that holds a mail never does more than note an event.  What a killed worker
had not sent yet is lost: two seconds at most.

The daemon's parent keeps both ends, as it does for the prober: another observer takes over where
one was killed.  It then counts from zero, which Prometheus takes for what it is.  Who sends when
the buffer is full keeps his counts and sends them with the next ones.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from botmilter.errors import SetupError
from botmilter.milter import listener, loopback
from botmilter.milter.loopback import Page

_MESSAGE_AT_MOST = 256 * 1024


class Totals:
    """The counts of all workers, and the last state of those that live.  Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, float] = defaultdict(float)
        self._gauges: dict[int, Mapping[str, float]] = {}
        self._workers: Mapping[str, float] = {}
        self._restarts = 0

    def take_in(self, message: Mapping[str, Any]) -> None:
        """A worker's counts, or the parent's word on who lives."""
        with self._lock:
            for word, counted in message.get("counts", {}).items():
                self._counts[word] += counted
            if "pid" in message:
                self._gauges[int(message["pid"])] = message["gauges"]
            if "alive" in message:
                alive = set(message["alive"])
                self._gauges = {pid: g for pid, g in self._gauges.items() if pid in alive}
                self._workers = message["workers"]
                self._restarts = int(message["restarts"])

    def now(self) -> tuple[Mapping[str, float], Mapping[str, float], int]:
        """Counts since this process started, gauges over all workers, restarts of workers."""
        with self._lock:
            gauges: dict[str, float] = defaultdict(float)
            for one in (*self._gauges.values(), self._workers):
                for word, value in one.items():
                    gauges[word] += value
            return dict(self._counts), gauges, self._restarts


@dataclass(frozen=True, slots=True)
class Observing:
    """What is shown, and where."""

    addresses: tuple[tuple[str, str], ...]
    """Table of the configuration and where it wants us to listen, as ``listener.listen`` takes
    it."""
    pages: Callable[[Totals], Mapping[str, Mapping[str, Page]]] = field(compare=False)
    """Called in the observer: for each table its pages by path."""


class Uplink:
    """The way to the observer and the sockets it answers on, opened by the parent before any
    fork.  Without *observing* there is nothing, and nobody sends."""

    def __init__(self, observing: Observing | None, owner: str) -> None:
        """*owner* is who may connect to a Unix socket, beside root.  Raises SetupError."""
        self._observing = observing
        self._listeners: dict[str, socket.socket] = {}
        self._receiving: socket.socket | None = None
        self.sending: socket.socket | None = None
        if observing is None:
            return
        try:
            for table, address in observing.addresses:
                self._listeners[table] = listener.listen(
                    address, owner=owner if os.geteuid() == 0 else "", table=table, key="listen"
                )
        except SetupError:
            self.take_down()
            raise
        self._receiving, self.sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def observe(self) -> int:
        """The observer's life, in a process of its own: until nobody is left who could send."""
        assert self._observing is not None
        assert self._receiving is not None
        assert self.sending is not None
        self.sending.close()
        totals = Totals()
        for table, pages in self._observing.pages(totals).items():
            loopback.serve(self._listeners[table], pages)
        while message := self._receiving.recv(_MESSAGE_AT_MOST):
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                totals.take_in(json.loads(message))
        return 0

    def only_send(self) -> None:
        """In a child that sends: what is the observer's goes."""
        for one in (self._receiving, *self._listeners.values()):
            if one is not None:
                one.close()

    def leave(self) -> None:
        """In a child that sends nothing.  The observer lives as long as somebody could send, and
        one that was restarted holds the prober's channel: each would keep the other alive."""
        self.only_send()
        if self.sending is not None:
            self.sending.close()

    def take_down(self) -> None:
        for one in self._listeners.values():
            listener.take_down(one)


def send(uplink: socket.socket, message: Mapping[str, Any]) -> bool:
    """Whether *message* went to the observer.  Never waits."""
    try:
        uplink.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)
    except OSError:  # full, or nobody there: with the next
        return False
    return True

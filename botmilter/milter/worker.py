"""One worker process: serves the shared listening socket with libmilter until told to stop.

libmilter can only listen on a socket it opened itself, removes the socket's file when it stops,
and its stop cuts sessions off between two commands.  So it opens a socket of no importance, and
the shared one is put in its place (``dup2``); to drain, a pipe that never has anything takes that
place, libmilter goes on with the sessions it has, and the process ends when they are over.

Told what to do through a socket to the parent: ``d`` drains; its end says that the parent is
gone, and then the worker goes too.  It says ``r`` when it is ready.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import stat
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from botmilter.clock import Deadline
from botmilter.milter import app
from botmilter.milter.base import READY
from botmilter.milter.listener import BACKLOG

log = logging.getLogger(__name__)

#: A worker has few descriptors when it starts, and new ones get the lowest number.
_DESCRIPTORS = 1024

#: Between two looks at the open sessions.
_LOOK_S = 0.1


class Worker:
    """Serves *listener* with *filter_app*; obeys *control*."""

    def __init__(
        self,
        filter_app: app.App,
        listener: socket.socket,
        control: socket.socket,
        stop_grace_s: float,
    ) -> None:
        self._app = filter_app
        self._listener = listener
        self._control = control
        self._stop_grace_s = stop_grace_s

    def run(self) -> int:
        """Serve until libmilter gives up; a drained worker ends the process from its own thread."""
        place = _libmilters_place(self._app, self._listener.family)
        os.dup2(self._listener.fileno(), place)
        threading.Thread(target=self._obey, args=(place,), daemon=True).start()
        gc.freeze()  # what is here by now stays: not to be looked through again and again
        self._control.send(READY)
        app.serve()
        return 1

    def _obey(self, place: int) -> None:
        order = self._control.recv(1)
        never, _held = os.pipe()
        os.dup2(never, place)
        if not order:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._drain(Deadline.after(self._stop_grace_s))
        try:
            self._app.finish()
        finally:
            os._exit(0)

    def _drain(self, deadline: Deadline) -> None:
        """Until two looks find no session: one may have been accepted just before."""
        quiet = 0
        while quiet < 2 and not deadline.is_over:
            quiet = 0 if self._app.open_sessions else quiet + 1
            time.sleep(_LOOK_S)
        if self._app.open_sessions:
            log.warning("%d sessions cut off at the end of the grace", self._app.open_sessions)


def _libmilters_place(filter_app: app.App, family: socket.AddressFamily) -> int:
    """The descriptor on which libmilter will accept, opened for the same address family."""
    before = _sockets()
    with tempfile.TemporaryDirectory(prefix="botmilter-") as folder:
        addresses = {
            socket.AF_UNIX: f"unix:{Path(folder) / 'unused'}",
            socket.AF_INET: "inet:0@127.0.0.1",
            socket.AF_INET6: "inet6:0@::1",
        }
        app.open_socket(filter_app, addresses[family], BACKLOG)
    (place,) = _sockets() - before
    return place


def _sockets() -> set[int]:
    """The descriptors of this process on which somebody listens, of the first thousand.

    Not by way of ``/proc/self/fd``, which is closed to a process that was root before.
    """
    found = set()
    for fd in range(_DESCRIPTORS):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode) and _listens(fd):
                found.add(fd)
    return found


def _listens(fd: int) -> bool:
    """Not a connection to syslog or to the store, which another thread may open meanwhile."""
    with socket.socket(fileno=os.dup(fd)) as one:
        return one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1

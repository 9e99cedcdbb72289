"""One worker process: serves the shared listening socket with libmilter until told to stop.

libmilter can only listen on a socket it opened itself, removes the socket's file when it stops,
and its stop cuts sessions off between two commands.  So it opens a socket of no importance, and
the shared one is put in its place (``dup2``); to drain, a pipe that never has anything takes that
place, libmilter goes on with the sessions it has, and the process ends when they are over.

libmilter as Debian builds it has a pool of threads, and loses one now and then: of two sessions
that become ready in the same moment while one thread is idle, both are left to that thread
(``tm_nb_idle`` in its worker.c still counts one that was woken).  The second is then served when
some other thread has ended its command, and when all of them wait for verdicts that is a whole
budget later.  So the process has sessions with itself, over the socket of no importance, and
sends macros for no mail over them while there are others: whichever thread takes them looks for
sessions left behind.

Told what to do through a socket to the parent: ``d`` drains; its end says that the parent is
gone, and then the worker goes too.  It says ``r`` when it is ready.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import select
import shutil
import signal
import socket
import stat
import struct
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
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

#: So long may a session be left behind at most.  A nudge costs 30 us.
_NUDGE_EVERY_S = 0.025
#: But each nudge brings a thread to one session only, and in a flood dozens are left behind at
#: once: so in a hurry as long as ever more mails wait.
_NUDGE_IN_A_HURRY_EVERY_S = 0.002
_HURRY_S = 0.1
_MANY_MAILS = 8
_SESSIONS = 4
#: libmilter ends sessions that are idle for two hours.
_NUDGE_AT_LEAST_EVERY_S = 600.0

#: Interrupts a system call of the main thread's, and does nothing else: what faulthandler writes
#: about it goes nowhere.
_WAKE = signal.SIGUSR2

#: For libmilter to begin.
_START_LIMIT_S = 10.0


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
        self._of_no_mta = 0

    def run(self) -> int:
        """Serve until libmilter gives up; a drained worker ends the process from its own thread."""
        place = _libmilters_place(self._app, self._listener.family)
        # Not a handler of signal.signal's: Python would keep the signal for the main thread, which
        # never comes back from libmilter, and all other threads would look for it at each step.
        with Path(os.devnull).open("w") as nowhere:
            faulthandler.register(_WAKE, nowhere, all_threads=False)
            threading.Thread(target=self._live, args=(place,), daemon=True).start()
            app.serve()
        return 1

    def _live(self, place: _Place) -> None:
        """A worker that can no longer be told anything ends, and another takes its place."""
        try:
            self._obey(place)
        except Exception:
            log.exception("worker failed")
        finally:
            os._exit(70)  # EX_SOFTWARE

    def _obey(self, place: _Place) -> None:
        sessions = _sessions_with_ourselves(place, self._app.actions)
        place.give_to(self._listener)
        self._of_no_mta = len(sessions)
        if sessions:
            nudge = _Nudge(sessions)
            threading.Thread(target=self._keep_awake, args=(nudge,), daemon=True).start()
        else:
            log.warning("libmilter does not serve us; a mail may wait twice its budget")
        gc.freeze()  # what is here by now stays: not to be looked through again and again
        self._control.send(READY)
        order = self._control.recv(1)
        never, _held = os.pipe()
        os.dup2(never, place.fd)
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
            quiet = 0 if self._open_sessions else quiet + 1
            time.sleep(_LOOK_S)
        if self._open_sessions:
            log.warning("%d sessions cut off at the end of the grace", self._open_sessions)

    @property
    def _open_sessions(self) -> int:
        """An MTA's."""
        return self._app.open_sessions - self._of_no_mta

    def _keep_awake(self, nudge: _Nudge) -> None:
        idle_s, mails, hurry = 0.0, 0, Deadline.after(0.0)
        try:
            while True:
                if self._open_sessions or idle_s > _NUDGE_AT_LEAST_EVERY_S:
                    nudge.send()
                    idle_s = 0.0
                before, mails = mails, self._app.waiting_mails
                if mails > max(before, _MANY_MAILS):
                    hurry = Deadline.after(_HURRY_S)
                pause_s = _NUDGE_EVERY_S if hurry.is_over else _NUDGE_IN_A_HURRY_EVERY_S
                idle_s += pause_s
                time.sleep(pause_s)
        except OSError as error:
            log.warning("no session with ourselves: %s; a mail may wait twice its budget", error)


class _Nudge:
    """The sessions with ourselves, used in turn: one of them may be left behind itself."""

    def __init__(self, sessions: Sequence[socket.socket]) -> None:
        self._sessions = sessions
        self._turn = cycle(sessions)

    def send(self) -> None:
        next(self._turn).sendall(_packet(b"D", b"C"))


def _sessions_with_ourselves(place: _Place, actions: int) -> list[socket.socket]:
    """Those of ``_SESSIONS`` that libmilter has begun to serve, all *actions* allowed.

    They, too, may be left behind: then one more connection makes a thread look.
    """
    waiting = {place.connect() for _ in range(_SESSIONS)}
    for session in waiting:
        session.sendall(_packet(b"O", struct.pack(">III", 6, actions, 0x1FFFFF)))
    served: list[socket.socket] = []
    deadline = Deadline.after(_START_LIMIT_S)
    while waiting and not deadline.is_over:
        answered, _, _ = select.select(list(waiting), [], [], _LOOK_S)
        for session in answered:
            waiting.discard(session)
            if session.recv(1024):
                served.append(session)
        if not answered:
            place.connect().close()
    for session in waiting:
        session.close()
    return served


def _packet(command: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 1 + len(data)) + command + data


class _Place:
    """The descriptor on which libmilter accepts; *folder* is its socket's, if it has one."""

    def __init__(self, fd: int, folder: str) -> None:
        self.fd = fd
        self._folder = folder

    def connect(self) -> socket.socket:
        with socket.socket(fileno=os.dup(self.fd)) as listening:
            session = socket.socket(listening.family)
            session.connect(listening.getsockname())
        return session

    def give_to(self, listener: socket.socket) -> None:
        """From now on libmilter accepts from *listener*, which does not block."""
        os.dup2(listener.fileno(), self.fd)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, _WAKE)  # out of poll() on the former one, 5 s otherwise
        shutil.rmtree(self._folder, ignore_errors=True)


def _libmilters_place(filter_app: app.App, family: socket.AddressFamily) -> _Place:
    """Where libmilter will accept, opened for the same address family."""
    before = _sockets()
    folder = tempfile.mkdtemp(prefix="botmilter-")
    addresses = {
        socket.AF_UNIX: f"unix:{Path(folder) / 'unused'}",
        socket.AF_INET: "inet:0@127.0.0.1",
        socket.AF_INET6: "inet6:0@::1",
    }
    app.open_socket(filter_app, addresses[family], BACKLOG)
    (place,) = _sockets() - before
    return _Place(place, folder)


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

"""The daemon's parent process: opens the socket, forks, watches, restarts, reloads, stops.

It runs no libmilter and no thread, so its signal handling is plain Python:

=========  ========================================================================
TERM, INT  stop: nobody new is let in, open sessions go on up to ``stop_grace_s``
USR1       reload: workers with the new configuration, then the old ones drain; a
           broken configuration keeps the old one; the log says why, and the
           sender of the signal is told (:mod:`botmilter.milter.reloading`)
HUP        nothing (libmilter would stop at it)
=========  ========================================================================

A worker or prober that dies is started again, after a pause that doubles while it keeps dying.
Under systemd it says READY, RELOADING, STOPPING and WATCHDOG (sdnotify(3)).
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

from botmilter.clock import Deadline
from botmilter.errors import BotmilterError, SetupError
from botmilter.milter import listener, privileged, query, reloading
from botmilter.milter.base import DRAIN, Judge, Start
from botmilter.milter.privileged import Operation, PrivilegedClient, Prober
from botmilter.milter.reloading import Outcome
from botmilter.milter.systemd import notify
from botmilter.net import ProbeGuard

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGCHLD)

#: How long new workers may take until they serve: opening a store, reading the suffix list.
_START_LIMIT_S = 30.0
_TICK_S = 0.5
#: Added to a worker's own grace before it is killed.
_KILL_AFTER_S = 2.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
#: A process that lived this long did not fail at its start.
_SETTLED_S = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """What one configuration asks of the daemon."""

    socket: str
    socket_mode: int
    socket_group: str
    user: str
    workers: int
    pin_workers: bool
    """Whether each worker keeps to one CPU."""
    start: Start
    stop_grace_s: float
    guard: ProbeGuard
    operations: Mapping[str, Operation]
    """What the privileged process can do."""
    make_judge: Callable[[PrivilegedClient], Judge]
    """Called in each worker, after the fork: nothing threaded may exist before."""
    query: QueryService | None = None
    log_level: str = "INFO"
    """Least urgent level that is logged."""


@dataclass(frozen=True, slots=True)
class QueryService:
    """A local socket that answers about addresses (:mod:`botmilter.milter.query`)."""

    socket: str
    socket_mode: int
    socket_group: str
    socket_owner: str
    limits: query.Limits
    make_answer: Callable[[PrivilegedClient], query.Answer]
    """Called in the process that answers, after the fork."""


@dataclass(slots=True)
class _Child:
    """A place for a process: the process in it, and when the next may start."""

    main: Callable[[socket.socket], int]
    """Runs in the child with its end of the control socket; returns the exit code."""
    name: str
    pid: int = 0
    control: socket.socket | None = None
    is_ready: bool = False
    started_at: float = 0.0
    pause_s: float = _FIRST_PAUSE_S
    not_before: float = 0.0


@dataclass(slots=True)
class _Generation:
    """All processes of one configuration."""

    service: Service
    prober: _Child
    workers: Sequence[_Child]
    channel: tuple[socket.socket, socket.socket]
    desk: Sequence[_Child] = ()
    """The process that answers queries, where one does."""
    drain_until: Deadline | None = None

    @property
    def serving(self) -> list[_Child]:
        """Those that serve a socket: they say when they are ready, and drain."""
        return [*self.workers, *self.desk]

    @property
    def children(self) -> list[_Child]:
        return [self.prober, *self.serving]


@dataclass(slots=True)
class Daemon:
    """*load* reads the configuration; it is called at the start and at each reload."""

    load: Callable[[], Service]
    _listener: socket.socket | None = None
    _query_listener: socket.socket | None = None
    _generations: list[_Generation] = field(default_factory=list)

    def run(self) -> int:
        """Serve until told to stop; the exit code.  Raises BotmilterError where it cannot start."""
        service = self.load()
        reloading.be_ready()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._listener = listener.listen(service.socket, service.socket_mode, service.socket_group)
        try:
            if service.query is not None:
                self._query_listener = _listen_for_queries(service.query)
            privileged.hold_back()
            self._begin(service)
            notify("READY=1")
            log.info("serving %s with %d workers", service.socket, service.workers)
            if os.geteuid() == 0 and not service.user:
                log.warning("the workers run as root: name a [milter] user they should become")
            self._watch()
        finally:
            self._stop()
        return 0

    def _watch(self) -> None:
        watchdog = int(os.environ.get("WATCHDOG_USEC", "0")) > 0
        while True:
            came = signal.sigtimedwait(_SIGNALS, _TICK_S)
            number = came.si_signo if came else 0
            if number in (signal.SIGTERM, signal.SIGINT):
                return
            if came and number == signal.SIGUSR1:
                reloading.tell(came.si_pid, self._reload())
            self._tick()
            if watchdog and any(child.is_ready for child in self._generations[-1].workers):
                notify("WATCHDOG=1")

    # -- starting and stopping ------------------------------------------------------------------

    def _begin(self, service: Service) -> None:
        """Start a generation and see all its workers serve; SetupError where they don't."""
        before = logging.getLogger().level
        logging.getLogger().setLevel(service.log_level)  # the children inherit it
        generation = self._generation(service)
        self._generations.append(generation)
        for child in generation.children:
            self._fork(child)
        deadline = Deadline.after(_START_LIMIT_S)
        while not all(child.is_ready for child in generation.serving):
            _listen_for_ready(generation.serving, deadline)
            dead = [child for child in generation.serving if _reap(child) is not None]
            if dead or deadline.is_over:
                self._generations.remove(generation)
                _kill(generation)
                logging.getLogger().setLevel(before)
                raise SetupError("the workers do not start; the lines above say why")

    def _generation(self, service: Service) -> _Generation:
        theirs, ours = channel = privileged.channel()

        def probe(_: socket.socket) -> int:
            ours.close()
            privileged.become(service.user, frozenset({privileged.CAP_NET_RAW}))
            Prober(theirs, service.operations, service.guard).serve()
            return 0

        def work(number: int, control: socket.socket) -> int:
            from botmilter.milter import app, worker  # libmilter stays out of the parent

            assert self._listener is not None
            theirs.close()
            if service.pin_workers:
                _keep_to_one_cpu(number)
            privileged.become(service.user)
            judge = service.make_judge(PrivilegedClient(ours))
            filter_app = app.App(judge, service.start)
            grace_s = service.stop_grace_s
            return worker.Worker(filter_app, self._listener, control, grace_s).run()

        def answer(control: socket.socket) -> int:
            assert service.query is not None
            assert self._query_listener is not None
            theirs.close()
            privileged.become(service.user)
            answers = service.query.make_answer(PrivilegedClient(ours))
            desk = query.Desk(self._query_listener, control, answers, service.query.limits)
            return desk.run(service.stop_grace_s)

        desk = () if service.query is None else (_Child(answer, "query process"),)
        workers = [
            _Child(partial(work, number), f"worker {number}")
            for number in range(1, service.workers + 1)
        ]
        return _Generation(service, _Child(probe, "prober"), workers, channel, desk)

    def _reload(self) -> Outcome:
        """The new generation serves before the old one is told to drain."""
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        old, outcome = self._generations[-1], Outcome()
        try:
            service = self.load()
            if service.socket != old.service.socket:
                raise SetupError("[milter] socket cannot change at a reload: restart")
            if _query_socket(service) != _query_socket(old.service):
                raise SetupError("[query] socket cannot change at a reload: restart")
            self._begin(service)
        except BotmilterError as error:
            log.error("reload: the old configuration stays: %s", error)
            outcome = Outcome(str(error), error.exit_code)
        else:
            _drain(old)
            log.info("reload: done, %d workers", service.workers)
        notify("READY=1")
        return outcome

    def _stop(self) -> None:
        """Let nobody new in, give open sessions their grace, leave no process behind."""
        notify("STOPPING=1")
        for generation in self._generations:
            _drain(generation)
        for one in (self._listener, self._query_listener):
            if one is not None:
                listener.take_down(one)
        while self._generations:
            self._tick()
            came = signal.sigtimedwait(_SIGNALS, 0.1)
            if came and came.si_signo in (signal.SIGTERM, signal.SIGINT):
                log.warning("told to stop again: open sessions are cut off")
                for generation in self._generations:
                    generation.drain_until = Deadline.after(0)

    # -- watching -------------------------------------------------------------------------------

    def _tick(self) -> None:
        for generation in list(self._generations):
            if generation.drain_until is None:
                for child in generation.children:
                    self._keep_alive(child)
            elif _is_drained(generation):
                self._generations.remove(generation)

    def _keep_alive(self, child: _Child) -> None:
        _listen_for_ready([child], Deadline.after(0))
        if (code := _reap(child)) is not None:
            log.error("%s ended with %s; next in %.1f s", child.name, code, child.pause_s)
        if not child.pid and time.monotonic() >= child.not_before:
            self._fork(child)

    def _fork(self, child: _Child) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            self._close_others()
            ours.close()
            _be_child(child, theirs)
        theirs.close()
        child.pid, child.control, child.started_at = pid, ours, time.monotonic()

    def _close_others(self) -> None:
        """Ends that would keep a sibling from noticing that the parent has gone."""
        for generation in self._generations:
            for sibling in generation.children:
                if sibling.control is not None:
                    sibling.control.close()


def _keep_to_one_cpu(number: int) -> None:
    """The threads of a Python process take turns anyway.  On several CPUs each turn wakes another
    CPU's thread, mostly for nothing: two to three times the CPU for a mail at 10 connections.

    From the last CPU on, for the first is busiest with interrupts.
    """
    cpus = sorted(os.sched_getaffinity(0))
    with suppress(OSError):  # taken offline meanwhile
        os.sched_setaffinity(0, {cpus[-number % len(cpus)]})


def _listen_for_queries(wanted: QueryService) -> socket.socket:
    return listener.listen(
        wanted.socket, wanted.socket_mode, wanted.socket_group, wanted.socket_owner, "query"
    )


def _query_socket(service: Service) -> str:
    return service.query.socket if service.query is not None else ""


def _be_child(child: _Child, control: socket.socket) -> NoReturn:
    """The child's whole life.  In a process group of its own: Ctrl-C is for the parent."""
    code = 70  # EX_SOFTWARE
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        code = child.main(control)
    except BotmilterError as error:
        log.error("%s: %s", child.name, error)
        code = error.exit_code
    except Exception:
        log.exception("%s failed", child.name)
    finally:
        os._exit(code)


def _listen_for_ready(children: Sequence[_Child], deadline: Deadline) -> None:
    """Take the children's word that they serve, waiting for one of them at most a tick."""
    waiting = {child.control: child for child in children if child.control and not child.is_ready}
    if waiting:
        heard, _, _ = select.select(list(waiting), [], [], deadline.left(at_most=_TICK_S))
        for control in heard:
            waiting[control].is_ready = bool(control.recv(1))


def _reap(child: _Child) -> int | None:
    """The exit code if *child* has ended (negative: the signal), and the pause before the next."""
    if not child.pid:
        return None
    pid, status = os.waitpid(child.pid, os.WNOHANG)
    if pid == 0:
        return None
    if child.control is not None:
        child.control.close()
    now = time.monotonic()
    settled = now - child.started_at >= _SETTLED_S
    child.pause_s = _FIRST_PAUSE_S if settled else min(child.pause_s * 2, _LONGEST_PAUSE_S)
    child.not_before = now + child.pause_s
    child.pid, child.control, child.is_ready = 0, None, False
    return os.waitstatus_to_exitcode(status)


def _drain(generation: _Generation) -> None:
    generation.drain_until = Deadline.after(generation.service.stop_grace_s + _KILL_AFTER_S)
    for child in generation.serving:
        if child.control is not None:
            with suppress(OSError):
                child.control.send(DRAIN)


def _is_drained(generation: _Generation) -> bool:
    """Whether all its processes have ended; kills those whose grace is over."""
    assert generation.drain_until is not None
    for child in generation.serving:
        _reap(child)
    if any(child.pid for child in generation.serving) and not generation.drain_until.is_over:
        return False
    _kill(generation)
    return True


def _kill(generation: _Generation) -> None:
    """End what is left of it.  The prober has nothing to finish once the workers are gone."""
    for child in generation.children:
        if child.pid:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            child.pid = 0
        if child.control is not None:
            child.control.close()
    for end in generation.channel:
        end.close()

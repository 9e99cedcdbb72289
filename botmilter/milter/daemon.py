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
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from botmilter.clock import Deadline
from botmilter.errors import BotmilterError, SetupError
from botmilter.milter import listener, privileged, query, reloading
from botmilter.milter.base import DRAIN, Judge, Start
from botmilter.milter.children import SIGNALS, TICK_S, Child, end, listen_for_ready, reap, start
from botmilter.milter.observer import Observing, Uplink, send
from botmilter.milter.privileged import PrivilegedClient, Prober
from botmilter.milter.reloading import Outcome
from botmilter.milter.systemd import notify
from botmilter.net import ProbeGuard
from botmilter.probes.base import Operation

log = logging.getLogger(__name__)

#: How long new workers may take until they serve: opening a store, reading the suffix list.
_START_LIMIT_S = 30.0
#: Added to a worker's own grace before it is killed.
_KILL_AFTER_S = 2.0


MakeJudge = Callable[[PrivilegedClient, socket.socket | None], Judge]


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
    make_judge: MakeJudge
    """Called in each worker, after the fork: nothing threaded may exist before.  With the socket
    to send counts to, where somebody wants them."""
    at_once: Mapping[str, int] = field(default_factory=dict)
    """How many of each operation at the same time, for all workers together."""
    query: QueryService | None = None
    log_level: str = "INFO"
    """Least urgent level that is logged."""
    log_mail: Callable[[str], None] | None = log.info
    """Where a worker sends its line for each mail; None: nowhere."""
    observing: Observing | None = None


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
class _Generation:
    """All processes of one configuration."""

    service: Service
    prober: Child
    workers: Sequence[Child]
    channel: tuple[socket.socket, socket.socket]
    desk: Sequence[Child] = ()
    """The process that answers queries, where one does."""
    drain_until: Deadline | None = None

    @property
    def serving(self) -> list[Child]:
        """Those that serve a socket: they say when they are ready, and drain."""
        return [*self.workers, *self.desk]

    @property
    def children(self) -> list[Child]:
        return [self.prober, *self.serving]


@dataclass(slots=True)
class Daemon:
    """*load* reads the configuration; it is called at the start and at each reload."""

    load: Callable[[], Service]
    _listener: socket.socket | None = None
    _query_listener: socket.socket | None = None
    _uplink: Uplink = field(default_factory=lambda: Uplink(None, ""))
    _observers: list[Child] = field(default_factory=list)
    """One, or none where nothing is shown.  Outlives the generations, for counts go on."""
    _restarts: int = 0
    _generations: list[_Generation] = field(default_factory=list)

    def run(self) -> int:
        """Serve until told to stop; the exit code.  Raises BotmilterError where it cannot start."""
        service = self.load()
        reloading.be_ready()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._listener = listener.listen(service.socket, service.socket_mode, service.socket_group)
        try:
            if service.query is not None:
                self._query_listener = _listen_for_queries(service.query)
            self._observe(service)
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
        while True:
            came = signal.sigtimedwait(SIGNALS, TICK_S)
            number = came.si_signo if came else 0
            if number in (signal.SIGTERM, signal.SIGINT):
                return
            if came and number == signal.SIGUSR1:
                reloading.tell(came.si_pid, self._reload())
            self._tick()
            _reassure(self._generations[-1])

    # -- starting and stopping ------------------------------------------------------------------

    def _observe(self, service: Service) -> None:
        self._uplink = Uplink(service.observing, service.user)

        def observe(_: socket.socket) -> int:
            privileged.become(service.user)
            return self._uplink.observe()

        if service.observing is not None:
            self._observers.append(Child(observe, "observer"))
            start(self._observers[0], self._close_others)

    def _begin(self, service: Service) -> None:
        """Start a generation and see all its workers serve; SetupError where they don't."""
        before = logging.getLogger().level
        logging.getLogger().setLevel(service.log_level)  # the children inherit it
        generation = self._generation(service)
        self._generations.append(generation)
        if not self._serves(generation):
            self._generations.remove(generation)
            _kill(generation)
            logging.getLogger().setLevel(before)
            raise SetupError("the workers do not start; the lines above say why")

    def _serves(self, generation: _Generation) -> bool:
        """Start its processes; whether all come to serve."""
        for child in generation.children:
            if not start(child, self._close_others):
                return False
        deadline = Deadline.after(_START_LIMIT_S)
        while not all(child.is_ready for child in generation.serving):
            for former in self._generations[-2:-1]:  # which serves meanwhile
                _reassure(former)
            listen_for_ready(generation.serving, deadline)
            dead = [child for child in generation.serving if reap(child) is not None]
            if dead or deadline.is_over:
                return False
        return True

    def _generation(self, service: Service) -> _Generation:
        theirs, ours = channel = privileged.channel()

        def probe(_: socket.socket) -> int:
            ours.close()
            self._uplink.leave()
            return _probe(theirs, service)

        def work(number: int, control: socket.socket) -> int:
            from botmilter.milter import app, worker  # libmilter stays out of the parent

            assert self._listener is not None
            theirs.close()
            self._uplink.only_send()
            if service.pin_workers:
                _keep_to_one_cpu(number)
            privileged.become(service.user)
            judge = service.make_judge(PrivilegedClient(ours), self._uplink.sending)
            filter_app = app.App(judge, service.start, service.log_mail)
            grace_s = service.stop_grace_s
            return worker.Worker(filter_app, self._listener, control, grace_s).run()

        def answer(control: socket.socket) -> int:
            assert service.query is not None
            assert self._query_listener is not None
            theirs.close()
            self._uplink.leave()
            privileged.become(service.user)
            answers = service.query.make_answer(PrivilegedClient(ours))
            desk = query.Desk(self._query_listener, control, answers, service.query.limits)
            return desk.run(service.stop_grace_s)

        desk = () if service.query is None else (Child(answer, "query process"),)
        workers = [
            Child(partial(work, number), f"worker {number}")
            for number in range(1, service.workers + 1)
        ]
        return _Generation(service, Child(probe, "prober"), workers, channel, desk)

    def _reload(self) -> Outcome:
        """The new generation serves before the old one is told to drain."""
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        old, outcome = self._generations[-1], Outcome()
        try:
            service = self.load()
            opened = _opened_by(old.service)
            for keys, wanted in _opened_by(service).items():
                if wanted != opened[keys]:
                    raise SetupError(f"{keys} cannot change at a reload: restart")
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
            came = signal.sigtimedwait(SIGNALS, 0.1)
            if came and came.si_signo in (signal.SIGTERM, signal.SIGINT):
                log.warning("told to stop again: open sessions are cut off")
                for generation in self._generations:
                    generation.drain_until = Deadline.after(0)
        self._uplink.take_down()
        for child in self._observers:
            end(child)

    # -- watching -------------------------------------------------------------------------------

    def _tick(self) -> None:
        for generation in list(self._generations):
            if generation.drain_until is None:
                for child in generation.children:
                    self._keep_alive(child)
            elif _is_drained(generation):
                self._generations.remove(generation)
        for child in self._observers:
            self._keep_alive(child)
            if self._uplink.sending is not None:
                send(self._uplink.sending, self._state())

    def _state(self) -> dict[str, object]:
        """Who lives, for the observer."""
        alive = {
            state: [child.pid for one in among for child in one.workers if child.pid]
            for state, among in (
                ("serving", self._generations[-1:]),
                ("draining", self._generations[:-1]),
            )
        }
        return {
            "alive": [pid for pids in alive.values() for pid in pids],
            "workers": {f"workers {state}": len(pids) for state, pids in alive.items()},
            "restarts": self._restarts,
        }

    def _keep_alive(self, child: Child) -> None:
        listen_for_ready([child], Deadline.after(0))
        if (code := reap(child)) is not None:
            log.error("%s ended with %s; next in %.1f s", child.name, code, child.pause_s)
            self._restarts += child.name.startswith("worker")
        if not child.pid and time.monotonic() >= child.not_before:
            start(child, self._close_others)

    def _close_others(self) -> None:
        """Ends that would keep a sibling from noticing that the parent has gone."""
        children = (child for one in self._generations for child in one.children)
        for sibling in (*children, *self._observers):
            if sibling.control is not None:
                sibling.control.close()


def _probe(channel: socket.socket, service: Service) -> int:
    """The prober's work, with the one capability it takes."""
    privileged.let_children_hurry()
    privileged.become(service.user, frozenset({privileged.CAP_NET_RAW}))
    Prober(channel, service.operations, service.guard, service.at_once).serve()
    return 0


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


def _opened_by(service: Service) -> Mapping[str, object]:
    """By their keys, the settings by which sockets were opened at the start, and whose some are."""
    asked = service.query
    return {
        "[milter] socket": service.socket,
        "[milter] socket_mode or socket_group": (service.socket_mode, service.socket_group),
        "[milter] user": service.user,  # whom the observer became, and who may ask it
        "[query] socket": asked and asked.socket,
        "[query] socket_mode, socket_group or socket_owner": asked
        and (asked.socket_mode, asked.socket_group, asked.socket_owner),
        "[metrics] or [web] listen": service.observing,
    }


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
        reap(child)
    if any(child.pid for child in generation.serving) and not generation.drain_until.is_over:
        return False
    _kill(generation)
    return True


def _reassure(generation: _Generation) -> None:
    """Tell the service manager, where it asked for that, that *generation* serves, if it does."""
    asked = int(os.environ.get("WATCHDOG_USEC", "0")) > 0
    if asked and any(child.is_ready for child in generation.workers):
        notify("WATCHDOG=1")


def _kill(generation: _Generation) -> None:
    """End what is left of it.  The prober has nothing to finish once the workers are gone."""
    for child in generation.children:
        end(child)
    for one in generation.channel:
        one.close()

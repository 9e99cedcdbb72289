"""The processes below the daemon's parent: how one lives, says that it serves, and ends."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from botmilter.clock import Deadline
from botmilter.errors import BotmilterError

log = logging.getLogger(__name__)

#: What the parent blocks and waits for; a child takes them again.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGCHLD)

TICK_S = 0.5
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
#: A process that lived this long did not fail at its start.
_SETTLED_S = 10.0


@dataclass(slots=True)
class Child:
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


def start(child: Child, close_others: Callable[[], None]) -> bool:
    """Start a process in *child*'s place, which calls *close_others* first.

    False where the machine gives no descriptor or no process; then the next try has to wait.
    """
    with ExitStack() as unused:
        try:
            ours, theirs = socket.socketpair()
            unused.callback(ours.close)
            unused.callback(theirs.close)
            pid = os.fork()
        except OSError as error:
            _wait(child)
            why = f"{child.name} cannot start: {error.strerror}"
            log.error("%s; next try in %.1f s", why, child.pause_s)
            return False
        if pid == 0:
            _be_child(child, ours, theirs, close_others)
        unused.pop_all()
    theirs.close()
    child.pid, child.control, child.started_at = pid, ours, time.monotonic()
    return True


def _be_child(
    child: Child, parents: socket.socket, control: socket.socket, close_others: Callable[[], None]
) -> NoReturn:
    """The child's whole life.  In a process group of its own: Ctrl-C is for the parent."""
    code = 70  # EX_SOFTWARE
    try:
        parents.close()
        close_others()
        os.setpgid(0, 0)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        code = child.main(control)
    except BotmilterError as error:
        log.error("%s: %s", child.name, error)
        code = error.exit_code
    except Exception:
        log.exception("%s failed", child.name)
    finally:
        os._exit(code)


def listen_for_ready(children: Sequence[Child], deadline: Deadline) -> None:
    """Take the children's word that they serve, waiting for one of them at most a tick."""
    waiting = {child.control: child for child in children if child.control and not child.is_ready}
    if waiting:
        heard, _, _ = select.select(list(waiting), [], [], deadline.left(at_most=TICK_S))
        for control in heard:
            waiting[control].is_ready = bool(control.recv(1))


def reap(child: Child) -> int | None:
    """The exit code if *child* has ended (negative: the signal), and the pause before the next."""
    if not child.pid:
        return None
    pid, status = os.waitpid(child.pid, os.WNOHANG)
    if pid == 0:
        return None
    if child.control is not None:
        child.control.close()
    if time.monotonic() - child.started_at >= _SETTLED_S:
        child.pause_s = _FIRST_PAUSE_S
        child.not_before = time.monotonic() + child.pause_s
    else:
        _wait(child)
    child.pid, child.control, child.is_ready = 0, None, False
    return os.waitstatus_to_exitcode(status)


def _wait(child: Child) -> None:
    """The next process in its place waits twice as long as the one before."""
    child.pause_s = min(child.pause_s * 2, _LONGEST_PAUSE_S)
    child.not_before = time.monotonic() + child.pause_s


def end(child: Child) -> None:
    """Kill it, if it lives, and the programs that it runs, each of which leads a group."""
    if child.pid:
        for pid in _started_by(child.pid):
            with suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        child.pid = 0
    if child.control is not None:
        child.control.close()


def _started_by(pid: int) -> list[int]:
    """The children of all its threads, as proc(5) lists them; none where the kernel does not."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    with suppress(OSError):
        return [int(one) for children in lists for one in children.read_text().split()]
    return []

"""Ask a running filter to read its configuration again, and hear what became of it.

The request is a plain SIGUSR1.  The kernel tells the daemon who sent it (``si_pid``), and the
daemon sends the outcome to a datagram socket of that process's in the abstract namespace; where
nobody has one, as with ``kill -USR1``, the log alone knows.  The asker believes the daemon only
(SCM_CREDENTIALS).  No file is left behind that could name a process long gone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from botmilter.clock import Deadline
from botmilter.errors import SetupError
from botmilter.net import printable

#: pid, uid, gid (unix(7))
_CREDENTIALS = struct.Struct("3i")
_OUTCOME_AT_MOST = 60_000
_TEXT_AT_MOST = 8_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """*problem* is empty where the new configuration holds; *exit_code* is the error's."""

    problem: str = ""
    exit_code: int = 0


def be_ready() -> None:
    """Make this process one that may be asked: it has a handler for the signal, though the daemon
    takes it by sigtimedwait(2)."""
    signal.signal(signal.SIGUSR1, lambda number, frame: None)


def tell(asker: int, outcome: Outcome) -> None:
    """Let the process *asker* know, if it wants to; never blocks, never raises."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.setblocking(False)
        short = Outcome(outcome.problem[:_TEXT_AT_MOST], outcome.exit_code)
        ours.sendto(json.dumps(asdict(short)).encode(), _address(asker))


def ask(daemon: int, limit_s: float) -> Outcome:
    """Have the process *daemon* reload; blocks at most *limit_s*.

    Raises TimeoutError where it says nothing by then, SetupError where it cannot be asked.
    """
    deadline = Deadline.after(limit_s)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        _bind(ours)
        _signal(daemon)
        while True:
            ours.settimeout(max(0.001, deadline.left()))
            data, ancillary, _, _ = ours.recvmsg(
                _OUTCOME_AT_MOST, socket.CMSG_SPACE(_CREDENTIALS.size)
            )
            senders = [_CREDENTIALS.unpack(sent)[0] for _, _, sent in ancillary]
            if senders == [daemon]:
                return _read(data)


def listener_of(path: Path) -> int:
    """The process that opened the Unix socket *path*: the daemon.  Raises SetupError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except OSError as error:
            raise SetupError(
                f"no filter answers on {path} ({error.strerror}): is botmilter running, and may"
                " you use its socket? A changed [milter] socket needs a restart"
            ) from error
        # of whoever called listen(2), also when a worker accepts (unix(7))
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[0])


def _bind(ours: socket.socket) -> None:
    try:
        ours.bind(_address(os.getpid()))
    except OSError as error:
        raise SetupError(f"no place for the filter's answer: {error.strerror}") from error


def _signal(daemon: int) -> None:
    if not _survives_usr1(daemon):
        raise SetupError(f"process {daemon} is no running botmilter")
    try:
        os.kill(daemon, signal.SIGUSR1)
    except OSError as error:
        raise SetupError(f"process {daemon} cannot be told to reload: {error.strerror}") from error


def _survives_usr1(pid: int) -> bool:
    """Whether it catches the signal, see :func:`be_ready`: another process would die of it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")), 0)
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


def _address(asker: int) -> str:
    return f"\0botmilter-reload-{asker}"


def _read(data: bytes) -> Outcome:
    said = json.loads(data)
    problem = "\n".join(printable(line, _TEXT_AT_MOST) for line in said["problem"].splitlines())
    return Outcome(problem, int(said["exit_code"]))

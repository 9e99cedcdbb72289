"""The log's way out: standard error, and nobody waits for it.

Whoever reads standard error (journald, a pipe to another program) may stall.  Then the pipe fills,
a plain write blocks, and every mail waits with it.  Here a line that finds no room is dropped and
counted; the first one that finds room again is preceded by the number of those that did not.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress


class StderrHandler(logging.Handler):
    """Writes whole lines to the descriptor *fd*; survives ``fork()``."""

    def __init__(self, fd: int = 2) -> None:
        super().__init__()
        self._closing = ExitStack()
        self._write = _writer(fd, self._closing)
        self._lost = 0

    def close(self) -> None:
        self._closing.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        lost = self._lost
        if lost:
            told = f"{lost} lines of the log are lost: nobody read standard error"
            if self._put(logging.makeLogRecord({**record.__dict__, **_note(told)})):
                self._lost = 0
        if self._lost or not self._put(record):
            self._lost += 1

    def _put(self, record: logging.LogRecord) -> bool:
        line = f"{self.format(record)}\n".encode("ascii", "backslashreplace")
        try:
            self._write(line)
        except OSError:  # no room, or its reader is gone
            return False
        return True


def _note(text: str) -> dict[str, object]:
    level = logging.WARNING
    shown = {"levelno": level, "levelname": logging.getLevelName(level)}
    return {"msg": text, "args": None, "exc_info": None, "exc_text": None, **shown}


def _writer(fd: int, closing: ExitStack) -> Callable[[bytes], object]:
    """What writes to *fd* or raises OSError, but does not wait.

    O_NONBLOCK would be set for all who share the open file, so a pipe is opened once more; not a
    file, whose end each opening counts for itself.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        stream = closing.enter_context(socket.socket(fileno=os.dup(fd)))
        return lambda line: stream.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    if stat.S_ISFIFO(mode):
        with suppress(OSError):  # another user's
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            closing.callback(os.close, own)
            return lambda line: os.write(own, line)
    return lambda line: _write_if_ready(fd, line)


def _write_if_ready(fd: int, line: bytes) -> None:
    """A stopped terminal (Ctrl-S) is not ready; a file always is."""
    if not select.select([], [fd], [], 0)[1]:
        raise BlockingIOError
    os.write(fd, line)

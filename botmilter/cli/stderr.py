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
        self._info = (0, "")

    def close(self) -> None:
        self._closing.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        self._put(self.format(record))

    def info(self, text: str) -> None:
        """A line of level INFO, in a third of the time that one through ``logging`` takes; the
        level is not looked at."""
        pid, begin = self._info
        if pid != os.getpid():
            begin = self.format(_record(logging.INFO, ""))
            self._info = (os.getpid(), begin)
        assert self.lock is not None
        with self.lock:
            self._put(begin + text)

    def _put(self, line: str) -> None:
        try:
            if self._lost:
                told = f"{self._lost} lines of the log are lost: nobody read standard error"
                self._write_line(self.format(_record(logging.WARNING, told)))
                self._lost = 0
            self._write_line(line)
        except OSError:  # no room, or its reader is gone
            self._lost += 1

    def _write_line(self, line: str) -> None:
        self._write(f"{line}\n".encode("ascii", "backslashreplace"))


def _record(level: int, text: str) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"levelno": level, "levelname": logging.getLevelName(level), "msg": text}
    )


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
    if stat.S_ISREG(mode):
        return lambda line: os.write(fd, line)
    return lambda line: _write_if_ready(fd, line)


def _write_if_ready(fd: int, line: bytes) -> None:
    """A stopped terminal (Ctrl-S) is not ready."""
    if not select.select([], [fd], [], 0)[1]:
        raise BlockingIOError
    os.write(fd, line)

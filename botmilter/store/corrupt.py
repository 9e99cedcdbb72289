"""What becomes of a file that SQLite cannot read: it is set aside and a new one begun.

What is kept there is worth less than the mail that waits for it.  It stays as
``NAME.corrupt-UNIXTIME`` for whoever wants to know what happened, no longer than what is in it
would have stayed.

SQLite finds the log of a file (``-wal``, ``-shm``) by name, so one that opens the new file before
the old one's log is gone writes into a log that nobody else reads.  Hence a lock: whoever opens
the file shares it, whoever sets it aside has it alone.  It is flock(2)'s, on the directory, which
needs no file of its own and ends with its holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from botmilter.clock import Deadline

log = logging.getLogger(__name__)

#: What SQLite says of a file that it cannot read as a database of its own.
_WORDS = ("malformed", "not a database", "disk image")

#: To set a file aside takes 1 ms, to open one 5; who holds the lock for longer stands still.
_TURN_S = 0.2
_LOOK_S = 0.005

#: Device and inode.
Identity = tuple[int, int]


def identity(path: Path) -> Identity | None:
    """Which file is at *path*; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def opening(path: Path) -> Iterator[None]:
    """Within, nobody sets the file at *path* aside.  Waits at most ``_TURN_S`` for that, and then
    goes on: one that stands still must not keep the others from the store."""
    with _locked(path.parent, fcntl.LOCK_SH):
        yield


def set_aside(path: Path, opened: Identity | None, error: sqlite3.Error) -> None:
    """Set the file at *path* aside if *error* says that it is broken, and it is the one that was
    *opened*: else another process has done so, and the file of that name is a new one.

    Does nothing where others are opening it for longer than ``_TURN_S``: the next one who finds
    it broken tries again.
    """
    if not any(word in str(error) for word in _WORDS):
        return
    aside = path.with_name(f"{path.name}.corrupt-{int(time.time())}")
    with _locked(path.parent, fcntl.LOCK_EX) as is_alone, contextlib.suppress(OSError):
        if not is_alone or identity(path) != opened:
            return
        for suffix in ("-wal", "-shm"):  # first: killed in between, we leave no log to a new file
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.rename(aside)
        log.warning("store %s: %s: set aside as %s, begun anew", path, error, aside.name)


@contextlib.contextmanager
def _locked(folder: Path, how: int) -> Iterator[bool]:
    """Hold the lock on *folder*; False where another holds it for longer than ``_TURN_S``."""
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # gone, or not ours to read: nobody's lock is there
        yield True
        return
    try:
        yield _lock(place, how)
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(place, fcntl.LOCK_UN)  # closed is not enough where another thread forked
        os.close(place)


def _lock(place: int, how: int) -> bool:
    deadline = Deadline.after(_TURN_S)
    while True:
        try:
            fcntl.flock(place, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if deadline.is_over:
                return False
            time.sleep(_LOOK_S)
            continue
        except OSError:  # a file system without locks
            pass
        return True


def drop_old(path: Path, now: float, keep_s: float) -> None:
    """Remove what was set aside from *path* longer than *keep_s* ago."""
    for aside in path.parent.glob(f"{path.name}.corrupt-*"):
        at = aside.name.rpartition("-")[2]
        if at.isdecimal() and int(at) + keep_s <= now:
            with contextlib.suppress(OSError):
                aside.unlink()

"""What becomes of a file that SQLite cannot read: it is set aside and a new one begun.

What is kept there is worth less than the mail that waits for it.  It stays as
``NAME.corrupt-UNIXTIME`` for whoever wants to know what happened, no longer than what is in it
would have stayed.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from pathlib import Path

log = logging.getLogger(__name__)

#: What SQLite says of a file that it cannot read as a database of its own.
_WORDS = ("malformed", "not a database", "disk image")

#: Device and inode.
Identity = tuple[int, int]


def identity(path: Path) -> Identity | None:
    """Which file is at *path*; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def set_aside(path: Path, opened: Identity | None, error: sqlite3.Error) -> None:
    """Set the file at *path* aside if *error* says that it is broken, and it is the one that was
    *opened*: else another process has done so, and the file of that name is a new one."""
    if not any(word in str(error) for word in _WORDS) or identity(path) != opened:
        return
    aside = path.with_name(f"{path.name}.corrupt-{int(time.time())}")
    with contextlib.suppress(OSError):  # another was quicker, or we may not
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        log.warning("store %s: %s: set aside as %s, begun anew", path, error, aside.name)


def drop_old(path: Path, now: float, keep_s: float) -> None:
    """Remove what was set aside from *path* longer than *keep_s* ago."""
    for aside in path.parent.glob(f"{path.name}.corrupt-*"):
        at = aside.name.rpartition("-")[2]
        if at.isdecimal() and int(at) + keep_s <= now:
            with contextlib.suppress(OSError):
                aside.unlink()

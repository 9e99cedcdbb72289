"""What a user may do with a file, by its modes and those of the folders above it."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

READ, WRITE, ENTER = 4, 2, 1


@dataclass(frozen=True, slots=True)
class User:
    name: str
    uid: int
    groups: frozenset[int]

    @classmethod
    def named(cls, name: str) -> User | None:
        """None where this machine has no such user."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return None
        return cls(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))


def may(user: User, seen: os.stat_result, wanted: int) -> bool:
    """Whether the mode bits let *user* do all that *wanted* says."""
    if user.uid == 0:
        return True
    if user.uid == seen.st_uid:
        return seen.st_mode >> 6 & wanted == wanted
    if seen.st_gid in user.groups:
        return seen.st_mode >> 3 & wanted == wanted
    return seen.st_mode & wanted == wanted


def obstacle(user: User, path: Path, wanted: int) -> str | None:
    """The first thing that keeps *user* from *wanted* at *path*; None: nothing does."""
    for folder in _above(path):
        try:
            seen = folder.stat()
        except OSError as error:
            return f"{folder}: {error.strerror}"
        if not may(user, seen, ENTER):
            return f"{user.name} may not enter {folder} ({stat.filemode(seen.st_mode)})"
    try:
        seen = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not may(user, seen, wanted):
        return f"{user.name} may not use {path} ({stat.filemode(seen.st_mode)})"
    return None


def writable_by_others(path: Path) -> Path | None:
    """The first folder above *path* that everybody may write to."""
    for folder in _above(path):
        if folder.exists() and folder.stat().st_mode & stat.S_IWOTH:
            return folder
    return None


def _above(path: Path) -> Iterator[Path]:
    yield from reversed(path.absolute().parents)

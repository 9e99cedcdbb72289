"""Saved mail: files, mbox, Maildir, folders, standard input.

Only header blocks are read, each bounded, so that a mailbox of any size takes little memory.
``.gz`` files are read as what they hold.  A file is an mbox if it begins with a ``From `` line
and another one follows an empty line; if only the first is there (a single mail out of an mbox)
it is one mail.  Nothing is written, moved or marked as read.

Of a folder: with ``cur`` or ``new`` in it it is a Maildir (new mail first delivered, first read),
otherwise its files are read in the order of their names, hidden ones left out, and its folders
after them.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from botmilter.errors import InputError

#: Longest header block that is taken in; MTAs take less (Postfix 100 kB, Sendmail 32 kB).
HEADER_LIMIT = 2 * 1024 * 1024
#: Longest stretch read at once: a line without an end must not fill the memory.
_LINE_LIMIT = 64 * 1024
_FOLDER_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Mail:
    """One saved mail."""

    name: str
    """For display: the path; with ``#2`` and so on behind it within an mbox.  Not sanitised."""
    header: bytes
    """The header block, line ends as they were, at most HEADER_LIMIT."""


def messages(path: str | Path) -> Iterator[Mail]:
    """The mails of *path*, ``-`` for standard input.

    Raises InputError where *path* is missing or unreadable; a file within a folder that vanishes
    meanwhile is passed over, for a Maildir in use changes under the reader.
    """
    if str(path) == "-":
        yield from _in_file(sys.stdin.buffer, "-")
        return
    place = Path(path)
    try:
        if place.is_dir():
            yield from _in_folder(place, _FOLDER_DEPTH)
        else:
            yield from _in_path(place)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path}: cannot be read: {reason}") from None


def _in_folder(folder: Path, depth: int) -> Iterator[Mail]:
    maildir = [folder / name for name in ("cur", "new") if (folder / name).is_dir()]
    if maildir:
        files = [entry for part in maildir for entry in part.iterdir()]
        # a Maildir name begins with the second of the delivery
        for file in sorted(files, key=lambda entry: entry.name):
            yield from _still_there(file)
        return
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    for entry in entries:
        if entry.is_file():
            yield from _still_there(entry)
    for entry in entries:
        if depth > 0 and entry.is_dir() and not entry.is_symlink():
            yield from _in_folder(entry, depth - 1)


def _still_there(file: Path) -> Iterator[Mail]:
    try:
        yield from _in_path(file)
    except FileNotFoundError:
        return


def _in_path(path: Path) -> Iterator[Mail]:
    with path.open("rb") as file:
        if path.suffix == ".gz":
            with gzip.open(file) as unpacked:
                yield from _in_file(unpacked, str(path))  # type: ignore[arg-type]  # an IO[bytes]
        else:
            yield from _in_file(file, str(path))


def _in_file(file: IO[bytes], name: str) -> Iterator[Mail]:
    line = file.readline(_LINE_LIMIT)
    is_mbox = line.startswith(b"From ")
    number = 0
    while True:
        number += 1
        header: list[bytes] = []
        size = 0
        while line and line not in (b"\n", b"\r\n"):
            size += len(line)
            if size <= HEADER_LIMIT:
                header.append(line)
            line = file.readline(_LINE_LIMIT)
        block = b"".join(header)
        if block or number == 1:
            yield Mail(name if number == 1 else f"{name}#{number}", block)
        if not is_mbox:
            return
        line = _next_from_line(file)
        if not line:
            return


def _next_from_line(file: IO[bytes]) -> bytes:
    """Read over a body up to the next mail's ``From `` line, empty at the end of the file."""
    after_empty = True
    while line := file.readline(_LINE_LIMIT):
        if after_empty and line.startswith(b"From "):
            return line
        after_empty = line in (b"\n", b"\r\n")
    return b""

"""Saved mail: files, mbox, Maildir, folders, standard input.

Only header blocks are read, each bounded, so that a mailbox of any size takes little memory.
``.gz``, ``.bz2``, ``.xz`` and ``.zst`` files are read as what they hold.  A file is an mbox if it
begins with a ``From `` line and another one follows an empty line; if only the first is there (a
single mail out of an mbox) it is one mail.  Nothing is written, moved or marked as read.

Of a folder: with ``cur`` or ``new`` in it it is a Maildir (new mail first delivered, first read),
otherwise its files are read in the order of their names, hidden ones left out, and its folders
after them.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import itertools
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from botmilter.errors import InputError, SetupError

#: Longest header block that is taken in; MTAs take less (Postfix 100 kB, Sendmail 32 kB).
HEADER_LIMIT = 2 * 1024 * 1024
_CHUNK = 256 * 1024
_FOLDER_DEPTH = 20

#: What a file raises that cannot be read, or unpacked.
_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)

#: The end of a header, and what stands before an mbox's next mail.
_EMPTY_LINE = re.compile(rb"\n\r?\n")
_NEXT_MAIL = re.compile(rb"\n\r?\nFrom ")
#: So much of them may stand at the end of a chunk and go on in the next.
_OVERLAP = len(b"\n\r\nFrom ") - 1


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Frame(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Mail:
    """One saved mail."""

    file: str
    """Path, or ``-``.  Not sanitised."""
    number: int
    """Which one in its file, from 1."""
    header: bytes
    """The header block, line ends as they were, at most HEADER_LIMIT."""

    @property
    def name(self) -> str:
        """For display: the path; with ``#2`` and so on behind it within an mbox."""
        return self.file if self.number == 1 else f"{self.file}#{self.number}"


class UnreadableError(InputError):
    """What cannot be read, or not to its end."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        """*reasons* by path."""
        self.reasons = reasons
        super().__init__("\n".join(f"{path}: cannot be read: {reasons[path]}" for path in reasons))


def messages(path: str | Path) -> Iterator[Mail]:
    """The mails of *path*, ``-`` for standard input.

    Raises UnreadableError where *path* is missing or unreadable.  Of a folder all that can be read
    comes first, then the error, which names each file that cannot; one that vanishes meanwhile is
    passed over, for a Maildir in use changes under the reader.
    """
    if str(path) == "-":
        yield from _in_file(sys.stdin.buffer, "-")
        return
    place = Path(path)
    unreadable: dict[str, str] = {}
    if _is_folder(place):
        yield from _in_folder(place, _FOLDER_DEPTH, unreadable)
    else:
        try:
            yield from _in_path(place)
        except _UNREADABLE as error:
            unreadable[str(place)] = _why(error)
    if unreadable:
        raise UnreadableError(unreadable)


def of_all(paths: Iterable[str], tell_empty: Callable[[str], object]) -> Iterator[Mail]:
    """The mails of all *paths*, then the UnreadableError, if any, of what cannot be read.

    *tell_empty* is told of each path that can be read and holds none.
    """
    unreadable: dict[str, str] = {}
    for path in paths:
        is_empty = True
        try:
            for mail in messages(path):
                is_empty = False
                yield mail
            if is_empty:
                tell_empty(path)
        except UnreadableError as error:
            unreadable |= error.reasons
    if unreadable:
        raise UnreadableError(unreadable)


def _why(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _in_folder(folder: Path, depth: int, unreadable: dict[str, str]) -> Iterator[Mail]:
    maildir = [folder / name for name in ("cur", "new") if _is_folder(folder / name)]
    if maildir:
        files = [entry for part in maildir for entry in _entries(part, unreadable)]
        # a Maildir name begins with the second of the delivery
        for file in sorted(files, key=lambda entry: entry.name):
            yield from _still_there(file, unreadable)
        return
    entries = [entry for entry in _entries(folder, unreadable) if not entry.name.startswith(".")]
    folders: list[Path] = []
    for entry in sorted(entries):
        if _is_folder(entry):
            folders.append(entry)
        elif _is_file(entry):
            yield from _still_there(entry, unreadable)
    for entry in folders:
        if depth > 0 and not entry.is_symlink():
            yield from _in_folder(entry, depth - 1, unreadable)


def _is_folder(path: Path) -> bool:
    """False where what it lies in is closed to us."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    """True where what it lies in is closed to us: who opens it finds out why."""
    try:
        return path.is_file()
    except OSError:
        return True


def _entries(folder: Path, unreadable: dict[str, str]) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        unreadable[str(folder)] = _why(error)
        return []


def _still_there(file: Path, unreadable: dict[str, str]) -> Iterator[Mail]:
    try:
        yield from _in_path(file)
    except FileNotFoundError:
        return
    except _UNREADABLE as error:
        unreadable[str(file)] = _why(error)


def _in_path(path: Path) -> Iterator[Mail]:
    with path.open("rb") as file, _unpacked(file, path.suffix) as text:
        yield from _in_file(text, str(path))


def _unpacked(file: BinaryIO, suffix: str) -> AbstractContextManager[_Readable]:
    if suffix == ".gz":
        return gzip.open(file)
    if suffix == ".bz2":
        return bz2.open(file)
    if suffix == ".xz":
        return lzma.open(file)
    return _zstd(file) if suffix == ".zst" else nullcontext(file)


@contextmanager
def _zstd(file: BinaryIO) -> Iterator[_Readable]:
    try:
        import zstandard
    except ImportError:
        raise SetupError.without("zstd", ".zst files need the package zstandard") from None
    try:
        yield _Frames(file, zstandard.ZstdDecompressor().decompressobj)
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from None


class _Frames:
    """Zstandard frames, one behind the other.  The package's own reader does not tell a file that
    is cut off from one that is over."""

    def __init__(self, file: BinaryIO, begin: Callable[[], _Frame]) -> None:
        self._file = file
        self._begin = begin
        self._frame: _Frame | None = None
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        text = b""
        while len(text) < size:
            # little, because it may grow thirty thousand times
            packed = self._rest or self._file.read(1024)
            if not packed:
                if self._frame is not None:
                    raise EOFError("it is cut off")
                break
            self._frame = self._frame or self._begin()
            text += self._frame.decompress(packed)
            self._rest = b""
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        return text


def _in_file(file: _Readable, name: str) -> Iterator[Mail]:
    text = _Text(file)
    text.skip(codecs.BOM_UTF8)
    is_mbox = text.begins_with(b"From ")
    for number in itertools.count(1):
        yield Mail(name, number, text.header())
        if not is_mbox or not text.skip_body():
            return


class _Text:
    """A file seen through a window: searching there is several times faster than reading lines."""

    def __init__(self, file: _Readable) -> None:
        self._file = file
        self._window = b"\n"
        self._at = 0
        """The line end before what has not been read yet."""

    def begins_with(self, word: bytes) -> bool:
        while len(self._window) <= len(word) and self._widen():
            pass
        return self._window.startswith(word, 1)

    def skip(self, word: bytes) -> None:
        """Leave *word* out if the text begins with it."""
        if self.begins_with(word):
            self._window = b"\n" + self._window[len(word) + 1 :]

    def header(self) -> bytes:
        """What stands before the next empty line, cut at HEADER_LIMIT."""
        return self._until(_EMPTY_LINE, HEADER_LIMIT)[0]

    def skip_body(self) -> bool:
        """Go to the next ``From `` line; False at the end of the file."""
        _, found = self._until(_NEXT_MAIL, 0)
        if found is not None:
            self._at = found.end() - len(b"\nFrom ")
        return found is not None

    def _until(
        self, pattern: re.Pattern[bytes], limit: int
    ) -> tuple[bytes, re.Match[bytes] | None]:
        """Go to the line end that *pattern* begins with; the text before, at most *limit* of it."""
        text = b""
        while True:
            found = pattern.search(self._window, self._at)
            end = found.start() if found else max(self._at, len(self._window) - _OVERLAP)
            if len(text) < limit:
                text += self._window[self._at + 1 : min(end + 1, self._at + 1 + limit - len(text))]
            self._at = end
            if found is not None:
                return text, found
            if not self._widen():
                return (text + self._window[self._at + 1 :])[:limit], None

    def _widen(self) -> bool:
        chunk = self._file.read(_CHUNK)
        self._window = self._window[self._at :] + chunk
        self._at = 0
        return bool(chunk)

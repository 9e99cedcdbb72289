"""Standard output, so that it is said in one line when nobody can write to it: a full disk.

The error is raised where the bytes go out, so that whatever prints (click, rich, the interpreter's
own flush at its end) is covered, and no other file's error is taken for this one.  A reader who is
gone (``| head``) is none: click and rich end quietly then.
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import IO, Any

import click


class OutputError(click.ClickException):
    """Standard output cannot be written to.  click's, because ``--help`` prints before there is a
    command to run."""

    exit_code = 74  # EX_IOERR of sysexits.h

    def show(self, file: IO[Any] | None = None) -> None:
        with suppress(OSError):  # standard error is full as well
            click.echo(self.format_message(), file=file, err=True)


class _Output(io.FileIO):
    """Fails once: what is still buffered then is gone, or it would fail again at the end."""

    _has_failed = False

    def write(self, some: Any, /) -> int:
        if self._has_failed:
            return memoryview(some).nbytes
        try:
            return super().write(some)
        except BrokenPipeError:
            raise
        except OSError as error:
            self._has_failed = True
            raise OutputError(f"standard output cannot be written: {error.strerror}") from None


def guard() -> None:
    """From now on ``sys.stdout`` raises OutputError.  Nothing where there is none (``>&-``)."""
    plain = sys.stdout
    if plain is None:
        return
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(plain.fileno(), "w", closefd=False)),
        plain.encoding,
        plain.errors,
        line_buffering=plain.isatty(),
    )

"""What keeps a survey from writing, as an error that names the place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from botmilter.errors import SetupError


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """What is done within writes to *place*, and raises SetupError where that does not work."""
    try:
        yield
    except OSError as error:
        raise SetupError(f"{place}: cannot be written: {error.strerror or error}") from error
    except sqlite3.OperationalError as error:  # no file, no right to it, no room
        raise SetupError(f"{place}: cannot be written: {error}") from error

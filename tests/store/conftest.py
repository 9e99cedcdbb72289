"""SQLite stores that are closed after a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from botmilter.store.sqlite import SqliteStore

Opener = Callable[[Path], SqliteStore]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens stores and closes them after the test."""
    made: list[SqliteStore] = []

    def opener(path: Path) -> SqliteStore:
        made.append(SqliteStore(path))
        return made[-1]

    yield opener
    for store in made:
        store.close()

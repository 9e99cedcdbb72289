"""One laboratory with everybody in it for the tests of the laboratory itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import worlds
from tests.lab.lab import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Fails, saying why, where the namespace has a way out."""
    with Lab(worlds.ALL) as running:
        yield running

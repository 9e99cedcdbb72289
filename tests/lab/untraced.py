"""The environment of our own programs where they are to run at their own speed.

coverage.py's tracer takes as much of the CPU as the program itself; what they do is covered by
tests that need no laboratory.
"""

from __future__ import annotations

import os


def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}

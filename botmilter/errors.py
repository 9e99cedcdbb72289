"""The few errors botmilter raises on purpose.

Each message says where, what was expected, what came and what to do.  What a probe could not do
is not an error but an :class:`~botmilter.model.Observation` with a status.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self


class BotmilterError(Exception):
    """Something the user can act on; shown as one message, never as a traceback."""

    exit_code = 1


class ConfigError(BotmilterError):
    """The configuration cannot be used; *problems* lists all that is wrong, one line each."""

    exit_code = 78  # EX_CONFIG of sysexits.h

    def __init__(self, path: str, problems: Sequence[str]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{path}: {problem}" for problem in self.problems))


class DataError(BotmilterError):
    """What was given can be read, but does not suffice for an answer."""

    exit_code = 65  # EX_DATAERR


class InputError(BotmilterError):
    """A mail file, an address or another argument cannot be read."""

    exit_code = 66  # EX_NOINPUT


class SetupError(BotmilterError):
    """The machine lacks something this command needs: a package, a privilege, a socket's folder."""

    exit_code = 69  # EX_UNAVAILABLE

    @classmethod
    def without(cls, extra: str, problem: str) -> Self:
        """For the want of packages that setup.cfg has under *extra*."""
        by_hand = f".venv/bin/pip install -e '.[{extra}]'"
        return cls(
            f"{problem}; where the sources are: contrib/install --with {extra}, or {by_hand}"
        )


class StoreError(BotmilterError):
    """The store did not answer; the engine goes on without it."""

    exit_code = 69  # EX_UNAVAILABLE


class NewerStoreError(StoreError):
    """The store was written by a newer version, which this one must not guess at."""

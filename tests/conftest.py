"""No test runs where a packet could leave the machine."""

from __future__ import annotations

import pytest

from tests.lab import net


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # of pytest-xdist: temporary files in its own room
        config.option.basetemp = None


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.getoption("tx", None):  # tests run in the rooms that tests/run has named
        return
    try:
        net.require_private()
    except net.NotPrivateError as error:
        pytest.exit(
            f"tests send packets and must not reach a network, but: {error}\n"
            "Run them with tests/run, which passes arguments on to pytest.",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )

"""No test runs where a packet could leave the machine, nor where another one's packets are.

``tests/run`` has two processes run the tests.  The slow ones, with real MTAs and nmap, are all run
by one of them, so that no two want the machine at once; the others come a file at a time beside
that.  Each process has a network of its own, so that both may have the laboratory, and a session,
whose share of the CPU is the same whatever the other does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from tests.lab import net


def pytest_sessionstart(session: pytest.Session) -> None:
    try:
        net.require_private()
        if hasattr(session.config, "workerinput"):  # one of several processes
            os.setsid()
            net.become_separate()
    except net.NotPrivateError as error:
        pytest.exit(
            f"tests send packets and must not reach a network, but: {error}\n"
            "Run them with tests/run, which passes arguments on to pytest.",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


@pytest.hookimpl(tryfirst=True)  # before xdist looks
def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    for item in items:
        is_slow = item.get_closest_marker("slow") is not None
        item.add_marker(pytest.mark.xdist_group("slow" if is_slow else item.nodeid.split("::")[0]))

"""A simulated Internet for tests, benchmarks and the demonstration.

    with Lab(worlds.DEMO) as lab:
        …                                     # nmap, ping, connect: 198.18.0.0/15 answers
        lab.remove(worlds.INFECTED_PC.ip)     # it has gone
        assert lab.destinations() <= {…}      # where packets went

The hosts live in a process of their own; :mod:`tests.lab.net` tells what it makes of the network
namespace, and refuses one that has a way out.  Mail clients with simulated addresses:
:mod:`tests.lab.client`.  Names: :mod:`tests.lab.dns`.  From a shell: ``python -m tests.lab``.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab import client, net, untraced
from tests.lab.host import Host
from tests.lab.world import Flow

_ROOT = Path(__file__).parents[2]
_STOP_LIMIT_S = 5.0
_QUIET_LIMIT_S = 30.0
#: A probe may be about to begin, so more than one look.
_QUIET_LOOKS, _QUIET_LOOK_S = 3, 0.1


class LabError(RuntimeError):
    """The laboratory could not be set up, or refused an order; the text says why."""


class Lab:
    """The running laboratory.  One per network namespace; not for use by several threads."""

    def __init__(self, hosts: Iterable[Host] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            env=untraced.environ(),
            text=True,
        )
        self._seen: Counter[Flow] = Counter()
        try:
            self._answer()
            self.put(*hosts)
        except BaseException:
            self.close()
            raise

    def put(self, *hosts: Host) -> None:
        """Add hosts, or change those that stand at the same address."""
        self._order({"put": [host.to_json() for host in hosts]})

    def remove(self, *addresses: IPv4Address) -> None:
        """From now on nobody answers at *addresses*."""
        self._order({"remove": [str(ip) for ip in addresses]})

    def flows(self) -> Counter[Flow]:
        """Every packet that left the namespace so far, for whatever address, by where it went.

        Raises LabError if one was lost uncounted.
        """
        answer = self._order({"flows": True})
        if answer["dropped"]:
            raise LabError(f"{answer['dropped']} packets were lost before they were counted")
        for *flow, count in answer["flows"]:
            self._seen[Flow(*flow)] += count
        return Counter(self._seen)

    def await_quiet(self) -> None:
        """Wait until all that was begun to send packets is over.

        Raises LabError if that is never so.
        """
        end = time.monotonic() + _QUIET_LIMIT_S
        quiet = 0
        while quiet < _QUIET_LOOKS:
            quiet = 0 if (sending := net.sending()) else quiet + 1
            if time.monotonic() > end:
                raise LabError(f"still sending: {sending}")
            time.sleep(_QUIET_LOOK_S)

    def forget_flows(self) -> None:
        """Count anew from here, when what an earlier test has begun is over."""
        self.await_quiet()
        self.flows()
        self._seen.clear()

    def destinations(self) -> set[str]:
        """The addresses that packets were sent to."""
        return {flow.dst for flow in self.flows()}

    @staticmethod
    def client_socket(source: IPv4Address | str, port: int = 25) -> socket.socket:
        """A connection to the MTA under test, coming from *source*."""
        return client.connect(source, port)

    def close(self) -> None:
        """End all hosts and give the namespace back as it was."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.close()
            self._process.wait(_STOP_LIMIT_S)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process died"}
        if "error" in answer:
            raise LabError(f"laboratory: {answer['error']} (see tests/lab/net.py)")
        return answer


__all__ = ["Flow", "Lab", "LabError", "net"]

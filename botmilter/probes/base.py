"""What every probe is.

A probe looks at one host in one way.  ``measure`` goes to the network and returns facts;
``interpret`` says what the facts mean and never goes anywhere.  A probe knows no mail, no score
and no other probe.  How to add one: docs/adding-a-probe.md.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address
from typing import Any, Protocol

from botmilter.clock import Deadline
from botmilter.model import IPAddress, Observation, Signal, Target

#: What needs CAP_NET_RAW, done here or by a process that has it: measures one address within so
#: many seconds; gives plain JSON data.
Operation = Callable[[IPAddress, float], dict[str, Any]]

#: Why an IPv6 host is not asked: no failure, or a few of them would pause the probe for all.
NO_IPV6 = "this machine has no way out by IPv6"

_NO_WAY = frozenset({errno.EAFNOSUPPORT, errno.ENETUNREACH, errno.EADDRNOTAVAIL})


def lacks_ipv6(ip: IPAddress, code: int | None) -> bool:
    """Whether the error number *code*, said before any answer could be there, means that."""
    return isinstance(ip, IPv6Address) and code in _NO_WAY


class Probe(Protocol):
    """One way to look at a host.  Safe to be used by many threads at once."""

    @property
    def name(self) -> str:
        """Config table, store and log key: ``rdns``, ``smtp`` …"""

    @property
    def limit_s(self) -> float:
        """Longest a single :meth:`measure` may take; may exceed a mail's budget, the late answer
        then serves the next mail."""

    @property
    def signals(self) -> frozenset[str]:
        """Every name :meth:`interpret` may ever emit."""

    @property
    def shows_life(self) -> bool:
        """Whether an ANSWERED of this probe proves that the host itself is up."""

    @property
    def wants_life(self) -> bool:
        """Whether it is too dear to be started before another probe has shown a sign of life."""

    @property
    def sends_to_host(self) -> bool:
        """Whether the origin itself gets packets, as against DNS or a local socket."""

    def store_key(self, target: Target) -> str:
        """What the facts belong to: the address alone, or the address and what else was asked
        about, so that one mail's HELO never leaks into another's verdict."""

    def measure(self, target: Target, deadline: Deadline) -> Observation:
        """Ask the network; block at most until *deadline*.  Foreign exceptions end here: what
        could not be done comes back as FAILED with a reason.  ``taken_at`` and ``took_s`` are
        filled in by the engine."""

    def interpret(self, seen: Observation, target: Target) -> Iterable[Signal]:
        """Say what the facts mean.  Pure.  Called for evidence only."""

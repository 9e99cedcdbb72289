"""Probe ``ping``: whether the host answers to ICMP echo.

Sent: one echo request of 64 octets.  No answer means nothing by itself, most host firewalls drop
it; an answer is the sign of life that nmap waits for.

ping3 (5.1.6) needs care, and all of it is taken here: its errors are of six kinds, and some are
anybody's to cause by one malformed ICMP packet; it computes the
time from the reply's own payload, which the other side writes, so we take it ourselves; a reply's
number can be guessed, so ours is random; over IPv6 its threads take each other's replies, so
those go one at a time.  It does not compare a reply's sender: a third host that guesses process,
thread and number can feign life, which costs us an nmap run and moves no score.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import Any

import ping3

from botmilter.clock import Deadline
from botmilter.errors import SetupError
from botmilter.model import IPAddress, Observation, Signal, Status, Target
from botmilter.net import printable
from botmilter.probes.base import NO_IPV6, Operation, lacks_ipv6

_one_at_a_time = threading.Lock()


def echo(ip: IPAddress, limit_s: float) -> dict[str, Any]:
    """Ask *ip* once: ``{"rtt_s": seconds}``, or None for it where no answer came in *limit_s*.

    ``disturbed`` says why where ping3 fell over a packet, which need not be the host's;
    ``no_way`` is there where this machine has no IPv6, ``no_turn`` where other IPv6 hosts took
    half the time.  Needs CAP_NET_RAW (or ``net.ipv4.ping_group_range``).  Raises SetupError where
    it could not be asked.
    """
    started = time.monotonic()
    if isinstance(ip, IPv6Address) and not _one_at_a_time.acquire(timeout=limit_s / 2):
        return {"rtt_s": None, "no_turn": True}
    try:
        asked = time.monotonic()
        left_s = max(0.001, limit_s - (asked - started))
        answer = ping3.ping(str(ip), timeout=left_s, seq=secrets.randbelow(1 << 16))
        took_s = time.monotonic() - asked
    except PermissionError as error:
        raise SetupError("ping needs CAP_NET_RAW: start botmilter as root") from error
    except OSError as error:
        if lacks_ipv6(ip, error.errno):
            return {"rtt_s": None, "no_way": True}
        raise SetupError(f"ping: {printable(f'{type(error).__name__}: {error}')}") from error
    except Exception as error:  # struct.error, ValueError, OverflowError: it reads what it is sent
        return {"rtt_s": None, "disturbed": printable(f"{type(error).__name__}: {error}")}
    finally:
        if isinstance(ip, IPv6Address):
            _one_at_a_time.release()
    # None: no answer; False: an ICMP error from the way there
    return {"rtt_s": None if answer is None or answer is False else round(took_s, 4)}


class PingProbe:
    """*echo* asks: the function above, or the privileged process's.  Facts: ``rtt_s``."""

    name = "ping"
    shows_life = True
    wants_life = False
    sends_to_host = True
    signals = frozenset({"ping.answered", "ping.silent"})

    def __init__(self, limit_s: float, echo: Operation) -> None:
        self.limit_s = limit_s
        self._echo = echo

    def store_key(self, target: Target) -> str:
        return str(target.ip)

    def measure(self, target: Target, deadline: Deadline) -> Observation:
        key = self.store_key(target)
        try:
            facts = self._echo(target.ip, deadline.left())
        except (SetupError, TimeoutError) as error:
            return Observation(self.name, key, Status.FAILED, reason=printable(str(error)))
        if facts.get("no_way"):
            return Observation(self.name, key, Status.SKIPPED, reason=NO_IPV6)
        if facts.get("no_turn"):
            return Observation(self.name, key, Status.SKIPPED, reason="other IPv6 hosts came first")
        if disturbed := facts.get("disturbed"):
            # any stranger can bring that about, so it must not pass for a broken probe
            reason = printable(f"malformed ICMP came in: {disturbed}")
            return Observation(self.name, key, Status.SKIPPED, reason=reason)
        status = Status.SILENT if facts["rtt_s"] is None else Status.ANSWERED
        return Observation(self.name, key, status, facts)

    def interpret(self, seen: Observation, target: Target) -> Iterable[Signal]:
        rtt_s = seen.facts["rtt_s"]
        if rtt_s is None:
            return [Signal("ping.silent")]
        return [Signal("ping.answered", 1.0, f"{rtt_s * 1000:.0f} ms")]

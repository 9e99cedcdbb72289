"""What measures many hosts: shared by ``botmilter survey`` and ``botmilter worker``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any, TypeVar

import click

from botmilter.cli import build
from botmilter.config import Settings
from botmilter.errors import SetupError
from botmilter.survey.run import Surveyor

Command = TypeVar("Command", bound=Callable[..., Any])

#: Hosts under way for each nmap: the others wait for ping, SMTP or DNS meanwhile.
HOSTS_PER_NMAP = 4
#: No more than the hosts under way ever wait.
_ROOM = "probe.queue_limit=100000"

at_once_option = click.option(
    "--at-once",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    help="nmaps at the same time.",
)


def overriding(at_once: int) -> tuple[str, ...]:
    """Settings that measuring many hosts needs; the user's own come behind them."""
    return (f"probe.osdetect.at_once={at_once}", _ROOM)


def make(chosen: Settings, since: float, probe_claimed: bool = False) -> Surveyor:
    """One that does not use what was learnt before *since* (Unix time).  Raises SetupError."""
    probes = build.probes(chosen)
    machine = build.machine(chosen, probes, known_since=since)
    # all probes of all hosts under way may queue for a thread
    longest_s = sum(probe.limit_s for probe in probes) * HOSTS_PER_NMAP
    policy = replace(
        machine.policy(chosen, longest_s), thorough=True, silent_too=True, settle_s=0.0
    )
    return Surveyor(machine.engine, policy, machine.guard, probe_claimed)


def dispatch() -> ModuleType:
    """The queue, whose package a survey on one machine does not need.  Raises SetupError."""
    try:
        from botmilter.survey import dispatch
    except ImportError as error:
        raise SetupError.without("queue", f"a queue needs the package {error.name}") from error
    return dispatch

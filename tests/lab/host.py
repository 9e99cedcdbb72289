"""What a simulated host is: a value that can be written down, sent to the laboratory's process
as JSON and changed there at any time.

    Host(ip("198.18.7.12"), persona=XP, names=("198-18-7-12.pool.isp.example",),
         ports={25: FILTERED, 135: OPEN, 139: OPEN, 445: OPEN})

A port does what its :class:`Port` says; every other port does ``other_ports``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Any


class Does(StrEnum):
    """What happens at a port."""

    CLOSED = "closed"
    """Answers with a reset."""
    FILTERED = "filtered"
    """Drops."""
    PROHIBITED = "prohibited"
    """ICMP: administratively prohibited."""
    UNREACHABLE = "unreachable"
    """ICMP: host unreachable."""
    OPEN = "open"
    """Accepts and says nothing, for ever; as ports 135 and 445 do, or a hung server."""
    SMTP = "smtp"
    """Greets with 220 and ``text``, speaks EHLO, MAIL, RCPT, DATA, RSET, NOOP, QUIT."""
    BANNER = "banner"
    """Says ``text`` as it stands, then waits for QUIT and closes."""
    SAYS = "says"
    """Says ``text`` and closes: something that is not SMTP."""
    TARPIT = "tarpit"
    """One byte per ``delay_s`` of a greeting that never ends."""
    ENDLESS = "endless"
    """A greeting of continuation lines without end, at full speed."""
    RESETS = "resets"
    """Accepts, then resets at once."""

    @property
    def accepts(self) -> bool:
        return self not in (Does.CLOSED, Does.FILTERED, Does.PROHIBITED, Does.UNREACHABLE)


@dataclass(frozen=True, slots=True)
class Port:
    does: Does
    text: str = ""
    """For SMTP the name and whatever follows 220; else what is said, escapes as in Python."""
    delay_s: float = 0.0
    """Before the greeting (SMTP, BANNER, SAYS), per byte (TARPIT)."""


CLOSED, FILTERED, OPEN = Port(Does.CLOSED), Port(Does.FILTERED), Port(Does.OPEN)
PROHIBITED, UNREACHABLE = Port(Does.PROHIBITED), Port(Does.UNREACHABLE)
ENDLESS, RESETS = Port(Does.ENDLESS), Port(Does.RESETS)
TARPIT = Port(Does.TARPIT, delay_s=1.0)


def smtp(greeting: str, delay_s: float = 0.0) -> Port:
    """A mail server that greets with ``220`` and *greeting*."""
    return Port(Does.SMTP, greeting, delay_s)


def banner(text: str, delay_s: float = 0.0) -> Port:
    """A server that greets with exactly *text*, as ``554 no``."""
    return Port(Does.BANNER, text + "\r\n", delay_s)


class Ping(StrEnum):
    """What becomes of an echo request."""

    ANSWERED = "answered"
    SILENT = "silent"
    FALSE_TIME = "false-time"
    """The reply's payload, where ping keeps its time stamp, lies far in the future."""
    THIRD_HOST = "third-host"
    """The reply comes from the next address."""
    CUT = "cut"
    """The reply ends after its eight bytes of header."""
    CUT_ERROR = "cut-error"
    """Host unreachable, without the quoted packet that belongs to it."""


@dataclass(frozen=True, slots=True)
class Host:
    ip: IPv4Address
    persona: str | None = None
    """A fingerprint's name in nmap-os-db; None answers no probe of OS detection."""
    ports: Mapping[int, Port] = field(default_factory=dict)
    other_ports: Port = CLOSED
    ping: Ping = Ping.ANSWERED
    answers_udp: bool = True
    """Whether closed UDP ports are reported."""
    round_trip_s: float = 0.0
    names: tuple[str, ...] = ()
    """PTR records."""
    leads_back: bool = True
    """Whether the names have this address (A)."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ip": str(self.ip)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Host:
        """Raises KeyError, TypeError or ValueError for what to_json did not make."""
        return cls(
            ip=IPv4Address(data["ip"]),
            persona=data["persona"],
            ports={int(number): _port(port) for number, port in data["ports"].items()},
            other_ports=_port(data["other_ports"]),
            ping=Ping(data["ping"]),
            answers_udp=bool(data["answers_udp"]),
            round_trip_s=float(data["round_trip_s"]),
            names=tuple(data["names"]),
            leads_back=bool(data["leads_back"]),
        )


def _port(data: Mapping[str, Any]) -> Port:
    return Port(Does(data["does"]), str(data["text"]), float(data["delay_s"]))


def black_hole(ip: str, *names: str) -> Host:
    """A host that has names, perhaps, but answers nothing at all."""
    return Host(
        *(IPv4Address(ip), None, {}, FILTERED, Ping.SILENT),
        answers_udp=False,
        names=names,
    )

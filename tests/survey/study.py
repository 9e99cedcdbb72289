"""The study's hosts, played by the laboratory, and made-up spam that came from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Address

from tests.lab import worlds
from tests.lab.host import FILTERED, OPEN, Host, Ping

#: The study's first run: systems and how many hosts had them.
WINDOWS_XP, WINDOWS_SERVERS, LINUXES, OTHERS = 2, 10, 22, 35
#: Its second run, two months later: who was still there.
STAYED = {"xp": 0, "server": 5, "linux": 19, "other": 19}

_OTHER_SYSTEMS = (worlds.FREEBSD, worlds.ROUTER, worlds.W7, worlds.PRINTER, worlds.WEBCAM)


def hosts() -> dict[str, tuple[Host, ...]]:
    """By the table's columns."""
    return {
        "xp": tuple(worlds.pc(f"198.18.101.{n}", worlds.XP) for n in range(1, WINDOWS_XP + 1)),
        "server": tuple(
            _server(f"198.18.102.{n}", worlds.SERVER_2016) for n in range(1, WINDOWS_SERVERS + 1)
        ),
        "linux": tuple(_server(f"198.18.103.{n}", worlds.LINUX) for n in range(1, LINUXES + 1)),
        "other": tuple(_other(n) for n in range(OTHERS)),
    }


def left() -> tuple[IPv4Address, ...]:
    """The addresses where nobody answers at the second run."""
    gone = (host.ip for column, some in hosts().items() for host in some[STAYED[column] :])
    return tuple(ip for ip in gone if ip not in {host.ip for host in changed()})


def changed() -> tuple[Host, ...]:
    """Where another host has the address by then: a server's has become a home router's."""
    ip = hosts()["server"][STAYED["server"]].ip
    return (replace(worlds.HOME_ROUTER, ip=ip, names=(worlds.dynamic_name(str(ip)),)),)


def _server(ip: str, persona: str) -> Host:
    name = f"mail{ip.rpartition('.')[2]}.{ip.split('.')[2]}.example"
    return worlds.server(ip, persona, name)


def _other(number: int) -> Host:
    persona = _OTHER_SYSTEMS[number % len(_OTHER_SYSTEMS)]
    ip = f"198.18.104.{number + 1}"
    # some answer neither ping nor port 25: nmap alone finds them
    ping = Ping.SILENT if number % 7 == 3 else Ping.ANSWERED
    return replace(
        worlds.pc(ip, persona),
        ports={80: OPEN, 25: FILTERED},
        names=(worlds.dynamic_name(ip),),
        ping=ping,
    )


def mail(ip: object, number: int, helo: str = "friend") -> bytes:
    """Spam as it lies in a mailbox: the reader's own server took it from *ip*."""
    at = datetime(2009, 8, 2, 1, tzinfo=UTC) + timedelta(minutes=7 * number)
    return (
        f"Return-Path: <offer{number}@cheap.example>\n"
        f"Received: from {helo} (unknown [{ip}])\n"
        f"\tby mx.reader.example (Postfix) with SMTP id {number:08X}\n"
        f"\tfor <reader@reader.example>; {format_datetime(at)}\n"
        f"From: Offer <offer{number}@cheap.example>\n"
        f"To: reader@reader.example\nDate: {format_datetime(at)}\nSubject: buy\n\nNow.\n"
    ).encode()


def mbox(addresses: Iterable[object]) -> bytes:
    return b"\n".join(_mbox_entries(addresses)) + b"\n"


def _mbox_entries(addresses: Iterable[object]) -> Iterator[bytes]:
    for number, ip in enumerate(addresses):
        yield b"From offer@cheap.example Sun Aug  2 01:00:00 2009\n" + mail(ip, number)

"""Ten thousand mails that try to make us send a packet to somebody else, and what left."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.mta import CONTINUE, Header, Mail, Mta
from tests.lab import worlds
from tests.lab.dns import NameServer
from tests.lab.lab import Lab
from tests.reliability.rig import Rig

_CLIENTS = tuple(str(host.ip) for host in worlds.ALL if host.ip != worlds.FORWARDER.ip)
_RELAY = str(worlds.FORWARDER.ip)
_OPTED_OUT = "198.18.30.0/24"

#: What a trusted relay may record and yet must not be probed, and what may connect by mistake.
#: Not loopback and the relay itself: those are trusted, and the line below theirs is believed.
_NEVER = (
    *("10.0.0.1", "172.16.9.9", "192.168.1.1", "169.254.1.1", "100.64.0.1"),
    *("0.0.0.0", "255.255.255.255", "224.0.0.1", "239.1.1.1", "240.0.0.1", "192.88.99.1"),
    *("192.0.2.1", "203.0.113.9", "198.18.30.7"),
    *("::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "ff0e::1", "2001:db8::1"),
    *("::ffff:10.0.0.1", "::ffff:224.0.0.1", "::198.18.99.1"),
    *("2002:c612:6301::1", "64:ff9b::c612:6301", "64:ff9b:1::1", "2001:0:c612:6301::1"),
    *("3fff::1", "5f00::1"),
)
#: What nobody but the sender says: most of these would be probed, if they were the origin.
_THIRD_PARTIES = (
    *("127.0.0.1", "::1", "::ffff:127.0.0.1", _RELAY),
    *("1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:198.19.0.1", "9.9.9.9"),
)

_LINES = (
    "from {name} ({name} [{ip}]) by {by} (Postfix) with ESMTP id 4F1D32C0; {at}",
    "from {name} (HELO {ip}) ({ip}) by {by} with SMTP; {at}",
    "from [{ip}] by {by} (8.14.4/8.14.4) with ESMTP id q1; {at}",
    "from {name} ([{ip}]:25000 helo={ip}) by {by} with esmtps (Exim 4.96) id 1a; {at}",
    "from {ip} ([IPv6:{ip}]) by {by} with Microsoft SMTP Server id 15.1; {at}",
    "from unknown (unknown [unknown]) by {ip} with ESMTP id [{ip}]; {at}",
    "(qmail 1 invoked from network); {at}\n\tfrom {ip} by {by}",
    "from {name} ({name} [{ip}]) (using TLSv1.3 [{ip}])\n\tby {by} (Postfix) with ESMTPS; {at}",
    "by {by} with HTTP ({ip}); {at} [{ip}]",
    "from {name}\n\t({name}\n\t[{ip}]) by\n\t{by}; {at}",
    "from {name} ({name} [{ip}]) by 127.0.0.1 with local; {at}",
    "from {name} ({name} [{ip}\x00{ip}]) by {by}; {at}",
)
_AT = "Mon, 2 Feb 2026 10:00:00 +0000"


@dataclass(frozen=True)
class Attacked:
    mails: int
    unmarked: int
    """Mails that got another answer than *continue*, or not one verdict."""
    packets: int
    strangers: tuple[str, ...]
    """Where packets went that were for nobody who had sent a mail."""
    took_s: float


@dataclass(frozen=True)
class _Attack:
    client: str
    helo: bytes
    mail: Mail


def attack(folder: Path, mails: int, at_once: int = 8) -> Attacked:
    """*mails* from the laboratory's hosts, from a trusted relay, from a network that opted out and
    from addresses that nobody can connect from, all through ``botmilter run``."""
    settings: dict[str, object] = {
        "probe.nameservers": ["198.18.0.53"],
        "probe.never_networks": [_OPTED_OUT],
        "trust.networks": [_RELAY],
        "probe.osdetect.limit_s": 8.0,
    }
    place = str(folder / "milter.sock")
    unmarked: list[_Attack] = []
    started = time.monotonic()

    def send(one: _Attack) -> None:
        with Mta(place, timeout_s=30) as mta:
            assert mta.connect(one.client, b"unknown") == CONTINUE
            mta.helo(one.helo)
            got = mta.deliver(one.mail)
        if got.reply != CONTINUE or len(got.values(b"X-Bot-Verdict")) != 1:
            unmarked.append(one)

    with Lab(worlds.ALL) as lab, NameServer(worlds.ALL, worlds.RECORDS), Rig(folder, 0, settings):
        with ThreadPoolExecutor(at_once) as pool:
            for _ in pool.map(send, _attacks(random.Random(mails), mails)):
                pass
        time.sleep(3.0)  # what is late leaves late
        flows = lab.flows()
    strangers = sorted({flow.dst for flow in flows} - set(_CLIENTS))
    took_s = time.monotonic() - started
    return Attacked(mails, len(unmarked), sum(flows.values()), tuple(strangers), took_s)


def _attacks(chance: random.Random, mails: int) -> Iterator[_Attack]:
    for number in range(mails):
        third = _third_party(chance)
        forged = [_received(chance, _third_party(chance)) for _ in range(chance.randrange(4))]
        match number % 20:
            case 0:  # nobody connects from there
                client = chance.choice(_NEVER).partition("%")[0]  # libmilter hangs up on a zone id
            case 1 | 2:
                client = f"198.18.30.{chance.randrange(256)}"
            case 3 | 4 | 5:  # what the relay records is proved, and not to be probed all the same
                client = _RELAY
                forged.insert(0, _received(chance, chance.choice(_NEVER), _LINES[0]))
            case _:
                client = chance.choice(_CLIENTS)
                forged.insert(0, _received(chance, third))
        helo = chance.choice((third, f"[{third}]", f"[IPv6:{third}]", "localhost")).encode()
        headers = [*forged, (b"X-Originating-IP", f"[{third}]".encode()), (b"Subject", b"x")]
        sender = f"<a@[{third}]>".encode()
        yield _Attack(client, helo, Mail(headers, sender))


def _third_party(chance: random.Random) -> str:
    made_up = f"198.19.{chance.randrange(256)}.{chance.randrange(256)}"
    return chance.choice((made_up, made_up, *_THIRD_PARTIES, chance.choice(_NEVER)))


def _received(chance: random.Random, ip: str, line: str = "") -> Header:
    by = chance.choice((_RELAY, "mx.example.org", "relay.forwarder.example", "localhost", ip))
    text = (line or chance.choice(_LINES)).format(name="bank.example", ip=ip, by=by, at=_AT)
    # a NUL ends the field on the wire; no MTA sends one
    return b"Received", text.replace("\x00", "\x01").encode()

"""What every probe keeps, whomever it meets: its deadline, its temper, and its declared signals."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from itertools import product
from pathlib import Path

import pytest

from botmilter.clock import Deadline
from botmilter.lookup import Resolver
from botmilter.model import Observation, Status, Target
from botmilter.probes.base import Probe
from botmilter.probes.dnsbl import DnsblProbe, Zone
from botmilter.probes.osdetect import OsDetectProbe, scan
from botmilter.probes.p0f import P0fProbe
from botmilter.probes.ping import PingProbe, echo
from botmilter.probes.rdns import RdnsProbe
from botmilter.probes.senderhost import SenderHostProbe
from botmilter.probes.smtp import SmtpProbe
from botmilter.signals import BY_NAME
from tests.fakes.dns import ADDRESS, DnsServer, Lie
from tests.fakes.p0f import P0fServer, answer
from tests.lab import worlds
from tests.lab.host import CLOSED, PROHIBITED, RESETS, UNREACHABLE, Host, Port
from tests.lab.lab import Lab

LIMIT_S = 1.0
#: Most of what is done here is waiting.
AT_ONCE = 8
#: What a killed nmap and a loaded machine take on top.
GRACE_S = 1.0
PROBES = ("rdns", "smtp", "ping", "osdetect", "dnsbl", "senderhost", "p0f")
BY_DNS = ("rdns", "dnsbl", "senderhost")


def port_25(last: int, port: Port) -> Host:
    ip = IPv4Address(f"198.18.90.{last}")
    return replace(worlds.MAIL_SERVER, ip=ip, ports={25: port})


HOSTS = {
    "tarpit": worlds.TARPITTED,
    "black hole": worlds.BLACK_HOLE,
    "endless": worlds.GARRULOUS,
    "silent": worlds.SLOW_SERVER,
    "closed": port_25(1, CLOSED),
    "resets": port_25(2, RESETS),
    "prohibited": port_25(3, PROHIBITED),
    "unreachable": port_25(4, UNREACHABLE),
    "server": worlds.MAIL_SERVER,
    "pc": worlds.INFECTED_PC,
    "lying ping": worlds.LYING_PING,
    "ping by another": worlds.PING_BY_ANOTHER,
    "cut ping": worlds.CUT_PING,
    "cut ping error": worlds.CUT_PING_ERROR,
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(HOSTS.values()) as running:
        yield running


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as running:
        yield running


@pytest.fixture(scope="module")
def p0f(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("p0f") / "p0f.sock"
    known = {str(host.ip): answer("Windows", "XP\x1b\xff") for host in HOSTS.values()}
    with P0fServer(path, known):
        yield path


def build(name: str, server: DnsServer, p0f: Path) -> Probe:
    resolver = Resolver([ADDRESS], server.port)
    made: tuple[Probe, ...] = (
        RdnsProbe(resolver, LIMIT_S, True),
        SmtpProbe(LIMIT_S, "me.example"),
        PingProbe(LIMIT_S, echo),
        OsDetectProbe(LIMIT_S, False, scan),
        DnsblProbe(resolver, LIMIT_S, [Zone("bl.example"), Zone("wl.example", welcome=True)]),
        SenderHostProbe(resolver, LIMIT_S),
        P0fProbe(LIMIT_S, str(p0f)),
    )
    return next(probe for probe in made if probe.name == name)


class TooLateError(AssertionError):
    """The probe did not keep to its limit, or the machine was too busy."""


def check(probe: Probe, target: Target, limit_s: float = LIMIT_S) -> Observation:
    """Measure and interpret; every promise of ``Probe`` is held against what comes."""
    started = time.monotonic()
    seen = probe.measure(target, Deadline.after(limit_s))
    over_s = time.monotonic() - started - max(0.0, limit_s)
    if over_s > GRACE_S:
        raise TooLateError(f"{over_s:.1f} s over the limit")
    assert (seen.probe, seen.key) == (probe.name, probe.store_key(target))
    assert Observation.from_json(json.loads(json.dumps(seen.to_json()))) == seen
    assert seen.reason.isascii()
    assert seen.reason.isprintable()
    assert seen.status.is_evidence or seen.reason
    assert is_plain(seen.facts), seen.facts
    if seen.status.is_evidence:
        for signal in probe.interpret(seen, target):
            assert signal.name in probe.signals
            assert 0 <= signal.strength <= 1
    return seen


def is_plain(data: object) -> bool:
    """Whether all text in *data* is printable ASCII."""
    if isinstance(data, str):
        return data.isascii() and (data.isprintable() or not data)
    if isinstance(data, dict):
        return all(is_plain(one) for pair in data.items() for one in pair)
    if isinstance(data, list):
        return all(is_plain(one) for one in data)
    return True


def target(host: Host) -> Target:
    return Target(ip_address(str(host.ip)), "mail.a.example", "a.example")


Met = Mapping[tuple[str, str], Future[Observation]]


@pytest.fixture(scope="module")
def met(lab: Lab, p0f: Path) -> Iterator[Met]:
    """Each host by each probe."""
    with DnsServer() as server, ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            (host, name): pool.submit(check, build(name, server, p0f), target(HOSTS[host]))
            for host, name in product(HOSTS, PROBES)
        }


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("host", HOSTS)
def test_every_host_is_met_in_time(
    met: Met, server: DnsServer, p0f: Path, host: str, name: str
) -> None:
    try:
        met[host, name].result()
    except TooLateError:  # of so many at once; so once more, alone
        check(build(name, server, p0f), target(HOSTS[host]))


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("limit_s", [-1.0, 0.0, 0.05])
def test_there_may_be_no_time_at_all(
    lab: Lab, server: DnsServer, p0f: Path, name: str, limit_s: float
) -> None:
    check(build(name, server, p0f), target(worlds.BLACK_HOLE), limit_s)


@pytest.fixture(scope="module")
def lied_to(p0f: Path) -> Iterator[Met]:
    """Each probe that asks the DNS, by each lie."""

    def ask(lie: Lie, name: str) -> Observation:
        with DnsServer() as server:
            server.lie_always(lie)
            return check(build(name, server, p0f), target(worlds.MAIL_SERVER))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {(lie, name): pool.submit(ask, lie, name) for lie, name in product(Lie, BY_DNS)}


@pytest.mark.parametrize("name", BY_DNS)
@pytest.mark.parametrize("lie", Lie)
def test_a_name_server_that_lies_is_met_in_time(lied_to: Met, lie: Lie, name: str) -> None:
    seen = lied_to[lie, name].result()
    if lie is not Lie.TRUNCATED:
        assert not seen.status.is_evidence


@pytest.mark.parametrize("name", BY_DNS)
def test_hostile_names_and_texts_come_out_plain(server: DnsServer, p0f: Path, name: str) -> None:
    here = target(worlds.MAIL_SERVER)
    server.answer(here.ip.reverse_pointer, "PTR", ["a\\027[2J\\255\\032b.example.", "ok.example."])
    server.answer("a.example", "MX", ["10 a\\027\\255.example."])
    server.answer("a.example", "TXT", ['"v=spf1 \\027 include:\\255 a:a\\032b"'])
    check(build(name, server, p0f), here)


HOSTILE_GREETINGS = ("", "\udc80", "a" * 100_000, "a\r\nb: c", "[::1]", "ä.example")


@pytest.fixture(scope="module")
def greeted(lab: Lab, p0f: Path) -> Iterator[Met]:
    """Each greeting to each probe."""
    ip = ip_address(str(worlds.INFECTED_BEHIND_FORWARDER.ip))
    with DnsServer() as server, ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            (helo, name): pool.submit(check, build(name, server, p0f), Target(ip, helo, helo), 0.3)
            for helo, name in product(HOSTILE_GREETINGS, PROBES)
        }


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("helo", HOSTILE_GREETINGS)
def test_hostile_greetings_reach_no_key_and_raise_nothing(
    greeted: Met, name: str, helo: str
) -> None:
    seen = greeted[helo, name].result()
    assert seen.key.isascii()
    assert seen.key.isprintable()
    assert len(seen.key) < 600


@pytest.mark.parametrize("name", PROBES)
def test_ipv6_where_there_is_none_is_our_own_trouble_or_silence(
    server: DnsServer, p0f: Path, name: str
) -> None:
    check(build(name, server, p0f), Target(ip_address("2001:db8::1")))


@pytest.mark.parametrize("name", PROBES)
def test_declared_signals_are_in_the_table(server: DnsServer, p0f: Path, name: str) -> None:
    probe = build(name, server, p0f)
    assert probe.signals
    assert probe.signals <= BY_NAME.keys()


def test_only_what_needs_no_packet_may_look_at_hosts_that_opted_out(
    server: DnsServer, p0f: Path
) -> None:
    sends = {name for name in PROBES if build(name, server, p0f).sends_to_host}
    assert sends == {"smtp", "ping", "osdetect"}


def test_the_laboratory_s_pc_is_what_it_is(lab: Lab, server: DnsServer, p0f: Path) -> None:
    """A contract that is kept by saying nothing would be worth nothing."""
    pc, mail = target(worlds.INFECTED_PC), target(worlds.MAIL_SERVER)
    for name, host, outcome in (("smtp", pc, "filtered"), ("smtp", mail, "greeting")):
        assert check(build(name, server, p0f), host).facts["outcome"] == outcome
    assert check(build("ping", server, p0f), pc).status is Status.ANSWERED
    assert check(build("p0f", server, p0f), pc).facts["flavour"] == "XP??"

"""Every kind of host in the laboratory gets its due label: real nmap, ICMP, SMTP and DNS."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from botmilter import config
from botmilter.cli import build
from botmilter.model import Hop, HopKind, HopSource, Label, Origin, OriginWhy, Verdict
from tests.lab import net, worlds
from tests.lab.dns import NameServer
from tests.lab.host import CLOSED, OPEN, Host, black_hole
from tests.lab.lab import Lab

pytestmark = pytest.mark.slow

SETTINGS = config.load(
    None,
    [
        f'probe.allow_networks = ["{net.NETWORK}"]',
        f'probe.nameservers = ["{net.NAME_SERVER}"]',
        'store.kind = "memory"',
    ],
)

BOTS = {
    "XP, filtered": worlds.INFECTED_PC,
    "XP, refused": worlds.INFECTED_BEHIND_FORWARDER,
    "98": worlds.WINDOWS_98,
    "7": worlds.WINDOWS_7,
    "10": worlds.WINDOWS_10,
    "camera": worlds.CAMERA,
    "router": worlds.HOME_ROUTER,
}
SUSPECTS = {"Vista or 2008": worlds.VISTA_OR_2008}
#: Never bots, whatever else is odd about them.
SERVERS = {
    "Linux": worlds.MAIL_SERVER,
    "FreeBSD": worlds.BSD_MAIL_SERVER,
    "Exchange": worlds.EXCHANGE,
    "forwarder": worlds.FORWARDER,
    "cloud, port 25 filtered": worlds.CLOUD_SENDER,
    "tarpit": worlds.TARPITTED,
    "endless": worlds.GARRULOUS,
    "slow greeter": worlds.SLOW_SERVER,
    "rejecting": worlds.REJECTING,
    "Windows Server, port 25 refused, no name": replace(
        worlds.EXCHANGE, ip=IPv4Address("198.18.25.31"), ports={25: CLOSED, 3389: OPEN}, names=()
    ),
}
NOBODY = {"black hole": black_hole("198.18.66.7")}


ALL = {**BOTS, **SUSPECTS, **SERVERS, **NOBODY}


@pytest.fixture(scope="module")
def verdicts() -> Iterator[dict[str, Verdict]]:
    machine = build.machine(SETTINGS, build.probes(SETTINGS))
    policy = machine.policy(SETTINGS, budget_s=60.0)

    def judge(host: Host) -> Verdict:
        is_server = host in SERVERS.values() and host.names
        helo = host.names[0] if is_server else "home-pc"
        hop = Hop(0, HopSource.CONNECTION, HopKind.RELAY, ip=host.ip, helo=helo)
        ticket = machine.engine.begin(Origin(OriginWhy.CLIENT, host.ip, hop), policy)
        return machine.engine.result(ticket)

    hosts = tuple(ALL.values())
    with Lab(hosts), NameServer(hosts, worlds.RECORDS), ThreadPoolExecutor(4) as pool:
        yield dict(zip(ALL, pool.map(judge, hosts), strict=True))


@pytest.mark.parametrize("name", BOTS)
def test_a_bot_is_called_one(name: str, verdicts: dict[str, Verdict]) -> None:
    assert verdicts[name].label is Label.BOT, verdicts[name]


@pytest.mark.parametrize("name", SUSPECTS)
def test_what_fits_client_and_server_alike_is_a_suspect(
    name: str, verdicts: dict[str, Verdict]
) -> None:
    assert verdicts[name].label is Label.SUSPECT, verdicts[name]


@pytest.mark.parametrize("name", SERVERS)
def test_a_mail_server_is_never_called_a_bot(name: str, verdicts: dict[str, Verdict]) -> None:
    assert verdicts[name].label in (Label.CLEAN, Label.SUSPECT), verdicts[name]


@pytest.mark.parametrize("name", NOBODY)
def test_a_host_of_which_nothing_is_seen_stays_unknown(
    name: str, verdicts: dict[str, Verdict]
) -> None:
    assert verdicts[name].label is Label.UNKNOWN, verdicts[name]

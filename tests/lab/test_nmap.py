"""The real nmap takes every persona for what it plays."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

import pytest

from tests.lab import personas, worlds
from tests.lab.host import FILTERED, OPEN, Host
from tests.lab.lab import Lab

pytestmark = pytest.mark.slow

_NMAP = [
    *("nmap", "-n", "-Pn", "-O", "--max-os-tries", "1", "-T4", "--max-retries", "1"),
    *("-oX", "-", "-p", "25,80,135,139,443,445,3389,22"),
]


@dataclass(frozen=True)
class Found:
    names: frozenset[str]
    """Of the matches with the best accuracy."""
    accuracy: int
    classes: frozenset[str]
    """``Windows XP``: family and generation, of the same matches."""
    types: frozenset[str]


def _scan(host: Host) -> Found:
    command = [*_NMAP, str(host.ip)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    matches = list(ElementTree.fromstring(done.stdout).iter("osmatch"))
    best = max((int(match.get("accuracy", "0")) for match in matches), default=0)
    top = [match for match in matches if int(match.get("accuracy", "0")) == best]
    classes = [kind for match in top for kind in match.iter("osclass")]
    return Found(
        frozenset(match.get("name", "") for match in top),
        best,
        frozenset(f"{kind.get('osfamily')} {kind.get('osgen')}" for kind in classes),
        frozenset(kind.get("type", "") for kind in classes),
    )


@contextmanager
def _one_more(lab: Lab, host: Host) -> Iterator[Host]:
    lab.put(host)
    yield host
    lab.remove(host.ip)


_PLAYED = {
    worlds.XP: "Windows XP",
    worlds.W98: "Windows 98",
    worlds.W7: "Windows 7",
    worlds.W10: "Windows 10",
    worlds.SERVER_2003: "Windows 2003",
    worlds.SERVER_2008: "Windows 2008",
    worlds.SERVER_2012: "Windows 2012",
    worlds.SERVER_2016: "Windows 2016",
    worlds.LINUX: "Linux 5.X",
    worlds.FREEBSD: "FreeBSD 12.X",
}


@pytest.mark.parametrize(("persona", "named"), _PLAYED.items())
def test_nmap_names_the_system_that_is_played(lab: Lab, persona: str, named: str) -> None:
    host = Host(IPv4Address("198.18.91.1"), persona, {80: OPEN, 445: OPEN})
    with _one_more(lab, host):
        found = _scan(host)
    assert found.accuracy == 100
    assert persona in found.names
    assert named in found.classes


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        (worlds.HOME_ROUTER, "broadband router"),
        (worlds.CAMERA, "webcam"),
        (worlds.OFFICE_PRINTER, "printer"),
    ],
)
def test_nmap_names_the_kind_of_appliance(lab: Lab, host: Host, kind: str) -> None:
    found = _scan(host)
    assert found.accuracy == 100
    assert kind in found.types


def test_a_fingerprint_that_fits_client_and_server_is_found_as_both(lab: Lab) -> None:
    found = _scan(worlds.VISTA_OR_2008)
    assert {"Windows Vista", "Windows 7", "Windows 2008"} <= found.classes


def test_a_reset_with_text_in_it_is_recognised(lab: Lab) -> None:
    name = "2Wire BT2700HG-V ADSL modem"
    host = Host(IPv4Address("198.18.91.2"), name, {80: OPEN})
    with _one_more(lab, host):
        assert name in _scan(host).names


def test_a_firewall_that_lets_only_one_port_through_hides_nothing(lab: Lab) -> None:
    host = replace(worlds.MAIL_SERVER, ip=IPv4Address("198.18.91.3"), other_ports=FILTERED)
    with _one_more(lab, host):
        assert worlds.LINUX in _scan(host).names


def test_a_distant_host_is_named_as_well(lab: Lab) -> None:
    host = replace(worlds.INFECTED_PC, ip=IPv4Address("198.18.91.4"), round_trip_s=0.1)
    with _one_more(lab, host):
        assert worlds.XP in _scan(host).names


def test_nothing_is_found_of_a_black_hole(lab: Lab) -> None:
    assert _scan(worlds.BLACK_HOLE).names == frozenset()


def test_eight_scans_at_once_of_eight_hosts_are_all_right(lab: Lab) -> None:
    hosts = [
        *(worlds.INFECTED_PC, worlds.MAIL_SERVER, worlds.WINDOWS_7, worlds.WINDOWS_10),
        *(worlds.HOME_ROUTER, worlds.CAMERA, worlds.EXCHANGE, worlds.VISTA_OR_2008),
    ]
    with ThreadPoolExecutor(len(hosts)) as pool:
        for host, found in zip(hosts, pool.map(_scan, hosts), strict=True):
            assert host.persona in found.names, (host.persona, found)


def test_four_scans_at_once_of_one_host_do_not_disturb_each_other(lab: Lab) -> None:
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(_scan, [worlds.INFECTED_PC] * 4):
            assert worlds.XP in found.names


def test_every_host_of_the_ready_made_worlds_plays_a_known_persona() -> None:
    for host in worlds.ALL:
        assert host.persona is None or personas.load(host.persona).classes

"""What nmap's OS detection costs, by options, hosts and how many run at once, on the laboratory.

The hosts answer as nmap's own database says of Windows XP SP3, so that what comes out is an upper
bound: real paths are noisier.  "exact": the right name is among the matches of the best accuracy.

First each set of options against each way a host may be firewalled, four at a time.  Then 16 hosts
by so many processes at once, and in batches of one invocation.  Last the filter's own scan of hosts
of all kinds at three round trips, by the limit it has: how many it can tell in time, and how many
of these within 3 s, for a mail that waits no longer.  All in interleaved rounds.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import repeat
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from botmilter.config import Settings
from botmilter.errors import SetupError
from botmilter.probes import osdetect
from contrib.benchmarks import kit
from tests.lab import worlds
from tests.lab.host import FILTERED, OPEN, Host, Ping
from tests.lab.lab import Lab

_LIMIT_S = 60.0
_PLAIN = ("-n", "-Pn", "-O", "-oX", "-")
_PORTS = ("-p", osdetect.PORTS)
_FAST = ("--max-os-tries", "1", "-T4")

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "default, 8 ports": (*_PLAIN, *_PORTS),
    "1 try": (*_PLAIN, *_PORTS, "--max-os-tries", "1"),
    "1 try, -T4": (*_PLAIN, *_PORTS, *_FAST),
    "same, 1 retry (ours)": (*_PLAIN, *_PORTS, *_FAST, "--max-retries", "1"),
    "same, 0 retries, port 25 (ours, short)": (*_PLAIN, *_FAST, "--max-retries", "0", "-p", "25"),
    "ours, --osscan-limit": (*_PLAIN, *_PORTS, *_FAST, "--max-retries", "1", "--osscan-limit"),
}

_BASE = Host(IPv4Address("198.19.100.1"), worlds.XP)
_WINDOWS = {25: OPEN, 135: OPEN, 139: OPEN, 445: OPEN}
SHAPES: Mapping[str, Host] = {
    "open": replace(_BASE, ports=_WINDOWS),
    "25 open, rest reset": replace(_BASE, ports={25: OPEN}),
    "25 open, rest dropped": replace(_BASE, ports={25: OPEN}, other_ports=FILTERED),
    "all reset": _BASE,
    "silent": replace(_BASE, other_ports=FILTERED, ping=Ping.SILENT, answers_udp=False),
}

#: What the last table looks at, and what nmap's database calls it.
KINDS = (
    *(worlds.INFECTED_PC, worlds.WINDOWS_7, worlds.WINDOWS_10, worlds.WINDOWS_98),
    *(worlds.INFECTED_BEHIND_FORWARDER, worlds.HOME_ROUTER, worlds.CAMERA, worlds.OFFICE_PRINTER),
    *(worlds.MAIL_SERVER, worlds.BSD_MAIL_SERVER, worlds.EXCHANGE, worlds.CLOUD_SENDER),
)
_ROUND_TRIPS_S = (0.0, 0.05, 0.15)


@dataclass(frozen=True, slots=True)
class Scan:
    took_s: float
    exact: bool


def main(argv: Sequence[str] | None = None) -> int:
    parser = kit.arguments("nmap", __doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--round-trip-ms", type=float, default=50.0)
    parser.add_argument("--within-only", action="store_true", help="the last table alone")
    given = parser.parse_args(argv)
    with Lab() as lab:
        options = [] if given.within_only else _options(lab, given)
        many = [] if given.within_only else _many(lab, given)
        within = _within(lab, given.rounds)
    kit.report(given, ("nmap",), options, many=many, within=within)
    return 0


# -- options --------------------------------------------------------------------------------------


def _options(lab: Lab, given: Any) -> list[dict[str, Any]]:
    rounds, round_trip_s = given.rounds, given.round_trip_ms / 1000
    hosts = {}
    for number, (shape, host) in enumerate(SHAPES.items()):
        hosts[shape] = replace(host, ip=_BASE.ip + number, round_trip_s=round_trip_s)
    lab.put(*hosts.values())
    seen: dict[tuple[str, str], list[Scan]] = {}
    jobs = [(name, shape) for _ in range(rounds) for name in OPTIONS for shape in SHAPES]

    def scan(job: tuple[str, str]) -> Scan:
        return _scan(OPTIONS[job[0]], hosts[job[1]])

    with ThreadPoolExecutor(4) as pool:
        for job, done in zip(jobs, pool.map(scan, jobs), strict=True):
            seen.setdefault(job, []).append(done)
    lab.remove(*(host.ip for host in hosts.values()))
    return [
        {
            "options": name,
            "host": shape,
            "s": kit.median_spread([scan.took_s for scan in seen[name, shape]], 1),
            "exact": sum(scan.exact for scan in seen[name, shape]),
            "of": len(seen[name, shape]),
        }
        for name in OPTIONS
        for shape in SHAPES
    ]


def _scan(options: Sequence[str], host: Host) -> Scan:
    began = time.monotonic()
    (exact,) = _exact(options, [host])
    return Scan(time.monotonic() - began, exact)


def _exact(options: Sequence[str], hosts: Sequence[Host]) -> list[bool]:
    """Whether each host's system is among the best matches, by one invocation."""
    command = ["nmap", *options, *(str(host.ip) for host in hosts)]
    output = subprocess.run(command, check=True, capture_output=True, timeout=_LIMIT_S * 2).stdout
    found = {}
    for element in ElementTree.fromstring(output).iter("host"):
        address = element.find("address")
        matches = [(int(m.get("accuracy", 0)), m.get("name")) for m in element.iter("osmatch")]
        best = max((accuracy for accuracy, _ in matches), default=0)
        names = {name for accuracy, name in matches if accuracy == best}
        if address is not None:
            found[address.get("addr")] = names
    return [host.persona in found.get(str(host.ip), ()) for host in hosts]


# -- many hosts -----------------------------------------------------------------------------------

_MANY = 16


def _many(lab: Lab, given: Any) -> list[dict[str, Any]]:
    open_host = replace(SHAPES["open"], round_trip_s=given.round_trip_ms / 1000)
    hosts = [replace(open_host, ip=_BASE.ip + 100 + number) for number in range(_MANY)]
    lab.put(*hosts)
    ways = {f"{at_once} processes": (at_once, 1) for at_once in (1, 4, 8, 16)}
    ways |= {f"batches of {size}": (1, size) for size in (4, 8, 16)}
    seen: dict[str, list[dict[str, float]]] = {how: [] for how in ways}
    for _ in range(given.rounds):
        for how, (at_once, size) in ways.items():
            seen[how].append(_all_of(hosts, at_once, size))
    lab.remove(*(host.ip for host in hosts))
    digits = {"s in all": 1, "hosts/s": 1, "median s each": 1, "CPU s a host": 2}
    return [
        {
            f"{_MANY} open hosts by": how,
            **{
                name: kit.median_spread([one[name] for one in rounds], places)
                for name, places in digits.items()
            },
            "exact": int(sum(one["exact"] for one in rounds)),
            "of": len(hosts) * len(rounds),
        }
        for how, rounds in seen.items()
    ]


def _all_of(hosts: Sequence[Host], at_once: int, size: int) -> dict[str, float]:
    """Once all *hosts*, by *at_once* processes of *size* hosts each."""
    options = OPTIONS["same, 1 retry (ours)"]
    batches = [hosts[at : at + size] for at in range(0, len(hosts), size)]

    def scan(batch: Sequence[Host]) -> tuple[int, float]:
        began = time.monotonic()
        return sum(_exact(options, batch)), time.monotonic() - began

    before, began = _children_cpu_s(), time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        done = list(pool.map(scan, batches))
    wall_s = time.monotonic() - began
    return {
        "s in all": wall_s,
        "hosts/s": len(hosts) / wall_s,
        "median s each": statistics.median(took_s for _, took_s in done),
        "CPU s a host": (_children_cpu_s() - before) / len(hosts),
        "exact": sum(exact for exact, _ in done),
    }


def _children_cpu_s() -> float:
    """Of those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# -- within a budget ------------------------------------------------------------------------------


def _within(lab: Lab, rounds: int) -> list[dict[str, Any]]:
    """The filter's own scan, four at a time, of each kind of host at each round trip."""
    hosts = [
        replace(host, ip=_BASE.ip + 200 + number, round_trip_s=round_trip_s)
        for number, (host, round_trip_s) in enumerate(
            (host, round_trip_s) for host in KINDS for round_trip_s in _ROUND_TRIPS_S
        )
    ]
    lab.put(*hosts)
    limits_s = (3.0, 5.0, 10.0, Settings().probe.osdetect.limit_s)
    seen: dict[float, list[list[Found]]] = {limit_s: [] for limit_s in limits_s}
    for _ in range(rounds):
        for limit_s in limits_s:
            with ThreadPoolExecutor(4) as pool:
                seen[limit_s].append(list(pool.map(_ours, hosts, repeat(limit_s))))
    lab.remove(*(host.ip for host in hosts))
    return [_within_row(limit_s, found) for limit_s, found in seen.items()]


def _within_row(limit_s: float, rounds: Sequence[Sequence[Found]]) -> dict[str, Any]:
    def percent(is_so: Callable[[Found], bool]) -> dict[str, float]:
        return kit.median_spread([100 * sum(map(is_so, one)) / len(one) for one in rounds], 0)

    return {
        "limit s": limit_s,
        "hosts": len(rounds[0]),
        "% told within 3 s": percent(lambda one: one.is_brief),
        "% told": percent(lambda one: one.matches),
        "% exact": percent(lambda one: one.exact),
        "median s": kit.median_spread(
            [statistics.median(one.took_s for one in found) for found in rounds], 1
        ),
        "max s": round(max(one.took_s for found in rounds for one in found), 1),
    }


@dataclass(frozen=True, slots=True)
class Found:
    took_s: float
    matches: bool
    exact: bool

    @property
    def is_brief(self) -> bool:
        return self.matches and self.took_s <= 3.0


def _ours(host: Host, limit_s: float) -> Found:
    began = time.monotonic()
    try:
        matches = osdetect.scan(host.ip, limit_s)["matches"]
    except SetupError:  # not done in time
        matches = []
    took_s = time.monotonic() - began
    best = max((int(match["accuracy"]) for match in matches), default=0)
    names = {match["name"] for match in matches if int(match["accuracy"]) == best}
    return Found(took_s, bool(matches), host.persona in names)


if __name__ == "__main__":
    raise SystemExit(main())

"""What the stores cost, and how soon a host that one worker has met is known to another.

First get, put, claim with release, and the taking of three rate windows, each by one process and by
two at once on the same store.  Then hosts are met by one filter and met again: by the same worker,
by another worker on the same SQLite file, by another daemon on the same Redis; what the second mail
takes, the whole session.  The aim: less than 5 ms for 95 of 100.

Last twenty mails come in the same moment from a PC that nobody has met, to two workers, and to two
daemons with two workers each: how often each probe looked at it, nmap included, and what the mails
took, of which all but one wait for another's answers.  The aim: once each.  All in interleaved
rounds.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from botmilter.errors import StoreError
from botmilter.model import Observation, Status
from botmilter.store.base import Store, Window
from botmilter.store.memory import MemoryStore
from botmilter.store.redis import RedisStore
from botmilter.store.redis_tally import RedisTally
from botmilter.store.sqlite import SqliteStore
from botmilter.store.tally import SqliteTally, Tally
from contrib.benchmarks import kit
from tests.fakes.redis_servers import redis_server
from tests.lab import worlds
from tests.lab.dns import NameServer
from tests.lab.host import Host, Port, smtp
from tests.lab.lab import Lab

_ROWS = 1000
_FACTS = {"names": ["mail.proper.example"], "confirmed": ["mail.proper.example"], "unchecked": []}
_UNLIMITED = {
    "probe.in_all_per_minute": 1_000_000,
    "probe.per_network_per_minute": 1_000_000,
}

#: Refuses port 25 and looks like a client's system, so that nmap is needed.
_PC = replace(worlds.INFECTED_BEHIND_FORWARDER, ip=IPv4Address("198.18.110.1"), names=())
_MAILS_AT_ONCE = 20
#: Of every second stranger: where all look the same, port 25 counts as failed, and is asked again.
_PORTS: tuple[Mapping[int, Port], ...] = ({}, {25: smtp("mail.example ESMTP")})
#: No run takes longer.
_TALLY_S = 86400.0

Maker = Callable[[], Store]
Operation = Callable[[Store, int], None]


def main(argv: Sequence[str] | None = None) -> int:
    parser = kit.arguments("store", __doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure of a round")
    parser.add_argument("--hosts", type=int, default=300, help="to be met twice")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        place = folder / "redis.sock"
        running.enter_context(redis_server(folder, place))
        url = f"unix://{place}"
        rows = _operations(folder, url, given.rounds, given.seconds)
        with _site(folder, url) as site:
            second = _second_mails(site, given.rounds, given.hosts)
            at_once = _at_once(site, given.rounds)
    uses = ("Redis", "redis-py", "SQLite", "pymilter", "libmilter", "nmap")
    kit.report(given, uses, rows, second=second, at_once=at_once)
    return 0


# -- operations ---------------------------------------------------------------------------------


def _seen(number: int) -> Observation:
    key = f"198.18.{number % _ROWS // 250}.{number % 250}"
    return Observation("rdns", key, Status.ANSWERED, _FACTS, taken_at=time.time())


def _get(store: Store, number: int) -> None:
    store.get("rdns", _seen(number).key, time.time())


def _put(store: Store, number: int) -> None:
    store.put(_seen(number), 3600.0)


def _claim(store: Store, number: int) -> None:
    key = f"{os.getpid()} {number}"
    store.claim(key, 10.0)
    store.release(key)


def _admit(store: Store, number: int) -> None:
    windows = [Window(f"host {number % 250}", 10**6, 3600.0), Window("network", 10**9, 60.0)]
    store.admit([*windows, Window("in all", 10**9, 60.0)], time.time())


_OPERATIONS: Mapping[str, Operation] = {
    "put": _put,
    "get": _get,
    "claim, release": _claim,
    "admit": _admit,
}


def _operations(folder: Path, url: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    makers: dict[str, Maker] = {
        "memory": lambda: MemoryStore(20_000),
        "sqlite": lambda: SqliteStore(folder / "store.sqlite"),
        "redis": lambda: RedisStore(url),
    }
    seen: dict[tuple[str, str, int], list[float]] = {}
    for number in range(rounds + 1):
        for operation in _OPERATIONS:
            for kind, make in makers.items():
                for processes in (1, 2):
                    per_s = _per_s(make, _OPERATIONS[operation], processes, seconds)
                    if number:
                        seen.setdefault((operation, kind, processes), []).append(per_s)
    return [_row(*key, seen) for key in seen if key[1:] != ("memory", 2)]  # shared by nobody


def _row(
    operation: str, kind: str, processes: int, seen: Mapping[tuple[str, str, int], Sequence[float]]
) -> dict[str, Any]:
    mine, one = seen[operation, kind, processes], seen[operation, "sqlite", 1]
    return {
        "operation": operation,
        "store": kind,
        "processes": processes,
        "per second": round(statistics.median(mine)),
        "x sqlite, 1": kit.median_spread([a / b for a, b in zip(mine, one, strict=True)]),
    }


def _per_s(make: Maker, operation: Operation, processes: int, seconds: float) -> float:
    """By all processes together."""
    ends = []
    for _ in range(processes):
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.write(writing, str(_count(make, operation, seconds)).encode())
            os._exit(0)
        os.close(writing)
        ends.append(reading)
    total = 0.0
    for end in ends:
        with os.fdopen(end) as pipe:
            total += float(pipe.read())
        os.wait()
    return total


def _count(make: Maker, operation: Operation, seconds: float) -> float:
    """What a busy store refuses is not counted: the filter then goes on without it."""
    store, done = make(), 0
    for number in range(100):  # opens it, and something is there to be got
        with suppress(StoreError):
            _put(store, number)
            operation(store, number)
    began = time.monotonic()
    while (took_s := time.monotonic() - began) < seconds:
        with suppress(StoreError):
            operation(store, done)
            done += 1
    return done / took_s


# -- second mails -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Site:
    """What the filters below share."""

    lab: Lab
    generator: kit.Generator
    folder: Path
    url: str

    @property
    def by_file(self) -> Mapping[str, object]:
        return {**_UNLIMITED, "store.path": str(self.folder / "shared.sqlite")}

    @property
    def by_redis(self) -> Mapping[str, object]:
        redis = {"store.kind": "redis", "store.path": "", "store.url": self.url}
        return {**_UNLIMITED, **redis}


@contextmanager
def _site(folder: Path, url: str) -> Iterator[Site]:
    with Lab() as lab, NameServer([], worlds.RECORDS):
        yield Site(lab, kit.Generator(folder), folder, url)


def _second_mails(site: Site, rounds: int, hosts: int) -> list[dict[str, Any]]:
    """Hosts that answer at once are met by one filter, twenty at a time, then again by another."""
    one_worker = {"milter.workers": 1, "probe.osdetect.enabled": False}
    file, redis = {**site.by_file, **one_worker}, {**site.by_redis, **one_worker}
    ways: Mapping[str, tuple[Mapping[str, object], bool]] = {
        "same worker": (file, False),
        "another worker, SQLite": (file, True),
        "another daemon, Redis": (redis, True),
    }
    seen: dict[str, list[tuple[kit.Load, kit.Load]]] = {where: [] for where in ways}
    start = IPv4Address("198.19.0.1")
    for _ in range(rounds):
        for where, (settings, by_another) in ways.items():
            strangers = [Host(start + number, ports=_PORTS[number % 2]) for number in range(hosts)]
            start += hosts + 256  # whose neighbours they are not
            site.lab.put(*strangers)
            seen[where].append(_met_twice(site, settings, by_another, strangers[0].ip, hosts))
            site.lab.remove(*(host.ip for host in strangers))
    return [_second_row(where, loads) for where, loads in seen.items()]


def _met_twice(
    site: Site, settings: Mapping[str, object], by_another: bool, first: IPv4Address, hosts: int
) -> tuple[kit.Load, kit.Load]:
    places = [site.folder / name for name in ("one", "other")][: 1 + by_another]
    with ExitStack() as running:
        for place in places:
            running.enter_context(kit.botmilter(place, settings))
        met = site.generator.run(places[0], f"{first}+", 20, hosts)
        again = places[-1]
        site.generator.run(again, str(first + hosts + 1), 1, 1)  # a worker's first is its slowest
        return met, site.generator.run(again, f"{first}+", 1, hosts)


def _second_row(where: str, loads: Sequence[tuple[kit.Load, kit.Load]]) -> dict[str, Any]:
    def ms(which: int, share: float, digits: int) -> dict[str, float]:
        return kit.median_spread([kit.percentile(one[which].ms, share) for one in loads], digits)

    return {
        "met again by": where,
        "first p50 ms": ms(0, 0.5, 1),
        "second p50 ms": ms(1, 0.5, 2),
        "p95": ms(1, 0.95, 2),
        "p99": ms(1, 0.99, 2),
        "failed": sum(load.failed for one in loads for load in one),
    }


# -- many mails at once -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """So many daemons with two workers each, by these settings; *tally* has what they count."""

    daemons: int
    settings: Mapping[str, object]
    tally: Tally


@dataclass(frozen=True, slots=True)
class Met:
    runs: Mapping[str, int]
    """By probe."""
    loads: Sequence[kit.Load]

    @property
    def ms(self) -> list[float]:
        return [ms for load in self.loads for ms in load.ms]


def _at_once(site: Site, rounds: int) -> list[dict[str, Any]]:
    ways = {
        "1 daemon, SQLite": Way(1, site.by_file, SqliteTally(site.folder / "shared.stats.sqlite")),
        "2 daemons, Redis": Way(2, site.by_redis, RedisTally(RedisStore(site.url), _TALLY_S)),
    }
    seen: dict[str, list[Met]] = {name: [] for name in ways}
    for number in range(rounds):
        for at, (name, way) in enumerate(ways.items()):
            pc = replace(_PC, ip=_PC.ip + len(ways) * number + at)
            site.lab.put(pc)
            seen[name].append(_met_at_once(site, way, pc))
            site.lab.remove(pc.ip)
    return [_at_once_row(name, met) for name, met in seen.items()]


def _met_at_once(site: Site, way: Way, pc: Host) -> Met:
    places = [site.folder / f"at-once{number}" for number in range(way.daemons)]
    each = _MAILS_AT_ONCE // way.daemons
    before = _runs(way.tally)
    with ExitStack() as running:
        for place in places:
            running.enter_context(kit.botmilter(place, {**way.settings, "milter.workers": 2}))
            site.generator.run(place, "127.0.0.1", 4, 20)  # exempt: both workers' first mails
        under_way = [site.generator.start(place, str(pc.ip), each, each) for place in places]
        loads = [one.wait() for one in under_way]
    return Met(_runs(way.tally) - before, loads)  # what they count is written as they end


def _runs(tally: Tally) -> Counter[str]:
    """How often each probe has measured, by the filters' own counts."""
    found: Counter[str] = Counter()
    for row in tally.rows(time.time() - _TALLY_S):
        kind, _, rest = row.word.partition(" ")
        if kind == "probes":
            found[rest.partition(" ")[0]] += row.counted
    return found


def _at_once_row(name: str, met: Sequence[Met]) -> dict[str, Any]:
    return {
        f"{_MAILS_AT_ONCE} mails at once at": name,
        **{
            f"{probe} runs": kit.median_spread([one.runs.get(probe, 0) for one in met], 0)
            for probe in ("rdns", "smtp", "ping", "osdetect", "senderhost")
        },
        "p50 ms": kit.median_spread([kit.percentile(one.ms, 0.5) for one in met], 0),
        "last ms": kit.median_spread([max(one.ms) for one in met], 0),
        "failed": sum(load.failed for one in met for load in one.loads),
    }


if __name__ == "__main__":
    raise SystemExit(main())

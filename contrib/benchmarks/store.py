"""What the stores cost, and how soon a host that one worker has met is known to another.

First get, put, claim with release, and the taking of three rate windows, each by one process and by
two at once on the same store, in interleaved rounds.  Then hosts are met by one filter and met
again: by the same worker, by another worker on the same SQLite file, by another daemon on the same
Redis; what the second mail takes, the whole session.  The aim: less than 5 ms for 95 of 100.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from botmilter.errors import StoreError
from botmilter.model import Observation, Status
from botmilter.store.base import Store, Window
from botmilter.store.memory import MemoryStore
from botmilter.store.redis import RedisStore
from botmilter.store.sqlite import SqliteStore
from contrib.benchmarks import kit
from tests.lab import worlds
from tests.lab.dns import NameServer
from tests.lab.host import Host
from tests.lab.lab import Lab

_ROWS = 1000
_FACTS = {"names": ["mail.proper.example"], "confirmed": ["mail.proper.example"], "unchecked": []}
_START_LIMIT_S = 10.0

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
        url = running.enter_context(_redis(folder))
        rows = _operations(folder, url, given.rounds, given.seconds)
        second = _second_mails(folder, url, given.hosts)
    uses = ("Redis", "redis-py", "SQLite", "pymilter", "libmilter")
    kit.report(given, uses, rows, second=second)
    return 0


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    path = folder / "redis.sock"
    program = shutil.which("redis-server") or "redis-server"
    command = [program, "--port", "0", "--save", "", "--unixsocket", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        end = time.monotonic() + _START_LIMIT_S
        while not path.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("Redis does not start")
            time.sleep(0.05)
        yield f"unix://{path}"
    finally:
        process.kill()
        process.wait()


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


def _second_mails(folder: Path, url: str, hosts: int) -> list[dict[str, Any]]:
    """Hosts that answer at once are met by one filter, twenty at a time, then again by another."""
    quick = {
        "milter.workers": 1,
        "probe.osdetect.enabled": False,
        "probe.in_all_per_minute": 1_000_000,
        "probe.per_network_per_minute": 1_000_000,
    }
    file = {**quick, "store.path": str(folder / "shared.sqlite")}
    redis = {**quick, "store.kind": "redis", "store.path": "", "store.url": url}
    first = [IPv4Address("198.19.0.1") + 2048 * number for number in range(3)]
    rows = []
    with ExitStack() as running:
        lab = running.enter_context(Lab())
        running.enter_context(NameServer([], worlds.RECORDS))
        generator = kit.Generator(folder)
        for where, met_by, met_again, start in (
            ("same worker", file, None, first[0]),
            ("another worker, SQLite", file, file, first[1]),
            ("another daemon, Redis", redis, redis, first[2]),
        ):
            lab.put(*(Host(start + number) for number in range(hosts)))
            rows.append(_met_twice(folder, generator, where, met_by, met_again, start, hosts))
            lab.remove(*(start + number for number in range(hosts)))
    return rows


def _met_twice(
    folder: Path,
    generator: kit.Generator,
    where: str,
    met_by: Mapping[str, object],
    met_again: Mapping[str, object] | None,
    start: IPv4Address,
    hosts: int,
) -> dict[str, Any]:
    one, other = folder / "one", folder / "other"
    with ExitStack() as running:
        running.enter_context(kit.botmilter(one, met_by))
        if met_again is not None:
            running.enter_context(kit.botmilter(other, met_again))
        first = generator.run(one, f"{start}+", 20, hosts)
        place = other if met_again is not None else one
        generator.run(place, str(start + hosts + 1), 1, 1)  # a worker's first mail is its slowest
        second = generator.run(place, f"{start}+", 1, hosts)
    return {
        "met again by": where,
        "first p50 ms": round(kit.percentile(first.ms, 0.5), 1),
        "second p50 ms": round(kit.percentile(second.ms, 0.5), 2),
        "p95": round(kit.percentile(second.ms, 0.95), 2),
        "p99": round(kit.percentile(second.ms, 0.99), 2),
        "failed": first.failed + second.failed,
    }


if __name__ == "__main__":
    raise SystemExit(main())

"""One worker and two, 1 to 1,000 connections at once; then memory over many unknown hosts.

First a known host's mails, a session each: messages a second and CPU for each message, two workers
beside one in interleaved rounds, each against one worker of its own round; how many failed, and the
most memory and threads a worker had.  On two processors the load generator, the filter and whatever
else runs share them: CPU per message is the figure that counts.  The aim: two workers 1.6 times one
where there is room for it.

Then mails from hosts that nobody has seen before, each probed (DNS, port 25, ping), through one
worker whose caches hold 1,000 rows and are full after 2,000 hosts: its memory after 1,000 more of
them and after all.  The aim: 1 MiB more at most.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contrib.benchmarks import kit
from tests.lab import worlds
from tests.lab.dns import NameServer
from tests.lab.host import Host
from tests.lab.lab import Lab

_LOOK_EVERY_S = 0.1
_ROWS = 1000
#: Answers, verdicts, headers and rates are all kept for at most so many.
_UNTIL_FULL = 2000
_HOSTS_AT_A_TIME = 1000


def main(argv: Sequence[str] | None = None) -> int:
    parser = kit.arguments("scale", __doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--messages", type=int, default=3000, help="in each round, of each")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--hosts", type=int, default=20_000, help="unknown ones; 0: leave it out")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        lab = running.enter_context(Lab([worlds.MAIL_SERVER]))
        running.enter_context(NameServer([worlds.MAIL_SERVER], worlds.RECORDS))
        generator = kit.Generator(folder)
        rows = _known(folder, generator, given)
        memory = _unknown(folder, lab, generator, given.hosts) if given.hosts else []
    kit.report(given, ("pymilter", "libmilter"), rows, memory=memory)
    return 1 if any(row["failed"] for row in rows) else 0


# -- known ----------------------------------------------------------------------------------------


def _known(folder: Path, generator: kit.Generator, given: Any) -> list[dict[str, Any]]:
    seen: dict[tuple[int, int], list[dict[str, float]]] = {}
    with ExitStack() as running:
        daemons = {}
        for workers in (1, 2):
            place = folder / f"known{workers}"
            daemon = running.enter_context(kit.botmilter(place, {"milter.workers": workers}))
            kit.make_known(place, lambda daemon=daemon: daemon.log)  # type: ignore[misc]  # bound now
            daemons[workers] = (place, daemon.pid)
        for number in range(given.rounds + 1):
            for connections in given.connections:
                for workers, (place, pid) in daemons.items():
                    one = _round(generator, place, pid, connections, given.messages)
                    if number:  # the first is for warming up, of each worker too
                        seen.setdefault((connections, workers), []).append(one)
    return [_row(connections, workers, seen) for connections, workers in seen]


def _round(
    generator: kit.Generator, place: Path, pid: int, connections: int, messages: int
) -> dict[str, float]:
    before = kit.cpu_s(pid)
    load = generator.start(place, kit.KNOWN_HOST, connections, messages)
    memory, threads = 0.0, 0
    while load.is_running:
        workers = kit.workers(pid)
        memory = max(memory, *(kit.memory_mib(one) for one in workers))
        threads = max(threads, *(kit.threads(one) for one in workers))
        time.sleep(_LOOK_EVERY_S)
    done = load.wait()
    return {
        "per_s": messages / done.took_s,
        "cpu_ms": max(kit.cpu_s(pid) - before, kit.TICK_S) * 1000 / messages,
        "p99_ms": kit.percentile(done.ms, 0.99),
        "memory": memory,
        "threads": threads,
        "failed": done.failed,
    }


def _row(
    connections: int, workers: int, seen: dict[tuple[int, int], list[dict[str, float]]]
) -> dict[str, Any]:
    mine, one = seen[connections, workers], seen[connections, 1]
    return {
        "conn.": connections,
        "workers": workers,
        "msg/s": round(statistics.median(each["per_s"] for each in mine)),
        "x 1 worker": kit.median_spread(
            [a["per_s"] / b["per_s"] for a, b in zip(mine, one, strict=True)]
        ),
        "CPU ms": round(statistics.median(each["cpu_ms"] for each in mine), 3),
        "CPU x 1 worker": kit.median_spread(
            [a["cpu_ms"] / b["cpu_ms"] for a, b in zip(mine, one, strict=True)]
        ),
        "p99 ms": round(statistics.median(each["p99_ms"] for each in mine), 1),
        "MiB": round(max(each["memory"] for each in mine), 1),
        "threads": int(max(each["threads"] for each in mine)),
        "failed": int(sum(each["failed"] for each in mine)),
    }


# -- unknown --------------------------------------------------------------------------------------


def _unknown(folder: Path, lab: Lab, generator: kit.Generator, hosts: int) -> list[dict[str, Any]]:
    """Memory of the worker after each thousand hosts, none of which is met twice, counted from
    when its caches are full."""
    settings = {
        "milter.workers": 1,
        "store.cache_rows": _ROWS,
        "probe.osdetect.enabled": False,
        "probe.in_all_per_minute": 1_000_000,
        "probe.per_network_per_minute": 1_000_000,
    }
    place, rows = folder / "unknown", []
    with kit.botmilter(place, settings) as daemon:
        for at in range(-_UNTIL_FULL, hosts, _HOSTS_AT_A_TIME):
            first = IPv4Address("198.19.0.1") + _UNTIL_FULL + at
            some = [Host(first + number) for number in range(_HOSTS_AT_A_TIME)]
            lab.put(*some)
            done = generator.run(place, f"{first}+", 20, _HOSTS_AT_A_TIME)
            lab.remove(*(host.ip for host in some))
            (worker,) = kit.workers(daemon.pid)
            rows.append(
                {
                    "hosts": at + _HOSTS_AT_A_TIME,
                    "MiB": round(kit.memory_mib(worker), 2),
                    "threads": kit.threads(worker),
                    "p50 ms": round(kit.percentile(done.ms, 0.5), 1),
                    "failed": done.failed,
                }
            )
            print(rows[-1], file=sys.stderr)
    return rows


if __name__ == "__main__":
    raise SystemExit(main())

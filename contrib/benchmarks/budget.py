"""What a mail waits when every unknown host hangs, and what known hosts' mail waits meanwhile.

The hosts are black holes (nothing answers) and tarpits (an octet of greeting a second); the name
server takes questions and answers none.  All connections come at once, each mail from another
host, its rates not limited.  A session's time counts in full, from connecting to the last answer.
The aims: 99 of 100 mails within the budget and 50 ms, all within 150 ms; a known host's mails at
no more than 1.5 times their usual 99th percentile.

The known host sends mail after mail, over --known-connections, before the flood and as long as it
lasts, both in runs of a hundred mails for each connection: the first of a run is slower, whatever
else happens.  In turns with these come runs to a bare pymilter filter, which has no part in the
flood: its times are what the busier machine does to any filter, load generator and laboratory
included.  Budget and workers are as shipped unless told otherwise.
"""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contrib.benchmarks import kit
from tests.lab import net, worlds
from tests.lab.dns import NameServer
from tests.lab.host import Host, black_hole
from tests.lab.lab import Lab

_P99_OVER_MS, _MOST_OVER_MS, _KNOWN_TIMES = 50.0, 150.0, 1.5
#: For each connection of the known host.
_RUN_MAILS = 100
_UNLIMITED = {
    "probe.in_all_per_minute": 1_000_000,
    "probe.per_network_per_minute": 1_000_000,
}


@dataclass(frozen=True, slots=True)
class Known:
    """A known host's mails to one filter."""

    before: list[kit.Load] = field(default_factory=list)
    in_flood: list[kit.Load] = field(default_factory=list)

    @property
    def times(self) -> float:
        return _p99_ms(self.in_flood) / _p99_ms(self.before)


@dataclass(frozen=True, slots=True)
class Round:
    unknown: kit.Load
    ours: Known
    floor: Known


def main(argv: Sequence[str] | None = None) -> int:
    parser = kit.arguments("budget", __doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--mails", type=int, default=400, help="from unknown hosts, in each round")
    parser.add_argument("--known", type=int, default=10_000, help="mails before, known host")
    parser.add_argument("--known-connections", type=int, default=1, help="of the known host")
    parser.add_argument("--hosts", nargs="+", default=["black hole", "tarpit"])
    parser.add_argument("--budget-s", type=float, default=5.0)
    parser.add_argument("--under-load-s", type=float, default=1.0)
    parser.add_argument("--workers", default="auto", help="a number, or one for each CPU")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        lab = running.enter_context(Lab([worlds.MAIL_SERVER]))
        running.enter_context(kit.pymilter_floor(folder / "floor"))
        generator = kit.Generator(folder)
        rows = [
            _measure(folder, lab, generator, given, hangs, load_mails)
            for hangs in given.hosts
            for load_mails in (100_000, 50)
        ]
    kit.report(given, ("pymilter", "libmilter", "nmap"), rows)
    return 0 if all(row["failed"] == 0 for row in rows) else 1


def _measure(
    folder: Path, lab: Lab, generator: kit.Generator, given: Any, hangs: str, load_mails: int
) -> dict[str, Any]:
    """From *load_mails* waiting mails on, in all workers together, under_load_s holds."""
    place = folder / "milter"
    settings = {
        **_UNLIMITED,
        "budget.per_mail_s": given.budget_s,
        "budget.under_load_s": given.under_load_s,
        "budget.load_mails": load_mails,
        "milter.workers": given.workers if given.workers == "auto" else int(given.workers),
    }
    rounds = [
        _round(place, settings, lab, generator, given, _hosts(hangs, given.mails))
        for _ in range(given.rounds)
    ]
    return _row(hangs, load_mails, given.budget_s, rounds)


def _round(
    place: Path,
    settings: Mapping[str, object],
    lab: Lab,
    generator: kit.Generator,
    given: Any,
    hosts: Sequence[Host],
) -> Round:
    """With a filter of its own: what is known of a host, or of a probe, makes nothing hang."""
    lab.put(*hosts)
    with ExitStack() as running:
        with NameServer([worlds.MAIL_SERVER], worlds.RECORDS):
            daemon = running.enter_context(kit.botmilter(place, settings))
            kit.make_known(place, lambda: daemon.log)
        running.enter_context(_silent_name_server())
        ours, floor = Known(), Known()
        at_once = given.known_connections
        messages = _RUN_MAILS * at_once
        run = partial(generator.run, client=kit.KNOWN_HOST, at_once=at_once, messages=messages)
        for _ in range(max(1, given.known // messages)):
            ours.before.append(run(place))
            floor.before.append(run(place.with_name("floor")))
        flood = generator.start(place, f"{hosts[0].ip}+", given.connections, given.mails)
        while flood.is_running:
            ours.in_flood.append(run(place))
            floor.in_flood.append(run(place.with_name("floor")))
        unknown = flood.wait()
    lab.remove(*(host.ip for host in hosts))
    return Round(unknown, ours, floor)


def _row(hangs: str, load_mails: int, budget_s: float, rounds: Sequence[Round]) -> dict[str, Any]:
    over = [[ms - budget_s * 1000 for ms in one.unknown.ms] for one in rounds]
    loads = [one.unknown for one in rounds]
    for known in (known for one in rounds for known in (one.ours, one.floor)):
        loads += known.before + known.in_flood
    return {
        "hosts": hangs,
        "load_mails": load_mails,
        "p50 ms": round(kit.percentile([ms for one in rounds for ms in one.unknown.ms], 0.5)),
        "p99 over budget ms": kit.median_spread([kit.percentile(one, 0.99) for one in over], 0),
        "max over": round(max(max(one) for one in over)),
        "known p99 ms": kit.median_spread([_p99_ms(one.ours.before) for one in rounds]),
        "in the flood": kit.median_spread([_p99_ms(one.ours.in_flood) for one in rounds]),
        "times": kit.median_spread([one.ours.times for one in rounds]),
        "floor's times": kit.median_spread([one.floor.times for one in rounds]),
        "failed": sum(load.failed for load in loads),
    }


def _p99_ms(runs: Sequence[kit.Load]) -> float:
    return kit.percentile([ms for run in runs for ms in run.ms], 0.99)


def _hosts(hangs: str, count: int) -> list[Host]:
    first = IPv4Address("198.19.0.1")
    tarpit = replace(worlds.TARPITTED, names=())
    return [
        replace(tarpit, ip=first + at) if hangs == "tarpit" else black_hole(str(first + at))
        for at in range(count)
    ]


@contextmanager
def _silent_name_server() -> Iterator[None]:
    """Takes questions and answers none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((net.NAME_SERVER, 53))
        yield


if __name__ == "__main__":
    raise SystemExit(main())

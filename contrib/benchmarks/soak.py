"""Many mails at full speed: what is left behind in memory, descriptors, threads, processes.

A worker for each CPU; 2,000 hosts, of which sixty a minute are measured by all probes, the real
nmap among them.  Then a thousand connections at once, first alone, then beside two hundred that
stall.  Exit code 1 if a mail failed or something was left.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contrib.benchmarks import kit
from tests.reliability import load


def main(argv: Sequence[str] | None = None) -> int:
    parser = kit.arguments("soak", __doc__)
    parser.add_argument("--mails", type=int, default=200_000)
    parser.add_argument("--warm", type=int, default=20_000, help="of these, before the first look")
    parser.add_argument("--connections", type=int, default=20)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        soaked = load.soak(Path(folder), given.warm, given.mails, given.connections)
    with tempfile.TemporaryDirectory() as folder:
        crowded = load.crowd(Path(folder), stalled=200, at_once=800, mails=8_000)
    both = {"soak": asdict(soaked), "crowd": asdict(crowded)}
    kit.publish(given, ("pymilter", "libmilter", "nmap"), both, _lines(soaked, crowded))
    failed = sum(one.failed for one in (soaked.warm, soaked.rest, *crowded.rounds))
    return 0 if soaked.leaves_nothing and not failed else 1


def _lines(soaked: load.Soaked, crowded: load.Crowded) -> str:
    rows = [["", "memory", "threads", "descriptors", "processes", "zombies"]]
    for name, use in (("warm", soaked.after_warm), ("end", soaked.at_end)):
        numbers = (use.threads, use.open_files, use.processes, use.zombies)
        rows.append([name, f"{use.rss_kb / 1024:.1f} MB", *map(str, numbers)])
    table = "\n".join(" ".join(f"{cell:>12}" for cell in row) for row in rows)
    rest = soaked.rest
    return (
        f"{rest.mails} mails after {soaked.warm.mails}: {rest.per_s:.0f}/s, {rest.failed} failed,"
        f" slowest {rest.slowest_s:.2f} s; memory {soaked.growth:+.1%}\n{table}\n"
        f"800 connections at once: {crowded.alone.per_s:.0f} mails/s;"
        f" beside 200 stalled ones: {crowded.among_stalled.per_s:.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())

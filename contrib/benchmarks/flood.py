"""A flood of mail from hosts nobody knows: what leaves, what it costs, how long the mails take.

One daemon with one worker and the default rates, in the laboratory, which counts every packet that
leaves; none of the hosts answers.  Exit code 1 if a mail failed or a rate was exceeded.
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
    parser = kit.arguments("flood", __doc__)
    parser.add_argument("--mails", type=int, default=100_000)
    parser.add_argument("--addresses", type=int, default=50_000)
    parser.add_argument("--connections", type=int, default=100)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        seen = load.flood(Path(folder), given.mails, given.addresses, given.connections)
    kit.publish(given, ("pymilter", "libmilter"), asdict(seen), _lines(seen))
    return 0 if seen.is_within_rates and not seen.sent.failed else 1


def _lines(seen: load.Flooded) -> str:
    sent, peak = seen.sent, seen.peak
    return (
        f"{sent.mails} mails in {sent.took_s:.0f} s ({sent.per_s:.0f}/s), {sent.failed} failed,"
        f" slowest {sent.slowest_s:.2f} s\n"
        f"{seen.measurements} measurements in {seen.minutes} windows of a minute, at most"
        f" {seen.most_in_a_network} in one /24, {seen.most_to_a_host} of one host\n"
        f"{seen.by_rate_limit} mails judged without for a rate limit's sake\n"
        f"memory {seen.before.rss_kb / 1024:.0f} MB before, {peak['rss_kb'] / 1024:.0f} MB at most;"
        f" threads {seen.before.threads}, {peak['threads']} at most"
    )


if __name__ == "__main__":
    sys.exit(main())

"""Mails that try to make us send packets to somebody else, and every packet that left.

Forged Received lines, HELO names and senders that name private, reserved, multicast, mapped,
6to4, NAT64 and link-local addresses and third parties; from hosts that may be probed, through a
trusted relay, from a network that opted out.  Exit code 1 if a packet went to anybody who had not
sent a mail, or a mail went without a verdict.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contrib.benchmarks import kit
from tests.reliability import hostile


def main(argv: Sequence[str] | None = None) -> int:
    parser = kit.arguments("attack", __doc__)
    parser.add_argument("--mails", type=int, default=10_000)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        seen = hostile.attack(Path(folder), given.mails)
    said = (
        f"{seen.mails} mails in {seen.took_s:.0f} s, {seen.unmarked} without one verdict\n"
        f"{seen.packets} packets left, to others than the mails' own hosts:"
        f" {' '.join(seen.strangers) or 'none'}"
    )
    kit.publish(given, ("pymilter", "libmilter", "nmap"), asdict(seen), said)
    return 1 if seen.strangers or seen.unmarked or not seen.packets else 0


if __name__ == "__main__":
    sys.exit(main())

"""How fast the Received chain is read, beside SpamAssassin and mail-parser.

Over the real headers of ``../shared/corpus`` (or ``--corpus``, an archive of files): split a
mail's header block, parse its ``Received`` lines with their dates, apply trust.  SpamAssassin does
it once as it does for every mail ("whole") and once with nothing but what is compared ("least");
our rate is judged against the better of the two.  mail-parser has no notion of trust; it parses.

All run by turns in one run, so that what else the machine does meets everyone; of the rounds the
best counts for each.  Ratios mean something, rates only on the same machine.
"""

# debian: spamassassin
# pypi: mail-parser

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import mailparser

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from botmilter.model import Trust  # noqa: E402 - the clone itself is not on the path
from botmilter.received import parse  # noqa: E402
from botmilter.received.origin import find  # noqa: E402
from contrib.benchmarks import kit  # noqa: E402

CORPUS = HERE.parents[2] / "shared" / "corpus" / "headers.tar.gz"
#: The networks that the corpus' README names, of all its parts together.
NETWORKS = (
    "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 212.17.35.15 193.120.211.219 213.105.180.140 "
    "193.120.149.226 fe80::/10 2603:1000::/24 2a01:111::/32"
)
TRUST = Trust(networks=tuple(ip_network(text) for text in NETWORKS.split()))
#: What the project promises over SpamAssassin's better way.
WANTED_RATIO = 3.0


class SpamAssassin:
    """The Perl side: reads the same files, goes over them when told to."""

    def __init__(self, files: Sequence[Path]) -> None:
        command = ["perl", str(HERE / "received.pl"), NETWORKS, *map(str, files)]
        self._perl = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def seconds(self, way: str) -> float:
        assert self._perl.stdin is not None
        assert self._perl.stdout is not None
        self._perl.stdin.write(way + "\n")
        self._perl.stdin.flush()
        answer = self._perl.stdout.readline().split()
        if len(answer) != 2 or not int(answer[1]):
            raise SystemExit("SpamAssassin did not answer; is the package there?")
        return float(answer[0])

    def close(self) -> None:
        self._perl.communicate()


def main() -> int:
    parser = kit.arguments("received", __doc__)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    if not given.corpus.exists():
        raise SystemExit(f"no mail to read: {given.corpus} is not there; name another by --corpus")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-xzf", given.corpus, "-C", folder], check=True)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        result = measure(files, given.rounds)
    kit.publish(given, ("SpamAssassin", "mail-parser"), result, table(result))
    return 0 if result["ratio"] >= WANTED_RATIO else 1


def measure(files: Sequence[Path], rounds: int) -> dict[str, Any]:
    blocks = [path.read_bytes() for path in files]
    spamassassin = SpamAssassin(files)
    ways: dict[str, Callable[[], float]] = {
        "botmilter": lambda: ours(blocks),
        "SpamAssassin, least": lambda: spamassassin.seconds("least"),
        "SpamAssassin, whole": lambda: spamassassin.seconds("whole"),
        "mail-parser": lambda: theirs(blocks),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            best[name] = min(best[name], way())
    spamassassin.close()
    rates = {name: len(blocks) / seconds for name, seconds in best.items()}
    peer = max(rates["SpamAssassin, least"], rates["SpamAssassin, whole"])
    return {
        "mails": len(blocks),
        "hops": sum(len(parse(block).hops) for block in blocks),
        "rounds": rounds,
        "mails_per_s": {name: round(rate) for name, rate in rates.items()},
        "ratio": round(rates["botmilter"] / peer, 2),
        "ratios": {
            name: round(rates["botmilter"] / rate, 2)
            for name, rate in rates.items()
            if name != "botmilter"
        },
        "wanted_ratio": WANTED_RATIO,
    }


def ours(blocks: Sequence[bytes]) -> float:
    gc.collect()
    start = time.perf_counter()
    for block in blocks:
        find(parse(block), TRUST)
    return time.perf_counter() - start


def theirs(blocks: Sequence[bytes]) -> float:
    gc.collect()
    start = time.perf_counter()
    for block in blocks:
        len(mailparser.parse_from_bytes(block).received)
    return time.perf_counter() - start


def table(result: dict[str, Any]) -> str:
    rates, ratios = result["mails_per_s"], result["ratios"]
    over = f"{result['mails']} mails, {result['hops']} Received lines"
    lines = [f"{over}, best of {result['rounds']} rounds", ""]
    lines.append(f"{'':24}{'mails/s':>10}{'us/mail':>10}{'ours is':>12}")
    for name, rate in rates.items():
        ratio = f"{ratios[name]:.1f} x" if name in ratios else ""
        lines.append(f"{name:24}{rate:10}{1e6 / rate:10.0f}{ratio:>12}")
    lines += [
        "",
        f"wanted: {result['wanted_ratio']} x SpamAssassin's better; got {result['ratio']} x",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

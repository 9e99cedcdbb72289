"""What botmilter costs for a mail of a known host, beside the floor, C, opendkim and rspamd.

One session for each mail: connect, 3 KB and 12 header fields, quit, over a Unix socket.  The floor
is pymilter with connect, end of message and one header added.  The known host's verdict comes
out of the memory: the laboratory's mail server was probed before.  Rounds are interleaved, each
against the floor of its own round; CPU is the filter's, all its processes, from /proc.

The peers are at their cheapest: opendkim finds no signature, rspamd has no module loaded.  Two
more rows say what pymilter itself takes for handing twelve header fields to Python, by its class
Milter.Base and by its lower module, which botmilter uses.
"""

# debian: opendkim rspamd

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from contrib.benchmarks import kit  # noqa: E402 - the clone itself is not on the path
from tests.lab import worlds  # noqa: E402
from tests.lab.dns import NameServer  # noqa: E402
from tests.lab.filter import Filter  # noqa: E402
from tests.lab.lab import Lab  # noqa: E402

FLOOR = "pymilter floor"
_PEERS = ("opendkim", "rspamd")
#: rspamd compiles its patterns first.
_START_LIMIT_S = 90.0

_HEADERS_BY_CLASS = kit.PYMILTER_FLOOR.replace(
    "    def eom",
    "    @Milter.noreply\n    def header(self, *_):\n        return Milter.CONTINUE\n    def eom",
)

_HEADERS_BY_MODULE = """
import sys, milter
def negotiate(ctx, options):
    steps = milter.P_NORCPT | milter.P_NOBODY | milter.P_NOEOH | milter.P_NODATA
    steps |= milter.P_NOUNKNOWN
    steps |= milter.P_NOMAIL | milter.P_NOHELO | milter.P_NR_CONN | milter.P_NR_HDR
    options[:] = [milter.ADDHDRS, options[1] & steps, 0, 0]
    return milter.CONTINUE
def end(ctx):
    ctx.addheader("X-Floor", "floor")
    return milter.CONTINUE
milter.set_connect_callback(lambda *_: milter.NOREPLY)
milter.set_header_callback(lambda *_: milter.NOREPLY)
milter.set_eom_callback(end)
milter.set_flags(milter.ADDHDRS)
milter.setconn(sys.argv[1])
milter.register("floor", negotiate=negotiate)
milter.opensocket(True)
milter.main()
"""

_RSPAMD = """
options {{ filters = ""; tempdir = "{folder}"; pidfile = "{folder}/pid"; hs_cache_dir = "{folder}";
  control_socket = "{folder}/control"; dns {{ nameserver = ["127.0.0.1"]; }} }}
logging {{ type = "console"; level = "error"; }}
metric "default" {{ actions {{ reject = 15; add_header = 6; greylist = 4; }} }}
worker "rspamd_proxy" {{ bind_socket = "{place} mode=0666"; milter = yes; timeout = 120s; count = 1;
  upstream "local" {{ default = yes; self_scan = yes; }} }}
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = kit.arguments("milter", __doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=1500, help="in each round, of each filter")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 10, 50])
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        load = _compile(Path(folder), "milter_load", "-pthread")
        filters = _start(Path(folder), running)
        rows = measure(load, filters, given.rounds, given.messages, given.connections)
    missing = [name for name in _PEERS if not shutil.which(name)]
    notes = [f"{name} is left out: it is not installed here" for name in missing]
    uses = ("pymilter", "libmilter", *_PEERS)
    kit.report(given, uses, rows, notes)
    return 1 if any(row["failed"] for row in rows) else 0


# -- the filters: name, and (socket, process) ---------------------------------------------------

Filters = Mapping[str, tuple[Path, int]]


def _start(folder: Path, running: ExitStack) -> Filters:
    running.enter_context(Lab([worlds.MAIL_SERVER]))
    running.enter_context(NameServer([worlds.MAIL_SERVER], worlds.RECORDS))
    filters = {
        name: running.enter_context(_process(folder / f"{number}.sock", command))
        for number, (name, command) in enumerate(_commands(folder).items())
    }
    if rspamd := shutil.which("rspamd"):
        place, home = folder / "rspamd.sock", folder / "rspamd"
        home.mkdir()
        conf = home / "rspamd.conf"
        conf.write_text(_RSPAMD.format(folder=home, place=place))
        command = [rspamd, "-f", "-i", "-c", str(conf)]
        filters["rspamd, no module"] = running.enter_context(_process(place, command))
    for number, (name, settings) in enumerate(_OURS.items()):
        filters[name] = running.enter_context(_known(folder / f"known{number}.sock", settings))
    return filters


_OURS: dict[str, dict[str, object]] = {
    "botmilter, known host": {"milter.workers": 1},
    "same, without the log line": {"milter.workers": 1, "log.level": "warning"},
    "same, a worker for each CPU": {"milter.workers": "auto"},
    "same, not kept to one CPU": {"milter.workers": 1, "milter.pin_workers": False},
}


def _commands(folder: Path) -> dict[str, list[str]]:
    scripts = {
        FLOOR: kit.PYMILTER_FLOOR,
        "same, 12 fields to Milter.Base": _HEADERS_BY_CLASS,
        "same, 12 fields to module milter": _HEADERS_BY_MODULE,
    }
    commands = {}
    for number, (name, code) in enumerate(scripts.items()):
        script = folder / f"floor{number}.py"
        script.write_text(code)
        commands[name] = [sys.executable, str(script), "{}"]
    commands["C with libmilter"] = [
        str(_compile(folder, "milter_floor", "-lmilter", "-pthread")),
        "{}",
    ]
    if opendkim := shutil.which("opendkim"):
        options = ["-f", "-l", "-b", "v", "-x", "/dev/null", "-p", "local:{}"]
        commands["opendkim, verifying"] = [opendkim, *options]
    return commands


@contextmanager
def _process(place: Path, command: Sequence[str]) -> Iterator[tuple[Path, int]]:
    words = [word.format(place) for word in command]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + _START_LIMIT_S
        while not place.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"does not start: {words}")
            time.sleep(0.05)
        yield place, process.pid
    finally:
        process.kill()
        process.wait()


@contextmanager
def _known(place: Path, settings: Mapping[str, object]) -> Iterator[tuple[Path, int]]:
    """botmilter, after it has learnt all of the client."""
    with Filter(place, {"milter.socket_group": "", **settings}) as known:
        kit.make_known(place, lambda: known.log)
        assert known._process is not None
        yield place, known._process.pid


def _compile(folder: Path, name: str, *options: str) -> Path:
    made = folder / name
    subprocess.run(["cc", "-O2", "-o", made, HERE / f"{name}.c", *options], check=True)
    return made


# -- measuring ----------------------------------------------------------------------------------


def measure(
    load: Path, filters: Filters, rounds: int, messages: int, connections: Sequence[int]
) -> list[dict[str, Any]]:
    seen: dict[tuple[int, str], list[dict[str, float]]] = {}
    for number in range(rounds + 1):
        for at_once in connections:
            for name, (place, pid) in filters.items():
                one = _round(load, place, pid, at_once, messages if number else messages // 5)
                if number:  # the first is for warming up
                    seen.setdefault((at_once, name), []).append(one)
    return [_row(at_once, name, seen) for at_once, name in seen]


def _round(load: Path, place: Path, pid: int, at_once: int, messages: int) -> dict[str, float]:
    before = kit.cpu_s(pid)
    words = [str(load), str(place), kit.KNOWN_HOST, str(at_once), str(messages)]
    done, took_s, failed = subprocess.run(
        words, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split()
    cpu_ms = max(kit.cpu_s(pid) - before, kit.TICK_S) * 1000 / messages
    return {"per_s": int(done) / float(took_s), "cpu_ms": cpu_ms, "failed": int(failed)}


def _row(
    at_once: int, name: str, seen: Mapping[tuple[int, str], list[dict[str, float]]]
) -> dict[str, Any]:
    mine, floor = seen[at_once, name], seen[at_once, FLOOR]

    def ratio(what: str) -> dict[str, float]:
        return kit.median_spread([a[what] / b[what] for a, b in zip(mine, floor, strict=True)])

    return {
        "conn.": at_once,
        "filter": name,
        "msg/s": round(statistics.median(one["per_s"] for one in mine)),
        "x floor": ratio("per_s"),
        "CPU ms": round(statistics.median(one["cpu_ms"] for one in mine), 3),
        "CPU x floor": ratio("cpu_ms"),
        "failed": int(sum(one["failed"] for one in mine)),
    }


if __name__ == "__main__":
    raise SystemExit(main())

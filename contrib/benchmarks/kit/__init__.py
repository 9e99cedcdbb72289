"""What the benchmarks of ``contrib/bench`` share: load, figures of /proc, tables."""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrib.benchmarks.kit.head import caption, head
from tests.fakes.mta import Mail, send_one
from tests.fakes.programs import children
from tests.lab import worlds
from tests.lab.filter import Filter

_UNIT = Path(__file__).resolve().parents[2] / "systemd/botmilter.service"
_SOURCES = Path(__file__).resolve().parents[1]
_LOAD_LIMIT_S = 600.0
_WARM_LIMIT_S = 60.0
#: Less CPU than this cannot be told from none.
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
#: Everything measured: nmap is not asked where it can no longer change the label.
_KNOWN = re.compile(rb"^clean;(?!.*missing=(?!osdetect$))")

#: Connect, end of message, one header field added.
PYMILTER_FLOOR = """
import sys, Milter
class Floor(Milter.Base):
    @Milter.noreply
    def connect(self, *_):
        return Milter.CONTINUE
    def eom(self):
        self.addheader("X-Floor", "floor")
        return Milter.CONTINUE
Milter.factory = Floor
Milter.set_flags(Milter.ADDHDRS)
Milter.runmilter("floor", sys.argv[1], 30)
"""

KNOWN_HOST = str(worlds.MAIL_SERVER.ip)


# -- load ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a run of the load generator."""

    messages: int
    took_s: float
    failed: int
    began_s: tuple[float, ...]
    """Of each message, counted from the start of the run."""
    ms: tuple[float, ...]
    """What each message took, from connecting to the last answer."""


def compiled(folder: Path, name: str, *options: str) -> Path:
    made = folder / name
    subprocess.run(["cc", "-O2", "-o", made, _SOURCES / f"{name}.c", *options], check=True)
    return made


class Generator:
    """The load generator, compiled once."""

    def __init__(self, folder: Path) -> None:
        self._program = compiled(folder, "milter_load", "-pthread")
        self._folder = folder

    def run(self, place: Path, client: str, at_once: int, messages: int) -> Load:
        return self.start(place, client, at_once, messages).wait()

    def start(self, place: Path, client: str, at_once: int, messages: int) -> Running:
        """A *client* with "+" behind is the first of as many as there are messages."""
        times = Path(tempfile.mkstemp(dir=self._folder)[1])
        return Running((self._program, place, client, at_once, messages), times)


class Running:
    """A run of the load generator under way."""

    def __init__(self, words: Sequence[object], times: Path) -> None:
        self._times = times
        self._process = subprocess.Popen(
            [str(word) for word in (*words, times)], stdout=subprocess.PIPE, text=True
        )

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> Load:
        output, _ = self._process.communicate(timeout=_LOAD_LIMIT_S)
        if self._process.returncode:
            raise RuntimeError(f"the load generator ended with {self._process.returncode}")
        done, took_s, failed = output.split()
        pairs = [line.split() for line in self._times.read_text().splitlines()]
        self._times.unlink()
        began_s = tuple(float(at) for at, _ in pairs)
        ms = tuple(float(us) / 1000 for _, us in pairs)
        return Load(int(done), float(took_s), int(failed), began_s, ms)


# -- the filter ---------------------------------------------------------------------------------


@contextmanager
def botmilter(place: Path, settings: Mapping[str, object]) -> Iterator[Filter]:
    """botmilter on *place*, with a log of warnings only unless *settings* say otherwise, and with
    the environment that its unit gives it."""
    plain = {"milter.socket_group": "", "log.level": "warning"}
    environment = re.findall(r"^Environment=(.+)$", _UNIT.read_text(), re.MULTILINE)
    with Filter(place, {**plain, **settings}, within=("env", *environment)) as running:
        yield running


@contextmanager
def pymilter_floor(place: Path) -> Iterator[Path]:
    """The least that a pymilter filter does, on the Unix socket *place*."""
    script = place.with_suffix(".py")
    script.write_text(PYMILTER_FLOOR)
    process = subprocess.Popen([sys.executable, str(script), str(place)], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + _WARM_LIMIT_S
        while not place.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the pymilter floor does not start")
            time.sleep(0.05)
        place.chmod(0o666)
        yield place
    finally:
        process.kill()
        process.wait()


def make_known(place: Path, log: Callable[[], str]) -> None:
    """Send mail from KNOWN_HOST until all of it is remembered."""
    end = time.monotonic() + _WARM_LIMIT_S
    while not _KNOWN.search(verdict := _verdict_of(place, KNOWN_HOST)):
        if time.monotonic() > end:
            raise RuntimeError(f"the host did not become known: {verdict!r}\n{log()}")
        time.sleep(0.5)


def _verdict_of(place: Path, ip: str) -> bytes:
    """Empty where none came in time: on a busy machine workers take long to begin."""
    try:
        delivery = send_one(str(place), Mail(), ip=ip)
    except TimeoutError:
        return b""
    return b" ".join(delivery.values(b"X-Bot-Verdict"))


# -- processes ----------------------------------------------------------------------------------


def family(pid: int) -> list[int]:
    """The process and all its living descendants."""
    found = {pid}
    parents = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.append((int(file.parent.name), int(_stat(file)[1])))
        except (FileNotFoundError, ProcessLookupError):
            continue
    for one, parent in sorted(parents):
        if parent in found:
            found.add(one)
    return sorted(found)


def cpu_s(pid: int) -> float:
    """Of the process and its living descendants, and of the dead ones they waited for."""
    ticks = 0
    for one in family(pid):
        try:
            ticks += sum(int(ticks) for ticks in _stat(Path(f"/proc/{one}/stat"))[11:15])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return ticks * TICK_S


def memory_mib(pid: int) -> float:
    """Resident memory of one process."""
    return _status(pid, "VmRSS") / 1024


def threads(pid: int) -> int:
    return _status(pid, "Threads")


def workers(pid: int) -> list[int]:
    """The daemon's worker processes: its children but for the first, which is the prober."""
    return children(pid)[1:]


def _stat(file: Path) -> list[str]:
    """From the state on: [1] is the parent, [11:15] the ticks."""
    return file.read_text().rpartition(") ")[2].split()


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise RuntimeError(f"no {key} of process {pid}")


# -- figures ------------------------------------------------------------------------------------


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of *values* that *share* of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median_spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


Row = Mapping[str, Any]


def arguments(name: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"contrib/bench {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    return parser


def report(
    given: argparse.Namespace,
    uses: Iterable[str],
    rows: Sequence[Row],
    notes: Sequence[str] = (),
    **more: Sequence[Row],
) -> None:
    """Print what was measured, as tables or as JSON: the head (:mod:`.head`), with the versions of
    what it *uses*, *rows*, further tables by name, and what else is to be said."""
    tables = {"rows": rows, **more}
    text = "\n".join([*(table(one) for one in tables.values() if one), *notes])
    publish(given, uses, {**tables, "notes": notes}, text)


def publish(
    given: argparse.Namespace, uses: Iterable[str], found: Mapping[str, Any], text: str
) -> None:
    """Print the head, and below it *found*, or *text* that says the same."""
    top = head(given, uses)
    if given.json:
        print(json.dumps({**top, **found}, indent=2))
    else:
        print(f"{caption(top)}\n{text}")


def table(rows: Sequence[Row]) -> str:
    """Columns by the first row's keys; numbers to the right."""
    names = list(rows[0])
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    wide = [max(len(line[at]) for line in [names, *cells]) for at in range(len(names))]
    left = [isinstance(rows[0][name], str) for name in names]
    lines = [names, *cells]
    return "\n".join(
        "  ".join(
            cell.ljust(wide[at]) if left[at] else cell.rjust(wide[at])
            for at, cell in enumerate(line)
        ).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{value['median']:g} ({value['min']:g}-{value['max']:g})"
    return f"{value:g}" if isinstance(value, float) else str("-" if value is None else value)

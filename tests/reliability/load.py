"""The heavy runs, of any size: the tests run them small, ``contrib/bench`` large.

Mail comes from the C client beside the benchmarks, because a client in Python would be what is
measured.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fakes.mta import CONTINUE, Mta
from tests.fakes.programs import children
from tests.lab import worlds
from tests.lab.dns import NameServer
from tests.lab.lab import Lab
from tests.lab.world import Flow
from tests.reliability.rig import Rig, hosts

_CLIENT = Path(__file__).parents[2] / "contrib" / "benchmarks" / "milter_load.c"
_LOOK_S = 0.2


@dataclass(frozen=True)
class Sent:
    mails: int
    took_s: float
    failed: int
    """Mails that got no answer, or another one than *continue*."""
    slowest_s: float

    @property
    def per_s(self) -> float:
        return self.mails / self.took_s


def compiled(folder: Path) -> Path:
    made = folder / "client"
    subprocess.run(["cc", "-O2", "-o", made, _CLIENT, "-pthread"], check=True)
    return made


def send(client: Path, socket: Path, first: str, addresses: int, at_once: int, mails: int) -> Sent:
    """*mails* in so many connections at once, one mail each, from *addresses* from *first* on."""
    times = client.with_name("times")
    words = [str(client), str(socket), f"{first}+{addresses}", str(at_once), str(mails), str(times)]
    said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    slowest_us = max(float(line.split()[1]) for line in times.read_text().splitlines())
    return Sent(int(said[0]), float(said[1]), int(said[2]), slowest_us / 1e6)


# -- what a process uses ------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """Of the daemon and all its descendants."""

    rss_kb: int
    threads: int
    open_files: int
    processes: int
    zombies: int


def use(pid: int) -> Use:
    family = _family(pid)
    status = [_status(one) for one in family]
    return Use(
        sum(int(one.get("VmRSS", "0").split()[0]) for one in status),
        sum(int(one.get("Threads", "0")) for one in status),
        sum(_open_files(one) for one in family),
        len(family),
        sum(one.get("State", "").startswith("Z") for one in status),
    )


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            found += children(one)
    return found


def _status(pid: int) -> Mapping[str, str]:
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {key: text.strip() for key, _, text in (line.partition(":") for line in lines)}
    return {}


def _open_files(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0


@contextlib.contextmanager
def most(pid: int) -> Iterator[dict[str, int]]:
    """The most of each that was in use meanwhile."""
    peak: Counter[str] = Counter()
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            for name, number in asdict(use(pid)).items():
                peak[name] = max(peak[name], number)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


# -- flood --------------------------------------------------------------------------------------

IN_ALL_PER_MINUTE = 600
PER_NETWORK_PER_MINUTE = 60
#: Port 25 and ping: nmap is not started where neither answers.
PROBES = 2


@dataclass(frozen=True)
class Flooded:
    sent: Sent
    minutes: int
    """Windows of the rate limits that the run touched."""
    measurements: int
    """Hosts pinged and hosts whose port 25 was tried, seen on their way out."""
    most_in_a_network: int
    most_to_a_host: int
    before: Use
    peak: Mapping[str, int]
    by_rate_limit: int
    """Lines of the log that name a rate limit."""

    @property
    def is_within_rates(self) -> bool:
        return (
            0 < self.measurements <= IN_ALL_PER_MINUTE * self.minutes
            and self.most_in_a_network <= PER_NETWORK_PER_MINUTE * self.minutes
            and self.most_to_a_host <= PROBES
        )


def flood(folder: Path, mails: int, addresses: int, at_once: int = 100) -> Flooded:
    """*mails* from hosts nobody has seen before and that answer nothing, with the default rates
    and budget."""
    client = compiled(folder)
    settings: dict[str, object] = {
        "probe.nameservers": ["198.18.0.53"],
        "probe.in_all_per_minute": IN_ALL_PER_MINUTE,
        "probe.per_network_per_minute": PER_NETWORK_PER_MINUTE,
        "budget.per_mail_s": 5.0,
    }
    with (
        Lab([]) as lab,
        NameServer([], worlds.RECORDS),
        Rig(folder, 0, settings) as rig,
    ):
        time.sleep(1)
        before, began = use(rig.pid), time.time()
        with most(rig.pid) as peak:
            sent = send(client, folder / "milter.sock", "198.18.64.0", addresses, at_once, mails)
        minutes = int(time.time() // 60) - int(began // 60) + 1
        flows = lab.flows()
        log = rig.log
    measured = {(flow.dst, flow.protocol) for flow in flows if _is_measurement(flow)}
    networks = Counter(ip.rpartition(".")[0] for ip, _ in measured)
    per_host = Counter(ip for ip, _ in measured)
    return Flooded(
        sent,
        minutes,
        len(measured),
        max(networks.values(), default=0),
        max(per_host.values(), default=0),
        before,
        dict(peak),
        log.count("why=rate_limit"),
    )


def _is_measurement(flow: Flow) -> bool:
    """Of a host of the flood, that is: not the packets within the laboratory."""
    return flow.dst.startswith("198.18.") and flow.protocol in (1, 6)


# -- soak ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Soaked:
    warm: Sent
    rest: Sent
    after_warm: Use
    at_end: Use

    @property
    def growth(self) -> float:
        """Of the memory, as a share."""
        return self.at_end.rss_kb / self.after_warm.rss_kb - 1

    @property
    def leaves_nothing(self) -> bool:
        """Whether memory grew by less than a twentieth and nothing else by anything."""
        after, end = self.after_warm, self.at_end
        return (
            self.growth < 0.05
            and end.zombies == 0
            and end.processes <= after.processes
            and end.open_files <= after.open_files
            and end.threads <= after.threads
        )


def soak(folder: Path, warm: int, mails: int, at_once: int = 20, settle_s: float = 33.0) -> Soaked:
    """*mails* at full speed, *warm* of them before the first look; 2,000 hosts, of which 60 a
    minute are measured by all probes, the real nmap among them.  A thread without work stays for
    30 s, so with a shorter *settle_s* the numbers of threads say nothing."""
    client = compiled(folder)
    settings: dict[str, object] = {
        "milter.workers": "auto",
        "probe.nameservers": ["198.18.0.53"],
        "probe.in_all_per_minute": 60,
        "probe.osdetect.limit_s": 10.0,
        "log.level": "warning",
    }
    place = folder / "milter.sock"
    with hosts(), Rig(folder, 0, settings) as rig:
        first = send(client, place, "198.18.64.0", 2000, at_once, warm)
        time.sleep(settle_s)
        after_warm = use(rig.pid)
        rest = send(client, place, "198.18.64.0", 2000, at_once, mails - warm)
        time.sleep(settle_s)
        return Soaked(first, rest, after_warm, use(rig.pid))


# -- many connections ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Crowded:
    alone: Sent
    among_stalled: Sent

    @property
    def rounds(self) -> tuple[Sent, Sent]:
        return self.alone, self.among_stalled


def crowd(folder: Path, stalled: int, at_once: int, mails: int) -> Crowded:
    """The same mails with nobody else there, and beside *stalled* sessions that say nothing more;
    200 hosts, known after the first round."""
    client = compiled(folder)
    place = folder / "milter.sock"
    settings: dict[str, object] = {"probe.osdetect.enabled": False, "milter.workers": "auto"}
    settings |= {"probe.nameservers": ["127.0.0.1"]}

    def rounds() -> Sent:
        """The faster of two: the machine may have other work."""
        both = [send(client, place, "198.18.64.0", 200, at_once, mails) for _ in range(2)]
        return min(both, key=lambda one: (one.failed, one.took_s))

    with hosts(), Rig(folder, 0, settings), contextlib.ExitStack() as stack:
        rounds()
        alone = rounds()
        for number in range(stalled):
            mta = stack.enter_context(Mta(str(place), timeout_s=60))
            assert mta.connect(f"198.18.80.{number % 250}") == CONTINUE
            mta.mail(b"<a@b.example>")
        return Crowded(alone, rounds())

"""A filter under fire: the real ``botmilter run``, an MTA on the wire that sends mail at a steady
rate, each from a host never seen before, and parts that a test can break meanwhile.

The hosts are the kernel's: 198.18.0.0/15 is local for as long as :func:`hosts` lasts, so that
every address there answers ping and refuses port 25.  DNS is a fake with a switch, nmap a script
with one, the stores are real.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from tests.fakes.mta import CONTINUE, Closed, Mail, Mta
from tests.fakes.programs import children
from tests.lab import net
from tests.lab.filter import Filter

BUDGET_S = 1.0
#: What a mail may take beyond its budget here, where other programs may want the CPU, and the
#: machine may be half as fast tomorrow; measured alone (docs/reliability.md) it is 0.1 s.
SLACK_S = 4.0
RATE_PER_S = 10.0
PATIENCE_S = 45.0

#: Short limits, so that what hangs is noticed soon, and no rate limit.
SETTINGS: Mapping[str, object] = {
    "milter.workers": 1,
    "milter.socket_group": "",
    "budget.per_mail_s": BUDGET_S,
    "probe.rdns.limit_s": 1.5,
    "probe.rdns.neighbours": False,
    "probe.senderhost.enabled": False,
    "probe.osdetect.limit_s": 1.5,
    "probe.settle_s": 0.1,
    "probe.in_all_per_minute": 1_000_000,
    "probe.per_network_per_minute": 1_000_000,
    "log.level": "info",
}


@contextlib.contextmanager
def hosts() -> Iterator[None]:
    """Every address of 198.18.0.0/15 is this machine's."""
    route = ["local", net.NETWORK, "dev", "lo"]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "route", "replace", *route], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "route", "del", *route], check=True)


@dataclass
class Flow:
    """Mail at a steady rate.  ``took_s`` of each mail from connecting to the filter's last word;
    ``lost`` are those that got another answer than *continue*, or no verdict, or none."""

    socket: str
    first_host: IPv4Address
    rate_per_s: float = RATE_PER_S
    took_s: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    cut: int = 0
    """Connections that the filter closed under the MTA: milter_default_action's."""
    verdicts: list[tuple[float, str]] = field(default_factory=list)
    """When, by the monotonic clock, and what."""

    def __post_init__(self) -> None:
        self._hosts = (self.first_host + number for number in itertools.count())
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self.sent = 0

    def __enter__(self) -> Flow:
        self._feeder.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Waits until all that was sent is answered."""
        self._over.set()
        self._feeder.join(PATIENCE_S)
        for thread in self._threads:
            thread.join(PATIENCE_S)

    @property
    def slowest_s(self) -> float:
        return max(self.took_s)

    def share_without(self, probe: str, since: float) -> float:
        """Of the verdicts after *since*, those that say they did without *probe*."""
        told = [
            text.partition("missing=")[2].split(";")[0] for at, text in self.verdicts if at > since
        ]
        return sum(probe in text.strip().split(",") for text in told) / max(1, len(told))

    def _feed(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            thread = threading.Thread(target=self._send, args=(next(self._hosts),), daemon=True)
            self._threads.append(thread)
            self.sent += 1
            thread.start()
            due += 1 / self.rate_per_s

    def _send(self, host: IPv4Address) -> None:
        started = time.monotonic()
        try:
            with Mta(self.socket, timeout_s=PATIENCE_S) as mta:
                assert mta.connect(str(host), b"unknown") == CONTINUE
                mta.helo(b"pc")
                got = mta.deliver(Mail(macros={b"i": str(host).encode()}))
        except (Closed, ConnectionError, FileNotFoundError):
            self.cut += 1
            return
        except Exception as error:
            self.lost.append(f"{type(error).__name__}: {error}")
            return
        self.took_s.append(time.monotonic() - started)
        said = b" ".join(got.values(b"X-Bot-Verdict")).decode()
        self.verdicts.append((time.monotonic(), said))
        if got.reply != CONTINUE or not said:
            self.lost.append(f"{got.reply!r} {said!r}")


class Rig:
    """One filter with its *folder*; *number* keeps its hosts apart from other rigs'."""

    def __init__(
        self,
        folder: Path,
        number: int,
        settings: Mapping[str, object] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        folder.chmod(0o755)
        self.first_host = IPv4Address("198.18.0.0") + 4096 * (number + 1)
        self.filter = Filter(folder / "milter.sock", {**SETTINGS, **(settings or {})}, within)

    @property
    def log(self) -> str:
        """What it said to standard error, be that a file or a pipe."""
        by_pipe = self.folder / "fifo.log"
        return self.filter.log + (by_pipe.read_text() if by_pipe.exists() else "")

    @property
    def store(self) -> Path:
        """SQLite's file."""
        (folder,) = self.folder.glob("filter-*")
        return folder / "botmilter.sqlite"

    @property
    def pid(self) -> int:
        return self.filter.pid

    @property
    def workers(self) -> list[int]:
        """Process ids, in the order of their start."""
        return [pid for pid in children(self.pid) if _has_libmilter(pid)]

    @property
    def prober(self) -> int:
        """The one child without libmilter."""
        workers = self.workers
        return next(pid for pid in children(self.pid) if pid not in workers)

    def flow(self, rate_per_s: float = RATE_PER_S) -> Flow:
        return Flow(str(self.folder / "milter.sock"), self.first_host, rate_per_s)

    def wait_for(self, text: str, times: int = 1, at_most_s: float = PATIENCE_S) -> None:
        end = time.monotonic() + at_most_s
        while self.log.count(text) < times:
            assert time.monotonic() < end, f"waited in vain for {text!r}:\n{self.told}"
            time.sleep(0.05)

    @property
    def told(self) -> str:
        """The log but for the lines about mails."""
        return "\n".join(line for line in self.log.splitlines() if " qid=" not in line)

    def reload(self) -> None:
        os.kill(self.pid, signal.SIGUSR1)

    def __enter__(self) -> Rig:
        self.filter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.filter.stop()


def _has_libmilter(pid: int) -> bool:
    with contextlib.suppress(OSError):  # it may end meanwhile
        return "libmilter" in Path(f"/proc/{pid}/maps").read_text()
    return False

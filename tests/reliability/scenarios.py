"""Parts of the filter that are broken for real and mended again, each with a world of its own."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.fakes.dns import DnsServer, Lie
from tests.fakes.programs import free_port
from tests.fakes.redis_servers import redis_server
from tests.reliability.rig import Rig

#: Where the CPU is scarce nmap stands back, and two at once would not get round.
_NMAPS_AT_ONCE = 8

#: /usr/bin again, with the script in place of nmap: links to a copy of the mount.
_OWN_NMAP = """\
mkdir "$0/bin" && mount --bind /usr/bin "$0/bin" && mount -t tmpfs bin /usr/bin &&
"$0/bin/ln" -s "$0"/bin/* /usr/bin/ && "$0/bin/rm" /usr/bin/nmap &&
"$0/bin/cp" "$0/program" /usr/bin/nmap && exec "$@"
"""

#: What is there when it is started runs to its end, also when it is taken away: a script is opened
#: a moment after its start.
_PROGRAM = """#include <unistd.h>
int main(int argc, char **argv) { return execv("FOLDER/nmap", argv); }
"""

_NMAP = """\
#!/bin/sh
[ "$1" != -V ] || { echo "Nmap version 7.93 ( https://nmap.org )"; exit; }
case $(cat FOLDER/does) in
    hang) exec sleep 600 ;;
    die) kill -KILL $$ ;;
    cut) head -c 200 FOLDER/xml ;;
    *) cat FOLDER/xml ;;
esac
"""

_XML = """\
<?xml version="1.0"?><nmaprun><host><status state="up"/><ports><port portid="25"><state
state="closed"/></port></ports><os><osmatch name="Microsoft Windows XP SP3" accuracy="100">
<osclass type="general purpose" vendor="Microsoft" osfamily="Windows" osgen="XP" accuracy="100"/>
</osmatch></os></host><runstats/></nmaprun>
"""


class World:
    """A rig, and the parts that can be broken.  One directory, one name server, one Redis each."""

    def __init__(self, folder: Path, number: int, scenario: Scenario, stack: ExitStack) -> None:
        self.folder = folder
        self.nmap("work")
        (folder / "xml").write_text(_XML)
        (folder / "nmap").write_text(_NMAP.replace("FOLDER", str(folder)))
        (folder / "nmap").chmod(0o755)
        _compile(_PROGRAM.replace("FOLDER", str(folder)), folder / "program")
        self._dns_address = f"127.0.2.{number + 1}"
        self._stack = stack
        self._dns = ExitStack()
        stack.callback(self._dns.close)
        self.dns = self.start_dns()
        settings: dict[str, object] = {
            "probe.nameservers": [self._dns_address],
            "probe.osdetect.at_once": _NMAPS_AT_ONCE,
        }
        if scenario.store == "redis":
            self.port = free_port()
            self.start_redis()
            settings |= {"store.kind": "redis", "store.url": f"redis://127.0.0.1:{self.port}"}
            settings |= {"store.path": ""}
        if scenario.store == "tmpfs":
            place = folder / "store"
            place.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "store", place], check=True)
            stack.callback(lambda: subprocess.run(["umount", "-l", place], check=True))
            settings["store.path"] = str(place / "botmilter.sqlite")
        mounts = ("unshare", "--mount", "--propagation", "unchanged", "sh", "-c", _OWN_NMAP)
        self.set_clock(0)
        self.reader = self._log_by_fifo()
        own = {"FOLDER": str(folder), "LIBRARY": _clock(folder)}
        within = (*(replaced(word, own) for word in scenario.within), *mounts, str(folder))
        self.rig = Rig(folder, number, {**settings, **scenario.settings}, within)

    def set_clock(self, offset_s: int) -> None:
        """In place: the filter has the file mapped, and it must not shrink meanwhile."""
        file = os.open(self.folder / "clock", os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(file, f"{offset_s:+09d}\n".encode())
        os.close(file)

    def _log_by_fifo(self) -> subprocess.Popen[bytes]:
        """Somebody who reads a pipe with room for little and adds it to the log."""
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        end = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(end, False)
        self._stack.callback(os.close, end)
        self._fifo = end
        with (self.folder / "fifo.log").open("wb") as log:
            reader = subprocess.Popen(["cat", fifo], stdout=log)
        self._stack.callback(reader.wait)
        self._stack.callback(reader.kill)
        return reader

    def stall_log(self) -> None:
        """The reader stops, and the little room there is fills at once."""
        self.reader.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.reader.pid, os.WSTOPPED)
        with suppress(BlockingIOError):
            while True:
                os.write(self._fifo, b"-\n")

    # -- nmap -----------------------------------------------------------------------------------

    def nmap(self, does: str) -> None:
        (self.folder / "does").write_text(does)

    @property
    def nmap_path(self) -> Path:
        """nmap as the filter sees it."""
        return Path(f"/proc/{self.rig.pid}/root/usr/bin/nmap")

    def install_nmap(self) -> None:
        self.nmap_path.symlink_to(self.folder / "nmap")

    def inside(self, *command: str) -> None:
        """Run *command* in the filter's own mounts, also where all of us are in a chroot."""
        subprocess.run(["nsenter", "-m", "-r", "-t", str(self.rig.pid), *command], check=True)

    # -- DNS ------------------------------------------------------------------------------------

    def start_dns(self) -> DnsServer:
        self.dns = self._dns.enter_context(DnsServer(address=self._dns_address, port=53))
        return self.dns

    def stop_dns(self) -> None:
        self._dns.close()

    # -- stores ---------------------------------------------------------------------------------

    @property
    def store(self) -> Path:
        inside = self.folder / "store" / "botmilter.sqlite"
        return inside if inside.exists() else self.rig.store

    def start_redis(self) -> None:
        place = self.folder / "redis"
        place.mkdir(exist_ok=True)
        self.redis = self._stack.enter_context(redis_server(place, self.port))

    def kill_redis(self) -> None:
        self.redis.kill()
        self.redis.wait()

    def configure_redis(self, **settings: str) -> None:
        with redis.Redis(port=self.port) as client:
            for name, value in settings.items():
                client.config_set(name.replace("_", "-"), value)

    def locks(self) -> None:
        """Another program holds SQLite's file."""
        self._lock = sqlite3.connect(self.store, isolation_level=None, check_same_thread=False)
        self._lock.execute("BEGIN EXCLUSIVE")

    def unlocks(self) -> None:
        self._lock.execute("ROLLBACK")
        self._lock.close()


Act = Callable[[World], object]


def replaced(word: str, places: Mapping[str, str]) -> str:
    for name, text in places.items():
        word = word.replace(name, text)
    return word


def _clock(folder: Path) -> str:
    """The library that sets the clock of one program."""
    made = folder / "clock.so"
    _compile(Path(__file__).with_name("clock.c").read_text(), made, "-shared", "-fPIC")
    return str(made)


def _compile(source: str, made: Path, *options: str) -> None:
    command = ["cc", "-O2", *options, "-x", "c", "-o", str(made), "-"]
    subprocess.run(command, input=source, text=True, check=True)


def nothing(world: World) -> None:
    """For what breaks or mends by itself."""


@dataclass(frozen=True)
class Scenario:
    name: str
    breaks: Act
    mends: Act
    says: str
    """Part of the one line that tells what is wrong; empty: nothing needs to be said."""
    over: str
    """Part of the one line that tells that it works again; empty: it was never said to be wrong."""
    part: str = ""
    """The probe that verdicts do without meanwhile and no longer afterwards."""
    store: str = "sqlite"
    settings: Mapping[str, object] = field(default_factory=dict)
    within: tuple[str, ...] = ()
    kills_worker: bool = False
    """The sessions in it end there; the MTA lets the mail pass."""


def corrupt(world: World) -> None:
    """Garbage in the file; who has it open may never look, so a new worker does."""
    for path in (world.store, world.store.with_name(world.store.name + "-wal")):
        path.write_bytes(os.urandom(20_000))
    kill_worker(world)


def kill_worker(world: World) -> None:
    os.kill(world.rig.workers[0], signal.SIGKILL)


def clock_was_set(world: World) -> None:
    """What speaks against a host is kept 45 minutes: noted since, it has expired by our clock."""
    with closing(sqlite3.connect(world.store)) as db:
        old = "SELECT count(*) FROM observations WHERE expires_at < ?"
        assert db.execute(old, (time.time() - 600,)).fetchone()[0] > 5


def kill_prober(world: World) -> None:
    os.kill(world.rig.prober, signal.SIGKILL)


def read_only(world: World) -> None:
    """What is open stays writable, as everywhere; so here too a new worker meets it."""
    world.inside("mount", "--bind", str(world.store.parent), str(world.store.parent))
    world.inside("mount", "-o", "remount,bind,ro", str(world.store.parent))
    kill_worker(world)


def writable(world: World) -> None:
    world.inside("umount", "-l", str(world.store.parent))


def fill(world: World) -> None:
    with suppress(OSError), (world.folder / "store" / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


NMAP = "probe=osdetect does not work: "
NMAP_AGAIN = "probe=osdetect works again"
DNS = "probe=rdns does not work: "
DNS_AGAIN = "probe=rdns works again"
STORE = "store does not work: "
STORE_AGAIN = "store works again"

SCENARIOS = (
    Scenario(
        "nmap is missing",
        lambda world: world.nmap_path.unlink(),
        World.install_nmap,
        f"{NMAP}osdetect: SetupError: nmap is not installed",
        NMAP_AGAIN,
        "osdetect",
    ),
    Scenario(
        "nmap hangs",
        lambda world: world.nmap("hang"),
        lambda world: world.nmap("work"),
        NMAP,
        NMAP_AGAIN,
        "osdetect",
    ),
    Scenario(
        "nmap is killed",
        lambda world: world.nmap("die"),
        lambda world: world.nmap("work"),
        NMAP,
        NMAP_AGAIN,
        "osdetect",
    ),
    Scenario(
        "nmap's XML is cut",
        lambda world: world.nmap("cut"),
        lambda world: world.nmap("work"),
        NMAP,
        NMAP_AGAIN,
        "osdetect",
    ),
    Scenario(
        "the resolver is dead",
        World.stop_dns,
        World.start_dns,
        DNS,
        DNS_AGAIN,
        "rdns",
    ),
    Scenario(
        "the resolver is slow",
        lambda world: world.dns.lie_always(None, delay_s=3.0),
        lambda world: world.dns.lie_always(None),
        DNS,
        DNS_AGAIN,
        "rdns",
    ),
    Scenario(
        "the resolver says SERVFAIL",
        lambda world: world.dns.lie_always(Lie.SERVFAIL),
        lambda world: world.dns.lie_always(None),
        DNS,
        DNS_AGAIN,
        "rdns",
    ),
    Scenario(
        "Redis is killed",
        World.kill_redis,
        World.start_redis,
        STORE,
        STORE_AGAIN,
        store="redis",
    ),
    Scenario(
        "Redis is stalled",
        lambda world: world.redis.send_signal(signal.SIGSTOP),
        lambda world: world.redis.send_signal(signal.SIGCONT),
        STORE,
        STORE_AGAIN,
        store="redis",
    ),
    Scenario(
        "Redis is full",
        lambda world: world.configure_redis(maxmemory="1"),
        lambda world: world.configure_redis(maxmemory="0"),
        STORE,
        STORE_AGAIN,
        store="redis",
    ),
    Scenario("SQLite is locked", World.locks, World.unlocks, STORE, STORE_AGAIN),
    Scenario(
        "SQLite's file is garbage", corrupt, nothing, ": set aside as ", "", kills_worker=True
    ),
    Scenario(
        "the disk is full",
        fill,
        lambda world: (world.folder / "store" / "filler").unlink(),
        STORE,
        STORE_AGAIN,
        store="tmpfs",
    ),
    Scenario(
        "the directory is read-only", read_only, writable, STORE, STORE_AGAIN, kills_worker=True
    ),
    Scenario("the prober is killed", kill_prober, nothing, "prober ended with -9", "", "osdetect"),
    Scenario(
        "there is no CAP_NET_RAW",
        nothing,
        nothing,
        "probe=ping does not work: ping: SetupError: ping needs CAP_NET_RAW",
        "",
        within=("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"),
    ),
    Scenario(
        "the clock is set back an hour",
        lambda world: world.set_clock(-3600),
        clock_was_set,
        "",
        "",
        "osdetect",
        within=(*("env", "LD_PRELOAD=LIBRARY", "CLOCK_OFFSET_FILE=FOLDER/clock"),),
    ),
    Scenario(
        "nobody reads standard error",
        World.stall_log,
        lambda world: world.reader.send_signal(signal.SIGCONT),
        "",
        "lines of the log are lost: nobody read standard error",
        within=("sh", "-c", 'exec "$@" 2>FOLDER/fifo', "sh"),
    ),
    Scenario(
        "a worker is killed", kill_worker, nothing, "worker 1 ended with -9", "", kills_worker=True
    ),
)

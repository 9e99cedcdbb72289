"""What comes before the workers: one listening socket, and a parent that never had a second thread.

The real ``botmilter run`` with everything on that has a process or a socket of its own.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.fakes.mta import send_one
from tests.fakes.programs import children
from tests.lab.filter import Filter
from tests.milter.conftest import wait_until

#: ``__SO_ACCEPTCON`` of <linux/net.h>: who listens.
_LISTENS = 0x10000
#: Between two looks.
_LOOK_S = 0.001


def _filter(folder: Path) -> Filter:
    return Filter(
        folder / "milter.sock",
        {
            "milter.workers": 2,
            "milter.socket_group": "",
            "metrics.listen": f"unix:{folder}/metrics.sock",
            "query.socket": f"unix:{folder}/query.sock",
        },
    )


@contextmanager
def _watched(one: Filter) -> Iterator[set[int]]:
    """How many threads *one*'s parent process was seen with, from its start on."""
    seen: set[int] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            with suppress(AssertionError, OSError):  # not started yet
                seen.add(_threads(one.pid))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def _workers(one: Filter) -> list[int]:
    """The processes that run libmilter."""
    return [pid for pid in children(one.pid) if "libmilter" in _maps(pid)]


def _both_workers(one: Filter) -> list[int]:
    """Once they serve: the filter's socket takes connections before."""
    wait_until(lambda: "serving unix:" in one.log, "the workers")
    first, other = _workers(one)
    return [first, other]


def _maps(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/maps").read_text()
    return ""


def test_the_parent_has_one_thread_whenever_it_forks(tmp_path: Path) -> None:
    one = _filter(tmp_path)
    with _watched(one) as threads, one:
        killed = _both_workers(one)[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(set(_workers(one)) - {killed}) == 2, "the next worker")
        os.kill(one.pid, signal.SIGUSR1)
        wait_until(lambda: "reload: done" in one.log, "the reload")
    assert threads == {1}


def test_all_workers_hold_the_one_listening_socket(tmp_path: Path) -> None:
    with _filter(tmp_path) as one:
        place = one.address.removeprefix("unix:")
        (inode,) = _listening(place)
        assert all(inode in _sockets(pid) for pid in (one.pid, *_both_workers(one)))
        assert send_one(place).values(b"X-Bot-Verdict")


def _listening(path: str) -> list[int]:
    """The inodes of the sockets that listen on *path*, by unix(7)'s table."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return [int(row[6]) for row in rows if row[7:] == [path] and int(row[3], 16) & _LISTENS]


def _sockets(pid: int) -> set[int]:
    """The inodes of the sockets that *pid* holds."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            kind, _, inode = str(descriptor.readlink()).partition(":[")
            if kind == "socket":
                found.add(int(inode.rstrip("]")))
    return found

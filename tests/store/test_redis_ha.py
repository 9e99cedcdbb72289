"""Real Redis of several hosts: a master that dies under its sentinels' eyes or hands over, and a
cluster of which one stalls.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from botmilter.errors import StoreError
from botmilter.store.redis import TIMEOUT_S, RedisStore
from tests.fakes.programs import free_port
from tests.fakes.redis_servers import (
    Server,
    redis_cli,
    redis_cluster,
    redis_sentinel,
    redis_server,
)
from tests.store.test_redis import seen

pytestmark = pytest.mark.slow

#: The sentinels take half a second to miss the master, then vote, perhaps more than once.
_FAILOVER_LIMIT_S = 30.0
_READY_LIMIT_S = 15.0


@dataclass(frozen=True)
class Site:
    """A master with a replica, and three sentinels of which two have to agree."""

    ports: tuple[int, int]
    master: Server
    sentinel_ports: tuple[int, ...]
    sentinels: tuple[Server, ...]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://{places}/mymaster"

    def master_port(self) -> int:
        """As the last sentinel knows it."""
        ask = ("sentinel", "get-master-addr-by-name", "mymaster")
        return int(redis_cli(self.sentinel_ports[-1], *ask).split()[1])

    def is_ready(self) -> bool:
        """Whether each sentinel knows the replica and the other two."""
        return all(
            b"slaves=1,sentinels=3" in redis_cli(port, "info", "sentinel")
            for port in self.sentinel_ports
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    ports, sentinel_ports = (free_port(), free_port()), tuple(free_port() for _ in range(3))
    settings = (
        f"sentinel monitor mymaster 127.0.0.1 {ports[0]} 2\n"
        "sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 2000\n"
    )
    folders = [tmp_path / str(port) for port in (*ports, *sentinel_ports)]
    for folder in folders:
        folder.mkdir()
    follow = ("--replicaof", "127.0.0.1", str(ports[0]))
    with ExitStack() as running:
        at_once = ("--repl-diskless-sync-delay", "0")
        master = running.enter_context(redis_server(folders[0], ports[0], *at_once))
        running.enter_context(redis_server(folders[1], ports[1], *follow))
        _wait(lambda: b"state=online" in redis_cli(ports[0], "info", "replication"))
        sentinels = [
            running.enter_context(redis_sentinel(folder, port, settings))
            for folder, port in zip(folders[2:], sentinel_ports, strict=True)
        ]
        made = Site(ports, master, sentinel_ports, tuple(sentinels))
        _wait(made.is_ready)
        yield made


def _wait(is_so: Callable[[], bool], at_most_s: float = _READY_LIMIT_S) -> None:
    end = time.monotonic() + at_most_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def _slowest_until_it_works(store: RedisStore) -> float:
    """Seconds that the slowest call took until a mail's answer could be kept again."""
    slowest_s, end = 0.0, time.monotonic() + _FAILOVER_LIMIT_S
    while True:
        began = time.monotonic()
        try:
            store.put(seen("after"), 60)
            return slowest_s
        except StoreError:
            assert time.monotonic() < end, "no new master was found"
        finally:
            slowest_s = max(slowest_s, time.monotonic() - began)
        time.sleep(0.05)


def _die(site: Site) -> None:
    """And the sentinel that is asked first with it."""
    for server in (site.master, site.sentinels[0]):
        server.kill()
        server.wait(5)


def _hand_over(site: Site) -> None:
    redis_cli(site.sentinel_ports[0], "sentinel", "failover", "mymaster")
    _wait(lambda: site.master_port() == site.ports[1], _FAILOVER_LIMIT_S)


@pytest.mark.parametrize("end", [_die, _hand_over])
def test_the_next_master_is_found_and_knows_what_the_last_one_did(
    site: Site, end: Callable[[Site], None]
) -> None:
    with closing(RedisStore(site.url)) as store:
        before = seen("before")
        store.put(before, 60)
        assert store.claim("before", 60)
        redis_cli(site.ports[0], "wait", "1", "5000")  # until the replica has it
        end(site)
        assert _slowest_until_it_works(store) < 2 * TIMEOUT_S + 0.5
        assert site.master_port() == site.ports[1]
        assert store.get("rdns", "after", time.time()) is not None
        assert store.get("rdns", "before", time.time()) == before
        assert not store.claim("before", 60)
        store.release("before")
        assert store.claim("before", 60)


def _kept(store: RedisStore, ip: str) -> float | None:
    """Seconds that it took to keep something about *ip*; None where that was not possible."""
    began = time.monotonic()
    try:
        store.put(seen(ip), 60)
    except StoreError:
        assert time.monotonic() - began < 2 * TIMEOUT_S + 0.5
        return None
    return time.monotonic() - began


def test_of_a_cluster_one_stalled_node_holds_nobody_and_the_others_serve(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    ips = [f"198.18.7.{number}" for number in range(12)]
    with (
        redis_cluster(tmp_path, ports) as nodes,
        closing(RedisStore(f"redis+cluster://127.0.0.1:{ports[0]}")) as store,
    ):
        assert None not in [_kept(store, ip) for ip in ips]
        os.kill(nodes[2].pid, signal.SIGSTOP)
        served = [_kept(store, ip) is not None for ip in ips]
        assert set(served) == {True, False}
        os.kill(nodes[2].pid, signal.SIGCONT)
        assert None not in [_kept(store, ip) for ip in ips]

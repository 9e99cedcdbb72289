"""The shared store on real Redis: every kind of address, and Redis killed, stalled, full."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path

import pytest

from botmilter.errors import NewerStoreError, StoreError
from botmilter.memory import Lifetimes, Memory, Rates
from botmilter.model import Observation, Status
from botmilter.store.base import Window
from botmilter.store.memory import MemoryStore
from botmilter.store.redis import SCHEMA_VERSION, TIMEOUT_S, RedisStore
from tests.fakes.programs import free_port
from tests.fakes.redis_servers import (
    Tls,
    redis_cli,
    redis_cluster,
    redis_sentinel,
    redis_server,
)


def seen(name: str = "198.18.7.12") -> Observation:
    return Observation("rdns", name, Status.ANSWERED, {"names": ["pc.example"]}, "", time.time())


def works(store: RedisStore) -> bool:
    one = seen()
    store.put(one, 60)
    return store.get("rdns", one.key, time.time()) == one and store.claim("k", 60)


@pytest.fixture
def opened() -> Iterator[Callable[[str], RedisStore]]:
    with ExitStack() as stack:

        def opener(url: str) -> RedisStore:
            store = RedisStore(url)
            stack.callback(store.close)
            return store

        yield opener


Opener = Callable[[str], RedisStore]


def test_a_unix_socket_and_a_password(tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "r.sock"
    with redis_server(tmp_path, path, "--requirepass", "s3"):
        assert works(opened(f"unix://:s3@{path}"))
        with pytest.raises(StoreError, match="Authentication") as caught:
            opened(f"unix://{path}").put(seen(), 60)
        assert "s3" not in str(caught.value)


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return Tls.made_in(tmp_path)


def test_tls(tmp_path: Path, opened: Opener, tls: Tls) -> None:
    port = free_port()
    with redis_server(tmp_path, port, *tls.on(port)):
        assert works(opened(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tls.cert}"))
        with pytest.raises(StoreError, match="certificate"):
            opened(f"rediss://127.0.0.1:{port}/0").put(seen(), 60)


@pytest.mark.parametrize("by_tls", [False, True], ids=["plain", "tls"])
def test_sentinel_leads_to_the_master(
    tmp_path: Path, opened: Opener, tls: Tls, by_tls: bool
) -> None:
    port, sentinel = free_port(), free_port()
    settings = f"sentinel monitor mymaster 127.0.0.1 {port} 1\nsentinel auth-pass mymaster s3@:\n"
    master, watcher, scheme, query = [], [], "redis", ""
    if by_tls:
        master, watcher = tls.on(port), tls.on(sentinel, tls_replication="yes")
        scheme, query = "rediss", f"?ssl_ca_certs={tls.cert}"
    with (
        redis_server(tmp_path, port, "--requirepass", "s3@:", *master),
        redis_sentinel(tmp_path, sentinel, settings, *watcher),
    ):
        place = f"127.0.0.1:{sentinel}"
        assert works(opened(f"{scheme}+sentinel://:s3%40%3A@{place}/mymaster/0{query}"))
        with pytest.raises(StoreError):
            opened(f"{scheme}+sentinel://{place}/mymaster/0{query}").put(seen(), 60)
        with pytest.raises(StoreError):
            opened(f"{scheme}+sentinel://{place}/another{query}").put(seen(), 60)
        if by_tls:
            with pytest.raises(StoreError):
                opened(f"rediss+sentinel://:s3%40%3A@{place}/mymaster/0").put(seen(), 60)


@pytest.mark.parametrize("by_tls", [False, True], ids=["plain", "tls"])
def test_a_cluster(tmp_path: Path, opened: Opener, tls: Tls, by_tls: bool) -> None:
    port = free_port()
    options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    cli: list[str] = []
    url = f"redis+cluster://127.0.0.1:{port}"
    if by_tls:
        options += tls.on(port, tls_cluster="yes")
        cli += ["--tls", "--cacert", str(tls.cert)]
        url = f"rediss+cluster://127.0.0.1:{port}?ssl_ca_certs={tls.cert}"
    with redis_server(tmp_path, port, *options):
        redis_cli(port, *cli, "cluster", "addslotsrange", "0", "16383")
        end = time.monotonic() + 10
        while b"cluster_state:ok" not in redis_cli(port, *cli, "cluster", "info"):
            assert time.monotonic() < end
            time.sleep(0.05)
        store = opened(url)
        assert works(store)
        store.release("k")
        assert store.claim("k", 60)
        if by_tls:
            with pytest.raises(StoreError):
                opened(f"rediss+cluster://127.0.0.1:{port}").put(seen(), 60)


def test_a_cluster_that_is_away_at_the_start_is_found_later(tmp_path: Path, opened: Opener) -> None:
    port = free_port()
    store = opened(f"redis+cluster://127.0.0.1:{port}")
    for ask in (
        lambda: store.put(seen(), 60),
        lambda: list(store.rows()),
        lambda: store.forget_network(ip_network("198.18.7.0/24")),
        lambda: store.purge(time.time(), 60.0),
    ):
        with pytest.raises(StoreError):
            ask()
    with redis_cluster(tmp_path, [port]):
        assert works(store)


def test_a_cluster_is_found_by_whichever_of_its_hosts_answers(
    tmp_path: Path, opened: Opener
) -> None:
    away, there = free_port(), free_port()
    with redis_cluster(tmp_path, [there]):
        for places in ((away, there), (there, away), (away, away, there)):
            hosts = ",".join(f"127.0.0.1:{port}" for port in places)
            store = opened(f"redis+cluster://{hosts}")
            store.put(seen(hosts), 60)
            assert store.get("rdns", hosts, time.time()) is not None


@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
@pytest.mark.parametrize("hosts", ["127.0.0.1:1,", "127.0.0.1:1,h:port", "127.0.0.1:1,h:70000"])
def test_a_host_that_is_none_is_said_at_once(opened: Opener, kind: str, hosts: str) -> None:
    with pytest.raises(StoreError, match="expected host:port"):
        opened(f"redis+{kind}://{hosts}/mymaster")


def test_no_password_is_ever_shown(opened: Opener) -> None:
    for url in ("redis://u:s3cret@127.0.0.1:1", "redis://127.0.0.1:1/0?password=s3cret"):
        with pytest.raises(StoreError) as caught:
            opened(url).put(seen(), 60)
        assert "s3cret" not in str(caught.value)


def test_what_has_expired_leaves_redis_too(tmp_path: Path, opened: Opener) -> None:
    port = free_port()
    with redis_server(tmp_path, port):
        store = opened(f"redis://127.0.0.1:{port}")
        store.put(seen(), 0.1)
        store.admit([Window("rate", 9, 1.0)], time.time())
        end = time.monotonic() + 10
        while redis_cli(port, "keys", "*").split() != [b"botmilter:notices"]:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_a_claim_that_ran_out_and_is_another_s_is_not_given_back(
    tmp_path: Path, opened: Opener
) -> None:
    port = free_port()
    with redis_server(tmp_path, port):
        one, other, third = (opened(f"redis://127.0.0.1:{port}") for _ in range(3))
        assert one.claim("k", 0.05)
        time.sleep(0.1)
        assert other.claim("k", 60)
        one.release("k")
        assert not third.claim("k", 60)


def test_a_claim_whose_answer_was_lost_is_ours_when_asked_for_again(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else we would wait for ourselves, and nobody would give it back."""
    port = free_port()
    lifetimes = Lifetimes(clears_s=60, accuses_s=60, unknown_s=60, failed_s=5)
    with redis_server(tmp_path, port) as server:
        one, other = (opened(f"redis://127.0.0.1:{port}") for _ in range(2))
        memory = Memory(MemoryStore(10), one, lifetimes, Rates(9, 9, 9))
        assert works(one)
        assert not works(other)

        def claim(key: str, for_s: float) -> bool:
            try:
                return RedisStore.claim(one, key, for_s)
            except StoreError:
                os.kill(server.pid, signal.SIGCONT)
                raise

        monkeypatch.setattr(one, "claim", claim)
        os.kill(server.pid, signal.SIGSTOP)
        started = time.monotonic()
        assert memory.claim("lost", 3.0)
        assert time.monotonic() - started < 1.5
        assert memory.errors == 1
        assert not other.claim("lost", 60)
        assert not one.claim("lost", 60)
        memory.release("lost")
        assert other.claim("lost", 60)


def test_workers_forked_from_one_parent_do_not_take_each_other_for_themselves(
    tmp_path: Path, opened: Opener
) -> None:
    port = free_port()
    with redis_server(tmp_path, port):
        made_before = opened(f"redis://127.0.0.1:{port}")
        if (pid := os.fork()) == 0:
            os._exit(0 if made_before.claim("k", 60) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        made_before.release("k")
        assert not made_before.claim("k", 60)


def test_a_killed_redis_is_an_error_at_once_and_its_restart_is_found(
    tmp_path: Path, opened: Opener
) -> None:
    port = free_port()
    with redis_server(tmp_path, port) as server:
        store = opened(f"redis://127.0.0.1:{port}")
        assert works(store)
        server.kill()
        server.wait(5)
        started = time.monotonic()
        with pytest.raises(StoreError):
            store.put(seen(), 60)
        assert time.monotonic() - started < 1.0
    with redis_server(tmp_path, port):
        assert store.get("rdns", "198.18.7.12", time.time()) is None
        assert works(store)


def test_what_was_not_answered_in_time_is_not_asked_again() -> None:
    """It may have been counted all the same."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as mute:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connections.append(mute.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        store = RedisStore(f"redis://127.0.0.1:{mute.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(StoreError):
            store.count("k", 60.0, time.time())
        took_s = time.monotonic() - started
        mute.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    for one in connections:
        one.close()
    assert (len(connections), took_s < 2 * TIMEOUT_S) == (1, True)


def test_a_stalled_redis_holds_nobody_and_the_cache_goes_on(tmp_path: Path, opened: Opener) -> None:
    port = free_port()
    lifetimes = Lifetimes(clears_s=60, accuses_s=60, unknown_s=60, failed_s=5)
    with redis_server(tmp_path, port) as server:
        memory = Memory(
            MemoryStore(10), opened(f"redis://127.0.0.1:{port}"), lifetimes, Rates(9, 9, 9)
        )
        memory.remember(seen("known"), 1.0)
        os.kill(server.pid, signal.SIGSTOP)
        started = time.monotonic()
        for number in range(20):
            assert memory.recall("rdns", str(number), lambda _: 0.0) is None
        assert time.monotonic() - started < 10 * TIMEOUT_S
        assert memory.recall("rdns", "known", lambda _: 0.0) is not None
        os.kill(server.pid, signal.SIGCONT)


def test_a_full_redis_is_an_error_and_what_is_there_can_be_read(
    tmp_path: Path, opened: Opener
) -> None:
    port = free_port()
    with redis_server(tmp_path, port):
        store = opened(f"redis://127.0.0.1:{port}")
        store.put(seen(), 60)
        redis_cli(port, "config", "set", "maxmemory", "1")
        with pytest.raises(StoreError, match="OutOfMemory"):
            store.put(seen("another"), 60)
        assert store.get("rdns", "198.18.7.12", time.time()) is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://x",
        "redis+sentinel://127.0.0.1:1",
        "nonsense",
        "redis+proxy://127.0.0.1:1",
        "redis://:s3cret@[::1:6379/0",
    ],
)
def test_an_address_of_no_known_kind_is_refused_when_made(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        RedisStore(url)
    assert "s3cret" not in str(caught.value)


def test_a_newer_version_s_database_is_refused_and_left_as_it_is(
    tmp_path: Path, opened: Opener
) -> None:
    port = free_port()
    with redis_server(tmp_path, port):
        redis_cli(port, "hset", "botmilter:notices", "schema", "99")
        store = opened(f"redis://127.0.0.1:{port}")
        for _ in range(2):
            with pytest.raises(NewerStoreError, match=r"newer botmilter.*99"):
                store.put(seen(), 60)
        assert redis_cli(port, "dbsize").strip() == b"1"
        redis_cli(port, "hset", "botmilter:notices", "schema", "1")
        assert works(store)
        assert int(redis_cli(port, "hget", "botmilter:notices", "schema")) == SCHEMA_VERSION


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"[" * 50_000, b"7", b'{"expires_at": 1e999, "seen": {}}', b""]
)
def test_hostile_rows_are_as_if_not_there(tmp_path: Path, opened: Opener, text: bytes) -> None:
    port = free_port()
    with redis_server(tmp_path, port):
        store = opened(f"redis://127.0.0.1:{port}")
        kept = seen("198.18.7.13")
        store.put(kept, 60)
        for key in (b"botmilter:1:seen:rdns:198.18.7.12", b"botmilter:1:seen:\xff"):
            redis_cli(port, "-x", "set", key, given=text)
        redis_cli(port, "-x", "hset", "botmilter:notices", "opt-out x", given=text)
        assert store.get("rdns", "198.18.7.12", time.time()) is None
        assert [row.seen for row in store.rows()] == [kept]
        assert store.opt_outs() == ()
        store.purge(time.time(), 60.0)
        assert store.forget_network(ip_network("198.18.7.0/24")) == 2


def test_every_key_about_a_host_ends_by_itself(tmp_path: Path, opened: Opener) -> None:
    port = free_port()
    with redis_server(tmp_path, port):
        store, now = opened(f"redis://127.0.0.1:{port}"), time.time()
        store.put(seen(), 1e9)
        store.claim("rdns 198.18.7.12", 60)
        store.count("tempfail 198.18.7.0/24", 86400.0, now)
        store.admit([Window("rate 198.18.7.12", 9, 3600.0)], now)
        store.purge(now, 86400.0)
        keys = set(redis_cli(port, "keys", "*").splitlines())
        assert len(keys) == 5
        for key in keys - {b"botmilter:notices"}:
            left_s = int(redis_cli(port, "ttl", key))
            assert 0 < left_s <= 86401, key

"""What every store promises, shown on each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from botmilter.model import Observation, Status
from botmilter.store.base import Notices, OptOut, Row, Store, Window
from botmilter.store.fresh import FreshStore
from botmilter.store.memory import MemoryStore
from botmilter.store.redis import RedisStore
from botmilter.store.sqlite import SqliteStore
from tests.fakes.programs import free_port, is_there
from tests.fakes.redis_servers import redis_cli, redis_cluster, redis_server

VALKEY = "valkey-server"
#: Debian 12 has no package of Valkey; tests/run brings it where there is one.
STORES = ["memory", "sqlite", "redis", "cluster", "fresh"] + ["valkey"] * is_there(VALKEY)
#: Ahead, for what Redis lets expire by its own clock has to be there at the end of a long test run.
NOW = time.time() + 3600
SEEN = Observation(
    "rdns", "198.18.7.12", Status.ANSWERED, {"names": ["pc.example"]}, "", NOW, 0.1, 300.0
)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with redis_server(tmp_path_factory.mktemp("redis"), port):
        yield f"redis://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    folder = tmp_path_factory.mktemp("valkey")
    with redis_server(folder, port, program=VALKEY):
        yield f"redis://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def cluster_ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, ...]]:
    ports = tuple(free_port() for _ in range(3))
    with redis_cluster(tmp_path_factory.mktemp("cluster"), ports):
        yield ports


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with ExitStack() as stack:
        made: Store
        if request.param == "memory":
            made = MemoryStore(100)
        elif request.param == "sqlite":
            made = SqliteStore(tmp_path / "s.db")
        elif request.param == "fresh":
            made = FreshStore(MemoryStore(100), since=0.0)
        elif request.param == "cluster":
            ports = request.getfixturevalue("cluster_ports")
            made = RedisStore(f"redis+cluster://127.0.0.1:{ports[0]}")
            for port in ports:
                redis_cli(port, "flushall")
        else:
            url = request.getfixturevalue(f"{request.param}_url")
            made = RedisStore(url)
            redis_cli(int(url.rpartition(":")[2]), "flushall")
        stack.callback(made.close)
        yield made


def test_what_was_put_comes_back_equal(store: Store) -> None:
    store.put(SEEN, 60)
    assert store.get("rdns", "198.18.7.12", NOW + 59) == SEEN


def test_of_many_that_are_asked_for_at_once_those_that_are_known_come_back(store: Store) -> None:
    ping, gone = replace(SEEN, probe="ping", facts={"rtt_s": 0.1}), replace(SEEN, probe="smtp")
    for seen, ttl_s in ((SEEN, 60), (ping, 60), (gone, 1)):
        store.put(seen, ttl_s)
    asked = [(probe, SEEN.key) for probe in ("senderhost", "ping", "smtp", "rdns")]
    found = store.get_many(asked, NOW + 2)
    assert {one.probe: one for one in found} == {"rdns": SEEN, "ping": ping}
    assert len(found) == 2
    assert not store.get_many([("ping", "another")], NOW)


def test_what_has_expired_is_not_there(store: Store) -> None:
    store.put(SEEN, 60)
    assert store.get("rdns", "198.18.7.12", NOW + 61) is None


def test_neither_another_probe_nor_another_host_gets_it(store: Store) -> None:
    store.put(SEEN, 60)
    assert store.get("smtp", "198.18.7.12", NOW) is None
    assert store.get("rdns", "198.18.7.13", NOW) is None


def test_a_later_observation_takes_the_place_of_the_earlier(store: Store) -> None:
    store.put(SEEN, 60)
    later = Observation("rdns", "198.18.7.12", Status.SILENT, taken_at=NOW + 1)
    store.put(later, 60)
    assert store.get("rdns", "198.18.7.12", NOW + 2) == later


def test_a_claim_is_held_by_one_until_released(store: Store) -> None:
    assert store.claim("k", 60)
    assert not store.claim("k", 60)
    assert store.claim("other", 60)
    store.release("k")
    assert store.claim("k", 60)


def test_a_dead_owner_s_claim_ends_by_itself(store: Store) -> None:
    assert store.claim("k", 0.01)
    time.sleep(0.05)
    assert store.claim("k", 60)


def test_what_expired_can_be_purged_without_harm_to_the_rest(store: Store) -> None:
    store.put(SEEN, 60)
    store.put(Observation("rdns", "other", Status.ANSWERED, taken_at=NOW), 600)
    assert store.purge(NOW + 61, 600.0) in (0, 1)
    assert store.get("rdns", "198.18.7.12", NOW + 61) is None
    assert store.get("rdns", "other", NOW + 61) is not None


def test_what_is_forgotten_is_not_there_and_the_rest_is(store: Store) -> None:
    store.put(SEEN, 60)
    store.put(replace(SEEN, probe="smtp"), 60)
    store.put(replace(SEEN, key="198.18.7.13"), 60)
    store.forget(["rdns", "ping"], SEEN.key)
    left = [("rdns", SEEN.key), ("smtp", SEEN.key), ("rdns", "198.18.7.13")]
    assert [store.get(*one, NOW) is not None for one in left] == [False, True, True]


START = NOW // 60 * 60


def test_events_are_admitted_up_to_the_limit_of_their_window(store: Store) -> None:
    two = Window("host", 2, 60)
    assert [store.admit([two], START + second) for second in (0, 30, 59)] == [None, None, 0]
    assert store.admit([Window("another", 1, 60)], START) is None
    assert [store.admit([two], START + second) for second in (60, 61, 62)] == [None, None, 0]


def test_a_clock_read_before_the_windows_turn_opens_no_window_anew(store: Store) -> None:
    two = Window("k", 2, 60)
    assert [store.admit([two], START + 61) for _ in range(2)] == [None, None]
    store.admit([two], START + 59.9)
    assert store.admit([two], START + 62) == 0


def test_a_clock_set_back_stops_nobody(store: Store) -> None:
    one = Window("k", 1, 60)
    assert store.admit([one], START + 3600) is None
    assert store.admit([one], START) is None
    assert store.admit([one], START + 1) == 0


def test_where_one_window_is_full_no_other_is_used_up(store: Store) -> None:
    host, network = Window("host", 1, 3600), Window("network", 3, 60)
    assert [store.admit([host, network], START) for _ in range(9)] == [None, *[0] * 8]
    assert [store.admit([network], START) for _ in range(3)] == [None, None, 0]
    assert store.admit([Window("another", 5, 60), network], START) == 1


def test_events_are_counted_within_their_window(store: Store) -> None:
    assert [store.count("host", 60, START + second) for second in (0, 30, 59)] == [1, 2, 3]
    assert store.count("another", 60, START) == 1
    assert store.count("host", 60, START + 60) == 1


def test_the_last_place_goes_to_one_of_many(store: Store) -> None:
    window = Window("host", 7, 60)
    with ThreadPoolExecutor(16) as many:
        found = list(many.map(lambda _: store.admit([window], START), range(64)))
    assert found.count(None) == 7


def test_what_was_put_under_a_longer_time_is_kept_no_longer_than_now_allowed(store: Store) -> None:
    old = replace(SEEN, key="198.18.7.1", taken_at=time.time() - 100)
    new = replace(SEEN, key="198.18.7.2", taken_at=time.time())
    for seen in (old, new):
        store.put(seen, 6000)
    store.purge(time.time(), 6000.0)
    assert len(list(store.rows())) == 2
    store.purge(time.time(), 50.0)
    time.sleep(0.01)  # Redis drops within its next look
    assert [row.seen for row in store.rows()] == [new]
    assert store.get(old.probe, old.key, time.time()) is None


# -- for the administrator ----------------------------------------------------------------------

HOSTS = ("198.18.7.12", "198.18.7.13", "198.18.71.2", "2001:db8::7", "2001:db8:0:1::7")


def fill(store: Store) -> None:
    for ip in HOSTS:
        store.put(replace(SEEN, key=ip), 600)
        store.put(replace(SEEN, probe="senderhost", key=f"{ip} a.example b.example"), 600)


def hosts(store: Store, network: str | None = None) -> dict[str, int]:
    """How many rows there are about each address."""
    found: dict[str, int] = {}
    for row in store.rows(ip_network(network) if network else None):
        ip = row.seen.key.split()[0]
        found[ip] = found.get(ip, 0) + 1
    return found


def test_all_rows_are_listed_with_their_end(store: Store) -> None:
    fill(store)
    assert hosts(store) == dict.fromkeys(HOSTS, 2)
    assert Row(replace(SEEN, key=HOSTS[0]), NOW + 600) in list(store.rows())


def test_more_rows_than_one_page_are_listed_once_each(store: Store) -> None:
    keys = {f"198.18.{number // 256}.{number % 256}" for number in range(50, 1150)}
    if isinstance(store, MemoryStore | FreshStore):
        keys = set(list(keys)[:100])
    for key in keys:
        store.put(replace(SEEN, key=key), 600)
    assert sorted(row.seen.key for row in store.rows()) == sorted(keys)


@pytest.mark.parametrize(
    ("network", "meant"),
    [
        ("198.18.7.12", HOSTS[:1]),
        ("198.18.7.1", ()),
        ("198.18.7.0/24", HOSTS[:2]),
        ("198.18.0.0/15", HOSTS[:3]),
        ("2001:db8::7", HOSTS[3:4]),
        ("2001:db8::/32", HOSTS[3:]),
        ("::/0", HOSTS[3:]),
    ],
)
def test_a_network_is_listed_and_forgotten_with_all_its_probes_and_nobody_else(
    store: Store, network: str, meant: tuple[str, ...]
) -> None:
    fill(store)
    assert hosts(store, network) == dict.fromkeys(meant, 2)
    assert store.forget_network(ip_network(network)) == 2 * len(meant)
    assert hosts(store) == dict.fromkeys([ip for ip in HOSTS if ip not in meant], 2)


def test_claims_and_counts_about_a_host_are_forgotten_too(store: Store) -> None:
    theirs = ("rate 198.18.7.12", "rate 2001:db8::/64")
    others = ("rate 198.18.7.13", "rate 198.18.7.0/24", "rate in all", "rate 2001:db8:0:1::/64")
    for key in (*theirs, *others):
        store.count(key, 60.0, NOW)
    assert store.claim("rdns 198.18.7.12", 60)
    assert store.claim("rdns 198.18.7.13", 60)
    for network in ("198.18.7.12", "2001:db8::7"):
        store.forget_network(ip_network(network))
    assert [store.count(key, 60.0, NOW) for key in theirs] == [1, 1]
    assert [store.count(key, 60.0, NOW) for key in others] == [2, 2, 2, 2]
    assert store.claim("rdns 198.18.7.12", 60)
    assert not store.claim("rdns 198.18.7.13", 60)


def test_each_forgetting_is_noticed_even_where_nothing_was_there(store: Store) -> None:
    seen = [store.notices()]
    for _ in range(2):
        store.forget_network(ip_network("198.18.7.12"))
        seen.append(store.notices())
    assert seen[0] == Notices()
    assert len({notices.forgotten for notices in seen}) == 3
    assert {notices.opt_outs for notices in seen} == {""}


def test_opt_outs_are_listed_once_each_until_removed_and_each_change_is_noticed(
    store: Store,
) -> None:
    four = OptOut(ip_network("198.18.7.0/24"), "ticket 7", NOW)
    six = OptOut(ip_network("2001:db8::/32"), "", NOW + 1)
    again = replace(four, note="ticket 8")
    noticed = {store.notices().opt_outs}
    for step, listed in (
        (lambda: store.opt_out(four), {four}),
        (lambda: store.opt_out(six), {four, six}),
        (lambda: store.opt_out(again), {again, six}),
        (lambda: store.opt_in(six.network), {again}),
        (lambda: store.opt_in(four.network), set()),
    ):
        step()
        assert set(store.opt_outs()) == listed
        assert store.notices().opt_outs not in noticed
        noticed.add(store.notices().opt_outs)
    assert not store.opt_in(four.network)


def test_an_opt_out_that_is_added_again_keeps_its_day_and_its_note_unless_it_brings_one(
    store: Store,
) -> None:
    network = ip_network("198.18.7.0/24")
    for noted, stands in (("", ""), ("ticket 7", "ticket 7"), ("", "ticket 7"), ("8", "8")):
        later = NOW + len(store.opt_outs())
        assert store.opt_out(OptOut(network, noted, later)) == OptOut(network, stands, NOW)
        assert store.opt_outs() == (OptOut(network, stands, NOW),)
    store.opt_in(network)
    assert store.opt_out(OptOut(network, "", NOW + 1)) == OptOut(network, "", NOW + 1)


def test_opt_outs_outlast_purge_and_forgetting(store: Store) -> None:
    entry = OptOut(ip_network("198.18.7.12"), "", NOW - 1e8)
    store.opt_out(entry)
    store.purge(NOW + 1e8, 1.0)
    store.forget_network(entry.network)
    assert store.opt_outs() == (entry,)

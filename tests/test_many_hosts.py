"""Several MX hosts on one Redis, each with several workers: real daemons, real Redis, real nmap."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from botmilter import header
from tests.fakes.mta import Mail, send_one
from tests.fakes.programs import children, free_port
from tests.fakes.redis_servers import redis_server
from tests.lab import mta, worlds
from tests.lab.dns import NameServer
from tests.lab.filter import Filter
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.scans import Scans

pytestmark = pytest.mark.slow

ICMP, TCP = 1, 6
#: Refuses port 25, so that one connection is one packet; looks like a client's system.
PC = worlds.INFECTED_BEHIND_FORWARDER


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab([PC]) as one, NameServer([PC], worlds.RECORDS):
        yield one


@pytest.fixture
def folder() -> Iterator[Path]:
    with mta.open_folder() as one:
        yield one


@pytest.fixture
def redis(folder: Path) -> Iterator[str]:
    port = free_port()
    with redis_server(folder, port):
        yield f"redis://127.0.0.1:{port}"


def settings(url: str, **more: object) -> dict[str, object]:
    """Enough time for a busy machine."""
    plain = {"milter.socket_group": "", "milter.workers": 2, "budget.per_mail_s": 20.0}
    shared = {"store.kind": "redis", "store.path": "", "store.url": url}
    return {**plain, **shared, **{key.replace("__", "."): value for key, value in more.items()}}


def verdict(place: Path, host: Host) -> header.Value:
    delivery = send_one(str(place), Mail(), ip=str(host.ip))
    (field,) = delivery.values(b"X-Bot-Verdict")
    return header.parse(field.decode())


def packets(lab: Lab, host: Host) -> Counter[tuple[int, int]]:
    """By protocol and port."""
    found: Counter[tuple[int, int]] = Counter()
    for flow, count in lab.flows().items():
        if flow.dst == str(host.ip):
            found[flow.protocol, flow.dport] += count
    return found


def test_twenty_mails_at_once_at_two_hosts_look_at_their_sender_once(
    lab: Lab, folder: Path, redis: str
) -> None:
    places = [folder / "one", folder / "other"]
    with Scans() as scans, ExitStack() as daemons:
        for place in places:
            daemons.enter_context(Filter(place, settings(redis)))
        with ThreadPoolExecutor(20) as mails:
            found = list(mails.map(lambda n: verdict(places[n % 2], PC), range(20)))
        assert len(scans.started) == 1, scans.started
    assert {one.label for one in found} == {"bot"}
    assert {"os.client", "smtp.refused"} <= set(found[0].reasons)


def test_each_packet_of_those_mails_is_sent_once(lab: Lab, folder: Path, redis: str) -> None:
    places = [folder / "one", folder / "other"]
    with ExitStack() as daemons:
        for place in places:
            daemons.enter_context(Filter(place, settings(redis, probe__osdetect__enabled=False)))
        with ThreadPoolExecutor(20) as mails:
            list(mails.map(lambda n: verdict(places[n % 2], PC), range(20)))
    assert packets(lab, PC) == {(TCP, 25): 1, (ICMP, 0): 1}


def test_what_one_host_learnt_another_knows_at_once(lab: Lab, folder: Path, redis: str) -> None:
    quick = settings(redis, probe__osdetect__enabled=False)
    with Filter(folder / "one", quick), Filter(folder / "other", quick):
        first = verdict(folder / "one", PC)
        lab.forget_flows()
        began = time.monotonic()
        assert verdict(folder / "other", PC).score == first.score
        assert time.monotonic() - began < 1.0
    assert not packets(lab, PC)


def test_the_claim_of_a_killed_worker_ends_and_the_host_is_looked_at(
    lab: Lab, folder: Path, redis: str
) -> None:
    """By whoever asks next; meanwhile nobody waits longer than its budget."""
    slow = replace(worlds.TARPITTED, ip=IPv4Address("198.18.67.50"))
    lab.put(slow)
    limits: Mapping[str, object] = {
        **settings(redis, probe__osdetect__enabled=False, budget__per_mail_s=1.0),
        "budget.under_load_s": 1.0,
        "probe.smtp.limit_s": 3.0,
        "milter.workers": 1,
    }
    with Filter(folder / "one", limits) as one, Filter(folder / "other", limits):
        assert "smtp" in verdict(folder / "one", slow).missing
        os.kill(_worker(one), signal.SIGKILL)
        killed = time.monotonic()
        began = time.monotonic()
        assert "smtp" in verdict(folder / "other", slow).missing
        assert time.monotonic() - began < 2.0
        while "smtp" in verdict(folder / "other", slow).missing:
            assert time.monotonic() - killed < 15, "nobody took the claim over"
            time.sleep(0.2)


# -- rates --------------------------------------------------------------------------------------

_PER_MINUTE = 10
#: What the mails below take, many times over: a new minute would let as many measurements in again.
_IN_A_MINUTE_S = 8.0


def test_two_hosts_keep_to_one_rate_together(lab: Lab, folder: Path, redis: str) -> None:
    """Thirty hosts, each of which would get a connection and a ping."""
    strangers = [replace(PC, ip=IPv4Address("198.18.91.1") + n, names=()) for n in range(30)]
    lab.put(*strangers)
    limits = settings(redis, probe__osdetect__enabled=False, probe__in_all_per_minute=_PER_MINUTE)
    places = [folder / "one", folder / "other"]
    with Filter(places[0], limits) as one, Filter(places[1], limits) as other:
        if (left_s := 60 - time.time() % 60) < _IN_A_MINUTE_S:
            time.sleep(left_s)
        with ThreadPoolExecutor(10) as mails:
            list(mails.map(lambda n: verdict(places[n % 2], strangers[n]), range(30)))
        said = [daemon.log.count("why=rate_limit:_in_all") for daemon in (one, other)]
    sent = [packets(lab, stranger) for stranger in strangers]
    assert sum(one.total() for one in sent) == _PER_MINUTE
    assert all(said), said


def _worker(daemon: Filter) -> int:
    """The last of the daemon's children; the prober is the first."""
    return children(daemon.pid)[-1]

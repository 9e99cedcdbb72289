"""Counts of all workers in one place: the observer, and its metrics by Prometheus' own parser."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from botmilter import config, kinds
from botmilter.cli import observing
from botmilter.errors import SetupError
from botmilter.milter import metrics
from botmilter.milter.loopback import is_loopback_name
from botmilter.milter.observer import Totals
from tests.fakes.mta import send_one
from tests.fakes.programs import children
from tests.milter.conftest import PATIENCE_S, exists, wait_until

Sample = tuple[str, frozenset[tuple[str, str]]]

MAILS = "botmilter_mails_total"


class Running:
    """``botmilter run`` with metrics at a Unix socket; its hosts are out of reach."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        self.socket = str(folder / "milter.sock")
        self.metrics = folder / "metrics.sock"
        self.config = folder / "botmilter.toml"
        self.configure(more)
        self.log_file = folder / "log"
        with self.log_file.open("w") as log:
            command = [sys.executable, "-m", "botmilter", "run", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stderr=log)
        self.wait_for_log("serving")

    def configure(self, more: str = "") -> None:
        self.config.write_text(
            f'milter = {{ socket = "unix:{self.socket}", workers = 2 }}\n'
            f'store.path = "{self.folder}/store.sqlite"\n'
            'probe = { allow_networks = ["198.18.0.0/15"], nameservers = ["127.0.0.1"] }\n'
            f'metrics.listen = "unix:{self.metrics}"\n{more}'
        )

    def mail(self, ip: str = "198.18.0.1") -> None:
        send_one(self.socket, None, ip=ip)

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.log_file.read_text(), self.log_file.read_text())

    def samples(self) -> dict[Sample, float]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_S)
            client.connect(str(self.metrics))
            client.sendall(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n")
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert answer.status == 200
            return samples(answer.read().decode())

    def now(self, name: str, **labels: str) -> float:
        """The sample's value; zero while it or the observer is not there."""
        try:
            return self.samples().get((name, frozenset(labels.items())), 0.0)
        except OSError:
            return 0.0

    def children(self) -> list[int]:
        """Observer, prober and workers, in the order of their birth."""
        return children(self.process.pid)

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(PATIENCE_S) == 0


def samples(text: str) -> dict[Sample, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    begun: list[Running] = []

    def start_one(more: str = "") -> Running:
        begun.append(Running(tmp_path, more))
        return begun[-1]

    yield start_one
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def test_counts_are_of_all_workers_and_outlive_each_of_them(start: Callable[..., Running]) -> None:
    running = start()
    for number in range(6):
        running.mail(f"198.18.0.{number}")
    wait_until(lambda: running.now(MAILS, verdict="unknown") == 6, "six mails")
    assert running.now("botmilter_workers", state="serving") == 2
    assert running.now("botmilter_latency_seconds_count") == 6
    failed = running.now("botmilter_probes_total", probe="ping", status="failed")
    assert 3 <= failed <= 6  # a worker leaves it alone after three

    observer, _, one, other = running.children()
    os.kill(one, signal.SIGKILL)
    wait_until(lambda: running.now("botmilter_worker_restarts_total") == 1, "the restart")
    wait_until(lambda: running.now("botmilter_workers", state="serving") == 2, "a new worker")
    assert running.now(MAILS, verdict="unknown") == 6
    assert other in running.children()

    running.process.send_signal(signal.SIGUSR1)  # workers that drain say what they have
    running.mail()
    running.wait_for_log("reload: done")
    wait_until(lambda: running.now(MAILS, verdict="unknown") == 7, "the mail of before")
    assert observer in running.children()
    running.stop()
    assert not running.metrics.exists()


def test_workers_in_which_mails_may_wait_only_briefly_are_seen(
    start: Callable[..., Running],
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute_resolver:
        mute_resolver.bind(("127.0.0.1", 53))
        running = start("budget = { per_mail_s = 4.0, under_load_s = 1.0, load_mails = 2 }\n")
        with ThreadPoolExecutor(2) as pool:
            mails = [pool.submit(running.mail, f"198.18.0.{number}") for number in range(2)]
            wait_until(lambda: running.now("botmilter_workers_under_load") > 0, "the shorter wait")
            assert running.now("botmilter_waiting_mails") > 0
            for mail in mails:
                mail.result(PATIENCE_S)
        wait_until(lambda: running.now("botmilter_workers_under_load") == 0, "the usual wait")
    running.stop()


def test_an_observer_that_dies_is_replaced_and_no_mail_notices(
    start: Callable[..., Running],
) -> None:
    running = start()
    os.kill(running.children()[0], signal.SIGKILL)
    running.mail()
    wait_until(lambda: running.now(MAILS, verdict="unknown") == 1, "the mail of meanwhile")
    running.stop()


def test_nothing_is_left_when_the_parent_is_killed_after_it_replaced_the_observer(
    start: Callable[..., Running],
) -> None:
    running = start()
    first = running.children()[0]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in running.children(), "the observer to be gone")
    wait_until(lambda: len(running.children()) == 4, "another in its place")
    pids = running.children()
    running.process.kill()
    running.process.wait(PATIENCE_S)
    wait_until(lambda: not any(exists(pid) for pid in pids), "the children to end")


def test_another_address_at_a_reload_is_refused_and_said(start: Callable[..., Running]) -> None:
    running = start()
    running.configure(f'web.listen = "unix:{running.folder}/web.sock"\n')
    running.process.send_signal(signal.SIGUSR1)
    running.wait_for_log("listen cannot change at a reload: restart")
    running.mail()
    running.stop()


def test_a_host_that_dies_takes_its_gauges_with_it() -> None:
    totals = Totals()
    totals.take_in({"pid": 1, "counts": {"mails bot": 1}, "gauges": {"waiting": 3}})
    totals.take_in({"pid": 2, "counts": {"mails bot": 2}, "gauges": {"waiting": 4}})
    counts, gauges, _ = totals.now()
    assert (counts["mails bot"], gauges["waiting"]) == (3, 7)
    totals.take_in({"alive": [2], "workers": {"workers serving": 1}, "restarts": 5})
    counts, gauges, restarts = totals.now()
    assert (counts["mails bot"], gauges["waiting"], restarts) == (3, 4, 5)


def test_a_histogram_adds_up_from_bucket_to_bucket() -> None:
    totals = Totals()
    counts = {"took smtp 0.1": 2, "took smtp 1.0": 3, "took smtp inf": 1, "took_s smtp": 99.5}
    totals.take_in({"pid": 1, "counts": counts, "gauges": {}})
    kind, text = metrics.page(totals, "")
    assert kind.startswith("text/plain")
    found = samples(text.decode())

    def bucket(le: str) -> float:
        labels = frozenset({("probe", "smtp"), ("le", le)})
        return found["botmilter_probe_seconds_bucket", labels]

    assert [bucket(le) for le in ("0.025", "0.1", "0.5", "1.0", "30.0", "+Inf")] == [
        *(0, 2, 2, 5, 5, 6)
    ]
    assert found["botmilter_probe_seconds_sum", frozenset({("probe", "smtp")})] == 99.5


def test_who_asks_for_openmetrics_gets_it() -> None:
    kind, text = metrics.page(Totals(), "application/openmetrics-text;version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost:9808", True),
        ("127.0.0.1:9808", True),
        ("127.0.0.1", True),
        ("[::1]:9808", True),
        ("rebound.example:9808", False),
        ("127.0.0.1.rebound.example", False),
        ("198.18.0.1:9808", False),
        ("", False),
    ],
)
def test_only_this_machines_own_names_are_answered(host: str, is_ours: bool) -> None:
    assert is_loopback_name(host) is is_ours


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9808", "inet:9808@127.0.0.1"),
        ("[::1]:9808", "inet6:9808@::1"),
        ("unix:/run/m.sock", "unix:/run/m.sock"),
    ],
)
def test_where_to_listen(listen: str, address: str) -> None:
    assert kinds.listen_address(kinds.local_listener(listen)) == address


@pytest.mark.parametrize("listen", ["0.0.0.0:9808", "198.18.0.1:9808", "localhost:9808", ":1", "1"])
def test_a_network_is_never_listened_to(listen: str) -> None:
    with pytest.raises(ValueError, match="only this machine gets to it"):
        kinds.local_listener(listen)


def test_metrics_without_their_package_are_an_error_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observing, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match="contrib/install --with metrics"):
        observing.wanted(config.load(None, ["metrics.listen = '127.0.0.1:9808'"]))
    assert observing.wanted(config.load()) is None

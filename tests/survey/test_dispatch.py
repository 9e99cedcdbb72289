"""Both ends of the queue on a real Redis, with probes that send nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from botmilter.errors import SetupError
from botmilter.model import Status
from botmilter.survey import dispatch, run
from botmilter.survey.dispatch import Desk, Link, Worker
from botmilter.survey.records import Host, Record
from botmilter.survey.run import Surveyor
from tests.cli.fakes import FakeProbe
from tests.fakes.programs import free_port
from tests.fakes.redis_servers import redis_server
from tests.survey.test_run import surveyor
from tests.survey.values import host

pytestmark = pytest.mark.slow

HOSTS = [f"198.18.0.{n}" for n in range(1, 31)]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    number = free_port()
    with redis_server(tmp_path_factory.mktemp("redis"), number):
        yield number


@pytest.fixture
def link(port: int) -> Iterator[Link]:
    with closing(Link(f"redis://127.0.0.1:{port}/0")) as one:
        one.ask(lambda client: client.flushall())
        yield one


@pytest.fixture
def work(port: int) -> Iterator[Callable[..., None]]:
    """Start a worker with probes and settings."""
    with ExitStack() as stack:

        def start(probe: FakeProbe, *overrides: str) -> None:
            link = stack.enter_context(closing(Link(f"redis://127.0.0.1:{port}/0")))
            worker = Worker(link, lambda since: surveyor([probe], *overrides), threads=4)
            worker.start()
            stack.callback(worker.stop, 10.0)

        yield start


def desk(link: Link, survey: str = "august") -> Desk:
    return Desk(link, survey, 1, time.time(), False, host)


def measured(link: Link, *addresses: str) -> list[Record]:
    return list(desk(link).measured(addresses or HOSTS, pytest.fail))


def test_every_host_comes_back_once_with_its_mails(link: Link, work: Callable[..., None]) -> None:
    probe = FakeProbe("smtp")
    work(probe)
    found = measured(link)
    assert Counter(one.host.ip for one in found) == Counter(probe.asked) == Counter(HOSTS)
    assert all(one.host.mails == host().mails for one in found)
    assert all(one.observations[0].probe == "smtp" for one in found)
    assert link.ask(lambda client: client.keys("*survey:*")) == []


def test_an_address_that_is_none_is_said_without_its_password() -> None:
    with pytest.raises(SetupError, match="--queue redis://") as caught:
        Link("redis://:s3cret@[::1:6379/0")
    assert "s3cret" not in str(caught.value)


def test_no_mail_leaves_the_machine(link: Link) -> None:
    found = desk(link).measured(HOSTS, print)
    with closing(found), pytest.MonkeyPatch.context() as patched:
        patched.setattr(dispatch, "_pause", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(found)
    orders = link.ask(lambda client: client.hvals("botmilter:1:queue:survey.msgs"))
    assert len(orders) == len(HOSTS)
    assert b"friend" in orders[0]
    assert b"cheap.example" in orders[0]
    assert b"reader@" not in orders[0]
    assert b"Offer" not in orders[0]


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_an_interrupted_survey_has_no_host_measured_any_more_and_can_go_on(
    link: Link, work: Callable[..., None]
) -> None:
    found = desk(link).measured(HOSTS, pytest.fail)
    with closing(found), pytest.MonkeyPatch.context() as patched:
        patched.setattr(dispatch, "_pause", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(found)
    probe = FakeProbe("smtp")
    work(probe)
    until = time.monotonic() + 10
    while link.ask(lambda client: client.hlen("botmilter:1:queue:survey.msgs")):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert probe.asked == []
    assert {one.host.ip for one in measured(link)} == set(HOSTS)


def test_facts_that_came_when_nobody_listened_are_taken_in(
    link: Link, work: Callable[..., None]
) -> None:
    work(FakeProbe("smtp"))
    found = desk(link).measured(HOSTS, pytest.fail)
    with closing(found):
        first = next(found)
        until = time.monotonic() + 10
        while link.ask(lambda client: client.hlen("botmilter:1:survey:facts:august")) < len(HOSTS):
            assert time.monotonic() < until
            time.sleep(0.05)
    link.broker.flush_all()
    left = [ip for ip in HOSTS if ip != first.host.ip]
    assert {one.host.ip for one in measured(link, *left)} == set(left)


def test_a_host_at_a_rate_limit_waits_for_the_next_window(
    link: Link, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = Surveyor.measure, Counter[str]()

    def measure(self: Surveyor, number: int, one: Host) -> Record:
        tries[one.ip] += 1
        found = real(self, number, one)
        return limited(found) if tries[one.ip] == 1 else found

    monkeypatch.setattr(run, "WINDOW_S", 0.2)
    monkeypatch.setattr(Surveyor, "measure", measure)
    work(FakeProbe("smtp"))
    (found,) = measured(link, HOSTS[0])
    assert found.observations[0].status == "answered"
    assert tries == {HOSTS[0]: 2}


def limited(record: Record) -> Record:
    (one,) = record.observations
    skipped = replace(one, status=Status.SKIPPED, reason="rate limit: in all")
    return replace(record, observations=(skipped,))


def test_a_host_that_cannot_be_measured_ends_the_survey(
    link: Link, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Surveyor, number: int, one: Host) -> Record:
        raise RuntimeError("a bug")

    work(FakeProbe("smtp"))
    with monkeypatch.context() as now:
        now.setattr(Surveyor, "measure", broken)
        with pytest.raises(SetupError, match="a bug"):
            measured(link, HOSTS[0])
    assert len(measured(link, HOSTS[0])) == 1  # with --resume


def test_a_queue_that_forgets_is_noticed(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_pause", lambda: link.ask(lambda client: client.flushall()))
    with pytest.raises(SetupError, match="--resume"):
        measured(link)


def test_a_queue_that_is_gone_asks_for_resume() -> None:
    with (
        closing(Link(f"redis://127.0.0.1:{free_port()}/0")) as gone,
        pytest.raises(SetupError, match="--resume"),
    ):
        measured(gone)


def test_without_a_worker_it_says_so_once(
    link: Link, work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_ALONE_AFTER_S", 0.5)
    said: list[str] = []

    def warn(text: str) -> None:
        said.append(text)
        work(FakeProbe("smtp"))

    assert len(list(desk(link).measured(HOSTS, warn))) == len(HOSTS)
    assert len(said) == 1
    assert "botmilter worker" in said[0]


@pytest.mark.parametrize("url", ["redis+cluster://127.0.0.1:1", "nonsense"])
def test_an_address_that_can_be_no_queue_is_refused(url: str) -> None:
    with pytest.raises(SetupError, match="queue"):
        Link(url)


def test_each_run_has_a_name_of_its_own(tmp_path: Path) -> None:
    names = {
        dispatch.survey_id(folder, number, since)
        for folder in (tmp_path / "a", tmp_path / "b")
        for number in (1, 2)
        for since in (1.0, 2.0)
    }
    assert len(names) == 8

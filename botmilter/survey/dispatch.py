"""Hosts handed to workers on other machines, by Dramatiq on Redis.  The one importer of dramatiq.

::

    survey ──order──▶ Dramatiq's queue ──▶ worker: the same engine, store, claims and rate limits
    records.jsonl ◀── Redis hash, one field a host ◀── facts

No host is lost: a worker takes an order out of the queue only when its facts are in the hash, and
the orders of one that has not been heard of for ``dead_after_s`` go back.  Each host is recorded
once: the first facts of a host count, and what a killed worker had already measured stands in the
shared store for the one that takes over.  A survey that ends, however it ends, stops its workers:
orders count only while its session is kept alive, and ``--resume`` begins a new one.

Of a mail only HELO, sender domain and what its chain says leave this machine.  Both ends speak
JSON; but whoever can write to the queue can have any public host measured.

Dramatiq, because its workers show signs of life and an order goes back by one atomic script when
they end.  RQ puts an order aside as failed whose worker dies between taking and starting it, and
unpickles what it is sent; Celery knows a fixed time for all, after which a slow worker's order is
given out twice and before which a dead one's is not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from botmilter.errors import SetupError, StoreError
from botmilter.model import Observation
from botmilter.store import redis
from botmilter.survey.records import Host, MailNote, Record
from botmilter.survey.run import WINDOWS_AT_MOST, Surveyor, is_limited, to_next_window_s

log = logging.getLogger(__name__)

DEAD_AFTER_S = 30.0

_NAMESPACE = "botmilter:1:queue"
_PREFIX = "botmilter:1:survey:"
_QUEUE, _ACTOR = "survey", "measure"

#: A survey is at an end when it has not said otherwise for so long.
_SESSION_S = 60
#: Facts that nobody fetches.
_KEEP_S = 7 * 86400
#: Orders under way for all workers together.
_AHEAD = 2000
_AT_A_TIME = 200
_POLL_S = 0.2
_TIMEOUT_S = 5.0
_ALONE_AFTER_S = 10.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Order:
    """One host to be measured."""

    survey: str
    """Names the hash for its facts."""
    session: str
    run: int
    since: float
    """Unix time: facts from before it do not count."""
    probe_claimed: bool
    host: Host
    """Without its mails but for the HELO."""
    windows: int = 0
    """How many windows of the rate limits it has waited."""

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {**plain, "host": self.host.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError."""
        return cls(**{**data, "host": Host.from_json(data["host"])})


class Link:
    """A connection to the queue.  Connects at first use; its methods raise StoreError."""

    def __init__(self, url: str, dead_after_s: float = DEAD_AFTER_S) -> None:
        """Raises SetupError where *url* can be none."""
        self.shown_url = redis.without_password(url)
        if "+cluster:" in url:
            raise SetupError(f"{self.shown_url}: a queue needs one Redis, not a cluster")
        try:
            self.client = redis.maker(url, _TIMEOUT_S)()
        except ValueError as error:
            raise SetupError(f"--queue {self.shown_url}: {error}") from None
        self.broker = RedisBroker(  # type: ignore[no-untyped-call]  # Dramatiq annotates it not
            client=self.client,
            middleware=[],
            namespace=_NAMESPACE,
            heartbeat_timeout=int(dead_after_s * 1000),
            # dead workers are looked for once in a million commands times this; each worker gives
            # two commands a second or more
            maintenance_chance=min(1_000_000, int(1_000_000 / dead_after_s)),
        )

    def ask(self, command: Callable[[Any], T]) -> T:
        with redis.errors(self.shown_url):
            return command(self.client)

    def send(self, order: Order, delay_s: float = 0.0) -> None:
        message: dramatiq.Message[None] = dramatiq.Message(
            queue_name=_QUEUE, actor_name=_ACTOR, args=(order.to_json(),), kwargs={}, options={}
        )
        delay_ms = int(delay_s * 1000) if delay_s else None
        with redis.errors(self.shown_url):
            self.broker.enqueue(message, delay=delay_ms)

    def workers(self) -> int:
        """How many other processes have used the queue within the last seconds."""
        now_ms = time.time() * 1000
        newest = self.ask(
            lambda client: client.zrangebyscore(
                f"{_NAMESPACE}:__heartbeats__", now_ms - 1000 * _ALONE_AFTER_S, "+inf"
            )
        )
        return len([worker for worker in newest if worker.decode() != self.broker.broker_id])

    def close(self) -> None:
        self.client.close()


# -- the survey's end ---------------------------------------------------------------------------


def survey_id(folder: Path, run: int, since: float) -> str:
    """The same for each session of a run, and another for every other run."""
    text = f"{socket.gethostname()} {folder.resolve()} {run} {since}"
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Desk:
    """Gives out the hosts of one run and takes their facts in."""

    link: Link
    survey: str
    run: int
    since: float
    probe_claimed: bool
    host: Callable[[str], Host]
    """A host of the work list by its address."""

    def measured(
        self, addresses: Sequence[str], warn: Callable[[str], None]
    ) -> Generator[Record, None, None]:
        """*addresses* measured by whoever listens; a verdict is still to be made of the facts.

        Facts are dropped from Redis when the next record is asked for.  Raises SetupError where
        the queue is lost; closing the iterator ends the session.
        """
        session = secrets.token_hex(8)
        wanted, unsent = set(addresses), deque(addresses)
        waiting = _Waiting(self.link, warn)
        try:
            self.link.ask(lambda client: client.set(_alive(session), 1, ex=_SESSION_S))
            while wanted:
                facts = self._fetch()
                for ip, text in facts:
                    if ip in wanted:
                        wanted.discard(ip)
                        try:
                            record = self._record(ip, text)
                        except SetupError:
                            self._drop(ip)  # --resume has it measured anew
                            raise
                        yield record
                    self._drop(ip)
                waiting.note(bool(facts))
                self._send(unsent, wanted, session)
                self._stay(session)
                if not facts and wanted:
                    _pause()
        except StoreError as error:
            raise SetupError(f"{error}; go on with --resume") from None
        finally:
            self._end(session)

    def _send(self, unsent: deque[str], wanted: set[str], session: str) -> None:
        """Keep the queue filled, for all workers there may be."""
        while unsent and len(wanted) - len(unsent) < _AHEAD:
            ip = unsent.popleft()
            if ip in wanted:
                host = _slim(self.host(ip))
                order = Order(self.survey, session, self.run, self.since, self.probe_claimed, host)
                self.link.send(order)

    def _stay(self, session: str) -> None:
        if not self.link.ask(lambda client: client.set(_alive(session), 1, ex=_SESSION_S, xx=True)):
            raise SetupError(
                f"{self.link.shown_url}: Redis has forgotten the survey, and its orders with it; "
                "go on with --resume"
            )

    def _end(self, session: str) -> None:
        with contextlib.suppress(StoreError):  # it runs out by itself
            self.link.ask(lambda client: client.delete(_alive(session)))

    def _fetch(self) -> list[tuple[str, str]]:
        key = _facts(self.survey)
        found = self.link.ask(lambda client: client.hrandfield(key, _AT_A_TIME, withvalues=True))
        words = [word.decode() for word in found]
        return list(zip(words[::2], words[1::2], strict=True))

    def _drop(self, ip: str) -> None:
        self.link.ask(lambda client: client.hdel(_facts(self.survey), ip))

    def _record(self, ip: str, text: str) -> Record:
        try:
            data = json.loads(text)
            if "failed" in data:
                raise SetupError(f"a worker could not measure {ip}: {data['failed']}")
            seen = tuple(Observation.from_json(one) for one in data["observations"])
            return Record(self.run, float(data["began_at"]), self.host(ip), seen, {"why": ""})
        except (KeyError, TypeError, ValueError) as error:
            raise SetupError(f"a worker of another version? {ip}: {error!r}") from None


def _pause() -> None:
    time.sleep(_POLL_S)


class _Waiting:
    """Says once that nobody is there to do the work."""

    def __init__(self, link: Link, warn: Callable[[str], None]) -> None:
        self._link = link
        self._warn = warn
        self._since = time.monotonic()

    def note(self, came: bool) -> None:
        now = time.monotonic()
        if came:
            self._since = now
        elif now - self._since > _ALONE_AFTER_S:
            self._since = now + 60 * _ALONE_AFTER_S
            if not self._link.workers():
                self._warn(f"no worker listens at {self._link.shown_url}: start botmilter worker")


def _slim(host: Host) -> Host:
    greeting = () if host.helo is None else (MailNote("", "", "", "", "", "", 0, host.helo, ""),)
    return replace(host, mails=greeting)


def _alive(session: str) -> str:
    return f"{_PREFIX}alive:{session}"


def _facts(survey: str) -> str:
    return f"{_PREFIX}facts:{survey}"


# -- the worker's end ---------------------------------------------------------------------------


class Worker:
    """Measures what is ordered, on *threads* threads.

    *surveyor* makes one for facts since a moment; of several runs the newest counts.
    """

    def __init__(self, link: Link, surveyor: Callable[[float], Surveyor], threads: int) -> None:
        self._link = link
        self._make = surveyor
        self._lock = threading.Lock()
        self._newest: tuple[float, Surveyor] | None = None
        dramatiq.actor(broker=link.broker, actor_name=_ACTOR, queue_name=_QUEUE)(self._take)
        self._worker = dramatiq.Worker(link.broker, queues={_QUEUE}, worker_threads=threads)
        self._worker.queue_prefetch = threads  # what waits here cannot be done by another worker

    def start(self) -> None:
        """Returns at once.  Raises StoreError where the queue cannot be reached."""
        self._link.ask(lambda client: client.ping())
        self._worker.start()

    def stop(self, at_most_s: float) -> None:
        """Finish the hosts under way and give the other orders back."""
        self._worker.stop(timeout=int(at_most_s * 1000))

    def _take(self, data: Mapping[str, Any]) -> None:
        """Done when this returns: so not before Redis has the facts."""
        try:
            order = Order.from_json(data)
        except (KeyError, TypeError, ValueError) as error:
            log.error("an order of another version was dropped: %r", error)
            return
        if self._insist(lambda: self._is_wanted(order)):
            again, text = self._measure(order)
            if again is None:
                self._insist(lambda: self._deliver(order, text))
            else:
                self._insist(lambda: self._link.send(again, to_next_window_s()))

    def _measure(self, order: Order) -> tuple[Order | None, str]:
        """The order to be given again, where a rate limit was met, or the facts."""
        try:
            surveyor = replace(self._surveyor(order.since), probe_claimed=order.probe_claimed)
            record = surveyor.measure(order.run, order.host)
        except Exception as error:
            log.exception("origin=%s cannot be measured: a bug, please report", order.host.ip)
            return None, json.dumps({"failed": repr(error)})
        if is_limited(record) and order.windows < WINDOWS_AT_MOST:
            return replace(order, windows=order.windows + 1), ""
        observations = [one.to_json() for one in record.observations]
        return None, json.dumps({"began_at": record.began_at, "observations": observations})

    def _surveyor(self, since: float) -> Surveyor:
        with self._lock:
            if self._newest is None or self._newest[0] < since:
                self._newest = (since, self._make(since))
            return self._newest[1]

    def _is_wanted(self, order: Order) -> bool:
        """Whether its survey still runs, and nobody was quicker."""
        return self._link.ask(
            lambda redis: (
                bool(redis.exists(_alive(order.session)))
                and not redis.hexists(_facts(order.survey), order.host.ip)
            )
        )

    def _deliver(self, order: Order, text: str) -> None:
        key = _facts(order.survey)
        self._link.ask(lambda client: client.hsetnx(key, order.host.ip, text))
        self._link.ask(lambda client: client.expire(key, _KEEP_S))

    def _insist(self, call: Callable[[], T]) -> T:
        """Until Redis is there again.  An order that this process does not live to deliver goes
        to another worker."""
        while True:
            try:
                return call()
            except StoreError as error:
                log.warning("queue %s", error)
                time.sleep(1.0)

"""The store several MX hosts share: Redis 7 or Valkey.

The address says what is behind it:

* ``redis://[user:password@]host[:port][/db]``, ``rediss://`` with TLS, ``unix:///path``
* ``redis+sentinel://[user:password@]host:port,host:port/MASTER[/db]``
* ``redis+cluster://[user:password@]host:port``
* ``rediss+sentinel://`` and ``rediss+cluster://`` the same with TLS

Options such as ``?ssl_ca_certs=/path`` are redis-py's.  Name and password are percent-encoded
where they hold ``@ : / %``.  A sentinel gets no password.

Every key begins with ``botmilter:`` and ends by itself.  Values carry their expiry as well, so
that a host whose clock is behind sees what the others see.  Nothing waits longer than
``TIMEOUT_S`` for an answer: a stalled Redis must not hold a mail.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import parse_url
from redis.exceptions import RedisClusterException  # of no family with the others
from redis.retry import Retry
from redis.sentinel import Sentinel

from botmilter.errors import StoreError
from botmilter.model import Observation
from botmilter.store.base import Window

TIMEOUT_S = 0.25

_PREFIX = "botmilter:1:"

#: Give a claim back only if it is still ours: it may have run out and be another's by now.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


#: In one step, for a count that never ends would be worse than none.
_COUNT = """
local counted = redis.call('INCR', KEYS[1])
if counted == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return counted
"""

#: Keys, and for each its limit and the seconds it lives; the place of a full one, or 0.  The
#: braces in the keys' names keep them on one host of a cluster.
_ADMIT = """
for place, key in ipairs(KEYS) do
    if tonumber(redis.call('GET', key) or 0) >= tonumber(ARGV[place * 2 - 1]) then
        return place
    end
end
for place, key in ipairs(KEYS) do
    if redis.call('INCR', key) == 1 then redis.call('EXPIRE', key, ARGV[place * 2]) end
end
return 0
"""


class RedisStore:
    """The store at *url*.  Connects at first use, again by itself after a loss."""

    def __init__(self, url: str) -> None:
        self._shown_url = without_password(url)
        self._owner = secrets.token_hex(8)
        self._making = threading.Lock()
        self._made: Any = None
        try:
            self._make = maker(url)
        except (ValueError, redis.RedisError) as error:
            raise StoreError(f"{self._shown_url}: {error}") from error

    @property
    def _redis(self) -> Any:  # Any: the three classes of redis-py share no annotated base
        """The client: a cluster's asks its hosts as it is made, and they may be away."""
        with self._making:
            if self._made is None:
                self._made = self._make()
            return self._made

    def get(self, probe: str, key: str, now: float) -> Observation | None:
        with self._errors():
            text = self._redis.get(f"{_PREFIX}seen:{probe}:{key}")
        if text is None:
            return None
        try:
            row = json.loads(text)
            return Observation.from_json(row["seen"]) if row["expires_at"] > now else None
        except (KeyError, TypeError, ValueError):
            return None  # written by hand or by another version: as if it were not there

    def put(self, seen: Observation, ttl_s: float) -> None:
        expires_at = seen.taken_at + ttl_s
        text = json.dumps({"expires_at": expires_at, "seen": seen.to_json()})
        left_ms = max(1, int((expires_at - time.time()) * 1000))
        with self._errors():
            self._redis.set(f"{_PREFIX}seen:{seen.probe}:{seen.key}", text, px=left_ms)

    def claim(self, key: str, for_s: float) -> bool:
        left_ms = max(1, int(for_s * 1000))
        with self._errors():
            taken = self._redis.set(f"{_PREFIX}claim:{key}", self._owner, nx=True, px=left_ms)
        return bool(taken)

    def release(self, key: str) -> None:
        with self._errors():
            self._redis.eval(_RELEASE, 1, f"{_PREFIX}claim:{key}", self._owner)

    def forget(self, probes: Iterable[str], key: str) -> None:
        with self._errors():  # one by one: in a cluster they lie on several hosts
            for probe in probes:
                self._redis.delete(f"{_PREFIX}seen:{probe}:{key}")

    def admit(self, windows: Sequence[Window], now: float) -> int | None:
        names = [f"{_PREFIX}{{rates}}:{one.key}:{one.number(now)}" for one in windows]
        limits = [number for one in windows for number in (one.at_most, int(one.window_s) + 1)]
        with self._errors():
            full = int(self._redis.eval(_ADMIT, len(names), *names, *limits))
        return full - 1 if full else None

    def count(self, key: str, window_s: float, now: float) -> int:
        name = f"{_PREFIX}count:{key}:{Window(key, 0, window_s).number(now)}"
        with self._errors():
            return int(self._redis.eval(_COUNT, 1, name, int(window_s) + 1))

    def purge(self, now: float) -> int:
        """Redis drops what has expired by itself."""
        return 0

    def close(self) -> None:
        if self._made is not None:
            self._made.close()

    def _errors(self) -> AbstractContextManager[None]:
        return errors(self._shown_url)


@contextlib.contextmanager
def errors(shown_url: str) -> Iterator[None]:
    """Whatever redis-py raises within comes out as StoreError that names *shown_url*."""
    try:
        yield
    except (redis.RedisError, RedisClusterException, OSError) as error:
        raise StoreError(f"{shown_url}: {type(error).__name__}: {error}") from error


def maker(url: str, timeout_s: float = TIMEOUT_S) -> Callable[[], Any]:
    """What makes the client for *url*.  Raises ValueError where that is none."""
    limits: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 1),  # once: a connection that a restart has closed
    }
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    plain = urlunsplit(parts._replace(scheme=scheme))
    if kind == "cluster":
        parse_url(plain)  # type: ignore[no-untyped-call]  # redis-py annotates it not
        return lambda: RedisCluster.from_url(plain, **limits)
    if kind == "sentinel":
        made = _sentinel(parts._replace(scheme=scheme), limits)
    elif kind:
        raise ValueError("expected redis://, rediss://, unix://, +sentinel or +cluster")
    else:
        made = redis.Redis.from_url(url, **limits)
    return lambda: made


def _sentinel(parts: SplitResult, limits: dict[str, Any]) -> Any:
    """A client that asks the sentinels who the master is, again after each loss."""
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = (unquote(text) for text in credentials.partition(":"))
    master, _, db = parts.path.strip("/").partition("/")
    if not master:
        raise ValueError("expected redis+sentinel://host:port,host:port/MASTER[/db]")
    pairs = [
        (host, int(port or 26379)) for host, _, port in (h.partition(":") for h in hosts.split(","))
    ]
    options = parse_url(f"{parts.scheme}://?{parts.query}")  # type: ignore[no-untyped-call]  # the same
    for_tls = {"ssl": True} if parts.scheme == "rediss" else {}
    options.pop("connection_class", None)
    limits = {**limits, **for_tls, **options}
    sentinel = Sentinel(pairs, sentinel_kwargs=limits, **limits)  # type: ignore[no-untyped-call]  # redis-py annotates it not
    return sentinel.master_for(  # type: ignore[no-untyped-call]  # the same
        master, db=int(db or 0), username=user or None, password=password or None
    )


def without_password(url: str) -> str:
    """*url* as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

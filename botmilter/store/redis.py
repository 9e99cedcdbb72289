"""The store several MX hosts share: Redis 7 or Valkey.

The address says what is behind it:

* ``redis://[user:password@]host[:port][/db]``, ``rediss://`` with TLS, ``unix:///path``
* ``redis+sentinel://[user:password@]host:port,host:port/MASTER[/db]``
* ``redis+cluster://[user:password@]host:port``

Every key begins with ``botmilter:`` and ends by itself.  Values carry their expiry as well, so
that a host whose clock is behind sees what the others see.  Nothing waits longer than
``TIMEOUT_S`` for an answer: a stalled Redis must not hold a mail.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from botmilter.errors import StoreError
from botmilter.model import Observation

TIMEOUT_S = 0.25

_PREFIX = "botmilter:1:"

#: Give a claim back only if it is still ours: it may have run out and be another's by now.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class RedisStore:
    """The store at *url*.  Connects at first use, again by itself after a loss."""

    def __init__(self, url: str) -> None:
        self._shown_url = _without_password(url)
        self._owner = secrets.token_hex(8)
        try:
            self._redis = _client(url)
        except (ValueError, redis.RedisError) as error:
            raise StoreError(f"{self._shown_url}: {error}") from error

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

    def count(self, key: str, window_s: float, now: float) -> int:
        name = f"{_PREFIX}count:{key}:{int(now // window_s)}"
        with self._errors():
            counted = self._redis.incr(name)
            if counted == 1:
                self._redis.expire(name, int(window_s) + 1)
        return int(counted)

    def purge(self, now: float) -> int:
        """Redis drops what has expired by itself."""
        return 0

    def close(self) -> None:
        self._redis.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            raise StoreError(f"{self._shown_url}: {type(error).__name__}: {error}") from error


def _client(url: str) -> Any:  # Any: the three classes of redis-py share no annotated base
    limits: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 1),  # once: a connection that a restart has closed
    }
    parts = urlsplit(url)
    if parts.scheme == "redis+cluster":
        return RedisCluster.from_url(url.replace("redis+cluster", "redis", 1), **limits)
    if parts.scheme == "redis+sentinel":
        return _sentinel(url, limits)
    return redis.Redis.from_url(url, **limits)


def _sentinel(url: str, limits: dict[str, Any]) -> Any:
    """A client that asks the sentinels who the master is, again after each loss."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    master, _, db = parts.path.strip("/").partition("/")
    if not master:
        raise ValueError("expected redis+sentinel://host:port,host:port/MASTER[/db]")
    pairs = [
        (host, int(port or 26379)) for host, _, port in (h.partition(":") for h in hosts.split(","))
    ]
    sentinel = Sentinel(pairs, sentinel_kwargs=limits, **limits)  # type: ignore[no-untyped-call]  # redis-py annotates it not
    return sentinel.master_for(  # type: ignore[no-untyped-call]  # the same
        master, db=int(db or 0), username=user or None, password=password or None
    )


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

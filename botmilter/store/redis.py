"""The store several MX hosts share: Redis 7 or Valkey.

The address says what is behind it:

* ``redis://[user:password@]host[:port][/db]``, ``rediss://`` with TLS, ``unix:///path``
* ``redis+sentinel://[user:password@]host:port,host:port/MASTER[/db]``
* ``redis+cluster://[user:password@]host:port,host:port``, of which one that answers is enough
* ``rediss+sentinel://`` and ``rediss+cluster://`` the same with TLS

Options such as ``?ssl_ca_certs=/path`` are redis-py's.  Name and password are percent-encoded
where they hold ``@ : / %``; IPv6 addresses stand in brackets.  A sentinel gets no password.

Every key begins with ``botmilter:`` and ends by itself, but for one hash, ``botmilter:notices``,
which has the list of opt-outs and the version of all this.  Values carry their expiry as well, so
that a host whose clock is behind sees what the others see.  Nobody waits longer than twice
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
from ipaddress import IPv4Network
from itertools import islice
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.exceptions import RedisClusterException  # of no family with the others
from redis.retry import Retry
from redis.sentinel import Sentinel

from botmilter.errors import NewerStoreError, StoreError
from botmilter.model import IPNetwork, Observation
from botmilter.store import stored
from botmilter.store.base import Notices, OptOut, Row, Window

TIMEOUT_S = 0.25

SCHEMA_VERSION = 2

#: The 1 is that of the observations' form, which is the same in versions 1 and 2.
_PREFIX = "botmilter:1:"
_SEEN, _CLAIMED, _COUNTED = (f"{_PREFIX}{kind}:" for kind in ("seen", "claim", "count"))
#: The braces keep them on one host of a cluster.
_RATED = f"{_PREFIX}{{rates}}:"
_NOTICES = "botmilter:notices"
#: How the fields of that hash begin that stand for a network.
_OPT_OUT = "opt-out "

#: Keys asked for in one exchange.
_PAGE = 200

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

#: Keys, and for each its limit and the seconds it lives; the place of a full one, or 0.
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
        self._claimed: dict[str, str] = {}
        """By what word each claim of ours is known from another's."""
        self._untold: dict[str, str] = {}
        """The same of those that we may have or not: no answer came."""
        self._making = threading.Lock()
        self._made: Any = None
        self._is_checked = False
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
        return next(iter(self.get_many([(probe, key)], now)), None)

    def get_many(self, asked: Sequence[tuple[str, str]], now: float) -> list[Observation]:
        with self._open():
            rows = dict(self._read([f"{_SEEN}{probe}:{key}".encode() for probe, key in asked]))
        return [row.seen for row in rows.values() if row is not None and row.expires_at > now]

    def put(self, seen: Observation, ttl_s: float) -> None:
        expires_at = seen.taken_at + ttl_s
        text = json.dumps({"expires_at": expires_at, "seen": seen.to_json()})
        left_ms = max(1, int((expires_at - time.time()) * 1000))
        with self._open() as db:
            db.set(f"{_SEEN}{seen.probe}:{seen.key}", text, px=left_ms)

    def claim(self, key: str, for_s: float) -> bool:
        left_ms, word = max(1, int(for_s * 1000)), self._untold.pop(key, "") or secrets.token_hex(8)
        try:
            with self._open() as db:
                before = db.set(f"{_CLAIMED}{key}", word, nx=True, get=True, px=left_ms)
        except StoreError:  # perhaps it is the answer that was lost: with another word we would
            self._untold[key] = word  # wait for ourselves
            raise
        if before not in (None, word.encode()):
            return False
        self._claimed[key] = word
        return True

    def release(self, key: str) -> None:
        word = self._claimed.pop(key, None) or self._untold.pop(key, None)
        if word is not None:
            with self._open() as db:
                db.eval(_RELEASE, 1, f"{_CLAIMED}{key}", word)

    def forget(self, probes: Iterable[str], key: str) -> None:
        with self._open() as db:  # one by one: in a cluster they lie on several hosts
            for probe in probes:
                db.delete(f"{_SEEN}{probe}:{key}")

    def admit(self, windows: Sequence[Window], now: float) -> int | None:
        names = [f"{_RATED}{one.key}:{one.number(now)}" for one in windows]
        limits = [number for one in windows for number in (one.at_most, int(one.window_s) + 1)]
        with self._open() as db:
            full = int(db.eval(_ADMIT, len(names), *names, *limits))
        return full - 1 if full else None

    def count(self, key: str, window_s: float, now: float) -> int:
        name = f"{_COUNTED}{key}:{Window(key, 0, window_s).number(now)}"
        with self._open() as db:
            return int(db.eval(_COUNT, 1, name, int(window_s) + 1))

    def purge(self, now: float, keep_s: float) -> int:
        """Redis drops what has expired by itself."""
        with self._open() as db:
            before = stored.number(db.hget(_NOTICES, "keep_s"))
            if before is None or keep_s < before:
                for page in self._pages(f"{_SEEN}*"):
                    self._shorten(page, keep_s)
            if before != keep_s:
                db.hset(_NOTICES, "keep_s", repr(keep_s))
        return 0

    def _shorten(self, keys: list[bytes], keep_s: float) -> None:
        """Let what was put under a longer *keep_s* go at its time by this one."""
        ends = self._redis.pipeline(transaction=False)
        for key, row in self._read(keys):
            from_now_s = keep_s + (row.seen.taken_at - time.time() if row is not None else 0.0)
            ends.pexpire(key, max(1, int(from_now_s * 1000)), lt=True)
        ends.execute()

    # -- for the administrator ------------------------------------------------------------------

    def rows(self, network: IPNetwork | None = None) -> Iterator[Row]:
        for keys in self._about(_SEEN, network):
            with self._open():
                found = list(self._read(keys))
            yield from (row for _, row in found if row is not None)

    def forget_network(self, network: IPNetwork) -> int:
        dropped = 0
        for kind in (_CLAIMED, _COUNTED, _RATED, _SEEN):
            for keys in self._about(kind, network):
                with self._open() as db:
                    gone = db.pipeline(transaction=False)
                    for key in keys:
                        gone.delete(key)
                    count = sum(gone.execute())
                    dropped += count if kind == _SEEN else 0
        self._change({"forgotten": secrets.token_hex(8)})
        return dropped

    def notices(self) -> Notices:
        with self._open() as db:
            forgotten, opt_outs = db.hmget(_NOTICES, "forgotten", "opt_outs")
        return Notices(stored.text(forgotten or b""), stored.text(opt_outs or b""))

    def opt_outs(self) -> tuple[OptOut, ...]:
        with self._open() as db:
            fields = db.hgetall(_NOTICES)
        named = ((stored.text(name), value) for name, value in fields.items())
        read = (_opt_out(name, value) for name, value in named if name.startswith(_OPT_OUT))
        return tuple(one for one in read if one is not None)

    def opt_out(self, entry: OptOut) -> OptOut:
        field = f"{_OPT_OUT}{entry.network}"
        with self._open() as db:
            former = db.hget(_NOTICES, field)
        entry = entry.over(former and _opt_out(field, former))
        value = json.dumps({"note": entry.note, "added_at": entry.added_at})
        self._change({"opt_outs": secrets.token_hex(8), field: value})
        return entry

    def opt_in(self, network: IPNetwork) -> bool:
        with self._open() as db:
            gone = db.hdel(_NOTICES, f"{_OPT_OUT}{network}")
        self._change({"opt_outs": secrets.token_hex(8)})
        return bool(gone)

    def _change(self, fields: dict[str, str]) -> None:
        with self._open() as db:
            db.hset(_NOTICES, mapping={**fields, "schema": SCHEMA_VERSION})

    def _pages(self, pattern: str) -> Iterator[list[bytes]]:
        """The keys that match *pattern*; those that come or go meanwhile may be in it or not."""
        with self._open() as db:
            keys = iter(db.scan_iter(match=pattern, count=_PAGE))
        while True:
            with self._open():
                page = list(islice(keys, _PAGE))
            if not page:
                return
            yield page

    def _about(self, kind: str, network: IPNetwork | None) -> Iterator[list[bytes]]:
        """The keys of *kind* that are about *network*."""
        pattern = f"{kind}*"
        if isinstance(network, IPv4Network) and network.prefixlen == 32:  # the key has it so
            pattern = f"{kind}*{network.network_address}*"
        for page in self._pages(pattern):
            yield [key for key in page if _is_about(kind, stored.text(key), network)]

    def _read(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, Row | None]]:
        asked = list(keys)
        reads = self._redis.pipeline(transaction=False)
        for key in asked:
            reads.get(key)
        for key, text in zip(asked, reads.execute(), strict=True):
            probe, _, rest = stored.text(key).removeprefix(_SEEN).partition(":")
            yield key, _row(probe, rest, text)

    def close(self) -> None:
        with self._making:
            if self._made is not None:
                self._made.close()
            self._made = None

    def client(self) -> AbstractContextManager[Any]:
        """redis-py's own, for what else is kept in the same Redis; its errors become ours."""
        return self._open()

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        """The client, whose errors become ours."""
        with errors(self._shown_url):
            if not self._is_checked:
                self._check_version()
            yield self._redis

    def _check_version(self) -> None:
        """Once for each process.  Raises NewerStoreError."""
        found = stored.number(self._redis.hget(_NOTICES, "schema"))
        if found is not None and found > SCHEMA_VERSION:
            raise NewerStoreError(
                f"{self._shown_url}: written by a newer botmilter (schema {found:g}, this one"
                f" knows {SCHEMA_VERSION}): upgrade, or give this one another database"
            )
        if found != SCHEMA_VERSION:
            with contextlib.suppress(redis.ResponseError):  # one that is full can still be read
                self._redis.hset(_NOTICES, "schema", SCHEMA_VERSION)
        self._is_checked = True


def _row(probe: str, key: str, text: object) -> Row | None:
    row = stored.plain(text)
    seen, expires_at = row.get("seen"), stored.finite(row.get("expires_at"))
    read = stored.from_plain(seen, probe, key)
    return Row(read, expires_at) if read is not None and expires_at is not None else None


def _opt_out(field: str, value: bytes) -> OptOut | None:
    plain = stored.plain(value)
    return stored.opt_out(field.removeprefix(_OPT_OUT), plain.get("note"), plain.get("added_at"))


def _is_about(kind: str, name: str, network: IPNetwork | None) -> bool:
    key = name.removeprefix(kind)
    if kind == _SEEN:
        return stored.is_about(key.partition(":")[2], network)
    if kind != _CLAIMED:  # a count, with the number of its window
        key = key.rpartition(":")[0]
    return network is not None and stored.concerns(key, network)


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
        # once: a connection that a restart has closed; no answer in time may still be a count
        "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    }
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    parts_of_redis = parts._replace(scheme=scheme)
    if kind == "cluster":
        return _cluster(parts_of_redis, limits)
    if kind == "sentinel":
        made = _sentinel(parts_of_redis, limits)
    elif kind:
        raise ValueError("expected redis://, rediss://, unix://, +sentinel or +cluster")
    else:
        made = redis.Redis.from_url(url, **limits)
    return lambda: made


def _cluster(parts: SplitResult, limits: dict[str, Any]) -> Callable[[], Any]:
    """What makes a client that asks one host after the other about the cluster."""
    credentials, at_sign, hosts = parts.netloc.rpartition("@")
    places = [_place(host, 6379) for host in hosts.split(",")]
    url = urlunsplit(parts._replace(netloc=f"{credentials}{at_sign}{hosts.partition(',')[0]}"))
    parse_url(url)  # type: ignore[no-untyped-call]  # redis-py annotates it not

    def make() -> Any:
        nodes = [ClusterNode(host, port) for host, port in places[1:]]  # type: ignore[no-untyped-call]  # the same
        return RedisCluster.from_url(url, startup_nodes=nodes, **limits)

    return make


def _place(text: str, port: int) -> tuple[str, int]:
    """The host and port that *text* names; ValueError where it names none."""
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname or "", parts.port or port
    except ValueError:  # says what of the port is wrong, and not where
        host = ""
    if not host:
        raise ValueError(f"expected host:port, found {text!r}")
    return host, port


def _sentinel(parts: SplitResult, limits: dict[str, Any]) -> Any:
    """A client that asks the sentinels who the master is, again after each loss."""
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = (unquote(text) for text in credentials.partition(":"))
    master, _, db = parts.path.strip("/").partition("/")
    if not master:
        raise ValueError("expected redis+sentinel://host:port,host:port/MASTER[/db]")
    pairs = [_place(host, 26379) for host in hosts.split(",")]
    options = parse_url(f"{parts.scheme}://?{parts.query}")  # type: ignore[no-untyped-call]  # the same
    for_tls = {"ssl": True} if parts.scheme == "rediss" else {}
    options.pop("connection_class", None)
    limits = {**limits, **for_tls, **options}
    sentinel = Sentinel(pairs, sentinel_kwargs=limits, **limits)  # type: ignore[no-untyped-call]  # redis-py annotates it not
    return sentinel.master_for(  # type: ignore[no-untyped-call]  # the same
        master, db=int(db or 0), username=user or None, password=password or None
    )


def without_password(url: str) -> str:
    """*url* as it may be shown; of one that cannot be read its scheme."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition(':')[0]}://..."
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

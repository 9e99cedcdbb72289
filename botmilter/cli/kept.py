"""What the commands about the store share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

import click

from botmilter import kinds
from botmilter.cli import build
from botmilter.config import Settings
from botmilter.errors import InputError, SetupError
from botmilter.model import IPNetwork
from botmilter.store.base import Store
from botmilter.store.memory import MemoryStore
from botmilter.store.sqlite import SqliteStore
from botmilter.store.tally import SqliteTally, Tally

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


@contextmanager
def opened(settings: Settings, may_create: bool = False) -> Iterator[Store]:
    """The store that the filter uses.  Raises SetupError where no other process can have one."""
    store = build.store(settings.store)
    if isinstance(store, MemoryStore):
        raise SetupError(_in_memory(settings))
    is_new = isinstance(store, SqliteStore) and not store.path.exists()
    if is_new and not may_create:
        raise SetupError(f"{_path(store)}: nothing is stored there yet")
    try:
        if is_new:
            _create(store)
        yield store
    finally:
        store.close()


def counts(settings: Settings, store: Store) -> Tally | None:
    """The statistics beside *store*; None where there are none (yet)."""
    tally = build.tally(settings.store, store)
    if isinstance(tally, SqliteTally) and not tally.path.exists():
        return None
    return tally


def forget_counts(settings: Settings, store: Store, network: IPNetwork) -> None:
    """Drop what statistics tell of *network* by name."""
    tally = counts(settings, store)
    if tally is not None:
        with closing(tally):
            tally.forget(network)


def purge_counts(settings: Settings, store: Store, now: float) -> None:
    """Drop the statistics beside *store* that are older than [store] keep_days."""
    tally = counts(settings, store)
    if tally is not None:
        with closing(tally):
            tally.purge(now, build.lifetimes(settings.store).keep_s)


def _in_memory(settings: Settings) -> str:
    if settings.store.kind == "memory":
        return (
            '[store] kind = "memory": what is learnt ends with the process that learnt it and no'
            ' command can see it; set kind = "sqlite" or "redis"'
        )
    return (
        f"{build.state_directory()}: not there, or not writable for this user, and [store] path"
        " names no other file; run this as the filter's user, with its --config"
    )


def _path(store: Store) -> str:
    return str(store.path) if isinstance(store, SqliteStore) else ""


def _create(store: Store) -> None:
    """A file made by root has to be writable for the filter's user, whose folder it is in."""
    store.notices()
    if isinstance(store, SqliteStore) and os.geteuid() == 0:
        folder = store.path.parent.stat()
        for suffix in ("", "-wal", "-shm"):
            file = store.path.with_name(store.path.name + suffix)
            if file.exists():
                os.chown(file, folder.st_uid, folder.st_gid)


def network(text: str) -> IPNetwork:
    """An address or a network as an argument.  Raises InputError."""
    try:
        return kinds.network(text.strip())
    except ValueError as error:
        raise InputError(f"{click.format_filename(text)}: expected an address or {error}") from None


def shown_network(network: IPNetwork) -> str:
    """``198.18.7.12`` rather than ``198.18.7.12/32``."""
    is_one = network.prefixlen == network.max_prefixlen
    return str(network.network_address if is_one else network)


def span(seconds: float) -> str:
    """``41m``, ``2d 3h``: as exact as one wants to read it."""
    left = max(0, int(seconds))
    words: list[str] = []
    for unit, size in _UNITS:
        if left >= size or (unit == "s" and not words):
            words.append(f"{left // size}{unit}")
            left %= size
    return " ".join(words[:2])

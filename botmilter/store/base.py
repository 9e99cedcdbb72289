"""What every store is: shared memory of observations, and the right to make one.

All methods may be called from any thread.  They raise :class:`~botmilter.errors.StoreError` and
nothing else, within a time that the store bounds itself; the engine then goes on without it.
``rows`` and ``forget_network`` are for the administrator: each of their steps is bounded, the
number of steps is not.

The key of an observation begins with the address it is about; that of a claim or a count is a
word, then the address or network it is about (``rate 198.18.7.0/24``), or something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from botmilter.model import IPNetwork, Observation


@dataclass(frozen=True, slots=True)
class Row:
    seen: Observation
    expires_at: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class OptOut:
    """A network whose owner does not want our packets."""

    network: IPNetwork
    note: str = ""
    """The administrator's; printable ASCII."""
    added_at: float = 0.0
    """Unix time; when the network was added first."""

    def over(self, former: OptOut | None) -> OptOut:
        """What stands on the list when this is added where *former* was: the day of that, and its
        note unless this has one."""
        if former is None:
            return self
        return OptOut(self.network, self.note or former.note, former.added_at or self.added_at)


@dataclass(frozen=True, slots=True)
class Notices:
    """What an administrator did, for processes that keep copies: each token is another after each
    change.  Empty: never changed, or a store that lost what it had."""

    forgotten: str = ""
    """Changes when something was forgotten."""
    opt_outs: str = ""
    """Changes with the list of networks that opted out."""


class Window(NamedTuple):
    """So many events under *key* in each stretch of *window_s*; these begin at multiples of it in
    Unix time."""

    key: str
    at_most: int
    window_s: float

    def number(self, now: float) -> int:
        return int(now // self.window_s)


class Store(Protocol):
    def get(self, probe: str, key: str, now: float) -> Observation | None:
        """What is known and has not expired at *now* (Unix time)."""

    def get_many(self, asked: Sequence[tuple[str, str]], now: float) -> list[Observation]:
        """What is known of each probe and key, in one exchange; nothing stands for what is not."""

    def put(self, seen: Observation, ttl_s: float) -> None:
        """Remember *seen* until ``seen.taken_at + ttl_s``."""

    def claim(self, key: str, for_s: float) -> bool:
        """Take the right to measure *key* for every process and host sharing this store; it ends
        by itself after *for_s* should its owner die.  False: another has it."""

    def release(self, key: str) -> None:
        """Give the right back early; nothing where this object does not have it, or no more."""

    def forget(self, probes: Iterable[str], key: str) -> None:
        """Drop what *probes* observed of *key*."""

    def admit(self, windows: Sequence[Window], now: float) -> int | None:
        """Count one event in each of *windows*, in one step for all who share the store, and
        return None; or, where one is full, count it in none and return that one's place."""

    def count(self, key: str, window_s: float, now: float) -> int:
        """Count one more event under *key*; returns how many there were in the current window of
        *window_s*, this one included."""

    def purge(self, now: float, keep_s: float) -> int:
        """Drop what has expired; returns how many.  What was put when more was allowed expires
        *keep_s* after it was taken, too."""

    def rows(self, network: IPNetwork | None = None) -> Iterator[Row]:
        """Every observation, or those of *network*'s addresses, expired ones perhaps included; in
        no order, a bounded number in memory.  What cannot be read is passed over."""

    def forget_network(self, network: IPNetwork) -> int:
        """Drop what is kept about *network*: observations, claims and counts; returns how many
        observations.  :attr:`Notices.forgotten` changes, whether there were any or not."""

    def notices(self) -> Notices:
        """Cheap enough to be asked every second by each process."""

    def opt_outs(self) -> tuple[OptOut, ...]:
        """The networks that opted out, each once.  They stay until removed."""

    def opt_out(self, entry: OptOut) -> OptOut:
        """Add *entry*, over one for the same network (:meth:`OptOut.over`); returns what stands on
        the list now."""

    def opt_in(self, network: IPNetwork) -> bool:
        """Take *network* off the list; False where it was not on it."""

    def close(self) -> None: ...


class Cache(Store, Protocol):
    """A store of this process alone, in front of one that others may share."""

    def holds(self, rows: Iterable[tuple[tuple[str, str], Observation | None]], now: float) -> bool:
        """Whether for each of *rows*, (probe, key) and an observation, it has just that object, or
        nothing where that is None; all of them in one step."""

    def clear(self) -> None:
        """Drop every observation."""

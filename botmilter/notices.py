"""What an administrator told all processes by way of the store, as this process knows it.

Somebody had a host forgotten: then nothing copied before may be used any more.  A network opted
out: then it gets no packet.  Who measures looks first, unless somebody looked within the last
``LOOK_EVERY_S``; a process that serves mail looks that often by itself.  So the longest that a
word takes to arrive is that, and what the store takes to answer.

While the store is out of reach the last list holds.  Where it was never read nobody is sent a
packet, for anybody may stand on it.  A store that lost its list is given this process's copy.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from botmilter.errors import StoreError
from botmilter.model import IPAddress
from botmilter.net import NetworkSet
from botmilter.store.base import Notices, OptOut, Store

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0

OPTED_OUT = "opted out"
NOT_READ = "the list of opt-outs cannot be read"


class Noticed:
    """Safe for many threads.  *clear* drops what was copied from *store*."""

    def __init__(self, store: Store, clear: Callable[[], None]) -> None:
        self._store = store
        self._clear = clear
        self._looking = threading.Lock()
        self._looked_at = -LOOK_EVERY_S
        self._is_away = False
        self._last: Notices | None = None
        self._entries: tuple[OptOut, ...] = ()
        self._networks = NetworkSet(())
        self.copying = threading.Lock()
        """Held while a copy is made of what was read when ``forgotten`` was as it is now."""

    @property
    def forgotten(self) -> str:
        """Another after something was forgotten."""
        return self._last.forgotten if self._last is not None else ""

    def look(self) -> bool:
        """See what is new; whether the store answers again after it did not.  Waits for the store;
        one out of reach leaves all as it is."""
        with self._looking:
            if time.monotonic() - self._looked_at < LOOK_EVERY_S:
                return False
            was_away = self._is_away
            try:
                self._take(self._store.notices())
                self._is_away = False
            except StoreError as error:
                log.debug("notices: %s", error)  # whoever serves mail says it, once
                self._is_away = True
            self._looked_at = time.monotonic()
            return was_away and not self._is_away

    def is_opted_out(self, ip: IPAddress) -> bool:
        """By the list as last seen.  2 us."""
        return ip in self._networks

    def refusal(self, ip: IPAddress) -> str | None:
        """Why *ip* must not be sent a packet now.  Looks first."""
        self.look()
        if self._last is None:
            return NOT_READ
        return OPTED_OUT if ip in self._networks else None

    def _take(self, found: Notices) -> None:
        last = self._last or Notices()
        if found.opt_outs != last.opt_outs or self._last is None:
            self._take_opt_outs(found)
        if found.forgotten and found.forgotten != last.forgotten:
            with self.copying:
                self._last = found
                self._clear()
        self._last = found

    def _take_opt_outs(self, found: Notices) -> None:
        if not found.opt_outs and self._entries:
            for entry in self._entries:
                self._store.opt_out(entry)
            log.warning("store: its list of opt-outs is gone; %d put back", len(self._entries))
            return
        self._entries = self._store.opt_outs()
        self._networks = NetworkSet(entry.network for entry in self._entries)

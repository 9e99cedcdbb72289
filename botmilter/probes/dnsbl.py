"""Probe ``dnsbl``: what the configured lists of addresses say (RFC 5782).

Sent: one A query for each zone to our resolver, nothing to the host.  The list's operator learns
which addresses send us mail; docs/probing.md has more.

An answer outside 127.0.0.0/8 is none: a lapsed zone's new owner answers everything.  Lists refuse
busy or public resolvers by answering every question with a code of their own; that is our own
trouble and never evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network

from botmilter.clock import Deadline
from botmilter.lookup import LookupTrouble, Resolver, as_addresses
from botmilter.model import IPAddress, Observation, Signal, Status, Target
from botmilter.net import dnsbl_name, is_in, printable

#: Where RFC 5782 section 2.1 puts every listing.
_LISTINGS = (ip_network("127.0.0.0/8"),)
#: What they say to a resolver that they refuse, unless a zone's own codes say otherwise.
_REFUSALS = (
    ip_network("127.255.255.0/24"),  # Spamhaus and who follows it
    ip_network("127.0.0.1/32"),  # SURBL, URIBL
    ip_network("127.0.0.255/32"),  # dnswl.org
)


@dataclass(frozen=True, slots=True)
class Zone:
    """One list to ask."""

    name: str
    welcome: bool = False
    """Whether a listing speaks for the host."""
    codes: Mapping[str, float] = field(default_factory=dict)
    """Strength, 0 to 1, of each answer; ``*`` stands for anything (``127.0.*.3``), the first row
    that fits counts.  Empty: every listing counts fully."""

    def strength(self, code: str) -> float:
        """How much the answer *code* counts: nothing where the rows do not name it, or where it
        refuses to tell."""
        for pattern, strength in self.codes.items():
            if fnmatchcase(code, pattern):
                return strength
        return 0.0 if self.codes or is_in(ip_address(code), _REFUSALS) else 1.0

    def refuses(self, code: str) -> bool:
        return is_in(ip_address(code), _REFUSALS) and not self.strength(code)


class DnsblProbe:
    """Facts: ``listed``, for each zone that told us what it answers, nothing where it does not
    list the address; ``failed``, for each other zone the reason."""

    name = "dnsbl"
    shows_life = False
    wants_life = False
    sends_to_host = False
    signals = frozenset({"dnsbl.listed", "dnsbl.welcome"})

    def __init__(self, resolver: Resolver, limit_s: float, zones: Sequence[Zone]) -> None:
        self.limit_s = limit_s
        self._resolver = resolver
        self._zones = {zone.name: zone for zone in zones}

    def store_key(self, target: Target) -> str:
        return str(target.ip)

    def measure(self, target: Target, deadline: Deadline) -> Observation:
        key = self.store_key(target)
        listed: dict[str, list[str]] = {}
        failed: dict[str, str] = {}
        lifetimes_s: list[float | None] = []
        statuses: set[Status] = set()
        for place, zone in enumerate(self._zones.values()):
            share = Deadline.after(deadline.left() / (len(self._zones) - place))
            try:
                listed[zone.name], ttl_s = self._ask(zone, target.ip, share)
                lifetimes_s.append(ttl_s)
            except LookupTrouble as trouble:
                failed[zone.name] = printable(str(trouble))
                statuses.add(trouble.status)
        if failed and not listed:
            status = Status.FAILED if Status.FAILED in statuses else Status.SKIPPED
            reason = "; ".join(f"{name}: {why}" for name, why in failed.items())
            return Observation(self.name, key, status, reason=printable(reason))
        facts = {"listed": listed, "failed": failed}
        ttl_s = min((ttl_s for ttl_s in lifetimes_s if ttl_s is not None), default=None)
        return Observation(self.name, key, Status.ANSWERED, facts, ttl_s=ttl_s)

    def _ask(self, zone: Zone, ip: IPAddress, limit: Deadline) -> tuple[list[str], float | None]:
        """What *zone* answers for *ip*, and for how long.  Raises LookupTrouble, also where the
        zone refuses to tell."""
        answer = self._resolver.ask(dnsbl_name(ip, zone.name), "A", limit)
        codes = sorted(str(code) for code in as_addresses(answer) if is_in(code, _LISTINGS))
        if codes and all(zone.refuses(code) for code in codes):
            raise LookupTrouble(f"refuses our resolver: {codes[0]}")
        return codes, answer.ttl_s

    def interpret(self, seen: Observation, target: Target) -> Iterable[Signal]:
        """Lists copy each other, so of each kind the strongest speaks for all."""
        for welcome, name in ((False, "dnsbl.listed"), (True, "dnsbl.welcome")):
            found = [
                (zone.strength(code), f"{zone.name} {code}")
                for zone in self._zones.values()
                if zone.welcome is welcome
                for code in seen.facts["listed"].get(zone.name, ())
                if zone.strength(code)
            ]
            if found:
                yield Signal(name, max(found)[0], ", ".join(detail for _, detail in found))

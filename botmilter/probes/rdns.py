"""Probe ``rdns``: what the host is called, and whether the name leads back to it.

Sent: DNS queries to our resolver, nothing to the host: PTR of the address, A or AAAA of up to
four names, and, where the name alone does not tell a pool from a server, PTR of the four
addresses beside it.  Reading of names: :mod:`botmilter.names`.  RFC 1912 section 2.1: every host
should have a PTR record, and it should match an address record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address

from botmilter import names
from botmilter.clock import Deadline
from botmilter.lookup import Heard, LookupTrouble, Questions, as_addresses
from botmilter.model import IPAddress, Observation, Signal, Status, Target

#: A host needs one name; whoever has dozens is not asked for all of them.
_NAMES_AT_MOST = 4
#: Distances of the neighbours that are asked for their names.
_BESIDE = (-2, -1, 1, 2)


class RdnsProbe:
    """Facts: ``names``; ``confirmed`` and ``unchecked`` (the look-up failed), parts of it;
    ``neighbours``, names by address; ``zone``, who says so, where there is no name."""

    name = "rdns"
    shows_life = False
    wants_life = False
    sends_to_host = False
    signals = frozenset(
        {
            *("rdns.none", "rdns.unconfirmed", "rdns.dynamic", "rdns.pool", "host.confirmed"),
            *("helo.bare_address", "helo.no_dot", "helo.no_tld", "helo.literal_mismatch"),
            *("helo.mismatch", "helo.dynamic", "helo.provider"),
        }
    )

    def __init__(self, resolver: Questions, limit_s: float, neighbours: bool) -> None:
        self.limit_s = limit_s
        self._resolver = resolver
        self._neighbours = neighbours

    def store_key(self, target: Target) -> str:
        return str(target.ip)

    def measure(self, target: Target, deadline: Deadline) -> Observation:
        key = self.store_key(target)
        dns = Heard(self._resolver)
        try:
            pointers = dns.pointers(target.ip, deadline)
        except LookupTrouble as trouble:
            return Observation(self.name, key, trouble.status, reason=f"PTR: {trouble}")
        found = sorted(pointers.texts)[:_NAMES_AT_MOST]
        confirmed, unchecked = _confirm(dns, found, target.ip, deadline)
        facts = {
            "names": found,
            "confirmed": confirmed,
            "unchecked": unchecked,
            "neighbours": self._ask_beside(found, target.ip, deadline),
            "zone": pointers.zone,
        }
        return Observation(self.name, key, Status.ANSWERED, facts, ttl_s=dns.ttl_s)

    def _ask_beside(self, found: list[str], ip: IPAddress, deadline: Deadline) -> dict[str, str]:
        """Names of the neighbours, where they could still tell something."""
        plain = found and not any(names.is_dynamic(n, ip) or names.is_server(n) for n in found)
        if not self._neighbours or not plain:
            return {}
        beside: dict[str, str] = {}
        for distance in _BESIDE:
            with suppress(LookupTrouble, ValueError):  # beyond the last address is none
                neighbour = type(ip)(int(ip) + distance)
                for name in self._resolver.pointers(neighbour, deadline).texts[:1]:
                    beside[str(neighbour)] = name
        return beside

    def interpret(self, seen: Observation, target: Target) -> Iterable[Signal]:
        found: list[str] = list(seen.facts["names"])
        confirmed: list[str] = list(seen.facts["confirmed"])
        main = next(iter(confirmed or found), None)
        yield from names.helo_signals(target.helo, target.ip, main)
        if target.helo and names.is_false_provider(target.helo, main or ""):
            yield Signal("helo.provider", 1.0, target.helo)
        if main is None:
            yield Signal("rdns.none", 1.0, "no PTR record")
            return
        if not confirmed and not seen.facts["unchecked"]:
            yield Signal("rdns.unconfirmed", 1.0, main)
        pool = list(_pool_signals(main, seen, target.ip))
        yield from pool
        if confirmed and not pool:
            yield from _server_signals(confirmed, target.helo)


def holder(seen: Observation) -> str | None:
    """Who holds the address, as far as the DNS tells: its names, or where it has none who runs
    its network's part of the reverse tree.  None where *seen* does not tell."""
    if seen.probe != RdnsProbe.name or seen.status is not Status.ANSWERED:
        return None
    found = seen.facts.get("names")
    if not isinstance(found, list):  # another version's facts, or another's hand
        return None
    names_or_zone = found or [seen.facts.get("zone", "")]  # older facts have none
    return " ".join(str(name).lower() for name in names_or_zone)


def _confirm(
    dns: Questions, found: Iterable[str], ip: IPAddress, deadline: Deadline
) -> tuple[list[str], list[str]]:
    """Those of the names that lead to *ip*, and those of which nobody knows."""
    confirmed: list[str] = []
    unchecked: list[str] = []
    for name in found:
        try:
            if ip in as_addresses(dns.addresses(name, ip, deadline)):
                confirmed.append(name)
        except LookupTrouble:
            unchecked.append(name)
    return confirmed, unchecked


def _pool_signals(main: str, seen: Observation, ip: IPAddress) -> Iterator[Signal]:
    if dynamic := names.is_dynamic(main, ip):
        yield Signal("rdns.dynamic", dynamic.strength, f"{main}: {dynamic.detail}")
        return
    beside = {ip_address(address): name for address, name in seen.facts["neighbours"].items()}
    template = names.shared_template({ip: main, **beside})
    if template is not None:
        yield Signal("rdns.pool", 1.0, f"{main} and its neighbours: {template}")


def _server_signals(confirmed: Iterable[str], helo: str | None) -> Iterator[Signal]:
    """A confirmed name that the host greets with; halved where nothing in it says mail."""
    for name in confirmed:
        if helo and names.clean(name) == names.clean(helo):
            strength = 1.0 if names.is_server(name).strength == 1.0 else 0.5
            yield Signal("host.confirmed", strength, name)
            return

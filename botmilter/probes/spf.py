"""Whether a domain's SPF record (RFC 7208) names an address: no probe, a part of ``senderhost``.

Not a full evaluation, and none is needed: the question is not whether the sender may be refused,
but whether the domain's owner named this host as one of his.  So macros, ``ptr`` and ``exists``
clear nobody, nor do ``all`` and networks so wide that naming them names no host.  An error in a
record clears nobody either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from botmilter.clock import Deadline
from botmilter.lookup import Answer, Questions, as_addresses
from botmilter.model import IPAddress, IPNetwork

#: RFC 7208 section 4.6.4: terms that cause look-ups, in all; hosts of one mx; terms whose look-up
#: gives no data, after which a record is in error.
LOOKUPS_AT_MOST = 10
MX_HOSTS_AT_MOST = 10
VOID_AT_MOST = 2
#: Registries hand IPv4 out in pieces no larger than a /8, and none since 2011; no sender of mail
#: needs more than a few /14.  IPv6 providers have a /32 or /29.
_WIDEST = {4: 12, 6: 28}

#: Mechanisms that ask DNS, though we know no answer but that of the others.
_UNKNOWN = frozenset({"ptr", "exists"})
_MECHANISMS = frozenset({"all", "include", "a", "mx", "ip4", "ip6"}) | _UNKNOWN
#: At most once each (section 6).
_MODIFIERS = ("redirect", "exp")

# name [ "=" value ]  or  [ qualifier ] name [ ":" value ] [ "/" length ]        section 12
_MODIFIER = re.compile(r"([A-Za-z][\w.-]*)=(.*)", re.ASCII)
_MECHANISM = re.compile(r"([+?~-]?)([A-Za-z][\w.-]*)(?::(?=.)|(?=/)|$)(.*)", re.ASCII)
_SPEC = re.compile(r"([^/]*)(?:/([0-9]{1,2}))?(?://([0-9]{1,3}))?")


class _PermError(Exception):
    """The record is in error: it names nobody (RFC 7208 section 2.6.7)."""


@dataclass(frozen=True, slots=True)
class _Spec:
    """Name and prefix lengths of ``a`` and ``mx``: ``a.example/28//64``, each part optional."""

    name: str
    four: int
    six: int

    @classmethod
    def parse(cls, value: str) -> _Spec:
        found = _SPEC.fullmatch(value)
        if found is None:
            raise _PermError
        name, four, six = found.groups()
        spec = cls(name, int(four or 32), int(six or 128))
        if spec.four > 32 or spec.six > 128:
            raise _PermError
        return spec


@dataclass(frozen=True, slots=True)
class _Term:
    """``-ip4:192.0.2.0/24`` in its parts; a modifier's qualifier is ``=``."""

    qualifier: str
    name: str
    value: str

    @classmethod
    def parse(cls, text: str) -> _Term:
        """Raises _PermError: an error anywhere voids the record, whatever matches before it
        (section 4.6)."""
        if found := _MODIFIER.fullmatch(text):
            return cls("=", found[1].lower(), found[2])
        found = _MECHANISM.fullmatch(text)
        if found is None or found[2].lower() not in _MECHANISMS:
            raise _PermError
        term = cls(found[1] or "+", found[2].lower(), found[3])
        term.check()
        return term

    def check(self) -> None:
        match self.name:
            case "all" if self.value:
                raise _PermError
            case "include" | "exists" if not self.value:
                raise _PermError
            case "ip4" | "ip6":
                self.network()
            case "a" | "mx":
                _Spec.parse(self.value)

    def network(self) -> IPNetwork:
        """Of ``ip4`` and ``ip6``."""
        address, slash, length = self.value.partition("/")
        try:
            if slash and not (length.isascii() and length.isdigit()):
                raise _PermError
            network = ip_network(self.value, strict=False)
        except ValueError as error:
            raise _PermError from error
        if network.version != int(self.name[-1]) or "%" in address:
            raise _PermError
        return network


def _terms(record: str) -> list[_Term]:
    """Of a whole record, less its version.  Raises _PermError."""
    terms = [_Term.parse(text) for text in record.split()[1:]]
    named = [term.name for term in terms if term.qualifier == "="]
    if any(named.count(name) > 1 for name in _MODIFIERS):
        raise _PermError
    return terms


def names_host(resolver: Questions, domain: str, ip: IPAddress, deadline: Deadline) -> bool:
    """Whether *domain* names *ip* as a host that sends its mail.

    Blocks at most until *deadline*.  Raises LookupTrouble.
    """
    try:
        return bool(_Evaluation(resolver, ip, deadline).passes(domain))
    except _PermError:
        return False


class _Evaluation:
    """One check_host() with its limits (RFC 7208 section 4)."""

    def __init__(self, resolver: Questions, ip: IPAddress, deadline: Deadline) -> None:
        self._resolver = resolver
        self._ip = ip
        self._deadline = deadline
        self._lookups = 0
        self._voids = 0

    def passes(self, domain: str) -> bool | None:
        """None where there is no record.  Raises _PermError."""
        terms = self._record(domain)
        if terms is None:
            return None
        for term in terms:
            if term.name == "all" or (term.name in _UNKNOWN and term.qualifier not in "+="):
                return False
            if self._matches(term, domain):
                return term.qualifier == "+"
        redirect = next((term.value for term in terms if term.name == "redirect"), None)
        return self._other(redirect) if redirect is not None else False

    def _record(self, domain: str) -> list[_Term] | None:
        texts = self._ask(domain, "TXT").texts
        records = [text for text in texts if text.lower().split(" ", 1)[0] == "v=spf1"]
        if len(records) > 1:
            raise _PermError
        return _terms(records[0]) if records else None

    def _matches(self, term: _Term, domain: str) -> bool:
        match term.name if term.qualifier != "=" else "":
            case "ip4" | "ip6":
                return self._is_within(term.network())
            case "include":
                return self._other(term.value)
            case "a":
                spec = _Spec.parse(term.value)
                self._count_lookup()
                addresses = self._addresses(spec.name or domain)
                self._count_void(is_void=not addresses)
                return self._is_beside(addresses, spec)
            case "mx":
                spec = _Spec.parse(term.value)
                self._count_lookup()
                hosts = [host for host in self._ask(spec.name or domain, "MX").texts if host]
                self._count_void(is_void=not hosts)
                if len(hosts) > MX_HOSTS_AT_MOST:
                    raise _PermError
                return any(self._is_beside(self._addresses(host), spec) for host in hosts)
            case "ptr" | "exists":
                self._count_lookup()  # known to be one, though we do not make it
        return False

    def _other(self, domain: str) -> bool:
        """``include`` and ``redirect``: what the record of *domain* says."""
        if "%" in domain:
            return False
        self._count_lookup()
        passes = self.passes(domain)
        if passes is None:
            raise _PermError
        return passes

    def _addresses(self, name: str) -> list[IPAddress]:
        if "%" in name:
            return []
        kind = "A" if self._ip.version == 4 else "AAAA"
        found = as_addresses(self._ask(name, kind))
        return [ip for ip in found if ip.version == self._ip.version]  # an AAAA may be v4-mapped

    def _is_beside(self, addresses: Iterable[IPAddress], spec: _Spec) -> bool:
        size = spec.four if self._ip.version == 4 else spec.six
        return any(self._is_within(ip_network((ip, size), strict=False)) for ip in addresses)

    def _is_within(self, network: IPNetwork) -> bool:
        return network.prefixlen >= _WIDEST[network.version] and self._ip in network

    def _count_lookup(self) -> None:
        self._lookups += 1
        if self._lookups > LOOKUPS_AT_MOST:
            raise _PermError

    def _count_void(self, *, is_void: bool) -> None:
        """By terms, not by an mx's hosts: that few of these have an AAAA is no error."""
        self._voids += is_void
        if self._voids > VOID_AT_MOST:
            raise _PermError

    def _ask(self, name: str, kind: str) -> Answer:
        return self._resolver.ask(name, kind, self._deadline)

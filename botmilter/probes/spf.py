"""Whether a domain's SPF record (RFC 7208) names an address: no probe, a part of ``senderhost``.

Not a full evaluation, and none is needed: the question is not whether the sender may be refused,
but whether the domain's owner named this host as one of his.  So macros, ``ptr`` and ``exists``
clear nobody, nor do ``all`` and networks so wide that naming them names no host.  An error in a
record clears nobody either.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from botmilter.clock import Deadline
from botmilter.lookup import Answer, Resolver, as_addresses
from botmilter.model import IPAddress, IPNetwork

#: RFC 7208 section 4.6.4: terms that cause look-ups, in all; hosts of one mx; answers without
#: data, after which a record is in error.
LOOKUPS_AT_MOST = 10
MX_HOSTS_AT_MOST = 10
VOID_AT_MOST = 2
#: Registries hand IPv4 out in pieces no larger than a /8, and none since 2011; no sender of mail
#: needs more than a few /14.  IPv6 providers have a /32 or /29.
_WIDEST = {4: 12, 6: 28}

_QUALIFIERS = "+-~?"
#: Mechanisms whose answer we do not know.
_UNKNOWN = frozenset({"ptr", "exists"})


class _PermError(Exception):
    """The record is in error: it names nobody (RFC 7208 section 2.6.7)."""


@dataclass(frozen=True, slots=True)
class _Term:
    """``-ip4:192.0.2.0/24`` in its parts."""

    qualifier: str
    name: str
    value: str

    @classmethod
    def parse(cls, text: str) -> _Term:
        qualifier = text[0] if text[0] in _QUALIFIERS else "+"
        bare = text.removeprefix(qualifier)
        ends = [place for sign in ":=/" if (place := bare.find(sign)) >= 0]
        end = min(ends, default=len(bare))
        value = bare[end:] if bare[end : end + 1] == "/" else bare[end + 1 :]
        return cls(qualifier, bare[:end].lower(), value)


def names_host(resolver: Resolver, domain: str, ip: IPAddress, deadline: Deadline) -> bool:
    """Whether *domain* names *ip* as a host that sends its mail.

    Blocks at most until *deadline*.  Raises LookupTrouble.
    """
    try:
        return bool(_Evaluation(resolver, ip, deadline).passes(domain))
    except _PermError:
        return False


class _Evaluation:
    """One check_host() with its limits (RFC 7208 section 4)."""

    def __init__(self, resolver: Resolver, ip: IPAddress, deadline: Deadline) -> None:
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
            if term.name == "all" or (term.name in _UNKNOWN and term.qualifier != "+"):
                return False
            if self._matches(term, domain):
                return term.qualifier == "+"
        redirects = [term.value for term in terms if term.name == "redirect"]
        return self._other(redirects[0]) if redirects else False

    def _record(self, domain: str) -> list[_Term] | None:
        texts = self._ask(domain, "TXT").texts
        records = [text for text in texts if text.lower().split(" ", 1)[0] == "v=spf1"]
        if len(records) > 1:
            raise _PermError
        return [_Term.parse(text) for text in records[0].split()[1:]] if records else None

    def _matches(self, term: _Term, domain: str) -> bool:
        match term.name:
            case "ip4" | "ip6":
                return self._is_within(term.value)
            case "include":
                return self._other(term.value)
            case "a":
                name, size = self._spec(term.value, domain)
                self._count_lookup()
                return self._has_address(name, size)
            case "mx":
                name, size = self._spec(term.value, domain)
                self._count_lookup()
                hosts = [host for host in self._ask(name, "MX").texts if host]
                if len(hosts) > MX_HOSTS_AT_MOST:
                    raise _PermError
                return any(self._has_address(host, size) for host in hosts)
            case "exists":
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

    def _spec(self, value: str, domain: str) -> tuple[str, int]:
        """Name and prefix length of ``a`` and ``mx``: ``a.example/28//64``, each part optional."""
        name, _, cidr = value.partition("/")
        four, _, six = cidr.partition("//") if not cidr.startswith("/") else ("", "", cidr[1:])
        text = four if self._ip.version == 4 else six
        if text and not (text.isascii() and text.isdigit()):
            raise _PermError
        size = int(text[:4]) if text else self._ip.max_prefixlen
        if size > self._ip.max_prefixlen:
            raise _PermError
        return name or domain, size

    def _has_address(self, name: str, size: int) -> bool:
        if "%" in name or size < _WIDEST[self._ip.version]:
            return False
        kind = "A" if self._ip.version == 4 else "AAAA"
        return any(
            self._ip in ip_network((address, size), strict=False)
            for address in as_addresses(self._ask(name, kind))
            if address.version == self._ip.version  # an AAAA may hold a v4-mapped one
        )

    def _is_within(self, value: str) -> bool:
        try:
            network: IPNetwork = ip_network(value, strict=False)
        except ValueError as error:
            raise _PermError from error
        return network.prefixlen >= _WIDEST[network.version] and self._ip in network

    def _count_lookup(self) -> None:
        self._lookups += 1
        if self._lookups > LOOKUPS_AT_MOST:
            raise _PermError

    def _ask(self, name: str, kind: str) -> Answer:
        answer = self._resolver.ask(name, kind, self._deadline)
        if not answer.texts:
            self._voids += 1
            if self._voids > VOID_AT_MOST:
                raise _PermError
        return answer

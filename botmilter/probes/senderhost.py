"""Probe ``senderhost``: whether the sender's own domain names the host.

It clears the small office whose mail server stands on a provider's line and has the name of one.
Sent: DNS queries to our resolver, nothing to the host: for the domain of the envelope sender its
MX hosts and their addresses, its own address, and its SPF record (:mod:`botmilter.probes.spf`);
for the name in HELO the MX hosts of its domain, and its address.  Asking ends with the first yes.

The sender chooses both names, so a yes says that the owner of some domain knows this host, and no
more; the owner of an infected PC is not asked whether it may send mail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from botmilter import names
from botmilter.clock import Deadline
from botmilter.lookup import Heard, LookupTrouble, Questions, as_addresses
from botmilter.model import IPAddress, Observation, Signal, Status, Target
from botmilter.net import printable
from botmilter.probes import spf

#: A domain with more mail hosts is a large provider's, and for those SPF tells.
_MX_HOSTS_AT_MOST = 5
#: A name that leads to the host although nobody else says so: anybody can set that up.
_BY_GREETING_ONLY = 0.5

_ASKABLE = re.compile(r"[a-z0-9_.-]{1,253}")

_Question = Callable[[Questions, str, IPAddress, Deadline], bool]


class SenderHostProbe:
    """Facts: ``found``, how the host is named (``mx``, ``a``, ``spf`` or empty), and ``by``, the
    name that does; ``helo_exists``, None where nobody asked or answered; ``failed``, the questions
    without an answer."""

    name = "senderhost"
    shows_life = False
    wants_life = False
    sends_to_host = False
    signals = frozenset({"host.mx", "host.a", "host.spf", "helo.unresolved"})

    def __init__(self, resolver: Questions, limit_s: float) -> None:
        self.limit_s = limit_s
        self._resolver = resolver

    def store_key(self, target: Target) -> str:
        return f"{target.ip} {_askable(target.sender_domain)} {_askable(target.helo)}"

    def measure(self, target: Target, deadline: Deadline) -> Observation:
        key = self.store_key(target)
        questions = tuple(_questions(target))
        if not questions:
            return Observation(self.name, key, Status.SKIPPED, reason="no name to ask about")
        dns = Heard(self._resolver)
        found, by = "", ""
        failed: list[str] = []
        statuses: list[Status] = []
        for how, name, ask in questions:
            try:
                if ask(dns, name, target.ip, deadline):
                    found, by = how, name
                    break
            except LookupTrouble as trouble:
                failed.append(printable(f"{how} {name}: {trouble}"))
                statuses.append(trouble.status)
        if len(failed) == len(questions):
            status = Status.FAILED if Status.FAILED in statuses else Status.SKIPPED
            return Observation(self.name, key, status, reason=failed[0])
        helo_exists = None if found else _exists(dns, _askable(target.helo), target.ip, deadline)
        facts = {"found": found, "by": by, "helo_exists": helo_exists, "failed": failed}
        # half an answer is not kept for long
        ttl_s = 0.0 if failed and not found else dns.ttl_s
        return Observation(self.name, key, Status.ANSWERED, facts, ttl_s=ttl_s)

    def interpret(self, seen: Observation, target: Target) -> Iterable[Signal]:
        found, by = str(seen.facts["found"]), str(seen.facts["by"])
        if found:
            is_weak = found == "a" and by != _askable(target.sender_domain)
            yield Signal(f"host.{found}", _BY_GREETING_ONLY if is_weak else 1.0, by)
        if seen.facts["helo_exists"] is False:
            yield Signal("helo.unresolved", 1.0, target.helo or "")


def _questions(target: Target) -> Iterator[tuple[str, str, _Question]]:
    domain, helo = _askable(target.sender_domain), _askable(target.helo)
    if domain:
        yield "mx", domain, _is_mx
        yield "a", domain, _is_address
        yield "spf", domain, spf.names_host
    if helo:
        helo_domain = names.registered_domain(helo)
        if helo_domain and helo_domain != domain:
            yield "mx", helo_domain, _is_mx
        if helo != domain and not names.is_dynamic(helo, target.ip).strength:
            yield "a", helo, _is_address
        if not domain:  # RFC 7208 section 2.4: the null sender's name is the greeting's
            yield "spf", helo, spf.names_host


def _is_mx(dns: Questions, name: str, ip: IPAddress, deadline: Deadline) -> bool:
    hosts = [host for host in dns.ask(name, "MX", deadline).texts if host]
    return any(_is_address(dns, host, ip, deadline) for host in hosts[:_MX_HOSTS_AT_MOST])


def _is_address(dns: Questions, name: str, ip: IPAddress, deadline: Deadline) -> bool:
    return ip in as_addresses(dns.addresses(name, ip, deadline))


def _exists(dns: Questions, name: str, ip: IPAddress, deadline: Deadline) -> bool | None:
    if not name:
        return None
    try:
        return dns.addresses(name, ip, deadline).exists
    except LookupTrouble:
        return None


def _askable(name: str | None) -> str:
    """*name* as the DNS takes it; empty where it is a literal, a single label or no name."""
    cleaned = names.clean(name or "")
    is_name = _ASKABLE.fullmatch(cleaned) and names.registered_domain(cleaned)
    return cleaned if is_name else ""

"""What a host's name says about the host.  Pure.

In: names as DNS, a mail header or a greeting gave them, hostile text of any kind.  Out: how much
a name looks like one of a provider's customer pool, or like a server's.  Nothing here raises,
whatever the text, and the time is linear in its length (what is longer than a host name may be
is no host name and is cut).

Why names tell: who runs a mail server chooses its name, because receivers look at it; a provider
names ten thousand customer lines by a program, and a program can only write what it has: the
address, a running number, the kind of line.  So the address is looked for in every spelling we
know of, and words are only looked for outside the registered domain, which the provider chose
for other reasons.  That domain comes from the public suffix list, by way of a library; no other
module imports it.

The question is that of SpamAssassin's RDNS_DYNAMIC, the Botnet plugin and rspamd's hfilter; the
rules are our own.  New is :func:`shared_template`: it needs no words at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from publicsuffixlist import PublicSuffixList

from botmilter import spelling, vocabulary
from botmilter.model import IPAddress, Signal
from botmilter.net import INSIDE, is_in, parse_ip

#: RFC 1035 section 2.3.4: no host name is longer.
_NAME_LIMIT = 255

_NUMBER = re.compile(r"[0-9]+")
_WORD = re.compile(r"[a-z]+")
_HEX_RUN = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much a name looks like something, and by what."""

    strength: float = 0.0
    """0 to 1."""
    detail: str = ""
    """What was seen; hostile text."""

    def __bool__(self) -> bool:
        return self.strength > 0


_NOT = Likeness()


# -- domains ------------------------------------------------------------------------------------


@cache
def _suffixes(*, only_icann: bool) -> PublicSuffixList:
    return PublicSuffixList(only_icann=only_icann)


def load() -> None:
    """Read the public suffix list now and not when the first mail waits for it: 0.2 s of CPU, and
    again for each thread that comes meanwhile."""
    _suffixes(only_icann=False)
    _suffixes(only_icann=True)
    _list_of_known()


def clean(name: str) -> str:
    """*name* lower-case, without surrounding blanks and trailing dots, cut to a name's length."""
    return name[: _NAME_LIMIT + 1].strip().rstrip(".").lower()


def registered_domain(name: str) -> str | None:
    """The domain somebody registered: ``example.co.uk`` of ``mx1.example.co.uk``.

    A customer's part of a shared domain (``…dyndns.org``) is the customer's own.  None for an
    address, a public suffix itself, a name of one label, and what is no name.
    """
    return _registered(clean(name), only_icann=False)


def same_organisation(one: str, other: str) -> bool:
    """Whether both names belong to one registered domain."""
    domain = registered_domain(one)
    return domain is not None and domain == registered_domain(other)


def is_public(name: str) -> bool:
    """Whether public DNS may hold *name*: not ``localhost.localdomain``, nor one of one label."""
    name = clean(name)
    return "." in name and _ends_in_known_domain(name)


def _registered(name: str, *, only_icann: bool) -> str | None:
    if "." not in name or parse_ip(name) is not None:
        return None
    return _suffixes(only_icann=only_icann).privatesuffix(name)


def _ends_in_known_domain(name: str) -> bool:
    """Whether the last label is a top-level domain of the list; an internationalised one counts,
    and so does that of every manual's and laboratory's hosts (RFC 2606)."""
    label = name.rpartition(".")[2]
    if not label.isascii() or label.startswith("xn--"):
        return True
    return label == "example" or _known_suffix(label)


@cache
def _list_of_known() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False)


def _known_suffix(label: str) -> bool:
    return _list_of_known().publicsuffix(label) is not None


def _host_part(name: str) -> str:
    """What stands before the registered domain: what the domain's owner named one host."""
    domain = _registered(name, only_icann=True)
    if domain is None:
        return name
    return name[: -len(domain)].rstrip(".")


# -- customer pools -----------------------------------------------------------------------------


def is_dynamic(name: str, ip: IPAddress | None) -> Likeness:
    """How much *name* looks like that of a provider's customer line.

    *ip* is the address that carries the name; None where it is not known, then any four numbers
    that could be an address count somewhat less.
    """
    name = clean(name)
    host = _host_part(name)
    if not host or parse_ip(name) is not None:
        return _NOT
    address = Likeness(*spelling.find(host, ip))
    words = _pool_words(host)
    both = 0.2 if address and words else 0.0
    strength = min(1.0, max(address.strength, words.strength) + both) * _innocence(host, words)
    detail = ", ".join(part.detail for part in (address, words) if part)
    return Likeness(round(strength, 2), detail) if strength > 0 else _NOT


def _innocence(host: str, pool: Likeness) -> float:
    """What is left of the suspicion: outbound hosts of large providers carry their address too."""
    words = set(_WORD.findall(host))
    if _server_words(host).strength == 1.0:
        return 0.3 if pool.strength >= 0.8 else 0.0
    return 0.5 if words & vocabulary.STATIC else 1.0


def _pool_words(host: str) -> Likeness:
    for word in _WORD.findall(host):
        if word in vocabulary.POOL:
            return Likeness(0.8, f"'{word}'")
    return _NOT


# -- servers ------------------------------------------------------------------------------------


def is_server(name: str) -> Likeness:
    """How much *name* looks like that of a server: 1 for mail, 0.5 for others that are run by
    somebody, 0.5 for the bare registered domain (nobody's PTR is that by accident)."""
    name = clean(name)
    host = _host_part(name)
    if not host:
        return Likeness(0.5, "the domain itself") if "." in name else _NOT
    if "." not in name or parse_ip(name) is not None:
        return _NOT
    return _server_words(host)


def _server_words(host: str) -> Likeness:
    words = _WORD.findall(host)
    for word in words:
        if word in vocabulary.MAIL or word.startswith(("mail", "smtp")) or word.endswith("mail"):
            return Likeness(1.0, f"'{word}'")
    for word in words:
        if word in vocabulary.SERVICE:
            return Likeness(0.5, f"'{word}'")
    return _NOT


# -- neighbours ---------------------------------------------------------------------------------


def shared_template(names: Mapping[IPAddress, str]) -> str | None:
    """The one numbered template over *names* of neighbouring addresses, numbers as ``#``.

    A pool is named by a program, so its names differ in their numbers only; that is so in every
    language.  At least three different names and two thirds of all must agree.  A row of numbered
    mail servers is no pool: None.
    """
    different = {clean(name) for name in names.values()} - {""}
    for number in (_NUMBER, _HEX_RUN):
        forms = Counter(_numbered(name, number) for name in different)
        for (host, domain), count in forms.most_common(1):
            if "#" in host and count >= 3 and 3 * count >= 2 * len(names):
                return None if _server_words(host) else f"{host}.{domain}".rstrip(".")
    return None


def _numbered(name: str, number: re.Pattern[str]) -> tuple[str, str]:
    host = _host_part(name)
    return number.sub("#", host), name[len(host) :].strip(".")


# -- the greeting -------------------------------------------------------------------------------


def helo_signals(helo: str | None, ip: IPAddress | None, rdns: str | None) -> tuple[Signal, ...]:
    """What the greeting gives away, as against the address and the name it came from.

    RFC 5321 section 4.1.1.1: the client gives its own full name or, if it has none, its address
    as a literal in brackets.  A program that was made to send and not to be a mail server has
    neither and makes something up.  *rdns* None: not known, then nothing is compared with it.

    Of addresses and single labels :mod:`botmilter.received.forgery` says the same where there is a
    chain: of two signals of one name the stronger counts.
    """
    text = clean(helo or "")
    if not text or text == "localhost.localdomain":  # that is how a machine is called unnamed
        return ()
    claimed = stated_address(text)
    if claimed is not None or text[0] in "[?":
        return address_signals(text, claimed, ip)
    if "." not in text:
        return (Signal("helo.no_dot", 1.0, text),)
    return _name_signals(text, ip, rdns)


def stated_address(name: str) -> IPAddress | None:
    """The address that a greeting is made of, in brackets or without; qmail writes ``?`` for a
    bracket."""
    return parse_ip(name.strip("[]?").lower().removeprefix("ipv6:"))


def is_provider(name: str) -> bool:
    """Whether *name* is, or is below, the domain of a mail provider everybody knows."""
    domain = registered_domain(name)
    return domain is not None and domain.partition(".")[0] in vocabulary.PROVIDERS


def is_false_provider(helo: str, rdns: str | None) -> bool:
    """Whether *helo* claims to be a large mail provider's and *rdns* does not bear it out.

    Their hosts greet with a host's name, never with the bare domain; a longer name is held
    against what the receiver looked up.
    """
    if not is_provider(helo):
        return False
    if rdns is None:
        return clean(helo) == registered_domain(helo)
    return not same_organisation(helo, rdns)


def address_signals(
    helo: str, stated: IPAddress | None, ip: IPAddress | None
) -> tuple[Signal, ...]:
    """What greeting as *helo* gives away, which is made of the address *stated*, for one who comes
    from *ip*.  Half strength for its own address, and for one behind a NAT router."""
    if stated is None:
        return ()
    if helo[0] not in "[?":
        if stated == ip:
            detail = f"greets with its address {stated} without brackets"
            return (Signal("helo.bare_address", 0.5, detail),)
        return (Signal("helo.bare_address", 1.0, f"greets with {stated}, an address not its own"),)
    if ip is None or stated == ip:
        return ()
    inside = is_in(stated, INSIDE)
    detail = f"greets with [{stated}], comes from {ip}" + (" (NAT?)" if inside else "")
    return (Signal("helo.literal_mismatch", 0.5 if inside else 1.0, detail),)


def _name_signals(helo: str, ip: IPAddress | None, rdns: str | None) -> tuple[Signal, ...]:
    found: list[Signal] = []
    dynamic = is_dynamic(helo, ip)
    if dynamic and clean(rdns or "") != helo:  # what its name says is said once
        found.append(Signal("helo.dynamic", dynamic.strength, f"{helo}: {dynamic.detail}"))
    if not _ends_in_known_domain(helo):
        found.append(Signal("helo.no_tld", 1.0, helo))
    if rdns and clean(rdns) != helo and not same_organisation(helo, rdns):
        found.append(Signal("helo.mismatch", 1.0, f"{helo}, its name is {rdns}"))
    return tuple(found)

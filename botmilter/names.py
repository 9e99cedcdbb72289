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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address

from publicsuffixlist import PublicSuffixList

from botmilter import vocabulary
from botmilter.model import IPAddress, Signal
from botmilter.net import parse_ip

#: RFC 1035 section 2.3.4: no host name is longer.
_NAME_LIMIT = 255
#: A run of digits this short, found without separators, is a coincidence.
_SPELLING_MIN = 6

_NUMBER = re.compile(r"[0-9]+")
_WORD = re.compile(r"[a-z]+")
_NOT_ALNUM = re.compile(r"[^0-9a-z]+")
_OCTETS = re.compile(r"(?<![0-9])[0-9]{1,3}(?:[-._x][0-9]{1,3}){2,3}(?![0-9])")
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
def _suffixes(only_icann: bool) -> PublicSuffixList:
    return PublicSuffixList(only_icann=only_icann)


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


def _registered(name: str, *, only_icann: bool) -> str | None:
    if "." not in name or parse_ip(name) is not None:
        return None
    return _suffixes(only_icann).privatesuffix(name)


def _ends_in_known_domain(name: str) -> bool:
    """Whether the last label is a top-level domain of the list; an internationalised one counts."""
    label = name.rpartition(".")[2]
    return not label.isascii() or label.startswith("xn--") or _known_suffix(label)


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
    host = _host_part(clean(name))
    if not host or parse_ip(host) is not None:
        return _NOT
    address = _address_in(host, ip)
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
    words = _WORD.findall(host)
    for word in words:
        if word in vocabulary.POOL:
            return Likeness(0.8, f"'{word}'")
    numbered = any(word in vocabulary.NUMBERED for word in words)
    if numbered and _NUMBER.search(host):
        return Likeness(0.3, "numbered")
    return _NOT


def _address_in(host: str, ip: IPAddress | None) -> Likeness:
    if ip is None:
        return Likeness(0.7, "an address") if _looks_like_octets(host) else _NOT
    squeezed = _NOT_ALNUM.sub("", host)
    if any(spelling in squeezed for spelling in _spellings(ip)):
        return Likeness(1.0, "its address")
    if isinstance(ip, IPv4Address):
        return _octets_in(host, ip)
    return _NOT


def _looks_like_octets(host: str) -> bool:
    return any(
        all(int(number) < 256 for number in _NUMBER.findall(run)) for run in _OCTETS.findall(host)
    )


def _octets_in(host: str, ip: IPv4Address) -> Likeness:
    """Octets of *ip* side by side in *host*, in any order, whatever stands between them."""
    numbers = [int(number) for number in _NUMBER.findall(host) if len(number) <= 3]
    octets = list(ip.packed)
    if _has_window(numbers, octets):
        return Likeness(1.0, "its address")
    if _has_window(numbers, octets[1:]) or _has_window(numbers, octets[:3]):
        return Likeness(0.8, "three octets of its address")
    if _has_window(numbers, octets[2:]) and max(octets[2:]) >= 10:
        return Likeness(0.6, "two octets of its address")
    if _joined_tail(ip) & {run for run in _NUMBER.findall(host) if len(run) >= 5}:
        return Likeness(0.6, "two octets of its address")
    return _NOT


def _joined_tail(ip: IPv4Address) -> set[str]:
    third, fourth = ip.packed[2:]
    return {f"{third:03}{fourth:03}", f"{fourth:03}{third:03}", f"{third}{fourth:03}"}


def _has_window(numbers: list[int], wanted: list[int]) -> bool:
    size, target = len(wanted), sorted(wanted)
    return any(sorted(numbers[at : at + size]) == target for at in range(len(numbers) - size + 1))


def _digits(value: int, base: int) -> str:
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while value:
        value, digit = divmod(value, base)
        text = alphabet[digit] + text
    return text or "0"


def _spellings(ip: IPAddress) -> Iterator[str]:
    """Every way to write *ip* without separators that a program may have chosen."""
    if isinstance(ip, IPv6Address):
        yield from _spellings6(ip)
        return
    for octets in (ip.packed, ip.packed[::-1]):
        value = int.from_bytes(octets)
        yield "".join(f"{octet:03}" for octet in octets)
        yield "".join(f"{octet:02x}" for octet in octets)
        yield "".join(f"{octet:03o}" for octet in octets)
        candidates = ["".join(map(str, octets)), "".join(f"{octet:x}" for octet in octets)]
        candidates += [_digits(value, base) for base in (8, 10, 32, 36)]
        yield from (text for text in candidates if len(text) >= _SPELLING_MIN)


def _spellings6(ip: IPv6Address) -> Iterator[str]:
    """Whole, backwards, shortened, and the halves: providers name the /64 or the interface."""
    nibbles = ip.exploded.replace(":", "")
    yield nibbles
    yield nibbles[::-1]
    yield nibbles[:16]
    if int(nibbles[16:], 16) > 0xFFFF_FFFF:
        yield nibbles[16:]
    shortened = "".join(group.lstrip("0") for group in ip.exploded.split(":"))
    if len(shortened) >= 2 * _SPELLING_MIN:
        yield shortened


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
    """
    text = clean(helo or "")
    if not text:
        return ()
    if text.startswith("["):
        return _literal_signals(text, ip)
    if (claimed := parse_ip(text)) is not None:
        same = "its own" if claimed == ip else "another"
        return (Signal("helo.bare_address", 1.0, f"{text}, {same} address"),)
    if "." not in text or text.startswith("localhost."):
        return (Signal("helo.no_dot", 1.0, text),)
    return _name_signals(text, ip, rdns)


def is_provider(helo: str, rdns: str | None) -> bool:
    """Whether *helo* claims to be a large mail provider's and *rdns* does not bear it out.

    Their hosts greet with a host's name, never with the bare domain; a longer name is held
    against what the receiver looked up.
    """
    domain = registered_domain(helo)
    if domain is None or domain.partition(".")[0] not in vocabulary.PROVIDERS:
        return False
    if rdns is None:
        return clean(helo) == domain
    return not same_organisation(helo, rdns)


def _literal_signals(text: str, ip: IPAddress | None) -> tuple[Signal, ...]:
    claimed = parse_ip(text.strip("[]").removeprefix("ipv6:"))
    if claimed is None or ip is None or claimed == ip:
        return ()
    return (Signal("helo.literal_mismatch", 1.0, text),)


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

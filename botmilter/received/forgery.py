"""What in a chain contradicts itself.  Pure.

Two kinds of evidence, both about the origin and nobody else, because it is the one that spoke or
sent the lines; an address found here is never probed:

* ``helo.…``: how the origin greeted, as the border recorded it, against who it is and who we are;
* ``chain.…``: the lines below the border, which the origin delivered as part of the mail.

Where there is no origin, or it is exempt, there is nothing to say.  Names and meanings are rows
of :mod:`botmilter.signals`.  Honest mail breaks some of these rules as well (clocks are wrong,
internal names differ from public ones), so each rule allows for what honest relays were seen to
do, and ``docs/received.md`` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple

from botmilter import names
from botmilter.model import Chain, Hop, HopKind, HopSource, IPAddress, Origin, Signal, Trust
from botmilter.net import INSIDE, is_in
from botmilter.received import dates
from botmilter.received.origin import is_loopback, is_named

#: Clocks of honest hosts are wrong by minutes, and by an hour twice a year.
_CLOCK_SLACK = timedelta(minutes=70)
#: More than a wrong zone explains.
_SURELY_BACKWARDS = timedelta(hours=14)
#: Queues give up after five days (RFC 5321 section 4.5.4.1); two more for moderated lists.
_LONGEST_WAY = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class House:
    """A domain and the programs its hosts are known to write ``Received`` lines with."""

    domain: str
    dialects: tuple[str, ...]
    protocols: tuple[str, ...] = ()
    """Any of these makes the line genuine-looking where the dialect does not show."""
    never: tuple[str, ...] = ()
    """Protocols that forgers use and its hosts do not, whatever the dialect."""


#: What ratware of the 2000s writes after ``with``, in turns.
_RATWARE = ("LOCAL", "ASMTP", "QMQP", "NNFMP")

#: Claimed as ``by`` in forged lines again and again, and always recognisable when real.
HOUSES: tuple[House, ...] = (
    House("google.com", ("google",), ("SMTP", "HTTP", "HTTPS", "HTTPREST"), _RATWARE),
    House("outlook.com", ("exchange", "smtpsvc"), ("HTTPS", "HTTP")),
    House("hotmail.com", ("exchange", "smtpsvc"), ("HTTP", "HTTPS")),
    House(
        "yahoo.com",
        ("yahoo", "qmail"),
        ("HTTP", "HTTPS", "SMTP", "NNFMP", "QMQP"),
        ("LOCAL", "ASMTP"),
    ),
)
#: Their staff's own machines, which run what they like.
_STAFF = (".corp.google.com",)

#: Domains of one house, which hands mail from one to the other.
_SISTERS = {
    domain: family[0]
    for family in (
        ("google.com", "gmail.com", "googlemail.com"),
        ("outlook.com", "office365.com", "exchangelabs.com", "hotmail.com", "microsoft.com"),
        ("yahoo.com", "aol.com"),
    )
    for domain in family
}

#: Spoken within one provider only: protocol, and how the domains of all its hosts begin.
_HOUSE_PROTOCOLS = {"NNFMP": "yahoo"}

_Rule = Callable[["Case"], Iterator[Signal]]


class Case(NamedTuple):
    """What every rule may look at."""

    border: Hop
    believed: tuple[Hop, ...]
    """The lines above and with the border."""
    claimed: tuple[Hop, ...]
    """The lines below it, newest first."""
    trust: Trust
    greeted: IPAddress | None
    """The address that the border's HELO is made of; None where that is a name."""
    is_our_name: bool
    """Whether it is a name, and one of ours."""


#: Of an explanation; it is kept for as long as a verdict stands, and the words are the sender's.
_DETAIL_AT_MOST = 200


def signals(chain: Chain, origin: Origin, trust: Trust) -> tuple[Signal, ...]:
    """All that speaks against the origin's honesty, each kind once, with an explanation."""
    if origin.hop is None or origin.ip is None or origin.why.is_exempt:
        return ()
    at = origin.hop.index
    believed = chain.hops[: at + 1]
    helo = origin.hop.helo
    greeted = _stated_address(helo)
    is_ours = helo is not None and greeted is None and _is_our_name(helo, believed, trust)
    case = Case(origin.hop, believed, chain.hops[at + 1 :], trust, greeted, is_ours)
    found: dict[str, Signal] = {}
    for rule in RULES:
        for signal in rule(case):
            known = found.get(signal.name)
            if known is None or known.strength < signal.strength:
                found[signal.name] = signal
    return tuple(
        Signal(one.name, one.strength, one.detail[:_DETAIL_AT_MOST]) for one in found.values()
    )


# -- the greeting -------------------------------------------------------------------------------


def _name_greeting(case: Case) -> Iterator[Signal]:
    helo = case.border.helo
    if helo is None or case.greeted is not None:
        return
    if case.is_our_name:
        yield Signal("helo.own_name", detail=f"greets as {helo}, which is ours or trusted")
    if "." not in helo.rstrip("."):
        yield Signal("helo.no_dot", detail=f"greets as {helo}")


def _address_greeting(case: Case) -> Iterator[Signal]:
    helo, said, ip = case.border.helo, case.greeted, case.border.ip
    if helo is None or said is None:
        return
    if said != ip and _is_ours(said, case):
        yield Signal("helo.own_name", detail=f"greets with {said}, which is ours or trusted")
    yield from names.address_signals(helo, said, ip)


#: Of a name; the few that stand in most mails are looked at once, longer ones never remembered.
_NAME_LENGTH = 255
_NAMES_KEPT = 4096


def _stated_address(name: str | None) -> IPAddress | None:
    return names.stated_address(name) if name else None


def _is_ours(ip: IPAddress, case: Case) -> bool:
    if is_in(ip, INSIDE):
        return False
    return is_in(ip, case.trust.networks) or any(ip == hop.ip for hop in case.believed[:-1])


def _is_our_name(name: str, believed: Sequence[Hop], trust: Trust) -> bool:
    name = name.lower().rstrip(".")
    *above, border = believed
    if name in _NOBODY or _is_name_of(name, border.rdns):
        return False
    if is_named(name, trust.own_names) or _is_name_of(name, border.by):
        return True
    return any(_is_name_of(name, hop.by) or _is_trusted_name(name, hop) for hop in above)


def _is_trusted_name(name: str, hop: Hop) -> bool:
    return hop.ip is not None and not is_loopback(hop.ip) and _is_name_of(name, hop.rdns)


def _is_name_of(name: str, other: str | None) -> bool:
    return other is not None and name == other.lower().rstrip(".")


#: Names that everyone calls himself.
_NOBODY = frozenset(("localhost", "localhost.localdomain", "unknown", ""))


# -- the lines below ----------------------------------------------------------------------------


def _by_is_helo(case: Case) -> Iterator[Signal]:
    """A stolen greeting, used again as the author of a line."""
    helo, said = case.border.helo, case.greeted
    if helo is None or (said == case.border.ip if said else not case.is_our_name):
        return
    for hop in case.claimed:
        if hop.by is None:
            continue
        if _stated_address(hop.by) == said if said else hop.by.lower() == helo.lower():
            yield Signal("chain.by_is_helo", detail=f"hop {hop.index} claims to be by {hop.by}")


def _broken_link(case: Case) -> Iterator[Signal]:
    above = case.border
    for hop in case.claimed:
        if hop.by is not None and above.kind is HopKind.RELAY and not _is_linked(above, hop.by):
            yield Signal(
                "chain.broken_link",
                1.0 if above is case.border and not _greets_by_its_name(above) else 0.5,
                f"hop {hop.index} is by {hop.by}, hop {above.index} came from {_names(above)}",
            )
        if hop.kind is HopKind.RELAY:
            above = hop


def _greets_by_its_name(hop: Hop) -> bool:
    """A well-kept host; a sender's service may give it the name of a customer."""
    return hop.rdns_verified is True and _is_name_of((hop.helo or "").lower(), hop.rdns)


def _is_linked(above: Hop, by: str) -> bool:
    """Whether the host that wrote *by* may be the one that *above* received from.  Within a host
    or a site names prove nothing: its own programs hand on to each other."""
    if by == above.helo or (above.ip is not None and is_in(above.ip, INSIDE)):
        return True
    stated = _stated_address(by)
    if stated is not None:
        return stated == above.ip or is_in(stated, INSIDE) or stated == _stated_address(above.helo)
    sites = [site for name in (above.rdns, above.helo) if name and (site := _public_site(name))]
    return not sites or (_public_site(by) or sites[0]) in sites


def _names(hop: Hop) -> str:
    return ", ".join(dict.fromkeys(name for name in (hop.helo, hop.rdns) if name)) or str(hop.ip)


_PRIVATE_SUFFIXES = (
    ".local", ".localdomain", ".lan", ".internal", ".intranet", ".private", ".corp", ".home",
    ".arpa", ".invalid", ".test", ".localhost",
)  # fmt: skip


def _public_site(name: str) -> str:
    """The domain that the owner of a public name registered, or its house's first; empty where
    *name* is none."""
    return _site(name) if len(name) <= _NAME_LENGTH else ""


@lru_cache(maxsize=_NAMES_KEPT)
def _site(name: str) -> str:
    name = names.clean(name)
    if not name.rpartition(".")[2].isalpha() or name.endswith(_PRIVATE_SUFFIXES):
        return ""
    domain = names.registered_domain(name) or ""
    return _SISTERS.get(domain, domain)


def _time_backwards(case: Case) -> Iterator[Signal]:
    above = case.border
    for hop in case.claimed:
        if hop.at is None:
            continue
        is_guess = hop.at_defect or above.at_defect  # no zone, or of a name that says nothing
        slack = _SURELY_BACKWARDS if is_guess else _CLOCK_SLACK
        if above.at is not None and hop.at - above.at > slack:
            ahead = hop.at - above.at
            yield Signal(
                "chain.time_backwards",
                1.0 if ahead > _SURELY_BACKWARDS else 0.5,
                f"hop {hop.index} is {_span(ahead)} later than hop {above.index} above it",
            )
        above = hop


def _dates(case: Case) -> Iterator[Signal]:
    received = case.border.at  # nearly always
    if received is None:
        received = next((hop.at for hop in reversed(case.believed) if hop.at is not None), None)
    for hop in case.claimed:
        if hop.at is None:
            if hop.at_defect == dates.BAD_ZONE:
                yield Signal("chain.bad_zone", detail=f"hop {hop.index}: {_date_text(hop)}")
            elif hop.at_defect in (dates.UNREADABLE, dates.IMPOSSIBLE):
                yield Signal("chain.bad_date", detail=f"hop {hop.index}: {hop.at_defect}")
            elif hop.at_defect == dates.MISSING and hop.kind is HopKind.RELAY:
                yield Signal("chain.bad_date", 0.5, f"hop {hop.index}: {hop.at_defect}")
        elif received is not None and abs(received - hop.at) > _LONGEST_WAY:
            away = _span(abs(received - hop.at))
            yield Signal("chain.bad_date", detail=f"hop {hop.index} is {away} from the receipt")


def _date_text(hop: Hop) -> str:
    return hop.raw.rpartition(";")[2].strip()


def _span(time: timedelta) -> str:
    minutes = int(time.total_seconds() // 60)
    hours = minutes // 60
    return f"{hours // 24} days" if hours >= 72 else f"{hours} h {minutes % 60} min"


_DATE_COMMENT = re.compile(
    r"\(\[?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ?\d{1,2} [A-Z][a-z]{2} \d{2,4} \d", re.IGNORECASE
)


def _date_in_address(case: Case) -> Iterator[Signal]:
    for hop in case.claimed:
        found = _DATE_COMMENT.search(hop.raw) if hop.ip is None else None
        if found is not None:
            yield Signal(
                "chain.date_in_address", detail=f"hop {hop.index}: {hop.raw[found.start() :][:40]}"
            )


def _false_by(case: Case) -> Iterator[Signal]:
    for hop in case.claimed:
        owner = _HOUSE_PROTOCOLS.get(hop.protocol or "")
        if owner is not None and not _public_site(hop.by or "").startswith(owner):
            detail = f"hop {hop.index}: nobody but {owner} speaks {hop.protocol}"
            yield Signal("chain.false_by", detail=detail)
        house = _house(hop.by)
        if house is None or hop.source is not HopSource.HEADER:
            continue
        looks_real = hop.dialect in house.dialects or (
            not hop.dialect and hop.protocol in house.protocols
        )
        if not looks_real or hop.protocol in house.never:
            yield Signal(
                "chain.false_by",
                detail=f"hop {hop.index}: {house.domain} writes no such line "
                f"({' '.join(filter(None, (hop.dialect, hop.protocol))) or 'nothing known'})",
            )


def _house(by: str | None) -> House | None:
    return _house_of(by) if by is not None and len(by) <= _NAME_LENGTH else None


@lru_cache(maxsize=_NAMES_KEPT)
def _house_of(by: str) -> House | None:
    name = by.lower().rstrip(".")
    if name.endswith(_STAFF):
        return None
    return next(
        (house for house in HOUSES if name == house.domain or name.endswith("." + house.domain)),
        None,
    )


RULES: tuple[_Rule, ...] = (
    _name_greeting,
    _address_greeting,
    _by_is_helo,
    _broken_link,
    _time_backwards,
    _dates,
    _date_in_address,
    _false_by,
)

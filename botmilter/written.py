"""What the program that made the mail wrote into it, held against how the mail came.  Pure.

In: the mail's own header fields beside ``Received:``, the chain and the origin.  Out: signals.
Nothing of what the mail *says* is looked at, neither subject nor text nor names of people; only
what a mail program states about time and place, because software that was made to send and to
hide gets these wrong in ways that a mail server does not:

* ``Date:`` (RFC 5322 section 3.6.1): a server keeps time, an owned PC or a script often does not,
  and a mail that was queued shows it by lines below the border;
* ``Message-ID:`` (section 3.6.4): every mail program writes one; where the receiving host had to
  add it, the sender was none;
* the lines below the border: a relay's mail was handed to the relay by somebody, and its line
  names the relay as the relay names itself.  A program on the spot has nothing below it;
* bounce address and list fields (RFC 2369, RFC 2919) of the host's own domain: it sends in its
  own name and wants to hear of its errors.

All of it may be forged.  So it speaks quietly, and the groups' limits in :mod:`botmilter.score`
see to it that it convicts nobody alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from botmilter.model import Chain, Hop, HopKind, Origin, Signal
from botmilter.names import clean, is_provider, registered_domain, same_organisation
from botmilter.received import dates

#: A clock that is wrong by less is a clock; RFC 5322 asks for no more.
_AHEAD_S = 600.0
#: A PC's clock may be an hour off where its owner missed the change to summer time.
_FAR_AHEAD_S = 2 * 3600.0
#: A Date this much older than the receipt needs a queue to explain it: Postfix and Sendmail warn
#: their users after four hours.
_BEHIND_S = 4 * 3600.0
_DAY_S = 86400.0
_YEAR_S = 365.2425 * _DAY_S
#: Characters of a field that are looked at.
_FIELD_LIMIT = 2000

#: ``<000a01c249e0$e5a9d610$…@host>``: after four digits of a counter the time in units of 100 ns
#: since 1601 (Windows' FILETIME), high half and low half.
_OUTLOOK_ID = re.compile(r"<?[0-9a-fA-F]{4}([0-9a-fA-F]{8})\$([0-9a-fA-F]{8})\$[0-9a-fA-F]{8}@")
_FILETIME_EPOCH_S = 11_644_473_600.0

_ADDRESS_DOMAIN = re.compile(r"@\[?([A-Za-z0-9._:-]{1,255})")
_LIST_ID = re.compile(r"<([A-Za-z0-9._-]{1,255})>")
_LIST_FIELDS = frozenset(
    {"list-id", "list-post", "list-unsubscribe", "list-help", "mailing-list", "x-beenthere"}
)
_WANTED = _LIST_FIELDS | {"date", "message-id", "return-path", "from"}


@dataclass(frozen=True, slots=True)
class Written:
    """What the fields say; None where there is no such field."""

    date: str | None = None
    message_id: str | None = None
    bounce_domain: str | None = None
    """Of the envelope sender; empty for the null sender."""
    from_domain: str | None = None
    """Of the last address in ``From:``."""
    list_domains: frozenset[str] = frozenset()


def fields(header: bytes) -> Iterator[tuple[str, str]]:
    """Name and unfolded value of each field in a raw header block, in order.

    A line ends with LF or CR LF.  A bare CR is a character, as for MTAs: no field begins behind it.
    """
    name, values = "", [""]
    for raw in header.split(b"\n"):
        line = raw.removesuffix(b"\r").decode("latin-1")
        if not line:
            break
        if line[0] in " \t" and name:
            values.append(line.strip())
            continue
        if name:
            yield name, " ".join(values).strip()
        name, _, value = line.partition(":")
        values = [value.strip()]
    if name:
        yield name, " ".join(values).strip()


def read(header: Iterable[tuple[str, str]], sender_domain: str | None = None) -> Written:
    """Pick what is wanted out of (name, value) pairs; the first of each name counts.

    *sender_domain*: of the envelope sender where the MTA told it, else ``Return-Path`` is read.
    """
    found: dict[str, str] = {}
    lists: set[str] = set()
    for name, value in header:
        key = name.strip().lower()
        if key not in _WANTED:
            continue
        if key in _LIST_FIELDS:
            lists.update(_domains(value[:_FIELD_LIMIT]))
        else:
            found.setdefault(key, value[:_FIELD_LIMIT])
    bounce = sender_domain
    if bounce is None and "return-path" in found:
        bounce = next(_domains(found["return-path"]), "")
    author = list(_domains(found.get("from", "")))[-1:]
    return Written(
        found.get("date"),
        found.get("message-id"),
        bounce,
        author[0] if author else None,
        frozenset(lists),
    )


def _domains(value: str) -> Iterator[str]:
    for pattern in (_ADDRESS_DOMAIN, _LIST_ID):
        for domain in pattern.findall(value):
            yield clean(domain)


def signals(written: Written, chain: Chain, origin: Origin) -> tuple[Signal, ...]:
    """What *written* and the lines below the border say about *origin*; () where there is none."""
    if origin.hop is None or origin.ip is None:
        return ()
    border = origin.hop
    below = chain.hops[border.index + 1 :]
    return (
        *_date_signals(written.date, border.at),
        *_id_signals(written.message_id, chain, border),
        *_id_time_signals(written, border.at),
        *_path_signals(border, below),
        *_own_name_signals(written, border),
        *_stranger_signals(written, chain.hops[border.index :]),
    )


# -- time ---------------------------------------------------------------------------------------


def _date_signals(text: str | None, received_at: datetime | None) -> Iterator[Signal]:
    if text is None:
        yield Signal("mail.no_date")
        return
    at, defect, _ = _read_date(text)
    if defect == dates.BAD_ZONE:
        yield Signal("mail.bad_zone", 1.0, text)
    elif at is None:
        yield Signal("mail.no_date", 1.0, f"cannot be read: {text}")
    elif received_at is not None:
        yield from _clock_signals((received_at - at).total_seconds())


def _read_date(text: str) -> dates.Reading:
    return dates.read(" ".join(text.split()))


def _clock_signals(late_s: float) -> Iterator[Signal]:
    hours = f"{abs(late_s) / 3600:.1f} hours"
    if late_s < -_AHEAD_S:
        yield Signal("mail.date_ahead", 1.0 if late_s < -_FAR_AHEAD_S else 0.4, hours)
    elif late_s > _BEHIND_S:
        yield Signal("mail.date_behind", 1.0 if late_s > _DAY_S else 0.7, hours)


# -- place --------------------------------------------------------------------------------------


def _id_signals(message_id: str | None, chain: Chain, border: Hop) -> Iterator[Signal]:
    if not message_id:
        yield Signal("mail.no_id")
        return
    named = _ADDRESS_DOMAIN.search(message_id)
    host = clean(named[1]) if named is not None else ""
    if not host:
        yield Signal("mail.bad_id", 1.0, message_id)
    elif _is_ours(host, chain.hops[: border.index + 1]) and not _has_been_here(host, chain, border):
        yield Signal("mail.id_ours", 1.0, host)


def _is_ours(host: str, receivers: tuple[Hop, ...]) -> bool:
    return "." in host and any(_is_of(host, hop.by) for hop in receivers if hop.by)


def _has_been_here(host: str, chain: Chain, border: Hop) -> bool:
    """Whether the mail may have begun at our own site: a user of ours who wrote to a list."""
    return _is_of_origin(host, border) or any(
        _is_of(host, name)
        for hop in chain.hops[border.index + 1 :]
        for name in (hop.by, hop.rdns, hop.helo)
        if name
    )


def _id_time_signals(written: Written, received_at: datetime | None) -> Iterator[Signal]:
    """Outlook writes the time into its Message-IDs; who imitates them writes something."""
    stamp = _OUTLOOK_ID.match(written.message_id or "")
    if stamp is None or received_at is None:
        return
    made_s = int(stamp[1] + stamp[2], 16) / 1e7 - _FILETIME_EPOCH_S
    claimed = _read_date(written.date or "").at
    times = [at.timestamp() for at in (received_at, claimed) if at is not None]
    if all(abs(made_s - at) > _DAY_S for at in times):
        yield Signal("mail.false_id", 1.0, f"says {made_s / _YEAR_S + 1970:.1f}")


def _path_signals(border: Hop, below: tuple[Hop, ...]) -> Iterator[Signal]:
    if not below:
        yield Signal("path.direct")
        return
    writer = next((hop for hop in below if hop.by), None)
    if writer is None or writer.by is None:
        return
    if _is_of_origin(writer.by, border) and writer.kind is not HopKind.BROKEN:
        yield Signal("path.relayed", 1.0, writer.by)


def _own_name_signals(written: Written, border: Hop) -> Iterator[Signal]:
    if written.bounce_domain and _is_of_origin(written.bounce_domain, border):
        yield Signal("path.own_bounce", 1.0, written.bounce_domain)
    for domain in sorted(written.list_domains):
        if _is_of_origin(domain, border) or _is_of(domain, written.bounce_domain or ""):
            yield Signal("path.list", 1.0, domain)
            return


def _stranger_signals(written: Written, hops: tuple[Hop, ...]) -> Iterator[Signal]:
    """A large provider's users send through its hosts: some line must tell of one."""
    told = {name for hop in hops for name in (hop.rdns, hop.helo, hop.by) if name}
    for domain in dict.fromkeys((written.bounce_domain, written.from_domain)):
        if domain and is_provider(domain) and not any(_is_of(domain, name) for name in told):
            yield Signal("mail.false_sender", 1.0, domain)
            return


def _is_of_origin(name: str, border: Hop) -> bool:
    """By its looked-up name; the greeting is asked only where no name contradicts it."""
    if border.rdns is not None and _is_of(name, border.rdns):
        return True
    return border.helo is not None and _is_of(name, border.helo)


def _is_of(one: str, other: str) -> bool:
    one, other = clean(one), clean(other)
    return one == other or (registered_domain(one) is not None and same_organisation(one, other))

"""What one SMTP connection tells, and what is to be changed in its mails.

In come the facts as the milter protocol hands them over: client name and address, HELO, macros,
envelope sender, header fields.  Out come :class:`Transaction` values with hop 0 of the chain,
which MTAs leave out of the header they show to milters (``cleanup_milter.c``, ``milter8.c``), and
the list of forged copies of our own fields.  Pure: no pymilter here, no clock but the caller's.

Names and macros as Postfix (MILTER_README) and Sendmail (``doc/op``, section 5.9) give them.
Where the MTA was told the client by XCLIENT or the PROXY protocol, both hand over *that* client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from botmilter import header
from botmilter.model import Hop, HopKind, HopSource, IPAddress
from botmilter.net import parse_ip

#: A header field as libmilter gives it: the name decoded, the value as it came.
Field = tuple[str, bytes]

#: The value of a macro, None where the MTA sent none.
Macros = Callable[[str], str | None]

#: What MTAs write where they know no name.
_NO_NAME = frozenset({"", "unknown"})

#: {daemon_name} of services that the admin set up for his own users: what Postfix' master.cf
#: proposes for milter_macro_daemon_name where a login is asked for.  Neither Sendmail's MSA nor a
#: port tells as much: Sendmail opens 587 by default and takes mail for its own domains there
#: without a login (``cf/m4/proto.m4``: ``Name=MSA, M=E``, not ``M=Ea``), so a bot gets in as well.
_OWN_USERS = frozenset({"originating"})


class Client(NamedTuple):
    """Who connected."""

    name: str | None
    """The name the MTA found, without dot at the end; None where it found or believed none."""
    name_verified: bool | None
    """Whether that name leads back to the address; None where there is no name."""
    ip: IPAddress | None
    is_remote: bool
    """Whether it came over the network at all; if so and ``ip`` is None, it was unreadable."""

    @classmethod
    def connected(cls, host: str, address: object) -> Client:
        """From libmilter's connect callback.

        *address* is a tuple that begins with the address as text, the path of a Unix socket, or
        None where the MTA knows no address.
        """
        if not isinstance(address, tuple) or not address:
            return cls(None, None, None, is_remote=False)
        name, verified = _client_name(host)
        return cls(name, verified, parse_ip(str(address[0])), is_remote=True)

    def amended(self, macros: Macros) -> Client:
        """With what the macros know better; few MTAs send these by default."""
        ip = _client_ip(macros("{client_addr}"))
        if ip is None and self.ip is None and self.is_remote:
            ip = _bracketed_ip(macros("_"))
        moved = ip is not None and ip != self.ip
        name, verified = self.name, self.name_verified
        if moved:
            name, verified = _client_name(macros("{client_name}") or "")
        if name is None and (pointer := _client_name(macros("{client_ptr}") or "")[0]):
            name, verified = pointer, False
        if name is not None and macros("{client_resolve}") == "FORGED":
            verified = False
        if not moved and (name, verified) == (self.name, self.name_verified):
            return self
        return Client(name, verified, ip if moved else self.ip, self.is_remote or moved)


class Transaction(NamedTuple):
    """One mail, as far as it has been seen."""

    hop: Hop
    """Hop 0: the connecting client."""
    sender_domain: str | None
    headers: Sequence[Field] = ()


class Session:
    """What is known of one connection; the header fields of the mail under way are in
    :attr:`headers`.  Used by one thread at a time, not always the same."""

    __slots__ = ("client", "headers", "helo", "sender_domain")

    def __init__(self) -> None:
        # until connect tells more: pymilter drops that call where the client's name is not UTF-8,
        # and whoever owns the name must not pass as a local process for it
        self.client = Client(None, None, None, is_remote=True)
        self.helo: str | None = None
        self.sender_domain: str | None = None
        self.headers: list[Field] = []

    def connected(self, host: str, address: object) -> None:
        self.client = Client.connected(host, address)
        self.helo = None

    def begin_mail(self, sender: bytes) -> None:
        """MAIL FROM came: whatever was seen of an earlier mail is over."""
        self.sender_domain = sender_domain(sender.decode("latin-1"))
        self.headers = []

    def transaction(self, macros: Macros, now: datetime | None = None) -> Transaction:
        """The mail as seen so far."""
        hop = self._hop(self.client.amended(macros), macros, now or datetime.now(UTC))
        return Transaction(hop, self.sender_domain, self.headers)

    def _hop(self, client: Client, macros: Macros, now: datetime) -> Hop:
        return Hop(
            index=0,
            source=HopSource.CONNECTION,
            kind=_kind(client),
            ip=client.ip,
            rdns=client.name,
            rdns_verified=client.name_verified,
            helo=self.helo,
            by=macros("j"),
            authenticated=is_submission(macros),
            tls=bool(macros("{tls_version}")),
            id=macros("i"),
            at=now,
        )


def is_submission(macros: Macros) -> bool:
    """Whether the client is one of our own users: authenticated, or where only these get in."""
    return (
        bool(macros("{auth_authen}") or macros("{auth_type}"))
        or (macros("{daemon_name}") or "").lower() in _OWN_USERS
    )


def sender_domain(sender: str) -> str | None:
    """The domain of ``<user@example.com>``, lower case; None for the null sender and the like."""
    mailbox = sender.strip("<> \t\r\n")
    domain = mailbox.rpartition("@")[2].rstrip(".").lower() if "@" in mailbox else ""
    return domain or None


def forged(headers: Iterable[Field], own_names: frozenset[str]) -> list[tuple[str, int]]:
    """Every field that passes for one of ours (:func:`header.ours`): name and place to delete it
    at.

    Places count from 1 for each name, as ``smfi_chgheader`` wants it.  The last comes first: one
    MTA's count moves up when a field goes, the other's does not.
    """
    seen: dict[str, int] = {}
    found = []
    for name, _ in header.ours(headers, own_names):
        key = name.lower()
        seen[key] = seen.get(key, 0) + 1
        found.append((name, seen[key]))
    return found[::-1]


def _client_name(host: str) -> tuple[str | None, bool | None]:
    """A name and whether it is verified.  Both MTAs hand over an unverified one only with
    Sendmail's remark ``(may be forged)``, else ``unknown`` or ``[192.0.2.1]`` in its place."""
    name, _, remark = host.partition(" ")
    name = name.rstrip(".")
    if name.lower() in _NO_NAME or name.startswith("["):
        return None, None
    return name, "forged" not in remark


def _client_ip(text: str | None) -> IPAddress | None:
    """{client_addr}; Sendmail writes ``IPv6:2001:db8::1``, Postfix ``unknown`` for none."""
    if not text:
        return None
    return parse_ip(text[5:] if text[:5].lower() == "ipv6:" else text)


def _bracketed_ip(text: str | None) -> IPAddress | None:
    """The address in macro ``_``, which both MTAs send: ``user@name [192.0.2.1] (may be …)``.

    The last bracket, because ident's answer and the name stand before it and are the client's.
    """
    found = re.findall(r"\[([0-9A-Fa-f:.]+|IPv6:[0-9A-Fa-f:.]+)\]", text or "")
    return _client_ip(found[-1]) if found else None


def _kind(client: Client) -> HopKind:
    if client.ip is not None:
        return HopKind.RELAY
    return HopKind.BROKEN if client.is_remote else HopKind.LOCAL

"""The values that flow through botmilter.

Each is made once, complete, and handed forward; nothing here is edited afterwards and nothing
here does I/O.  The words are those of RFC 5321 and RFC 5598; ``docs/architecture.md`` has the
picture.  Units: ``…_s`` are seconds, ``taken_at`` is Unix time, ``ip`` is an address object,
never text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, NamedTuple

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

#: Plain JSON data: what survives ``json.dumps`` and back unchanged.
Facts = Mapping[str, Any]


# -- the chain ----------------------------------------------------------------------------------


class HopSource(StrEnum):
    """Where we know a hop from."""

    CONNECTION = "connection"
    """The MTA's own connection: connect, HELO and macros.  MTAs hide their own ``Received:``."""

    HEADER = "header"
    """A ``Received:`` line of the mail."""


class HopKind(StrEnum):
    """What a hop says about a peer."""

    RELAY = "relay"
    """Names a peer by address."""

    LOCAL = "local"
    """Made on the host itself (pickup, ``by`` only, qmail's inner lines, a mailbox delivery)."""

    NAMED = "named"
    """Names a peer that spoke SMTP, and not its address: the next line may be that peer's own."""

    FETCH = "fetch"
    """fetchmail, getmail and the like: the address is the mailbox server, the reader's own."""

    BROKEN = "broken"
    """Claims a peer, but no address could be read from where it belongs."""


class Hop(NamedTuple):
    """One handover of the mail.  A tuple because it is made in half the time, for every line.

    ``None`` means *not recorded*; text is what the line says, unsanitised and hostile:
    pass it through :func:`botmilter.net.printable` before it is shown.
    """

    index: int  # type: ignore[assignment]  # nobody searches a hop as one does a tuple
    """Place in the chain, 0 is the newest."""
    source: HopSource
    kind: HopKind
    ip: IPAddress | None = None
    """The peer, v4-mapped addresses folded, zone ids dropped."""
    rdns: str | None = None
    """The peer's name as the receiver looked it up, without trailing dot."""
    rdns_verified: bool | None = None
    """Whether the receiver confirmed that name; None where its kind of line does not tell."""
    helo: str | None = None
    """What the peer claimed in HELO/EHLO."""
    ident: str | None = None
    by: str | None = None
    """The host that wrote the line."""
    protocol: str | None = None
    """RFC 3848 ``with`` type, upper case (``ESMTPSA``), or what stands there."""
    authenticated: bool = False
    tls: bool = False
    id: str | None = None
    envelope_for: str | None = None
    envelope_from: str | None = None
    at: datetime | None = None
    """When it was received, always with a zone."""
    at_defect: str | None = None
    """Why there is no (trustworthy) date."""
    dialect: str = ""
    """Name of the row in ``received.dialects`` that read the line."""
    raw: str = ""
    """The unfolded header value."""


class Chain(NamedTuple):
    """The hops of one mail, newest first, and what was wrong with the header as a whole."""

    hops: tuple[Hop, ...]
    defects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose ``Received:`` lines are believed.  Loopback always is, whatever stands here."""

    networks: tuple[IPNetwork, ...] = ()
    """Relays whose lines are believed: our own hosts, backup MX, the forwarder in front of us."""
    own_relays: int = 0
    """This many relays on top are ours, whatever their address (a provider's changing pool)."""
    own_names: tuple[str, ...] = ()
    """``by`` names of our own hosts, lower case; a leading dot means every name below it."""
    by_authentication: bool = False
    """Whether a recorded authentication extends trust to the client that authenticated."""
    exempt_networks: tuple[IPNetwork, ...] = ()
    """Origins on the admin's allow list: never judged, never probed."""

    @property
    def is_configured(self) -> bool:
        return bool(self.networks or self.own_relays or self.own_names)


class HopRole(StrEnum):
    """What a hop is to us, once trust is applied."""

    TRUSTED = "trusted"
    BORDER = "border"
    """The last hop whose line is believed; its peer is the origin."""
    CLAIMED = "claimed"
    """Below the border: the sender may have made it up."""


class OriginWhy(StrEnum):
    """How the origin was found, or why there is none."""

    CLIENT = "client"
    """The connecting client itself."""
    RELAY = "relay"
    """Recorded by a trusted hop."""
    ASSUMED = "assumed"
    """Top line of a saved mail with no trust configured: the border is an assumption."""
    SUBMISSION = "submission"
    """Handed in by an authenticated user behind a trusted host: exempt."""
    LOCAL = "local"
    """Never left trusted hosts: exempt."""
    ALLOWED = "allowed"
    """The client or origin is on the admin's allow list: exempt."""
    UNREADABLE = "unreadable"
    """A trusted hop recorded its peer in a way we cannot read: no origin, not exempt."""
    NO_HEADER = "no-header"
    """A saved mail without any ``Received:`` line: no origin, not exempt."""

    @property
    def is_exempt(self) -> bool:
        return self in (OriginWhy.SUBMISSION, OriginWhy.LOCAL, OriginWhy.ALLOWED)


class Origin(NamedTuple):
    """The originating relay, the one host that is judged; *no origin* is a value too."""

    why: OriginWhy
    ip: IPAddress | None = None
    hop: Hop | None = None
    """The hop whose peer the origin is (the border)."""
    roles: tuple[HopRole, ...] = ()
    """Parallel to ``Chain.hops``."""
    note: str = ""
    """One sentence for the reader of ``trace``."""


# -- evidence -----------------------------------------------------------------------------------


class Status(StrEnum):
    """How a probe ended.  Only the first two are evidence: our own trouble never moves a score."""

    ANSWERED = "answered"
    """The host, or the DNS about it, said something (a refused connection is an answer)."""
    SILENT = "silent"
    """Asked properly and no answer came: evidence too (a filtered port)."""
    LATE = "late"
    """Not over when the mail's budget was."""
    SKIPPED = "skipped"
    """Not started, for the reason given."""
    FAILED = "failed"
    """We could not ask: missing program or privilege, dead resolver, unreachable network."""

    @property
    def is_evidence(self) -> bool:
        return self in (Status.ANSWERED, Status.SILENT)


@dataclass(frozen=True, slots=True)
class Target:
    """What a probe may need to know of the one to be probed."""

    ip: IPAddress
    helo: str | None = None
    sender_domain: str | None = None
    """Domain of the envelope sender, lower case; None for the null sender."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one probe measured: facts, never what they mean.  Storable, never changed."""

    probe: str
    key: str
    """The store key the facts belong to (see ``Probe.store_key``)."""
    status: Status
    facts: Facts = field(default_factory=dict)
    reason: str = ""
    """Why it was late, skipped or failed; printable ASCII."""
    taken_at: float = 0.0
    """Unix time."""
    took_s: float = 0.0
    ttl_s: float | None = None
    """How long the facts themselves say they hold (DNS); None where they do not."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` gives an equal value back."""
        return {
            "probe": self.probe,
            "key": self.key,
            "status": self.status.value,
            "facts": dict(self.facts),
            "reason": self.reason,
            "taken_at": self.taken_at,
            "took_s": self.took_s,
            "ttl_s": self.ttl_s,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Observation:
        """Raises KeyError, TypeError or ValueError where *data* is not what to_json gave."""
        return cls(
            probe=str(data["probe"]),
            key=str(data["key"]),
            status=Status(data["status"]),
            facts=dict(data["facts"]),
            reason=str(data["reason"]),
            taken_at=float(data["taken_at"]),
            took_s=float(data["took_s"]),
            ttl_s=None if data["ttl_s"] is None else float(data["ttl_s"]),
        )


@dataclass(frozen=True, slots=True)
class Signal:
    """What an observation or the chain means.  ``name`` is a row of :mod:`botmilter.signals`."""

    name: str
    strength: float = 1.0
    """0 to 1; multiplies the weight."""
    detail: str = ""
    """For ``--explain``: what was seen.  Hostile text; sanitised where it is shown."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A signal with its configured weight and what it contributed after the group's rule."""

    signal: Signal
    weight: float
    points: float
    """What it added to the score: weight x strength, less what its group takes off."""


class Label(StrEnum):
    BOT = "bot"
    SUSPECT = "suspect"
    CLEAN = "clean"
    UNKNOWN = "unknown"
    EXEMPT = "exempt"

    @property
    def is_judged(self) -> bool:
        """Whether the score means anything."""
        return self in (Label.BOT, Label.SUSPECT, Label.CLEAN)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement over one origin."""

    label: Label
    score: float
    """Points on SpamAssassin's scale; meaningless unless ``label.is_judged``."""
    origin: Origin
    reasons: tuple[Reason, ...] = ()
    """All signals, strongest contribution first."""
    missing: tuple[Observation, ...] = ()
    """Every observation that is not evidence."""
    spent_s: float = 0.0
    """How long the mail waited for it."""
    why: str = ""
    """One sentence where the label needs one: why exempt, why unknown, why capped."""

    def of(self, origin: Origin) -> Verdict:
        """The same over *origin*; ``dataclasses.replace`` takes twice as long."""
        return Verdict(
            self.label, self.score, origin, self.reasons, self.missing, self.spent_s, self.why
        )

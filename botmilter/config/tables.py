"""The file's tables: every option, its default and its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from botmilter import kinds
from botmilter.config.probing import Probe, Probes
from botmilter.config.values import (
    Days,
    MinutesOfBlame,
    MinutesOfDoubt,
    Names,
    Networks,
    Relays,
    Seconds,
    Table,
    Weights,
)
from botmilter.model import Trust
from botmilter.profiles import PROFILES


class Milter(Table):
    socket: Annotated[str, AfterValidator(kinds.socket)] = "unix:/run/botmilter/botmilter.sock"
    """Where the MTA finds the filter."""
    socket_mode: Annotated[str, AfterValidator(kinds.mode)] = "0660"
    """Permissions of a Unix socket, octal."""
    socket_group: str = ""
    """Group of a Unix socket; empty: the process's own."""
    user: str = ""
    """User the workers become when started as root; empty: stay."""
    workers: Annotated[int | Literal["auto"], BeforeValidator(kinds.workers)] = "auto"
    """Processes that serve the socket; auto: one for each CPU."""
    pin_workers: bool = True
    """Whether each worker keeps to one CPU."""
    start: Literal["connect", "data", "headers"] = "data"
    """When a client that is itself the origin begins to be probed."""
    stop_grace_s: Seconds = 30.0
    """How long open sessions may go on at a stop."""


class Budget(Table):
    per_mail_s: Seconds = 5.0
    """Longest a mail waits for its verdict; hard."""
    under_load_s: Seconds = 1.0
    """The same while load_mails or more wait at once."""
    load_mails: Annotated[int, Field(ge=1, le=100_000)] = 50
    """From how many waiting mails on, in all workers together, under_load_s holds."""

    @model_validator(mode="after")
    def _shorter_under_load(self) -> Self:
        if self.under_load_s > self.per_mail_s:
            raise ValueError("under_load_s no longer than per_mail_s")
        return self


class TrustTable(Table):
    networks: Relays = ()
    """Relays whose Received: lines are believed."""
    own_relays: Annotated[int, Field(ge=0, le=50)] = 0
    """This many relays on top are ours, whatever their address."""
    own_names: Names = ()
    """Names our own hosts write after by; .example.org means every name below it."""
    by_authentication: bool = False
    """Whether a recorded authentication extends trust to its client."""
    exempt_networks: Networks = ()
    """Origins never judged and never probed."""


_PROBES = frozenset(
    name for name, field in Probes.model_fields.items() if isinstance(field.default, Probe)
)


def _probe_name(given: str) -> str:
    return kinds.one_of("probe", given, _PROBES)


class Lifetimes(Table):
    """Of one probe, in place of the store's; None: the store's."""

    clears_days: Days | None = None
    accuses_minutes: MinutesOfBlame | None = None
    unknown_minutes: MinutesOfDoubt | None = None
    failed_s: Seconds | None = None

    @property
    def given(self) -> dict[str, float]:
        """Those that are not the store's, by key."""
        return self.model_dump(exclude_none=True)


class Store(Table):
    kind: Literal["sqlite", "memory", "redis"] = "sqlite"
    """What remembers."""
    path: str = ""
    """SQLite's file; empty: the state directory, if writable."""
    url: str = ""
    """Redis's address, for kind = redis only."""
    cache_rows: Annotated[int, Field(ge=100, le=10_000_000)] = 20_000
    """Observations each process keeps at hand in memory."""
    clears_days: Days = 3.0
    """How long what speaks for a host is believed."""
    accuses_minutes: MinutesOfBlame = 45.0
    """How long what speaks against a host is believed."""
    unknown_minutes: MinutesOfDoubt = 10.0
    """How long what says nothing either way is kept."""
    failed_s: Seconds = 30.0
    """How long a failure of ours is not tried again."""
    lifetimes: Mapping[Annotated[str, AfterValidator(_probe_name)], Lifetimes] = {
        "osdetect": Lifetimes(unknown_minutes=60.0)
    }
    """Any of the last four for one probe alone: { PROBE = { KEY = TIME } }."""
    keep_days: Annotated[float, Field(ge=1, le=3650)] = 7.0
    """Nothing about a host is kept longer, whatever else says so; at least 1."""

    @model_validator(mode="after")
    def _redis_has_an_address(self) -> Self:
        if (self.kind == "redis") != bool(self.url):
            raise ValueError('url = "redis://…" together with kind = "redis", neither alone')
        return self


class Score(Table):
    bot: Annotated[float, Field(gt=0, le=100)] = 5.0
    """Points from which: bot."""
    suspect: Annotated[float, Field(gt=0, le=100)] = 3.0
    """Points from which: suspect."""
    profile: Literal["modern", "study-2009"] = "modern"
    """Whose weights hold where [weights] has none."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.suspect >= self.bot:
            raise ValueError("suspect below bot")
        return self


class Header(Table):
    prefix: Annotated[str, AfterValidator(kinds.prefix)] = "X-Bot-"
    """How the names of our header fields begin."""
    host: Annotated[str, Field(max_length=60), AfterValidator(kinds.host)] = ""
    """Who judged, as host= in the verdict; empty: left out."""
    key_file: str = ""
    """File with the key that seals verdicts, shared by our hosts; empty: no seal."""
    keep_sealed: bool = True
    """Whether a sealed verdict stands that a trusted relay hands on."""


class ActionTable(Table):
    bot: Literal["tag", "quarantine", "tempfail", "reject", "discard"] = "tag"
    """What becomes of a bot's mail."""
    suspect: Literal["tag", "quarantine", "tempfail", "reject", "discard"] = "tag"
    """What becomes of a suspect's mail."""
    unknown: Literal["tag", "tempfail"] = "tag"
    """What becomes of mail from a host of which nothing is known."""
    min_reasons: Annotated[int, Field(ge=1, le=6)] = 2
    """Independent reasons that reject and discard take."""
    reject_reply: Annotated[str, AfterValidator(kinds.reject_reply)] = (
        "550 5.7.1 The host {ip} looks like an infected end-user machine, not like a mail server"
    )
    """What a rejected client is told."""
    tempfail_reply: Annotated[str, AfterValidator(kinds.tempfail_reply)] = (
        "451 4.7.1 The host {ip} is still being looked at; please try again in some minutes"
    )
    """What a client is told that is to come back."""
    tempfails_a_day: Annotated[int, Field(ge=1, le=1000)] = 2
    """How many mails from one /24 (IPv6: /48) are put off in one day (UTC)."""
    dry_run: bool = False
    """Whether the log only says what would have been done."""


class Query(Table):
    socket: Annotated[str, AfterValidator(kinds.query_socket)] = ""
    """Where questions about addresses are answered; empty: nowhere."""
    socket_mode: Annotated[str, AfterValidator(kinds.mode)] = "0660"
    """Permissions of that socket, octal."""
    socket_owner: str = ""
    """Its owner; empty: the process's own."""
    socket_group: str = ""
    """Its group; empty: the process's own."""
    at_once: Annotated[int, Field(ge=1, le=1000)] = 20
    """Questions at the same time."""
    per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    """Questions in a minute."""


class Survey(Table):
    country_database: str = ""
    """MaxMind file with the countries of addresses; empty: reports tell none."""
    network_database: str = ""
    """MaxMind file with the networks (AS) of addresses; empty: reports tell none."""


class Metrics(Table):
    listen: Annotated[str, AfterValidator(kinds.local_listener)] = ""
    """Where Prometheus finds our metrics, on this machine; empty: nowhere."""


class Web(Table):
    listen: Annotated[str, AfterValidator(kinds.local_listener)] = ""
    """Where a browser finds the status page, on this machine; empty: nowhere."""


class Log(Table):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least urgent line that is logged; info has the line for each mail."""


class Settings(Table):
    """The whole file.  ``trust`` and ``weights`` come in the form the other parts use."""

    milter: Milter = Milter()
    budget: Budget = Budget()
    trust_table: TrustTable = Field(default=TrustTable(), alias="trust")
    probe: Probes = Probes()
    store: Store = Store()
    score: Score = Score()
    weights: Weights = Field(default={}, validate_default=True)
    header: Header = Header()
    action: ActionTable = ActionTable()
    query: Query = Query()
    survey: Survey = Survey()
    metrics: Metrics = Metrics()
    web: Web = Web()
    log: Log = Log()

    @field_validator("weights")
    @classmethod
    def _over_the_profile(cls, given: Weights, info: ValidationInfo) -> Weights:
        score = info.data.get("score", Score())
        return {**PROFILES[score.profile], **given}

    @property
    def trust(self) -> Trust:
        return Trust(**dict(self.trust_table))

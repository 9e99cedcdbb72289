"""The configuration: a TOML file in, frozen typed :class:`Settings` out.

Every option, its default and its meaning stand here and nowhere else.  ``etc/botmilter.toml``
gives the reasons, ``docs/configuration.md`` is the reference; tests compare both with this file.
Without a file the defaults hold.  All problems of a file are reported together, each with its
line, table, key, what was expected, what came, and the likely key where one is mistyped.
The only module that imports pydantic.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from botmilter import kinds, problems, toml
from botmilter.errors import ConfigError
from botmilter.model import IPNetwork, Trust
from botmilter.profiles import PROFILES
from botmilter.signals import TABLE

#: Read by the commands where no ``--config`` is given and it exists.
DEFAULT_PATH = Path("/etc/botmilter/botmilter.toml")


# -- kinds of values --------------------------------------------------------------------------

Seconds = Annotated[float, Field(gt=0, le=3600)]
Limit = Annotated[Seconds, Field(description="Longest one measurement may take.")]
AtOnce = Annotated[
    int, Field(ge=1, le=1000, description="Measurements at the same time, in each process.")
]
PerTime = Annotated[int, Field(ge=0, le=1_000_000)]
Network = Annotated[IPNetwork, BeforeValidator(kinds.network)]
Networks = Annotated[tuple[Network, ...], Strict(False)]
Names = Annotated[tuple[Annotated[str, AfterValidator(str.lower)], ...], Strict(False)]
Weight = Annotated[float, Field(ge=-100, le=100)]
Weights = Annotated[
    Mapping[Annotated[str, AfterValidator(kinds.signal)], Weight],
    BeforeValidator(kinds.by_name),
]


# -- the tables ---------------------------------------------------------------------------------


class Table(BaseModel):
    """One table of the file.  Strict: ``"5"`` is no number, and an unknown key is a problem."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


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
    start: Literal["connect", "data", "headers"] = "data"
    """When a client that is itself the origin begins to be probed."""
    stop_grace_s: Seconds = 30.0
    """How long open sessions may go on at a stop."""


class Budget(Table):
    per_mail_s: Seconds = 5.0
    """Longest a mail waits for its verdict; hard."""
    under_load_s: Seconds = 1.0
    """The same while more than load_mails wait at once."""
    load_mails: Annotated[int, Field(ge=1, le=100_000)] = 50
    """From how many waiting mails on, in one process, under_load_s holds."""

    @model_validator(mode="after")
    def _shorter_under_load(self) -> Self:
        if self.under_load_s > self.per_mail_s:
            raise ValueError("under_load_s no longer than per_mail_s")
        return self


class TrustTable(Table):
    networks: Networks = ()
    """Relays whose Received: lines are believed."""
    own_relays: Annotated[int, Field(ge=0, le=50)] = 0
    """This many relays on top are ours, whatever their address."""
    own_names: Names = ()
    """Names our own hosts write after by; .example.org means every name below it."""
    by_authentication: bool = False
    """Whether a recorded authentication extends trust to its client."""
    exempt_networks: Networks = ()
    """Origins never judged and never probed."""


class Probe(Table):
    """What every probe's table has."""

    enabled: bool = True
    """Whether the probe is used at all."""
    limit_s: Limit = 5.0
    at_once: AtOnce = 32


class Rdns(Probe):
    limit_s: Limit = 4.0
    neighbours: bool = True
    """Whether the names of the addresses beside it count."""


class Smtp(Probe):
    limit_s: Limit = 8.0
    ehlo_name: Annotated[str, AfterValidator(kinds.host)] = ""
    """The name we greet with; empty: this host's own."""


class Ping(Probe):
    limit_s: Limit = 2.0


class Osdetect(Probe):
    limit_s: Limit = 15.0
    at_once: AtOnce = 4
    ipv6: bool = False
    """Whether IPv6 hosts are fingerprinted too."""


class Senderhost(Probe):
    limit_s: Limit = 4.0


class P0f(Probe):
    limit_s: Limit = 0.5
    at_once: AtOnce = 16
    socket: str = ""
    """API socket of a running p0f 3; empty: the probe is off."""


class Zone(Table):
    """One list to ask; written as ``[[probe.dnsbl.zones]]``."""

    name: Annotated[str, Field(min_length=1), AfterValidator(kinds.host)]
    welcome: bool = False
    """Whether a listing speaks for the host."""
    codes: Mapping[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """Strength of each answer address; empty: any answer within 127.0.0.0/8 counts fully."""


class Dnsbl(Probe):
    limit_s: Limit = 4.0
    zones: Annotated[tuple[Zone, ...], Strict(False)] = ()
    """Lists to ask: { name, welcome, codes }; none: the probe is off."""


class Probes(Table):
    allow_networks: Networks = ()
    """Reserved networks that may be probed after all: a laboratory's."""
    never_networks: Networks = ()
    """Networks that never get a packet from us."""
    nameservers: Annotated[
        tuple[Annotated[str, AfterValidator(kinds.address)], ...], Strict(False)
    ] = ()
    """Resolvers to ask; empty: those of /etc/resolv.conf."""
    settle_s: Annotated[float, Field(ge=0, le=60)] = 0.3
    """How long nmap waits for the cheap probes to make it needless."""
    queue_limit: Annotated[int, Field(ge=0, le=100_000)] = 256
    """Measurements of one kind that may wait for a free thread."""
    in_all_per_minute: PerTime = 600
    """Measurements that send packets to a host, of all hosts together."""
    per_network_per_minute: PerTime = 60
    """The same for all hosts of one /24 (IPv6: /48)."""
    per_host_per_hour: PerTime = 30
    """The same for one host (IPv6: one /64)."""
    rdns: Rdns = Rdns()
    smtp: Smtp = Smtp()
    ping: Ping = Ping()
    osdetect: Osdetect = Osdetect()
    dnsbl: Dnsbl = Dnsbl()
    senderhost: Senderhost = Senderhost()
    p0f: P0f = P0f()


class Store(Table):
    kind: Literal["sqlite", "memory", "redis"] = "sqlite"
    """What remembers."""
    path: str = ""
    """SQLite's file; empty: the state directory, if writable."""
    url: str = ""
    """Redis's address, for kind = redis only."""
    cache_rows: Annotated[int, Field(ge=100, le=10_000_000)] = 20_000
    """Observations each process keeps at hand in memory."""
    clears_days: Annotated[float, Field(gt=0, le=365)] = 3.0
    """How long what speaks for a host is believed."""
    accuses_minutes: Annotated[float, Field(gt=0, le=60)] = 45.0
    """How long what speaks against a host is believed."""
    unknown_minutes: Annotated[float, Field(gt=0, le=1440)] = 10.0
    """How long what says nothing either way is kept."""
    failed_s: Seconds = 30.0
    """How long a failure of ours is not tried again."""
    keep_days: Annotated[float, Field(gt=0, le=3650)] = 7.0
    """Nothing about a host is kept longer, whatever else says so."""

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
    log: Log = Log()

    @field_validator("weights")
    @classmethod
    def _over_the_profile(cls, given: Weights, info: ValidationInfo) -> Weights:
        score = info.data.get("score", Score())
        return {**PROFILES[score.profile], **given}

    @property
    def trust(self) -> Trust:
        return Trust(**dict(self.trust_table))


# -- reading ------------------------------------------------------------------------------------


def load(path: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """The settings of the file *path*, or the defaults.  Raises ConfigError with every problem.

    *overrides* are single lines of TOML such as ``weights.os.client = 4``, as ``--set`` takes
    them; they beat the file.
    """
    where = str(path) if path is not None else "configuration"
    text = _read(path) if path is not None else ""
    given = _parse(text, where)
    for override in overrides:
        _merge(given, _parse(override, f"--set {override}"))
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise ConfigError(where, problems.sentences(found, text, _keys)) from None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"is not UTF-8 text: byte {error.start}"]) from None


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(where, [f"is not TOML: {error}"]) from None


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        else:
            into[key] = value


def _keys(names: Sequence[str]) -> list[str] | None:
    """The keys of the table at *names*; None where a plain value or nothing is."""
    table: type[Table] = Settings
    for name in names:
        field = next((f for n, f in table.model_fields.items() if (f.alias or n) == name), None)
        if field is None or not isinstance(field.default, Table):
            return None
        table = type(field.default)
    return [field.alias or name for name, field in table.model_fields.items()]


# -- what there is ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Option:
    """One key of the file with its value in *settings*."""

    table: str
    key: str
    value: Any
    """Plain data, as TOML has it."""
    meaning: str


def options(settings: Settings | None = None) -> Iterator[Option]:
    """Every option there is, in the file's order; with the defaults unless *settings* is given."""
    chosen = settings or Settings()
    yield from _options("", chosen)


def _options(table: str, values: Table) -> Iterator[Option]:
    plain = values.model_dump(mode="json", by_alias=True)
    for name, field in type(values).model_fields.items():
        value, key = getattr(values, name), field.alias or name
        if isinstance(value, Table):
            yield from _options(f"{table}.{key}".lstrip("."), value)
        elif name == "weights":
            for row in sorted(TABLE, key=lambda row: row.name.partition(".")[0]):
                topic, _, signal = row.name.partition(".")
                yield Option(f"weights.{topic}", signal, value[row.name], row.meaning)
        else:
            yield Option(table, key, plain[key], field.description or "")


def to_toml(settings: Settings | None = None) -> str:
    """A whole file with *settings*' values, or the defaults, each below its meaning."""
    lines: list[str] = []
    table = ""
    for option in options(settings):
        if option.table != table:
            table = option.table
            lines += ["", f"[{table}]"]
        lines += [f"# {option.meaning}", f"{option.key} = {toml.value(option.value)}"]
    return "\n".join([*lines[1:], ""])

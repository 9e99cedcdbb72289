"""Settings in, the engine and what belongs to it out: the only place that wires objects."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from botmilter import action, seal
from botmilter.config import Probes, Settings
from botmilter.config import Store as StoreSettings
from botmilter.counters import UNRECORDED, Recorder
from botmilter.engine import RECALL_LANE, Engine
from botmilter.errors import ConfigError, SetupError, StoreError
from botmilter.holders import HeldBy
from botmilter.inquiry import Policy
from botmilter.interfaces import own_addresses
from botmilter.lookup import Resolver
from botmilter.measuring import Catch
from botmilter.memory import Lifetimes, Memory, Rates
from botmilter.model import Label
from botmilter.net import ProbeGuard, is_in
from botmilter.probes.base import Operation, Probe
from botmilter.probes.dnsbl import DnsblProbe, Zone
from botmilter.probes.osdetect import OsDetectProbe, scan
from botmilter.probes.p0f import P0fProbe
from botmilter.probes.ping import PingProbe, echo
from botmilter.probes.rdns import RdnsProbe, holder
from botmilter.probes.senderhost import SenderHostProbe
from botmilter.probes.smtp import SmtpProbe
from botmilter.scheduler import Scheduler
from botmilter.score import Rules
from botmilter.store.base import Store
from botmilter.store.fresh import FreshStore
from botmilter.store.memory import MemoryStore
from botmilter.store.sqlite import SqliteStore
from botmilter.store.tally import SqliteTally, Tally

log = logging.getLogger(__name__)

#: Where systemd's StateDirectory= puts it; the variable says where that really is.
STATE_DIRECTORY = Path("/var/lib/botmilter")
_FILE = "botmilter.sqlite"

#: Threads that only ask the store: it answers in 25 us (SQLite) to 1 ms (Redis).
_RECALL_THREADS = 8
#: One for each probe, as a rule.
_ROWS_FOR_A_HOST = 6
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class _Kit:
    """What probes are made of."""

    settings: Probes
    resolver: Resolver
    operation: Callable[[str], Operation]


#: What needs CAP_NET_RAW.
_OPERATIONS: dict[str, Operation] = {"ping": echo, "osdetect": scan}

#: How each probe is made, in order of cost.
_MAKERS: dict[str, Callable[[_Kit], Probe]] = {
    "rdns": lambda kit: RdnsProbe(
        kit.resolver, kit.settings.rdns.limit_s, kit.settings.rdns.neighbours
    ),
    "p0f": lambda kit: P0fProbe(kit.settings.p0f.limit_s, kit.settings.p0f.socket),
    "dnsbl": lambda kit: DnsblProbe(
        kit.resolver,
        kit.settings.dnsbl.limit_s,
        [Zone(zone.name, zone.welcome, zone.codes) for zone in kit.settings.dnsbl.zones],
    ),
    "senderhost": lambda kit: SenderHostProbe(kit.resolver, kit.settings.senderhost.limit_s),
    "smtp": lambda kit: SmtpProbe(
        kit.settings.smtp.limit_s, kit.settings.smtp.ehlo_name or socket.gethostname()
    ),
    "ping": lambda kit: PingProbe(kit.settings.ping.limit_s, kit.operation("ping")),
    "osdetect": lambda kit: OsDetectProbe(
        kit.settings.osdetect.limit_s, kit.settings.osdetect.ipv6, kit.operation("osdetect")
    ),
}

#: Probes that need something of the admin's before they can ask: a list, a socket.
_HAS_WHAT_IT_NEEDS: dict[str, Callable[[Probes], bool]] = {
    "dnsbl": lambda settings: bool(settings.dnsbl.zones),
    "p0f": lambda settings: bool(settings.p0f.socket),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything a command needs to judge."""

    engine: Engine
    probes: tuple[Probe, ...]
    rules: Rules
    guard: ProbeGuard
    store: Store
    memory: Memory

    def policy(self, settings: Settings, budget_s: float | None = None, workers: int = 1) -> Policy:
        """How much one mail may cost, in a process that is one of *workers*."""
        budget = settings.budget
        return Policy(
            budget_s=budget.per_mail_s if budget_s is None else budget_s,
            probes=frozenset(probe.name for probe in self.probes),
            settle_s=settings.probe.settle_s,
            under_load_s=budget.under_load_s if budget_s is None else None,
            load_mails=math.ceil(budget.load_mails / workers),
        )


def operations() -> Mapping[str, Operation]:
    """What needs CAP_NET_RAW, by name, done in this process."""
    return dict(_OPERATIONS)


def operations_at_once(settings: Settings, askers: int) -> Mapping[str, int]:
    """How many of each so many processes ask for at the same time: workers, and one for queries."""
    return {name: getattr(settings.probe, name).at_once * askers for name in _OPERATIONS}


def probes(
    settings: Settings, operation: Callable[[str], Operation] = _OPERATIONS.__getitem__
) -> tuple[Probe, ...]:
    """The probes that are switched on, in order of cost.

    *operation* gives what needs CAP_NET_RAW by its name: done in this process, or handed to one
    that has the privilege.
    """
    kit = _Kit(settings.probe, Resolver(settings.probe.nameservers), operation)
    return tuple(make(kit) for name, make in _MAKERS.items() if _is_on(settings.probe, name))


def _is_on(settings: Probes, name: str) -> bool:
    needs = _HAS_WHAT_IT_NEEDS.get(name)
    return getattr(settings, name).enabled and (needs is None or needs(settings))


def machine(
    settings: Settings,
    probes: Sequence[Probe],
    known_since: float | None = None,
    shared: Store | None = None,
    recorder: Recorder = UNRECORDED,
) -> Machine:
    """The engine over *probes*, in order of cost, and over *shared* or else the store that the
    *settings* name, which may raise SetupError.

    What the store learnt before *known_since* (Unix time) is not used.  Starts no thread and opens
    no connection: those come with the first use, after any fork.
    """
    shared = shared or store(settings.store)
    the_guard, the_rules = guard(settings), rules(settings)
    cache = shared if isinstance(shared, MemoryStore) else MemoryStore(settings.store.cache_rows)
    memory = Memory(
        cache,
        shared if shared is cache or known_since is None else FreshStore(shared, known_since),
        lifetimes(settings.store),
        Rates(
            settings.probe.in_all_per_minute,
            settings.probe.per_network_per_minute,
            settings.probe.per_host_per_hour,
        ),
        HeldBy(holder, frozenset({"smtp", "ping", "osdetect", "p0f", "dnsbl"})),
    )
    scheduler, controls = _scheduler(settings, probes), settings.probe.control_hosts
    hosts = max(1, settings.store.cache_rows // _ROWS_FOR_A_HOST)
    engine = Engine(probes, memory, scheduler, the_guard, the_rules, controls, recorder, hosts)
    return Machine(engine, tuple(probes), the_rules, the_guard, shared, memory)


def rules(settings: Settings) -> Rules:
    return Rules(settings.weights, settings.score.bot, settings.score.suspect)


def actions(settings: Settings) -> action.Rules:
    chosen = settings.action
    by_label = {Label.BOT: chosen.bot, Label.SUSPECT: chosen.suspect, Label.UNKNOWN: chosen.unknown}
    return action.Rules(
        {label: action.Kind(kind) for label, kind in by_label.items()},
        chosen.min_reasons,
        action.Reply.parse(chosen.reject_reply),
        action.Reply.parse(chosen.tempfail_reply),
        chosen.tempfails_a_day,
        chosen.dry_run,
    )


def key(settings: Settings) -> bytes | None:
    """The key that seals verdicts, without surrounding white space; None where there is none.
    Raises ConfigError."""
    file = settings.header.key_file
    if not file:
        return None
    try:
        found = Path(file).read_bytes().strip()
    except OSError as error:
        raise ConfigError(file, [f"[header] key_file cannot be read: {error.strerror}"]) from None
    if len(found) < seal.KEY_AT_LEAST:
        raise ConfigError(
            file,
            [f"[header] key_file: expected {seal.KEY_AT_LEAST} octets or more, got {len(found)}"],
        )
    return found


def guard(settings: Settings) -> ProbeGuard:
    """Never our own addresses, but for a laboratory that plays its hosts on this machine."""
    allowed = settings.probe.allow_networks
    ours = (ip_network(ip) for ip in sorted(own_addresses(), key=str) if not is_in(ip, allowed))
    never = (*settings.probe.never_networks, *settings.trust.networks, *ours)
    return ProbeGuard(allowed, never)


def lifetimes(settings: StoreSettings) -> Lifetimes:
    own = {
        probe: lifetimes(settings.model_copy(update={**its.given, "lifetimes": {}}))
        for probe, its in settings.lifetimes.items()
    }
    return Lifetimes(
        clears_s=settings.clears_days * _DAY_S,
        accuses_s=settings.accuses_minutes * 60,
        unknown_s=settings.unknown_minutes * 60,
        failed_s=settings.failed_s,
        keep_s=settings.keep_days * _DAY_S,
        by_probe=own,
    )


def store(settings: StoreSettings) -> Store:
    """What remembers.  Raises SetupError where the configured place cannot be used, ConfigError
    where its url is none; without a configured place memory takes over."""
    if settings.kind == "memory":
        return MemoryStore(settings.cache_rows)
    if settings.kind == "redis":
        return _redis(settings.url)
    file = sqlite_file(settings)
    if _is_writable(file.parent):
        return SqliteStore(file)
    if settings.path:
        raise SetupError(f"[store] path: the folder of {file} is not there or not writable")
    log.info("store: %s is not writable, so what is learnt is kept in memory only", file.parent)
    return MemoryStore(settings.cache_rows)


def sqlite_file(settings: StoreSettings) -> Path:
    """Where SQLite keeps what is learnt."""
    return Path(settings.path) if settings.path else state_directory() / _FILE


def tally(settings: StoreSettings, beside: Store) -> Tally | None:
    """Where statistics are kept: with the store *beside*.  None where that is memory, which no
    other process sees."""
    if isinstance(beside, SqliteStore):
        return SqliteTally(beside.path.with_suffix(".stats.sqlite"))
    if settings.kind != "redis":
        return None
    from botmilter.store.redis import RedisStore
    from botmilter.store.redis_tally import RedisTally

    return RedisTally(RedisStore(settings.url), settings.keep_days * _DAY_S)


def state_directory() -> Path:
    """Of several folders in systemd's variable the first is the unit's main one."""
    named = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(named) if named else STATE_DIRECTORY


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK) and folder.is_dir()


def _redis(url: str) -> Store:
    """Imported here, for sites without Redis need not have its package."""
    try:
        from botmilter.store.redis import RedisStore
    except ImportError as error:
        problem = f'[store] kind = "redis" needs the package {error.name}'
        raise SetupError.without("redis", problem) from error
    try:
        return RedisStore(url)
    except StoreError as error:
        raise ConfigError("[store] url", [str(error)]) from error


def _scheduler(settings: Settings, probes: Sequence[Probe]) -> Scheduler[Catch]:
    at_once = {probe.name: getattr(settings.probe, probe.name).at_once for probe in probes}
    lanes = {RECALL_LANE: _RECALL_THREADS, **at_once}
    return Scheduler(lanes, settings.probe.queue_limit, undone=(), paced=at_once)

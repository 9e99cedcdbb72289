"""``botmilter run``: the mail filter."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import click

from botmilter import names
from botmilter.cli import build, observing
from botmilter.cli.answers import Answers
from botmilter.cli.common import config_options, settings
from botmilter.cli.stderr import StderrHandler
from botmilter.config import Settings
from botmilter.counters import Journal
from botmilter.errors import NewerStoreError, SetupError, StoreError
from botmilter.memory import Memory
from botmilter.milter.base import Judge
from botmilter.milter.daemon import Daemon, QueryService, Service
from botmilter.milter.judge import MailJudge
from botmilter.milter.privileged import CAP_NET_RAW, PrivilegedClient, permitted
from botmilter.milter.query import Answer, Limits
from botmilter.milter.reporting import RecordedJudge, Reporter
from botmilter.notices import LOOK_EVERY_S
from botmilter.probes import osdetect
from botmilter.store.base import Store
from botmilter.store.sqlite import SqliteStore
from botmilter.store.tally import Tally

log = logging.getLogger(__name__)

_PURGE_EVERY_S = 600.0
_DAY_S = 86400.0


@click.command()
@config_options
def command(config_file: Path | None, overrides: tuple[str, ...]) -> None:
    """Filter mail, in the foreground, until told to stop.

    Every mail the MTA shows is marked with a verdict over the host that sent it; none is held
    longer than the budget, none is lost. SIGTERM stops when the open sessions are over, SIGUSR1
    reads the configuration again. Log lines go to standard error.

    Exit code 0: stopped; 69: something is missing, such as the socket's folder;
    78: the configuration.

    \b
    Examples:
      $ botmilter run
      $ botmilter run --config /etc/botmilter/botmilter.toml
    """
    _require_libmilter()
    chosen = settings(config_file, overrides)
    _log_to_stderr(chosen)
    for shortcoming in _shortcomings(chosen):
        log.warning("%s", shortcoming)

    names.load()  # before there are workers: they share it

    def load() -> Service:
        return service(settings(config_file, overrides))

    code = Daemon(load).run()
    if code:
        raise SystemExit(code)


def service(chosen: Settings) -> Service:
    """What the daemon has to know of *chosen*.  Raises ConfigError and SetupError.

    The key is read here, by the parent: the workers' user need not be able to.  And here the store
    is looked for: a worker that takes a killed one's place works without it, if need be.
    """
    milter = chosen.milter
    workers = _worker_count(milter.workers)
    key = build.key(chosen)
    store = build.store(chosen.store)
    _require_known_version(store)
    return Service(
        socket=milter.socket,
        socket_mode=int(milter.socket_mode, 8),
        socket_group=milter.socket_group,
        user=milter.user,
        workers=workers,
        pin_workers=milter.pin_workers,
        start=milter.start,
        stop_grace_s=milter.stop_grace_s,
        guard=build.guard(chosen),
        operations=build.operations(),
        at_once=build.operations_at_once(chosen, askers=workers + 1),
        make_judge=lambda client, uplink: _judge(chosen, client, uplink, key, store),
        query=_query(chosen, store),
        log_level=chosen.log.level.upper(),
        log_mail=_mail_log(chosen),
        observing=observing.wanted(chosen),
    )


def _require_known_version(store: Store) -> None:
    """Raises NewerStoreError.  A store that is away now may be there later.

    A file that is not there yet is left to the workers: made by root they could not write to it.
    """
    if isinstance(store, SqliteStore) and not store.path.exists():
        return
    try:
        store.notices()
    except NewerStoreError:
        raise
    except StoreError:
        return
    finally:
        store.close()  # no connection is to be inherited


def _query(chosen: Settings, store: Store) -> QueryService | None:
    wanted = chosen.query
    if not wanted.socket:
        return None
    return QueryService(
        socket=wanted.socket,
        socket_mode=int(wanted.socket_mode, 8),
        socket_group=wanted.socket_group,
        socket_owner=wanted.socket_owner,
        limits=Limits(wanted.at_once, wanted.per_minute),
        make_answer=lambda client: _answer(chosen, client, store),
    )


def _answer(chosen: Settings, client: PrivilegedClient, store: Store) -> Answer:
    machine = build.machine(chosen, build.probes(chosen, client.operation), shared=store)
    _keep_up(machine.memory)
    return Answers(machine, chosen)


def _shortcomings(chosen: Settings) -> Iterator[str]:
    """What will keep probes from working, said once and before the first mail."""
    probe = chosen.probe
    if probe.osdetect.enabled:
        try:
            osdetect.program()
        except SetupError as error:
            yield f"{error}: no host's system will be known"
    needy = [name for name in ("ping", "osdetect") if getattr(probe, name).enabled]
    if needy and CAP_NET_RAW not in permitted():
        yield f"no CAP_NET_RAW for {' and '.join(needy)}: start botmilter as root"


def _judge(
    chosen: Settings,
    client: PrivilegedClient,
    uplink: socket.socket | None,
    key: bytes | None,
    store: Store,
) -> Judge:
    journal = Journal(chosen.budget.per_mail_s)
    probes = build.probes(chosen, client.operation)
    machine = build.machine(chosen, probes, shared=store, recorder=journal)
    policy = machine.policy(chosen, workers=_worker_count(chosen.milter.workers))
    header = chosen.header
    judge = MailJudge(
        machine.engine,
        chosen.trust,
        policy,
        header.prefix,
        header.host,
        key,
        build.actions(chosen),
        machine.memory.count_tempfail,
        header.keep_sealed,
    )
    tally = build.tally(chosen.store, store)
    _keep_up(machine.memory, lambda: _purge(tally, chosen.store.keep_days * _DAY_S))
    reporter = Reporter(
        journal,
        lambda: observing.gauges(machine, policy),
        lambda: observing.totals(machine),
        uplink,
        tally,
    )
    _in_background(reporter.run)

    def close() -> None:
        machine.memory.close()
        reporter.close()

    return RecordedJudge(judge, journal, close)


def _keep_up(memory: Memory, purge_more: Callable[[], None] = lambda: None) -> None:
    """Begin what a process that serves has to do by itself."""
    _in_background(lambda: _purge_regularly(memory, purge_more))
    _in_background(lambda: _look_regularly(memory))


def _in_background(run: Callable[[], None]) -> None:
    threading.Thread(target=run, daemon=True).start()


def _purge_regularly(memory: Memory, purge_more: Callable[[], None]) -> None:
    """So that nothing is kept longer than [store] keep_days, in a quiet week as well."""
    while True:
        memory.purge()
        purge_more()
        time.sleep(_PURGE_EVERY_S)


def _purge(tally: Tally | None, keep_s: float) -> None:
    if tally is not None:
        with suppress(StoreError):  # who writes to it says so
            tally.purge(time.time(), keep_s)


def _look_regularly(memory: Memory) -> None:
    """So that what was forgotten and who opted out holds in this process, too."""
    while True:
        memory.look()
        time.sleep(LOOK_EVERY_S)


def _mail_log(chosen: Settings) -> Callable[[str], None] | None:
    if logging.getLevelName(chosen.log.level.upper()) > logging.INFO:
        return None
    own = (one for one in logging.getLogger().handlers if isinstance(one, StderrHandler))
    return next((handler.info for handler in own), logging.info)


def _worker_count(wanted: int | str) -> int:
    """``auto`` is one for each CPU that this process may use."""
    return wanted if isinstance(wanted, int) else len(os.sched_getaffinity(0))


def _log_to_stderr(chosen: Settings) -> None:
    logging.basicConfig(
        handlers=[StderrHandler()],
        level=chosen.log.level.upper(),
        format="botmilter[%(process)d]: %(levelname)s %(message)s",
    )
    # what no line shows need not be found out: half the time of a line (logging cookbook)
    logging._srcfile = None
    logging.logThreads = logging.logMultiprocessing = False


def _require_libmilter() -> None:
    """Say it here, not in each worker.  Found, not imported: the parent runs no libmilter."""
    if find_spec("milter") is None:
        raise SetupError.without(
            "milter", "the filter needs pymilter, and that libmilter-dev and a compiler"
        )

"""``botmilter survey``: the hosts behind whole mailboxes, measured and written down."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from botmilter.cli import build
from botmilter.cli.common import config_options, settings, trust_option
from botmilter.cli.report import show_survey
from botmilter.config import Settings
from botmilter.errors import InputError, SetupError
from botmilter.inquiry import Policy
from botmilter.model import IPNetwork
from botmilter.survey import analyse, logs, records
from botmilter.survey.intake import Counts, Intake, again
from botmilter.survey.records import Journal, Record
from botmilter.survey.run import Surveyor, measured, settled
from botmilter.survey.worklist import WorkList

#: Hosts under way for each nmap: the others wait for ping, SMTP or DNS meanwhile.
_HOSTS_PER_NMAP = 4
#: No more than the hosts under way ever wait.
_ROOM = "probe.queue_limit=100000"


@dataclass(frozen=True, slots=True)
class _Wishes:
    """How to measure, beside the settings."""

    probe_claimed: bool
    at_once: int


@click.command()
@click.argument("places", nargs=-1, metavar="MAIL...")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The survey's folder.")
@config_options
@trust_option
@click.option("--all-hops", is_flag=True, help="Every relay of the chain, not the origin alone.")
@click.option("--probe-claimed", is_flag=True, help="Also relays that only the sender claims.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run was.")
@click.option("--move-to", type=click.Path(path_type=Path), metavar="DIR", help="Move mails taken.")
@click.option("--repeat", type=click.Path(path_type=Path), metavar="DIR", help="Same hosts again.")
@click.option("--rejudge", type=click.Path(path_type=Path), metavar="DIR", help="No packet.")
@click.option(
    "--at-once",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    help="nmaps at the same time.",
)
def command(
    places: tuple[str, ...],
    out: Path | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    trust: tuple[IPNetwork, ...],
    all_hops: bool,
    probe_claimed: bool,
    resume: bool,
    move_to: Path | None,
    repeat: Path | None,
    rejudge: Path | None,
    at_once: int,
) -> None:
    """Measure the hosts that sent the mails of whole mailboxes.

    MAIL is a file, an mbox, a Maildir, a directory of mails, or - for standard input.  Each host
    is measured once a run by all probes; records and readable logs go to the folder of --out.
    Mails taken in are remembered, so the same command over a growing mailbox takes the new ones.

    With --repeat the hosts of another survey are measured again; with --rejudge the stored facts
    are judged anew by the settings given, and written to --out where that is named.

    Exit code 0: all measured; 66: a MAIL or DIR cannot be read; 69: another survey runs in DIR,
    or an interrupted run needs --resume; 78: the configuration; 130: interrupted.

    \b
    Examples:
      $ botmilter survey --trust 192.0.2.0/24 --out august Maildir/ old.mbox
      $ botmilter survey --resume --out august Maildir/
      $ botmilter survey --repeat august --out october
      $ botmilter survey --rejudge august --set weights.os.client=4
    """
    if rejudge is not None:
        if places or repeat is not None:
            raise click.UsageError("--rejudge takes neither MAIL nor --repeat")
        _rejudge(rejudge, out, settings(config_file, overrides))
        return
    if out is None:
        raise click.UsageError("--out DIR is needed")
    if bool(places) == (repeat is not None) and not (resume and not places):
        raise click.UsageError("name mails, or a survey to --repeat")
    chosen = settings(config_file, (f"probe.osdetect.at_once={at_once}", _ROOM, *overrides))
    chosen = _trusting(chosen, trust)
    wishes = _Wishes(probe_claimed, at_once)
    with WorkList(out) as work, Journal(out) as journal:
        run = _run_number(work, out, resume)
        if repeat is not None:
            again(records.latest(repeat).values(), work, run)
        _take_in(Intake(work, run, chosen.trust, all_hops, move_to), places)
        _measure_all(work, journal, out, run, chosen, wishes)
    show_survey(Console(), [analyse.seen(one.to_json()) for one in records.latest(out).values()])


def _run_number(work: WorkList, out: Path, resume: bool) -> int:
    unfinished = work.unfinished()
    if unfinished is None:
        return work.begin()
    if not resume:
        raise SetupError(f"{out}: a run was interrupted there; go on with it by --resume")
    return unfinished


def _take_in(intake: Intake, places: Iterable[str]) -> None:
    err = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), TextColumn("{task.fields[rate]}"), TimeElapsedColumn(),
        console=err, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("mails", rate="")
        began = time.monotonic()

        def progress(counts: Counts) -> None:
            done = counts.new + counts.known
            if done % 500 == 0:
                rate = done / max(0.001, time.monotonic() - began)
                bar.update(task, rate=f"{done} read, {rate:.0f}/s")

        counts = intake.take(places, progress)
    if counts.new or counts.known:
        click.echo(
            f"mails: {counts.new} new, {counts.known} known, "
            f"{counts.without_host} of the new without a host to measure",
            err=True,
        )


def _measure_all(
    work: WorkList,
    journal: Journal,
    out: Path,
    run: int,
    chosen: Settings,
    wishes: _Wishes,
) -> None:
    done = {record.host.ip for record in _of_run(out, run)}
    left = [ip for ip in work.addresses(run) if ip not in done]
    surveyor = _surveyor(chosen, wishes, work.began_at(run))
    folder = out / "logs"
    folder.mkdir(exist_ok=True)
    found = measured(
        left,
        lambda ip: surveyor.measure(run, work.host(run, ip, chosen.trust)),
        wishes.at_once * _HOSTS_PER_NMAP,
    )
    with closing(found):
        for record in _with_bar(found, len(done), len(done) + len(left)):
            logs.write(record, folder)
            journal.append(record)
    for record in settled(lambda: _of_run(out, run), surveyor.rejudge):
        logs.write(record, folder)
        journal.append(record)
    work.end(run)


def _of_run(out: Path, run: int) -> Iterator[Record]:
    return (record for record in records.read(out) if record.run == run)


def _trusting(chosen: Settings, trust: tuple[IPNetwork, ...]) -> Settings:
    """*chosen* with the networks of ``--trust``: they are believed, and never probed."""
    table = chosen.trust_table
    more = table.model_copy(update={"networks": (*table.networks, *trust)})
    return chosen.model_copy(update={"trust_table": more})


def _surveyor(chosen: Settings, wishes: _Wishes, since: float) -> Surveyor:
    probes = build.probes(chosen)
    machine = build.machine(chosen, probes, known_since=since)
    # all probes of all hosts under way may queue for a thread
    longest_s = sum(probe.limit_s for probe in probes) * _HOSTS_PER_NMAP
    policy = replace(machine.policy(chosen, longest_s), thorough=True, settle_s=0.0)
    return Surveyor(machine.engine, policy, wishes.probe_claimed)


def _with_bar(found: Iterator[Record], done: int, total: int) -> Iterator[Record]:
    labels: Counter[str] = Counter()
    began = time.monotonic()
    with Progress(
        TextColumn("hosts"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(), TextColumn("{task.fields[labels]}"), console=Console(stderr=True),
    ) as bar:  # fmt: skip
        task = bar.add_task("hosts", total=total, completed=done, rate="", labels="")
        for number, record in enumerate(found, 1):
            yield record
            labels[str(record.verdict["label"])] += 1
            rate = number / max(0.001, time.monotonic() - began)
            shown = " ".join(f"{label}={count}" for label, count in sorted(labels.items()))
            bar.update(task, advance=1, rate=f"{rate:.1f}/s", labels=shown)


def _rejudge(folder: Path, out: Path | None, chosen: Settings) -> None:
    probes = build.probes(chosen)
    surveyor = Surveyor(build.machine(chosen, probes).engine, Policy(0.0, frozenset()))
    former = records.latest(folder)
    judged = {ip: surveyor.rejudge(record) for ip, record in former.items()}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        if (out / records.FILE).exists():
            raise InputError(f"{out}: a survey is there already")
        with Journal(out) as journal:
            for record in judged.values():
                journal.append(record)
    for ip, record in judged.items():
        before = former[ip].verdict
        if (before["label"], before["score"]) != (record.verdict["label"], record.verdict["score"]):
            click.echo(
                f"{ip}: {before['label']} {before['score']:g} -> "
                f"{record.verdict['label']} {record.verdict['score']:g}"
            )
    show_survey(Console(), [analyse.seen(record.to_json()) for record in judged.values()])

"""``botmilter survey``: the hosts behind whole mailboxes, measured and written down."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

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

from botmilter.cli import surveyor
from botmilter.cli.common import begun, config_options, mails, settings, trust_option
from botmilter.cli.report import show_survey
from botmilter.config import Settings
from botmilter.errors import InputError, SetupError
from botmilter.mailbox import Mail
from botmilter.model import IPNetwork
from botmilter.survey import analyse, logs, records
from botmilter.survey.intake import Counts, Intake, again, make_room
from botmilter.survey.records import Host, Journal, Record
from botmilter.survey.run import Surveyor, measured, settled
from botmilter.survey.worklist import WorkList
from botmilter.survey.writing import writing


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What the command line says beside the settings."""

    places: tuple[str, ...]
    out: Path | None
    trust: tuple[IPNetwork, ...]
    all_hops: bool
    probe_claimed: bool
    resume: bool
    move_to: Path | None
    repeat: Path | None
    rejudge: Path | None
    queue: str | None
    at_once: int

    def check(self) -> None:
        """Raises UsageError."""
        if self.rejudge is not None:
            if self.places or self.repeat is not None:
                raise click.UsageError("--rejudge takes neither MAIL nor --repeat")
        elif self.out is None:
            raise click.UsageError("--out DIR is needed")
        elif bool(self.places) == (self.repeat is not None) and (self.places or not self.resume):
            raise click.UsageError("name mails, or a survey to --repeat")


_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("places", nargs=-1, metavar="MAIL...")
@click.option("--out", type=_FOLDER, metavar="DIR", help="The survey's folder.")
@config_options
@trust_option
@click.option("--all-hops", is_flag=True, help="Every relay of the chain, not the origin alone.")
@click.option("--probe-claimed", is_flag=True, help="Also relays that only the sender claims.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run was.")
@click.option("--move-to", type=_FOLDER, metavar="DIR", help="Move mails taken.")
@click.option("--repeat", type=_FOLDER, metavar="DIR", help="Same hosts again.")
@click.option("--rejudge", type=_FOLDER, metavar="DIR", help="No packet.")
@click.option("--queue", metavar="URL", help="Redis: have botmilter worker processes measure.")
@surveyor.at_once_option
def command(config_file: Path | None, overrides: tuple[str, ...], **given: Any) -> None:
    """Measure the hosts that sent the mails of whole mailboxes.

    MAIL is a file, an mbox, a Maildir, a directory of mails, or - for standard input.  Each host
    is measured once a run by all probes; records and readable logs go to the folder of --out.
    Mails taken in are remembered, so the same command over a growing mailbox takes the new ones.

    With --repeat the hosts of another survey are measured again; with --rejudge the stored facts
    are judged anew by the settings given, and written to --out where that is named.

    Exit code 0: all measured; 66: a DIR or MAIL cannot be read, the other mails' hosts are
    measured; 69: another survey runs in DIR, it cannot be written, an interrupted run needs
    --resume, or the queue is lost; 78: the configuration; 130: interrupted.

    \b
    Examples:
      $ botmilter survey --trust 192.0.2.0/24 --out august Maildir/ old.mbox
      $ botmilter survey --resume --out august Maildir/
      $ botmilter survey --repeat august --out october
      $ botmilter survey --rejudge august --set weights.os.client=4
      $ botmilter survey --queue redis://:secret@queue.example/0 --out august Maildir/
    """
    wishes = _Wishes(**given)
    wishes.check()
    if wishes.rejudge is not None:
        _rejudge(wishes.rejudge, wishes.out, settings(config_file, overrides))
    elif wishes.out is not None:
        chosen = settings(config_file, (*surveyor.overriding(wishes.at_once), *overrides))
        _survey(wishes, wishes.out, _trusting(chosen, wishes.trust))


def _survey(wishes: _Wishes, out: Path, chosen: Settings) -> None:
    # what can be read not at all or moved nowhere is an error before there is a run to resume
    found = begun(mails(wishes.places))
    former = records.latest(wishes.repeat).values() if wishes.repeat is not None else ()
    if wishes.move_to is not None:
        make_room(wishes.move_to)
    with WorkList(out) as work, Journal(out) as journal:
        run = _run_number(work, out, wishes.resume)
        again(former, work, run)
        intake = Intake(work, run, chosen.trust, wishes.all_hops, wishes.move_to)
        counts = _take_in(intake, found)
        _measure_all(_Folder(out, work, journal, run), chosen, wishes)
    show_survey(Console(), [analyse.seen(one.to_json()) for one in records.latest(out).values()])
    if counts.unreadable:
        raise SystemExit(InputError.exit_code)


def _run_number(work: WorkList, out: Path, resume: bool) -> int:
    unfinished = work.unfinished()
    if unfinished is None:
        return work.begin()
    if not resume:
        raise SetupError(f"{out}: a run was interrupted there; go on with it by --resume")
    return unfinished


def _take_in(intake: Intake, found: Iterator[Mail]) -> Counts:
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

        counts = intake.take(found, progress)
    if counts.new or counts.known:
        click.echo(
            f"mails: {counts.new} new, {counts.known} known, "
            f"{counts.without_host} of the new without a host to measure",
            err=True,
        )
    if counts.unreadable:  # at once: measuring may take hours
        click.echo(counts.unreadable, err=True)
    return counts


@dataclass(frozen=True, slots=True)
class _Folder:
    """A survey's folder, open for one run."""

    path: Path
    work: WorkList
    journal: Journal
    run: int

    def records(self) -> Iterator[Record]:
        return (record for record in records.read(self.path) if record.run == self.run)

    def write(self, record: Record) -> None:
        logs.write(record, self.path / "logs")
        self.journal.append(record)


def _measure_all(folder: _Folder, chosen: Settings, wishes: _Wishes) -> None:
    work, run = folder.work, folder.run
    done = {record.host.ip for record in folder.records()}
    left = [ip for ip in work.addresses(run) if ip not in done]
    with writing(folder.path / "logs"):
        (folder.path / "logs").mkdir(exist_ok=True)
    since = work.began_at(run)
    judge = surveyor.make(chosen, since, wishes.probe_claimed)

    def host(ip: str) -> Host:
        return work.host(run, ip, chosen.trust)

    if wishes.queue is None:
        threads = wishes.at_once * surveyor.HOSTS_PER_NMAP
        found = measured(left, lambda ip: judge.measure(run, host(ip)), threads)
    else:
        found = _by_workers(folder, left, host, judge, wishes)
    with closing(found):
        for record in _with_bar(found, len(done), len(done) + len(left)):
            folder.write(record)
    for record in settled(folder.records, judge.rejudge):
        folder.write(record)
    work.end(run)


def _by_workers(
    folder: _Folder,
    left: Sequence[str],
    host: Callable[[str], Host],
    judge: Surveyor,
    wishes: _Wishes,
) -> Generator[Record, None, None]:
    """What gets no packet by our settings stays here: the workers' may differ."""
    dispatch = surveyor.dispatch()
    here = [ip for ip in left if not judge.would_send(host(ip))]
    for ip in here:
        yield judge.measure(folder.run, host(ip))
    there = set(left) - set(here)
    since = folder.work.began_at(folder.run)
    survey = dispatch.survey_id(folder.path, folder.run, since)
    with closing(dispatch.Link(str(wishes.queue))) as link:
        desk = dispatch.Desk(link, survey, folder.run, since, wishes.probe_claimed, host)
        found = desk.measured([ip for ip in left if ip in there], partial(click.echo, err=True))
        with closing(found):
            yield from map(judge.rejudge, found)


def _trusting(chosen: Settings, trust: tuple[IPNetwork, ...]) -> Settings:
    """*chosen* with the networks of ``--trust``: they are believed, and never probed."""
    table = chosen.trust_table
    more = table.model_copy(update={"networks": (*table.networks, *trust)})
    return chosen.model_copy(update={"trust_table": more})


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
    judge = surveyor.make(chosen, 0.0)
    former = records.latest(folder)
    judged = {ip: judge.rejudge(record) for ip, record in former.items()}
    if out is not None:
        with writing(out):
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

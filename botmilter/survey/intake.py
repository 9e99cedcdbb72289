"""Mailboxes into the work list: every mail once, whichever file it lies in now."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from botmilter.mailbox import Mail, UnreadableError
from botmilter.model import Trust
from botmilter.net import printable
from botmilter.survey import harvest
from botmilter.survey.harvest import Taken
from botmilter.survey.records import Record
from botmilter.survey.worklist import Entry, WorkList
from botmilter.survey.writing import writing

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the mails."""

    new: int = 0
    known: int = 0
    without_host: int = 0
    """New, but no host to measure: submitted, local or unreadable."""
    unreadable: str = ""
    """What could not be read, and why, a line each."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes mails into *work* as hosts of *run*."""

    work: WorkList
    run: int
    trust: Trust
    all_hops: bool = False
    move_to: Path | None = None

    def take(self, mails: Iterator[Mail], progress: Callable[[Counts], None]) -> Counts:
        """Take *mails*, in their order; *progress* is called for each batch.

        Where *mails* ends with an UnreadableError the counts tell.  Files are moved when all mails
        are taken, and only those that could be read to their end.
        """
        counts = Counts()
        files: dict[str, None] = {}
        unreadable: Mapping[str, str] = {}
        try:
            for batch in _batches(mails):
                counts = self._take_batch(batch, counts)
                if self.move_to is not None:
                    files |= dict.fromkeys(mail.file for mail in batch)
                progress(counts)
        except UnreadableError as error:
            unreadable = error.reasons
            counts = replace(counts, unreadable=str(error))
        if self.move_to is not None:
            make_room(self.move_to)
            for file in files:
                if file != "-" and file not in unreadable:
                    _move(Path(file), self.move_to)
        return counts

    def _take_batch(self, mails: Sequence[Mail], counts: Counts) -> Counts:
        unique: dict[bytes, tuple[Mail, bytes]] = {}
        for mail in mails:
            header = harvest.kept(mail.header)
            unique.setdefault(harvest.mail_id(header), (mail, header))
        known = self.work.known(list(unique))
        new = [
            Entry(key, printable(mail.name), header, self._read(header))
            for key, (mail, header) in unique.items()
            if key not in known
        ]
        self.work.enter(self.run, new)
        return replace(
            counts,
            new=counts.new + len(new),
            known=counts.known + len(mails) - len(new),
            without_host=counts.without_host + sum(not one.taken.sightings for one in new),
        )

    def _read(self, header: bytes) -> Taken:
        return harvest.take(header, self.trust, self.all_hops)


def _batches(mails: Iterator[Mail]) -> Iterator[Sequence[Mail]]:
    """Mails to be entered in one transaction each; a kill costs reading them again.  Raises what
    *mails* raises, after the last batch."""
    error: UnreadableError | None = None
    is_over = False
    while not is_over:
        batch: list[Mail] = []
        try:
            batch.extend(itertools.islice(mails, _BATCH))
        except UnreadableError as broken:
            error = broken
        is_over = len(batch) < _BATCH
        yield batch
    if error is not None:
        raise error


def make_room(folder: Path) -> None:
    """A folder for what is to be moved.  Raises SetupError where there can be none."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def _move(file: Path, folder: Path) -> None:
    """Move *file* into *folder*, under another name where the name is taken."""
    names = itertools.chain([file.name], (f"{file.name}.{n}" for n in itertools.count(1)))
    free = next(folder / name for name in names if not (folder / name).exists())
    with writing(folder):
        shutil.move(file, free)


def again(records: Iterable[Record], work: WorkList, run: int) -> None:
    """Enter the hosts of a former survey, with the mails that led to them."""
    work.enter_former(run, (record.host for record in records))

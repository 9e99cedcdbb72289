"""Mailboxes into the work list: every mail once, whichever file it lies in now."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from botmilter import mailbox
from botmilter.errors import InputError
from botmilter.mailbox import Mail
from botmilter.model import Trust
from botmilter.net import printable
from botmilter.survey import harvest
from botmilter.survey.harvest import Taken
from botmilter.survey.records import Record
from botmilter.survey.worklist import Entry, WorkList

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the mails."""

    new: int = 0
    known: int = 0
    without_host: int = 0
    """New, but no host to measure: submitted, local or unreadable."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes mails into *work* as hosts of *run*."""

    work: WorkList
    run: int
    trust: Trust
    all_hops: bool = False
    move_to: Path | None = None

    def take(self, places: Iterable[str], progress: Callable[[Counts], None]) -> Counts:
        """All mails of *places*, in their order; *progress* is called for each batch.

        Raises InputError where a place cannot be read; what was taken until then stays taken.
        """
        counts = Counts()
        for batch in _batches(itertools.chain.from_iterable(map(mailbox.messages, places))):
            counts = self._take_batch(batch.mails, counts)
            progress(counts)
            if self.move_to is not None:
                for file in batch.finished:
                    _move(Path(file), self.move_to)
            if batch.error is not None:
                raise batch.error
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
        return Counts(
            new=counts.new + len(new),
            known=counts.known + len(mails) - len(new),
            without_host=counts.without_host + sum(not one.taken.sightings for one in new),
        )

    def _read(self, header: bytes) -> Taken:
        return harvest.take(header, self.trust, self.all_hops)


@dataclass(frozen=True, slots=True)
class _Batch:
    mails: Sequence[Mail]
    finished: Sequence[str]
    """Files of which these mails are the last."""
    error: InputError | None = None
    """Why there is no more."""


def _batches(mails: Iterator[Mail]) -> Iterator[_Batch]:
    """Mails to be entered in one transaction each; a kill costs reading them again."""
    file: str | None = None
    error: InputError | None = None
    is_over = False
    while not is_over:
        batch: list[Mail] = []
        finished: list[str] = []
        try:
            batch.extend(itertools.islice(mails, _BATCH))
        except InputError as broken:
            error = broken
        is_over = len(batch) < _BATCH
        for mail in batch:
            if file not in (None, "-", mail.file):
                finished.append(file)
            file = mail.file
        if is_over and error is None and file not in (None, "-"):
            finished.append(file)
        yield _Batch(batch, finished, error)


def _move(file: Path, folder: Path) -> None:
    """Move *file* into *folder*, under another name where the name is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    names = itertools.chain([file.name], (f"{file.name}.{n}" for n in itertools.count(1)))
    free = next(folder / name for name in names if not (folder / name).exists())
    shutil.move(file, free)


def again(records: Iterable[Record], work: WorkList, run: int) -> None:
    """Enter the hosts of a former survey, with the mails that led to them."""
    work.enter_former(run, (record.host for record in records))

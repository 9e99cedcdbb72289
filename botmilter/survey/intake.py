"""Mailboxes into the work list: every mail once, whichever file it lies in now."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from botmilter import mailbox
from botmilter.model import Signal, Trust
from botmilter.net import printable
from botmilter.survey import harvest
from botmilter.survey.harvest import Sighting, Taken
from botmilter.survey.records import Record
from botmilter.survey.worklist import WorkList


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
        """All mails of *places*, in their order; *progress* is called for each.

        Raises InputError where a place cannot be read; what was taken until then stays taken.
        """
        counts = Counts()
        try:
            for place in places:
                counts = self._take_place(place, counts, progress)
        finally:
            self.work.flush()
        return counts

    def _take_place(self, place: str, counts: Counts, progress: Callable[[Counts], None]) -> Counts:
        for file, mails in itertools.groupby(mailbox.messages(place), key=_file_of):
            for mail in mails:
                counts = self._take_mail(mail, counts)
                progress(counts)
            if self.move_to is not None and file != "-":
                self.work.flush()
                _move(Path(file), self.move_to)
        return counts

    def _take_mail(self, mail: mailbox.Mail, counts: Counts) -> Counts:
        if self.work.knows(harvest.mail_id(mail.header)):
            return replace(counts, known=counts.known + 1)
        taken = harvest.take(mail.header, self.trust, self.all_hops)
        self.work.enter(self.run, printable(mail.name), taken)
        empty = 0 if taken.sightings else 1
        return replace(counts, new=counts.new + 1, without_host=counts.without_host + empty)


def _file_of(mail: mailbox.Mail) -> str:
    """The file that *mail* lies in: within an mbox its name has ``#NUMBER`` behind."""
    file, mark, number = mail.name.rpartition("#")
    return file if mark and number.isdecimal() and not Path(mail.name).exists() else mail.name


def _move(file: Path, folder: Path) -> None:
    """Move *file* into *folder*, under another name where the name is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    names = itertools.chain([file.name], (f"{file.name}.{n}" for n in itertools.count(1)))
    free = next(folder / name for name in names if not (folder / name).exists())
    shutil.move(file, free)


def again(records: Iterable[Record], work: WorkList, run: int) -> None:
    """Enter the hosts of a former survey, with the mails that led to them."""
    for record in records:
        host = record.host
        signals: tuple[Signal, ...] = host.signals
        for mail in host.mails:
            seen = Sighting(host.ip, host.role, mail.hop, mail.helo, mail.received, signals)
            mail_id = bytes.fromhex(mail.id)
            taken = Taken(mail_id, mail.sender, mail.recipient, mail.date, host.sender_domain,
                          mail.arrived, (seen,))  # fmt: skip
            work.enter(run, mail.name, taken)
            signals = ()
    work.flush()

"""What the callbacks know of the rest: one judge, asked for each mail.

The real one is :class:`botmilter.milter.judge.MailJudge`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

from botmilter.action import MARK, Action
from botmilter.milter.session import Session, Transaction
from botmilter.model import Verdict
from botmilter.net import printable

#: When a judgement begins, at the latest at the end of the mail: as the client connects, at DATA,
#: or with the whole header known.
Start = Literal["connect", "data", "headers"]

#: Of the log: a line, and a value in it.
_LINE_AT_MOST = 2000
#: Of a line: what stands around a mail's own fields, queue id and time.
_AROUND = 240
_WORD_AT_MOST = 200

#: What a process that serves a socket says to the parent, and what it is told at a stop.
READY, DRAIN = b"r", b"d"


class Judgement(NamedTuple):
    """What is to be done with a mail."""

    headers: tuple[tuple[str, str], ...]
    """Fields to add, folded, printable ASCII."""
    log: LogFields
    """For the one line in the log."""
    action: Action = MARK
    verdict: Verdict | None = None
    """None where it was not we who judged."""


class Begun(Protocol):
    """A judgement under way before the whole mail was there."""

    def abandon(self) -> None:
        """The mail will not come: start nothing more for it."""


class Judge(Protocol):
    @property
    def may_quarantine(self) -> bool:
        """Whether a judgement may ask for it: the MTA is told at the start of a connection."""

    @property
    def failed(self) -> Judgement:
        """The judgement where :meth:`judge` raised: ``unknown``, and only marked.  Made before
        any mail, so that it cannot fail too."""

    @property
    def own_names(self) -> frozenset[str]:
        """Names of header fields that only we may set, lower case."""

    def knows(self, session: Session) -> bool:
        """Whether there is a verdict over the client itself, so that an early begin most likely
        gains nothing.  Cheaper than a transaction."""

    def begin(self, mail: Transaction) -> Begun | None:
        """Start what can be started with what is known so far.  Never waits."""

    def judge(
        self,
        mail: Transaction,
        begun: Begun | None,
        while_waiting: Callable[[], None] | None = None,
    ) -> Judgement:
        """The verdict over the whole *mail*, within the judge's own budget.  Takes *begun* over.
        *while_waiting* is called every few seconds of a long wait, on the caller's thread."""

    def close(self) -> None:
        """The process ends: no mail comes any more."""


class LogFields(dict[str, str]):
    """What the log says of a mail, any text; complete once it is shown."""

    @cached_property
    def line(self) -> str:
        """All of them.  Known hosts' mails have theirs in common."""
        return log_line(self, _LINE_AT_MOST - _AROUND)


def log_line(pairs: Mapping[str, str], at_most: int = _LINE_AT_MOST) -> str:
    """``key=value`` for each of *pairs*, a value one word; printable ASCII, *at_most* so long."""
    words = (
        f"{key}={text[:_WORD_AT_MOST].replace(' ', '_') or '-'}" for key, text in pairs.items()
    )
    return printable(" ".join(words), at_most)

"""What becomes of a mail by its verdict: the admin's choice for each label.  Pure.

Nothing but marking unless it is configured, and never on account of our own failure.  Less than
what is configured is done, and the log says why, where

* it would refuse for good (``reject``, ``discard``) on fewer independent reasons than asked for:
  signals of one group are views of one fact and count once;
* it would answer the wrong host (``reject``, ``tempfail``): behind a trusted relay the refusal
  meets the relay, which sends a bounce to the sender address, as a rule a forged one;
* it would put off (``tempfail``) without anything to wait for: only a measurement under way can
  change the answer by the next try, and a network is put off so many times a day and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from botmilter import plan
from botmilter.model import IPAddress, Label, OriginWhy, Status, Verdict
from botmilter.score import group_of
from botmilter.signals import Group

#: In a reply's text, the origin's address.
ADDRESS = "{ip}"


class Kind(StrEnum):
    TAG = "tag"
    """The header fields and nothing else."""
    QUARANTINE = "quarantine"
    """Accepted and held in the MTA's queue (Postfix: hold, Sendmail: quarantine)."""
    TEMPFAIL = "tempfail"
    """The client is told to come back."""
    REJECT = "reject"
    DISCARD = "discard"
    """Accepted and thrown away; nobody is told."""


@dataclass(frozen=True, slots=True)
class Action:
    """What is done with one mail."""

    kind: Kind = Kind.TAG
    code: str = ""
    """SMTP reply code, for ``reject`` and ``tempfail``."""
    enhanced: str = ""
    """Enhanced status code (RFC 3463)."""
    text: str = ""
    """Of the reply, or why it is held; printable ASCII, without a percent sign."""
    wanted: Kind = Kind.TAG
    """What is configured for the label."""
    held_by: str = ""
    """Why less than that is done; empty where it is done."""

    @property
    def log(self) -> Mapping[str, str]:
        """Nothing where nothing is configured."""
        if self.wanted is Kind.TAG:
            return {}
        held = {"would": self.wanted.value, "but": self.held_by} if self.held_by else {}
        return {"action": self.kind.value, **held}


#: The header fields and nothing else.
MARK = Action()


@dataclass(frozen=True, slots=True)
class Reply:
    """``550 5.7.1 text``, taken apart."""

    code: str
    enhanced: str
    text: str

    @classmethod
    def parse(cls, given: str) -> Reply:
        code, enhanced, text = given.split(" ", 2)
        return cls(code, enhanced, text)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the admin configured."""

    by_label: Mapping[Label, Kind] = field(default_factory=dict)
    """Labels that are not in it are marked."""
    min_reasons: int = 2
    reject: Reply = Reply("550", "5.7.1", "rejected")
    tempfail: Reply = Reply("451", "4.7.1", "try again later")
    tempfails_a_day: int = 2
    dry_run: bool = False

    @property
    def may_quarantine(self) -> bool:
        return Kind.QUARANTINE in self.by_label.values() and not self.dry_run


def decide(verdict: Verdict, rules: Rules, count_tempfail: Callable[[IPAddress], int]) -> Action:
    """What to do with a mail of this *verdict*.

    *count_tempfail* counts one more tempfail for the address's network and returns how many
    there were today; called only where the mail would be put off.
    """
    wanted = rules.by_label.get(verdict.label, Kind.TAG)
    if wanted is Kind.TAG:
        return MARK
    held_by = _held_by(wanted, verdict, rules) or (rules.dry_run and "dry_run") or ""
    if not held_by and wanted is Kind.TEMPFAIL and verdict.origin.ip is not None:
        counted = count_tempfail(verdict.origin.ip)
        held_by = "put_off_often_enough" if counted > rules.tempfails_a_day else ""
    if held_by:
        return Action(wanted=wanted, held_by=held_by)
    return _done(wanted, verdict, rules)


def independent_reasons(verdict: Verdict) -> int:
    """How many groups speak against the host; what two of them weigh together is neither's."""
    groups = {group_of(one.signal.name) for one in verdict.reasons if one.points > 0}
    return len(groups - {Group.PAIR, Group.NOTE})


def _held_by(wanted: Kind, verdict: Verdict, rules: Rules) -> str:
    """Why *wanted* is not to be done; empty where it may."""
    reasons = independent_reasons(verdict)
    if wanted in (Kind.REJECT, Kind.DISCARD) and reasons < rules.min_reasons:
        return f"reasons_{reasons}_of_{rules.min_reasons}"
    if wanted in (Kind.REJECT, Kind.TEMPFAIL) and verdict.origin.why is not OriginWhy.CLIENT:
        return "came_through_a_relay"
    if wanted is Kind.TEMPFAIL and not _is_under_way(verdict):
        return "nothing_to_wait_for"
    return ""


def _is_under_way(verdict: Verdict) -> bool:
    return any(
        seen.status is Status.LATE and seen.reason in plan.UNDER_WAY for seen in verdict.missing
    )


def _done(kind: Kind, verdict: Verdict, rules: Rules) -> Action:
    if kind is Kind.QUARANTINE:
        return Action(kind, text=f"botmilter: {verdict.label}", wanted=kind)
    if kind is Kind.DISCARD:
        return Action(kind, wanted=kind)
    reply = rules.reject if kind is Kind.REJECT else rules.tempfail
    text = reply.text.replace(ADDRESS, str(verdict.origin.ip))
    return Action(kind, reply.code, reply.enhanced, text, wanted=kind)

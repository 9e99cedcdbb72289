"""An abuse report about one host, as the mail that its network's owner would get.  Pure.

The form is the Abuse Reporting Format: a ``multipart/report`` of RFC 5965, with the feedback type
``abuse`` (section 7.3, and RFC 6650 for reports nobody asked for).  Its third part is the header
of the mail that set it off, which the store does not have: it is empty unless one is given.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime
from textwrap import fill, wrap

from botmilter import __version__
from botmilter.model import IPAddress, Observation, Reason, Verdict
from botmilter.net import printable
from botmilter.signals import BY_NAME

_WIDTH = 72
_FACTS_AT_MOST = 600


@dataclass(frozen=True, slots=True)
class Parties:
    """Who writes to whom; addresses are checked by the caller."""

    sender: str
    host: str
    """The reporting machine's name."""
    recipient: str = ""


def report(
    ip: IPAddress,
    verdict: Verdict,
    seen: Sequence[Observation],
    parties: Parties,
    now: float,
    header: bytes = b"",
) -> MIMEMultipart:
    """The mail.  *seen* is what *verdict* rests on, at least one; *header* the header of a mail
    from *ip*, if there is one."""
    mail = MIMEMultipart("report", report_type="feedback-report")
    mail["From"] = parties.sender
    if parties.recipient:
        mail["To"] = parties.recipient
    mail["Date"] = format_datetime(_utc(now))
    mail["Subject"] = f"Abuse report: {ip} sends mail and looks like an infected machine"
    mail["Auto-Submitted"] = "no"
    mail.attach(MIMEText(text(ip, verdict, seen, bool(header)), "plain", "us-ascii"))
    feedback = MIMENonMultipart("message", "feedback-report")
    feedback.set_payload(_feedback(ip, seen, parties))
    mail.attach(feedback)
    original = MIMENonMultipart("text", "rfc822-headers")
    original.set_payload(_lines(header))
    mail.attach(original)
    return mail


def _feedback(ip: IPAddress, seen: Sequence[Observation], parties: Parties) -> str:
    """RFC 5965, section 3."""
    first = min(one.taken_at for one in seen)
    return (
        "Feedback-Type: abuse\n"
        f"User-Agent: botmilter/{__version__}\n"
        "Version: 1\n"
        f"Arrival-Date: {format_datetime(_utc(first))}\n"
        f"Reporting-MTA: dns; {parties.host}\n"
        f"Source-IP: {ip}\n"
    )


def _lines(header: bytes) -> str:
    lines = header.decode("latin-1").splitlines()
    return "".join(f"{printable(line.replace(chr(9), ' '), 998)}\n" for line in lines)


# -- for the reader -----------------------------------------------------------------------------


def text(ip: IPAddress, verdict: Verdict, seen: Sequence[Observation], has_mail: bool) -> str:
    """The report in words: printable ASCII in short lines."""
    first, last = (_time(pick(one.taken_at for one in seen)) for pick in (min, max))
    paragraphs = [
        fill(
            f"The host {ip} handed mail to our mail server and looks like an end-user machine that"
            " malware makes send mail. Please look after it, or tell its owner.",
            _WIDTH,
        ),
        "\n".join(
            [
                f"address     {ip}",
                f"looked at   from {first} to {last} (UTC)",
                f"judged      {verdict.label}, {verdict.score:g} points",
            ]
        ),
        "What speaks for and against that (points):\n" + "\n".join(map(_reason, verdict.reasons)),
        "What was measured:\n" + "\n".join(map(_measured, seen)),
        "What is not known:\n" + "\n".join(_unknown(has_mail)),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _reason(reason: Reason) -> str:
    row = BY_NAME.get(reason.signal.name)
    meaning = row.meaning if row is not None else reason.signal.name
    detail = f" ({reason.signal.detail})" if reason.signal.detail else ""
    return _item(f"{reason.points:+.1f}  {meaning}{detail}")


def _measured(seen: Observation) -> str:
    facts = json.dumps(dict(seen.facts), sort_keys=True) if seen.facts else seen.reason
    return _item(f"{_time(seen.taken_at)}  {seen.probe}: {seen.status} {facts}")


def _unknown(has_mail: bool) -> list[str]:
    lines = [
        "who uses the host, and what runs on it; we looked from outside",
        "how many mails it sent; the times are of our looking, set off by the arrival of one",
    ]
    if not has_mail:
        lines.append("the mail itself: we do not keep mails, and its header is not enclosed")
    return [_item(line) for line in lines]


def _item(line: str) -> str:
    clean = printable(line, _FACTS_AT_MOST)
    return "\n".join(wrap(clean, _WIDTH, initial_indent="  ", subsequent_indent="      "))


def _time(at: float) -> str:
    return _utc(at).strftime("%Y-%m-%d %H:%M:%S")


def _utc(at: float) -> datetime:
    """*at* as a date, or the beginning of time where it is none: a row may be anybody's."""
    try:
        return datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)

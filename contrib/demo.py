"""The demonstration that contrib/quickstart runs: three mails and the verdicts they get.

Everything is real but the senders: Postfix, nmap, and the filter with its default settings but for
a budget that leaves nmap time on a slow machine.  The senders are the laboratory's hosts
(tests/lab).  Runs inside tests/lab/enter only; exits with 1 if a verdict is not the one expected.
"""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime

from botmilter import header
from botmilter.signals import BY_NAME
from tests.lab import worlds
from tests.lab.mailsystem import Delivery, Letter, MailSystem

SETTINGS = {
    "trust.networks": [f"{worlds.FORWARDER.ip}/32"],
    "log.level": "info",
    "budget.per_mail_s": 15.0,
}

SHOWN = ("Received", "X-Bot-Verdict", "X-Bot-Score", "X-Bot-Level", "Subject")


def minutes_ago(minutes: int) -> str:
    """As a Received: line has it."""
    return format_datetime(datetime.now(UTC) - timedelta(minutes=minutes))


@dataclass(frozen=True, slots=True)
class Scene:
    title: str
    story: str
    letter: Letter
    expected: str
    """The verdict's label and origin."""


FORWARDED = f"""\
Received: from office ({worlds.INFECTED_BEHIND_FORWARDER.names[0]}
\t[{worlds.INFECTED_BEHIND_FORWARDER.ip}])
\tby {worlds.FORWARDER.names[0]} (Postfix) with ESMTP id 4F1D32C0
\tfor <anna@forwarder.example>; {minutes_ago(1)}
Received: from bank.example (bank.example [198.18.99.99])
\tby office with SMTP; {minutes_ago(2)}
Subject: Your account
"""

SCENES = (
    Scene(
        "An infected PC",
        f"""\
A Windows XP machine on a home line, {worlds.INFECTED_PC.ip}, sends spam straight to us.  Its
provider gave it a name out of a customer pool, and nothing answers on its port 25.""",
        Letter(worlds.INFECTED_PC.ip, helo="home-pc", header="Subject: Cheap watches\n"),
        f"bot {worlds.INFECTED_PC.ip}",
    ),
    Scene(
        "A proper mail server",
        f"""\
A Linux server, {worlds.MAIL_SERVER.ip}.  For it speak a mail service on port 25, a name that
leads back to it and the sender's own domain.  The wait ends as soon as enough has answered; what
had not by then stands under missing=, nmap always, which is not started here.""",
        Letter(
            worlds.MAIL_SERVER.ip,
            helo=worlds.MAIL_SERVER.names[0],
            sender="anna@proper.example",
            header="Subject: Minutes of our meeting\n",
        ),
        f"clean {worlds.MAIL_SERVER.ip}",
    ),
    Scene(
        "A PC behind a forwarder that we trust",
        f"""\
The mail comes from our forwarder, {worlds.FORWARDER.ip}, which [trust] networks names.  So its
Received: line is believed, and the PC in it, {worlds.INFECTED_BEHIND_FORWARDER.ip}, is judged.
The line below was made up by the sender: the host it accuses gets no packet.""",
        Letter(worlds.FORWARDER.ip, helo=worlds.FORWARDER.names[0], header=FORWARDED),
        f"bot {worlds.INFECTED_BEHIND_FORWARDER.ip}",
    ),
)


def main() -> int:
    surprises = 0
    print("\nStarting simulated hosts, a name server, Postfix and botmilter ...", flush=True)
    with MailSystem(worlds.DEMO, SETTINGS) as system:
        for number, scene in enumerate(SCENES, 1):
            print(f"\n{number}. {scene.title}\n\n{scene.story}\n", flush=True)
            delivery = system.send(scene.letter)
            surprises += not show(delivery, scene.expected)
        surprises += not show_packets(system.lab.destinations())
    return 1 if surprises else 0


def show(delivery: Delivery, expected: str) -> bool:
    """Print what was delivered and what it means; whether it is what was expected."""
    for name, value in raw_fields(delivery.mail):
        print(f"    {name}: {value}")
    verdict = header.parse(str(delivery.mail["X-Bot-Verdict"]))
    against = "Against the host:" if verdict.reasons else "Nothing against the host."
    print(f"\n  Taken after {delivery.took_s:.1f} s, judged '{verdict.label}'.  {against}")
    for reason in verdict.reasons:
        print(f"    {reason:24} {BY_NAME[reason].meaning}")
    found = f"{verdict.label} {verdict.origin}"
    if found != expected:
        print(f"\n  THIS IS NOT WHAT WAS EXPECTED: {expected}")
    return found == expected


def raw_fields(mail: EmailMessage) -> list[tuple[str, str]]:
    """The fields of interest, folded as they were delivered."""
    return [
        (name, value.replace("\n", "\n    ")) for name, value in mail.raw_items() if name in SHOWN
    ]


def show_packets(destinations: set[str]) -> bool:
    """Print where packets went, and whether only the judged hosts got any."""
    judged = {scene.expected.split()[1] for scene in SCENES}
    print(f"\nPackets went to {', '.join(sorted(destinations))} and to nobody else.")
    return destinations == judged


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to clean up: the private room is gone
    sys.exit(main())

"""What the filter adds to a mail's way through a real Postfix: one session, mail after mail.

Three Postfixes side by side: without a filter, with the bare pymilter floor (connect, end of
message, one header added), and with botmilter, which knows the host.  Rounds are interleaved; a
mail's time is from MAIL to the answer to its final dot.  The aim: botmilter at most 0.3 ms above
the floor.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from smtplib import SMTP
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contrib.benchmarks import kit
from tests.lab import mta, worlds
from tests.lab.dns import NameServer
from tests.lab.lab import Lab

FLOOR, OURS = "pymilter floor", "botmilter, known host"
_FIELDS = "".join(
    f"X-Field-{n}: the value of an ordinary header field, some sixty long\n" for n in range(11)
)
_TEXT = f"Subject: hello\n{_FIELDS}\n" + "x" * 70 * 40 + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = kit.arguments("postfix", __doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--mails", type=int, default=100, help="in each round, through each")
    given = parser.parse_args(argv)
    seen: dict[str, list[float]] = {}
    with ExitStack() as running:
        places = _start(running)
        for _ in range(given.rounds + 1):
            for name, address in places.items():
                seen.setdefault(name, []).append(_median_ms(address, given.mails))
    rows = [_row(name, seen) for name in seen]
    kit.report(given, ("Postfix", "pymilter", "libmilter"), rows)
    return 0


def _start(running: ExitStack) -> Mapping[str, str]:
    """Name, and the address of its Postfix."""
    running.enter_context(Lab([worlds.MAIL_SERVER]))
    running.enter_context(NameServer([worlds.MAIL_SERVER], worlds.RECORDS))
    folder = running.enter_context(mta.open_folder())
    floor = running.enter_context(kit.pymilter_floor(folder / "floor"))
    ours = folder / "milter"
    group = {"milter.socket_group": "postfix", "milter.workers": 1, "log.level": "info"}
    daemon = running.enter_context(kit.botmilter(ours, group))
    kit.make_known(ours, lambda: daemon.log)
    milters = {"no filter": "", FLOOR: f"unix:{floor}", OURS: daemon.address}
    places = {}
    for number, (name, milter) in enumerate(milters.items(), 2):
        home = running.enter_context(mta.open_folder())
        places[name] = f"127.0.0.{number}"
        options = {"virtual_transport": "discard:"}
        running.enter_context(mta.Postfix(home, [places[name]], milter, options))
    return places


def _median_ms(address: str, mails: int) -> float:
    """Of one session's mails, which Postfix takes for the known host's."""
    took_ms = []
    with SMTP(address, mta.MX_PORT, "localhost", 60.0) as client:
        client.ehlo()
        name = worlds.MAIL_SERVER.names[0]
        client.docmd("XCLIENT", f"ADDR={kit.KNOWN_HOST} NAME={name} HELO={name}")
        client.ehlo(name)
        for _ in range(mails):
            began = time.perf_counter()
            client.sendmail("anna@proper.example", [f"reader@{mta.DOMAIN}"], _TEXT)
            took_ms.append((time.perf_counter() - began) * 1000)
    return statistics.median(took_ms)


def _row(name: str, seen: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The first round is for warming up."""
    mine, bare, floor = (seen[one][1:] for one in (name, "no filter", FLOOR))
    return {
        "filter": name,
        "ms a mail": kit.median_spread(mine, 3),
        "x no filter": kit.median_spread([a / b for a, b in zip(mine, bare, strict=True)], 2),
        "ms added": kit.median_spread([a - b for a, b in zip(mine, bare, strict=True)], 3),
        "ms above floor": kit.median_spread([a - b for a, b in zip(mine, floor, strict=True)], 3),
    }


if __name__ == "__main__":
    raise SystemExit(main())

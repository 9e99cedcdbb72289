"""What an early start hides of the wait, and what it costs for a mail that the MTA rejects.

Three botmilters behind a real Postfix each, with ``start`` = connect, data and headers.  Strangers
send one mail each, over a way of so many milliseconds: the client waits a round trip before each
of its steps.  "mail waits" is the time from the final dot to the answer, less that of a Postfix
without a filter.  Then as many strangers send to somebody whom Postfix does not know, and leave:
"probed" says how many of those were sent a packet for it.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from smtplib import SMTP

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contrib.benchmarks import kit
from tests.lab import mta, worlds
from tests.lab.dns import NameServer
from tests.lab.host import Host
from tests.lab.lab import Lab

_STARTS = ("connect", "data", "headers")
_SETTINGS = {
    "milter.socket_group": "postfix",
    "milter.workers": 1,
    "store.kind": "memory",
    "probe.in_all_per_minute": 1_000_000,
    "probe.per_network_per_minute": 1_000_000,
}
_PROBED_WITHIN_S = 0.5
_OK = 250
_TEXT = "Subject: hello\r\n\r\n" + ("x" * 70 + "\r\n") * 40 + ".\r\n"

#: A stranger by number.
_KINDS: Mapping[str, Callable[[int], Host]] = {
    "PC, port 25 dropped": lambda n: worlds.pc(f"198.18.110.{n}", worlds.XP),
    "mail server": lambda n: worlds.server(
        f"198.18.111.{n}", worlds.LINUX, f"mail{n}.offices.example"
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = kit.arguments("start", __doc__)
    parser.add_argument("--mails", type=int, default=5, help="of each kind, with each start")
    parser.add_argument("--round-trips-ms", type=int, nargs="+", default=[20, 150])
    given = parser.parse_args(argv)
    each = (len(_STARTS) + 1) * len(given.round_trips_ms) * given.mails * 2
    strangers = {kind: [make(n) for n in range(1, each + 1)] for kind, make in _KINDS.items()}
    hosts = [worlds.MAIL_SERVER, *itertools.chain(*strangers.values())]
    rows = []
    with ExitStack() as running:
        lab = running.enter_context(Lab(hosts))
        running.enter_context(NameServer(hosts, worlds.RECORDS))
        places = _start(running)
        for kind, some in strangers.items():
            fresh = iter(some)
            for round_trip_ms in given.round_trips_ms:
                bare = _waits(places[""], fresh, given.mails, round_trip_ms)
                for start in _STARTS:
                    waits = _waits(places[start], fresh, given.mails, round_trip_ms)
                    rows.append(
                        {
                            "host": kind,
                            "round trip ms": round_trip_ms,
                            "start": start,
                            "mail waits ms": kit.median_spread(
                                [wait - statistics.median(bare) for wait in waits], 0
                            ),
                            "rejected": given.mails,
                            "probed": _probed(places[start], fresh, given.mails, lab),
                        }
                    )
    kit.report(given, ("Postfix", "pymilter", "libmilter", "nmap"), rows)
    return 0


def _start(running: ExitStack) -> Mapping[str, str]:
    """By ``start``, "" for no filter: the address of its Postfix."""
    places = {}
    for number, start in enumerate(("", *_STARTS), 2):
        milter = ""
        if start:
            folder = running.enter_context(mta.open_folder())
            settings = {**_SETTINGS, "milter.start": start}
            milter = running.enter_context(kit.botmilter(folder / "milter", settings)).address
        places[start] = f"127.0.0.{number}"
        home = running.enter_context(mta.open_folder())
        options = {"virtual_transport": "discard:"}
        running.enter_context(mta.Postfix(home, [places[start]], milter, options))
    return places


def _waits(address: str, fresh: Iterator[Host], mails: int, round_trip_ms: int) -> list[float]:
    """From the final dot to the answer, in milliseconds."""
    return [
        _session(address, host, f"reader@{mta.DOMAIN}", round_trip_ms / 1000)
        for host in itertools.islice(fresh, mails)
    ]


def _probed(address: str, fresh: Iterator[Host], mails: int, lab: Lab) -> int:
    """How many of those whose mail was rejected were sent a packet."""
    hosts = list(itertools.islice(fresh, mails))
    lab.forget_flows()
    for host in hosts:
        _session(address, host, "reader@elsewhere.example", 0.0)
    time.sleep(_PROBED_WITHIN_S)
    return len(lab.destinations() & {str(host.ip) for host in hosts})


def _session(address: str, host: Host, recipient: str, round_trip_s: float) -> float:
    """One mail of *host*'s, by XCLIENT; 0 where *recipient* is rejected."""
    name = host.names[0]
    with SMTP(address, mta.MX_PORT, "localhost", 60.0) as client:
        client.ehlo()
        client.docmd("XCLIENT", f"ADDR={host.ip} NAME={name} HELO={name}")
        steps: Sequence[Callable[[], tuple[int, bytes]]] = (
            lambda: client.ehlo(name),
            lambda: client.mail(f"anna@{name}"),
            lambda: client.rcpt(recipient),
        )
        for step in steps:
            time.sleep(round_trip_s)
            code, answer = step()
            if code != _OK:
                return 0.0
        time.sleep(round_trip_s)
        client.docmd("DATA")
        time.sleep(round_trip_s)
        client.send(_TEXT)
        began = time.perf_counter()
        code, answer = client.getreply()
        if code != _OK:
            raise RuntimeError(f"{host.ip}: {code} {answer!r}")
        return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    raise SystemExit(main())

"""How fast the survey takes mail in and measures hosts, beside nmap alone and the study's way.

``harvest``: mails into the work list, against ``received.parse`` alone over the same headers, and
memory after a tenth and after all of them.  ``hosts``: a mixed list of the laboratory's hosts, by
``botmilter survey``, by ``xargs -P16 nmap`` with the same options, and, over a sample, by the
study's way: one host after the other, ping, nmap, SMTP.  Each in one run on this machine; ratios
mean something, seconds only here.
"""

from __future__ import annotations

import gc
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from botmilter import mailbox, received  # noqa: E402 - the clone itself is not on the path
from botmilter.clock import Deadline  # noqa: E402
from botmilter.model import Target, Trust  # noqa: E402
from botmilter.probes.osdetect import options  # noqa: E402
from botmilter.probes.ping import PingProbe, echo  # noqa: E402
from botmilter.survey.intake import Intake  # noqa: E402
from botmilter.survey.worklist import WorkList  # noqa: E402
from contrib.benchmarks import kit  # noqa: E402
from tests.lab import worlds  # noqa: E402
from tests.lab.dns import NameServer  # noqa: E402
from tests.lab.host import FILTERED, Host, black_hole  # noqa: E402
from tests.lab.lab import Lab  # noqa: E402
from tests.survey import study  # noqa: E402

_STUDY = (HERE.parents[1] / "tests" / "data" / "study.header").read_bytes()

#: What the project promises.
HARVEST_RATIO = 0.5
WALL_RATIO = 1.1
STUDY_RATIO = 10.0
#: RSS may grow by no more from a tenth of the mails to all.
GROWTH_MIB = 8.0
_TURNS = 10
_FROM = b"From x Sun Aug  2 01:00:00 2009\n"
_LIMIT_S = 15.0
_NMAPS = 16


def main(argv: Sequence[str] | None = None) -> int:
    parser = kit.arguments("survey", __doc__)
    parser.add_argument("--mails", type=int, default=100_000)
    parser.add_argument("--hosts", type=int, default=256)
    parser.add_argument("--sample", type=int, default=16, help="hosts measured the study's way")
    parser.add_argument("--only", choices=("harvest", "hosts"))
    given = parser.parse_args(argv)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if given.only != "hosts":
            result["harvest"] = harvest(Path(folder), given.mails)
        if given.only != "harvest":
            result["hosts"] = measure(Path(folder), given.hosts, given.sample)
    kit.publish(given, ("nmap",), result, json.dumps(result, indent=1))
    return 0 if all(part["kept"] for part in result.values()) else 1


# -- harvest ------------------------------------------------------------------------------------


def harvest(folder: Path, mails: int) -> dict[str, Any]:
    """Mails like the study's own, which count; and, to be seen beside them, the shortest there
    are: one line, where reading no further than the origin saves nothing."""
    border = Trust(networks=(ip_network("203.216.244.210/32"),))
    found = {
        "study": _harvest(folder / "study", mails, _study_mail, border),
        "one_line": _harvest(folder / "short", mails, _short_mail, Trust()),
    }
    return {"mails": mails, **found, "kept": found["study"]["kept"]}


def _study_mail(number: int) -> bytes:
    return _STUDY.replace(b"61.48.71.52", str(_address(number)).encode()).replace(
        b"D4CFD4A50043", b"%012X" % number
    )


def _short_mail(number: int) -> bytes:
    return study.mail(_address(number), number).partition(b"\n\n")[0] + b"\n"


def _address(number: int) -> IPv4Address:
    return IPv4Address(0xC6120000 + number % 20_000)


def _harvest(
    folder: Path, mails: int, mail: Callable[[int], bytes], trust: Trust
) -> dict[str, Any]:
    """In turns, so that what else the machine does slows both alike."""
    took_s = alone_s = 0.0
    rss: list[float] = []
    folder.mkdir()
    with WorkList(folder / "out") as work:
        intake = Intake(work, work.begin(), trust)
        for start in range(0, mails, mails // _TURNS):
            blocks = [mail(number) for number in range(start, start + mails // _TURNS)]
            box = folder / f"{start}.mbox"
            box.write_bytes(b"\n".join(_FROM + block + b"\nbuy\n" for block in blocks))
            gc.collect()
            began = time.perf_counter()
            counts = intake.take(mailbox.messages(box), lambda counts: None)
            taken_at = time.perf_counter()
            for block in blocks:
                received.parse(block)
            took_s += taken_at - began
            alone_s += time.perf_counter() - taken_at
            assert counts.new == len(blocks)
            rss.append(_rss_mib())
    return {
        "mails_per_s": round(mails / took_s),
        "parse_alone_per_s": round(mails / alone_s),
        "ratio": round(alone_s / took_s, 2),
        "rss_growth_mib": round(rss[-1] - rss[0], 1),
        "kept": alone_s / took_s >= HARVEST_RATIO and rss[-1] - rss[0] <= GROWTH_MIB,
    }


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


# -- hosts --------------------------------------------------------------------------------------


def a_mix(count: int) -> list[Host]:
    """PCs, servers, appliances; one of eight behind a firewall, one of eight dead."""
    hosts: list[Host] = []
    for number in range(count):
        ip = f"198.18.{110 + number // 200}.{1 + number % 200}"
        kinds = (
            worlds.pc(ip, worlds.XP),
            worlds.server(ip, worlds.LINUX, f"mail{number}.example"),
            worlds.pc(ip, worlds.W7),
            worlds.server(ip, worlds.SERVER_2016, f"mail{number}.example"),
            replace(worlds.HOME_ROUTER, ip=IPv4Address(ip), names=(worlds.dynamic_name(ip),)),
            replace(worlds.server(ip, worlds.FREEBSD, f"mx{number}.example"), other_ports=FILTERED),
            worlds.server(ip, worlds.LINUX, f"out{number}.example"),
            black_hole(ip, worlds.dynamic_name(ip)),
        )
        hosts.append(kinds[number % len(kinds)])
    return hosts


def measure(folder: Path, count: int, sample: int) -> dict[str, Any]:
    """Survey, nmap, nmap, survey: what else the machine does slows both alike."""
    hosts = a_mix(count)
    with Lab(hosts), NameServer(hosts, worlds.RECORDS):
        runs = [way(folder, hosts) for way in (_survey, _bare, _bare, _survey)]
        one_s = _study_way(hosts[:sample]) / sample * count
    survey_s, bare_s = (runs[0][0] + runs[3][0]) / 2, (runs[1][0] + runs[2][0]) / 2
    survey_exact, bare_exact = runs[0][1] + runs[3][1], runs[1][1] + runs[2][1]
    return {
        "hosts": count,
        "survey_s": round(survey_s, 1),
        "bare_nmap_s": round(bare_s, 1),
        "study_s_from_sample": round(one_s, 1),
        "exact_in_two_runs": {"survey": survey_exact, "bare_nmap": bare_exact},
        "wall_ratio": round(survey_s / bare_s, 2),
        "study_ratio": round(one_s / survey_s, 1),
        "kept": survey_s <= WALL_RATIO * bare_s
        and survey_exact >= bare_exact
        and one_s >= STUDY_RATIO * survey_s,
    }


def _survey(folder: Path, hosts: Sequence[Host]) -> tuple[float, int]:
    """Seconds, and how many hosts nmap named exactly."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    (folder / "spam").write_bytes(study.mbox(host.ip for host in hosts))
    settings = (
        *('probe.allow_networks=["198.18.0.0/15"]', 'store.kind="memory"'),
        *("probe.in_all_per_minute=1000000", "probe.per_network_per_minute=1000000"),
    )
    command = [sys.executable, "-m", "botmilter", "survey", str(folder / "spam"), "--out",
               str(folder / "records"), "--at-once", str(_NMAPS)]  # fmt: skip
    command += [word for setting in settings for word in ("--set", setting)]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    took_s = time.monotonic() - began
    lines = (folder / "records" / "records.jsonl").read_text().splitlines()
    named = {one["ip"]: one["observations"] for one in map(json.loads, lines)}
    exact = 0
    for host in hosts:
        matches = [
            match
            for seen in named[str(host.ip)]
            if seen["probe"] == "osdetect"
            for match in seen["facts"].get("matches", ())
        ]
        exact += _is_exact(host, [(m["name"], int(m["accuracy"])) for m in matches])
    return took_s, exact


def _bare(folder: Path, hosts: Sequence[Host]) -> tuple[float, int]:
    out = Path(tempfile.mkdtemp(dir=folder))
    nmap = ["nmap", *options(hosts[0].ip, _LIMIT_S)]
    nmap[nmap.index("-oX") + 1] = f"{out}/{{}}.xml"
    command = ["xargs", f"-P{_NMAPS}", "-I{}", *nmap, "{}"]
    addresses = "\n".join(str(host.ip) for host in hosts)
    began = time.monotonic()
    subprocess.run(command, input=addresses, text=True, check=True, stdout=subprocess.DEVNULL)
    took_s = time.monotonic() - began
    exact = 0
    for host in hosts:
        tree = ElementTree.parse(out / f"{host.ip}.xml")
        matches = [(m.get("name", ""), int(m.get("accuracy", 0))) for m in tree.iter("osmatch")]
        exact += _is_exact(host, matches)
    return took_s, exact


def _is_exact(host: Host, matches: Sequence[tuple[str, int]]) -> bool:
    return any(name == host.persona and accuracy == 100 for name, accuracy in matches)


def _study_way(hosts: Sequence[Host]) -> float:
    began = time.monotonic()
    for host in hosts:
        ip = str(host.ip)
        PingProbe(2.0, echo).measure(Target(host.ip), Deadline.after(2.0))
        subprocess.run(["nmap", "-n", "-Pn", "-O", "-p", "25,80,135,139,443,445,3389,22", ip],
                       capture_output=True, check=True)  # fmt: skip
        try:
            with socket.create_connection((ip, 25), timeout=8.0) as connection:
                connection.settimeout(8.0)
                connection.recv(512)
        except OSError:
            pass
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())

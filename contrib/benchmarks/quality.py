"""How well a saved mail's own header tells bots from servers, beside the peers' rules.

Reads the real headers of ``../shared/corpus`` (or ``--corpus``), the wanted and the unwanted mail
of one site, and judges each mail by ``offline``: no packet, no look-up.  A score may only be
compared with others of the same receiving host, since each notes other things; so the area under
the curve is taken over pairs of one wanted and one unwanted mail *of the same receiving host*.
Its interval is a bootstrap over origins, not mails: a thousand mails of one list server are one
fact.  Nothing is fitted here; the weights are the defaults.

The peers: SpamAssassin's own rules, run by SpamAssassin (Debian's package) without network, once
those about names and once all about the header's hosts, times and forged mail programs; the
Botnet plugin and rspamd's hfilter by what they publish that they look at, in our words.  Then the
other end: phishing sent through today's providers, where nobody must be called a bot.
"""

# debian: spamassassin

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from botmilter import config, mailbox, offline, received, score  # noqa: E402 - the clone itself is not on the path
from botmilter.model import Hop, Origin, Signal, Trust  # noqa: E402
from botmilter.net import site_network  # noqa: E402
from botmilter.received import forgery, origin  # noqa: E402
from contrib.benchmarks import kit  # noqa: E402

CORPUS = HERE.parents[2] / "shared" / "corpus" / "headers.tar.gz"
WANTED, UNWANTED, MODERN = "easy-ham-1", "spam-1", "phishing-pot"
#: From the corpus' own README.
_SITE = (
    "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 "
    "212.17.35.15 193.120.211.219 213.105.180.140 193.120.149.226"
)
NETWORKS = {
    WANTED: _SITE,
    UNWANTED: _SITE,
    MODERN: "10.0.0.0/8 fe80::/10 2603:1000::/24 2a01:111::/32",
}
ROUNDS = 200

#: SpamAssassin's rules about names, and those about everything else a header tells of hosts.
SA_NAMES = re.compile(r"RDNS|HELO")
SA_HEADER = re.compile(
    r"RDNS|HELO|RCVD|RECEIVED|RELAY|DATE|MSGID|MESSAGEID|FORGED|FAKE|RATWARE|UNPARSEABLE"
)


@dataclass(frozen=True, slots=True)
class Case:
    """One mail of the corpus."""

    folder: str
    path: Path
    origin: Origin
    signals: tuple[Signal, ...]

    @property
    def receiver(self) -> str:
        return (self.origin.hop.by or "") if self.origin.hop is not None else ""

    @property
    def host(self) -> str:
        return str(self.origin.ip)


Scorer = Callable[[Case], float]


def main(argv: Sequence[str] | None = None) -> int:
    parser = kit.arguments("quality", __doc__)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="headers.tar.gz")
    options = parser.parse_args(argv)
    if not options.corpus.exists():
        print(f"no corpus at {options.corpus}: nothing measured", file=sys.stderr)
        return 69
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-xzf", options.corpus, "-C", folder], check=True)
        result = measure(Path(folder) / "corpus")
    kit.publish(options, ("SpamAssassin",), result, _tables(result))
    return 0


def measure(folder: Path) -> dict[str, Any]:
    rules = default_rules()
    cases = read(folder)
    site = of_one_site(cases)
    peer = _spamassassin(site)
    scorers: dict[str, Scorer] = {
        "botmilter check --offline": lambda case: score.judge(case.signals, rules).score,
        "  names alone": lambda case: score.judge(_names_only(case.signals), rules).score,
        "Botnet plugin (re-implemented)": lambda case: _botnet(case.origin.hop),
        "rspamd hfilter (re-implemented)": lambda case: _hfilter(case.origin.hop),
    }
    if peer:
        scorers["SpamAssassin, names"] = lambda case: _sum(peer[case.path], SA_NAMES)
        scorers["SpamAssassin, whole header"] = lambda case: _sum(peer[case.path], SA_HEADER)
    return {
        "mails": Counter(case.folder for case in site),
        "rows": {name: _row(site, scorer) for name, scorer in scorers.items()},
        "parts": _parts([(case, score.judge(case.signals, rules).score) for case in site]),
        "signals": _signal_rows(site),
        "modern": Counter(
            score.judge(case.signals, rules).label.value for case in cases if case.folder == MODERN
        ),
    }


def default_rules() -> score.Rules:
    settings = config.load(None)
    return score.Rules(settings.weights, settings.score.bot, settings.score.suspect)


def read(folder: Path) -> list[Case]:
    return [case for name in NETWORKS for case in _read(folder / name)]


def of_one_site(cases: list[Case]) -> list[Case]:
    return [case for case in cases if case.folder != MODERN and case.origin.ip is not None]


def _read(folder: Path) -> Iterable[Case]:
    trust = Trust(networks=tuple(ip_network(text) for text in NETWORKS[folder.name].split()))
    for path in sorted(folder.glob("*.eml")):
        for mail in mailbox.messages(str(path)):
            chain = received.parse(mail.header)
            found = origin.find(chain, trust)
            seen = offline.signals(mail.header, chain, found)
            yield Case(folder.name, path, found, (*seen, *forgery.signals(chain, found, trust)))


def _names_only(signals: Iterable[Signal]) -> list[Signal]:
    return [one for one in signals if one.name.split(".")[0] in ("rdns", "helo", "host")]


# -- the figures --------------------------------------------------------------------------------


def _row(cases: list[Case], scorer: Scorer) -> dict[str, Any]:
    points = [(case, scorer(case)) for case in cases]
    low, high = _interval(points)
    return {
        "auc": round(auc_within(points), 3),
        "auc_95": [round(low, 3), round(high, 3)],
        "hits_at_1": round(hits(points, 0.01), 2),
        "hits_at_5": round(hits(points, 0.05), 2),
    }


def auc_within(points: list[tuple[Case, float]]) -> float:
    """Over all pairs within a receiving host: how often the unwanted mail has more points."""
    groups: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for case, value in points:
        groups[case.receiver][case.folder == UNWANTED].append(value)
    won = pairs = 0.0
    for wanted, unwanted in groups.values():
        won += _wins(wanted, unwanted)
        pairs += len(wanted) * len(unwanted)
    return won / pairs if pairs else 0.5


def _parts(points: list[tuple[Case, float]]) -> dict[str, dict[str, Any]]:
    """The same area over parts of the sample: each receiving host alone, and all mail but that
    of one of the three largest wanted networks.  What holds in one part only is luck."""
    chosen = {
        f"received at {name}": [one for one in points if one[0].receiver == name]
        for name in sorted({case.receiver for case, _ in points})
    }
    wanted = Counter(_network(case) for case, _ in points if case.folder == WANTED)
    for network, _ in wanted.most_common(3):
        chosen[f"without {network}"] = [one for one in points if _network(one[0]) != network]
    return {
        name: {**Counter(case.folder for case, _ in part), "auc": round(auc_within(part), 3)}
        for name, part in chosen.items()
        if len({case.folder for case, _ in part}) == 2
    }


def _network(case: Case) -> str:
    return str(site_network(case.origin.ip)) if case.origin.ip is not None else ""


def _wins(wanted: list[float], unwanted: list[float]) -> float:
    lower, won = Counter(wanted), 0.0
    for value, count in Counter(unwanted).items():
        below = sum(n for other, n in lower.items() if other < value)
        won += count * (below + lower[value] / 2)
    return won


def hits(points: list[tuple[Case, float]], share: float) -> float:
    """Unwanted mail above the threshold that at most *share* of the wanted mail passes."""
    wanted = sorted((value for case, value in points if case.folder == WANTED), reverse=True)
    unwanted = [value for case, value in points if case.folder == UNWANTED]
    threshold = wanted[int(share * len(wanted))]
    return sum(value > threshold for value in unwanted) / len(unwanted)


def _interval(points: list[tuple[Case, float]]) -> tuple[float, float]:
    by_host: dict[tuple[str, str], list[tuple[Case, float]]] = defaultdict(list)
    for case, value in points:
        by_host[case.folder, case.host].append((case, value))
    hosts, chance = list(by_host.values()), random.Random(1)
    rounds = sorted(
        auc_within([one for host in chance.choices(hosts, k=len(hosts)) for one in host])
        for _ in range(ROUNDS)
    )
    return rounds[ROUNDS // 40], rounds[-1 - ROUNDS // 40]


def _signal_rows(cases: list[Case]) -> dict[str, list[float]]:
    """Of each signal: share of wanted and of unwanted mail that has it, in per cent."""
    total = Counter(case.folder for case in cases)
    seen = Counter(
        (name, case.folder) for case in cases for name in {one.name for one in case.signals}
    )
    return {
        name: [round(100 * seen[name, folder] / total[folder], 1) for folder in (WANTED, UNWANTED)]
        for name in sorted({name for name, _ in seen})
    }


# -- the peers ----------------------------------------------------------------------------------


def _spamassassin(cases: list[Case]) -> dict[Path, dict[str, float]]:
    """Its own rules and scores; empty where it is not installed."""
    if shutil.which("spamassassin") is None:
        print("spamassassin is not installed: left out", file=sys.stderr)
        return {}
    files = [str(case.path) for case in cases]
    command = ["perl", str(HERE / "spamassassin_hits.pl"), _SITE, *files]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    if len(lines) != len(cases):
        print(f"spamassassin failed, left out: {run.stderr[-300:]}", file=sys.stderr)
        return {}
    return {case.path: json.loads(line) for case, line in zip(cases, lines, strict=True)}


def _sum(hits: dict[str, float], wanted: re.Pattern[str]) -> float:
    return sum(points for name, points in hits.items() if wanted.search(name))


_CLIENT_WORDS = re.compile(
    r"\b(?:\w*cable\w*|catv|\w*ddns\w*|\w*dhcp\w*|dial-?up|dip|\w*dsl\w*|dyn\w*|\w*modem\w*|"
    r"\w*ppp\w*|res|resnet|\w*client\w*|fixed|ip|\w*pool\w*|static|user)(?=[\d.-]|\b)"
)
_SERVER_WORDS = re.compile(r"\b(?:mail|mta|mx|relay|smtp|exch\w*|outgoing)\d*(?=[.-])")


def _has_address(name: str, hop: Hop) -> bool:
    """Two or more octets of the address, decimal or hexadecimal, as the plugin counts them."""
    octets = hop.ip.packed if hop.ip is not None else b""
    numbers = re.findall(r"\d+", name)
    decimal = sum(str(octet) in numbers or f"{octet:03}" in name for octet in octets)
    return decimal >= 3 or "".join(f"{octet:02x}" for octet in octets) in name


def _botnet(hop: Hop | None) -> float:
    """Rules of the Botnet plugin: no rdns, rdns that does not lead back, a client's name."""
    if hop is None:
        return 0.0
    name = (hop.rdns or "").lower()
    if not name:
        return 5.0
    points = 5.0 if hop.rdns_verified is False else 0.0
    is_client = _has_address(name, hop) or _CLIENT_WORDS.search(name) is not None
    if is_client and not _SERVER_WORDS.search(name):
        points += 5.0
    return points


#: hfilter's five grades for a host name, and 1.5 to 4.5 points for kinds of greeting.
_GRADES: tuple[tuple[re.Pattern[str], float], ...] = (
    (re.compile(r"[.-]dyn(?:amic|ip)?[.-]|dhcp|ppp|dial-?up|\bpool|\bdip\b"), 3.0),
    (re.compile(r"[a-z]*dsl|cable|catv|broadband|\bcust|client|wireless|modem|user"), 2.5),
    (re.compile(r"(?:\d{1,3}[.-]){3}\d{1,3}|\d{12}"), 2.0),
    (re.compile(r"\d{1,3}[.-]\d{1,3}[.-]|\d{6,}"), 1.5),
    (re.compile(r"^\w*\d{3,}"), 1.0),
)


def _grade(name: str) -> float:
    return max((points for pattern, points in _GRADES if pattern.search(name)), default=0.0)


def _hfilter(hop: Hop | None) -> float:
    if hop is None:
        return 0.0
    helo, name = (hop.helo or "").lower(), (hop.rdns or "").lower()
    points = _grade(name) if name else 2.0
    if re.fullmatch(r"\[?[\d.]+\]?", helo):
        points += 3.0 if helo.strip("[]") == str(hop.ip) else 4.5
    elif "." not in helo or helo.startswith("localhost"):
        points += 2.0
    else:
        points = max(points, _grade(helo))
    return points + (1.0 if helo and name and helo != name else 0.0)


# -- the tables ---------------------------------------------------------------------------------


def _tables(result: dict[str, Any]) -> str:
    rows, signals = result["rows"], result["signals"]
    lines = [f"{dict(result['mails'])}, area within each receiving host, 95 % over origins", ""]
    lines += [f"{'':34}{'area':>6}{'95 %':>16}{'hits at 1 %':>13}{'at 5 %':>8}"]
    for name, row in rows.items():
        low, high = row["auc_95"]
        lines.append(
            f"{name:34}{row['auc']:6.3f}{low:9.3f}-{high:.3f}"
            f"{row['hits_at_1']:13.0%}{row['hits_at_5']:8.0%}"
        )
    lines += ["", f"{'botmilter, parts of the sample':34}{'area':>6}{'wanted':>10}{'unwanted':>10}"]
    lines += [
        f"{name:34}{row['auc']:6.3f}{row[WANTED]:10}{row[UNWANTED]:10}"
        for name, row in result["parts"].items()
    ]
    lines += ["", f"{'share of mails, %':26}{'wanted':>8}{'unwanted':>10}"]
    lines += [f"{name:26}{shares[0]:8}{shares[1]:10}" for name, shares in signals.items()]
    lines += ["", f"phishing through today's providers: {dict(result['modern'])}"]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())

"""How a host must answer nmap's OS detection to be taken for a given system.

In: the name of a fingerprint in nmap's own ``nmap-os-db``, read at run time from the installed
file.  Out: a :class:`Persona`, the replies to the sixteen probes that the fingerprint describes
(https://nmap.org/book/osdetect-methods.html tells what each letter means).

A fingerprint gives ranges and alternatives; a persona is one host within them: the middle of a
range, the longest of alternatives (``AS`` before ``A``: the fuller answer is the one that the
other lines of a merged fingerprint go with).  Where several fingerprints share a name, the one
that answers most is taken, of these the one with the widest range of SP.

Limits: where nmap's own SEQ values contradict each other the nearest that can be played is taken;
IPv6 has other probes and is not played.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.lab import packets, quirks

DATABASE = Path("/usr/share/nmap/nmap-os-db")

#: Test line -> its attributes as the file has them.
Tests = Mapping[str, Mapping[str, str]]

_LINE = re.compile(r"^([A-Z0-9]+)\((.*)\)$")


class UnknownPersonaError(LookupError):
    """The installed database has no fingerprint of that name."""


@dataclass(frozen=True, slots=True)
class TcpReply:
    """One TCP answer; ``None`` for *seq* or *ack* letters never occurs, empty means zero."""

    ttl: int
    dont_fragment: bool
    window: int
    seq: str
    ack: str
    flags: int
    options: str
    data: bytes
    reserved: int
    urgent: int


@dataclass(frozen=True, slots=True)
class UdpReply:
    """The ICMP port unreachable to the U1 probe."""

    ttl: int
    dont_fragment: bool
    length: int
    unused: int
    quoted_length: int | None
    """As it stands in the quoted IP header; None as it was sent.  Likewise below."""
    quoted_ident: int | None
    quoted_checksum: str
    quoted_udp_checksum: int | None
    spoil_data: bool


@dataclass(frozen=True, slots=True)
class EchoReply:
    ttl: int
    dont_fragment: str
    code: str


@dataclass(frozen=True, slots=True)
class Sequences:
    """How numbers grow from one answer to the next."""

    rate: float
    """Initial sequence numbers, per second."""
    spread: float
    """Standard deviation of that rate that nmap shall measure."""
    step: int
    """Greatest common divisor of the increments."""
    tcp_ident: str
    closed_ident: str
    icmp_ident: str
    shared_ident: bool
    timestamp_hz: float | None
    """Zero for a clock that stands at zero, None for no clock."""


@dataclass(frozen=True, slots=True)
class Persona:
    name: str
    classes: tuple[str, ...]
    """``Microsoft | Windows | XP | general purpose``"""
    tcp: Mapping[str, TcpReply]
    """Probe name (``S1`` … ``S6``, ``ECN``, ``T2`` … ``T7``) to answer; silent where absent."""
    udp: UdpReply | None
    echo: EchoReply | None
    sequences: Sequences

    @property
    def ttl(self) -> int:
        """What ordinary traffic of this host carries."""
        first = next(iter(self.tcp.values()), None) or self.echo or self.udp
        return first.ttl if first else 64


@cache
def load(name: str, database: Path = DATABASE) -> Persona:
    """The persona of fingerprint *name*.  Raises UnknownPersonaError, or OSError where nmap's
    database is not installed."""
    name = _today(name, database)
    blocks = list(_blocks(name, database))
    if not blocks:
        raise UnknownPersonaError(f"{database} has no fingerprint named {name!r}")
    return _persona(name, min(blocks, key=lambda block: (_silences(block), -_leeway(block))))


def names(database: Path = DATABASE) -> list[str]:
    """Every name that :func:`load` knows, in the file's order."""
    found = re.findall(r"^Fingerprint (.*)$", _text(database), re.MULTILINE)
    return list(dict.fromkeys(found))


def _today(name: str, database: Path) -> str:
    """What *name* is called in this *database*: later ones widen the range at a name's end, as
    from ``Linux 4.15 - 5.6`` to ``Linux 4.15 - 5.19``."""
    if f"\nFingerprint {name}\n" in _text(database):
        return name
    start = name.rpartition(" - ")[0]
    alike = [known for known in names(database) if start and known.startswith(f"{start} - ")]
    return alike[-1] if alike else name


@cache
def _text(database: Path) -> str:
    return database.read_text(encoding="latin-1")


def _blocks(name: str, database: Path) -> Iterator[list[str]]:
    text, mark = _text(database), f"\nFingerprint {name}\n"
    start = text.find(mark)
    while start >= 0:
        yield text[start + 1 : text.index("\n\n", start)].splitlines()
        start = text.find(mark, start + 1)


def _silences(block: list[str]) -> int:
    """How many probes go unanswered."""
    missing = 13 - sum(1 for line in block if _LINE.match(line))
    return missing + sum("R=N" in line for line in block)


def _leeway(block: list[str]) -> int:
    """The width of SP's range: room for a busy machine's scheduler."""
    for line in block:
        if match := re.match(r"SEQ\(SP=([0-9A-F]+)-([0-9A-F]+)", line):
            return int(match[2], 16) - int(match[1], 16)
    return 0


def _persona(name: str, block: list[str]) -> Persona:
    tests = {match[1]: _attributes(match[2]) for line in block if (match := _LINE.match(line))}
    return Persona(
        name=name,
        classes=tuple(line.removeprefix("Class ") for line in block if line.startswith("Class ")),
        tcp=dict(_tcp_replies(tests)),
        udp=_udp_reply(tests),
        echo=_echo_reply(tests),
        sequences=_sequences(tests.get("SEQ", {})),
    )


def _attributes(text: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in text.split("%") if item)
    return {key: value for key, _, value in pairs}


def _answers(test: Mapping[str, str] | None) -> bool:
    return bool(test) and test is not None and test.get("R", "Y") != "N"


def _longest(expression: str) -> str:
    return max(expression.split("|"), key=len)


def _number(expression: str, default: int = 0) -> int:
    """The middle of the first alternative: ``FA-104``, ``>5``, ``8000|4000``."""
    first = expression.split("|")[0] or "0"
    if first[0] in "<>":
        return int(first[1:], 16) + (1 if first[0] == ">" else -1)
    low, _, high = first.partition("-")
    try:
        return (int(low, 16) + int(high or low, 16)) // 2
    except ValueError:
        return default


def _number_unless(expression: str, good: str = "G") -> int | None:
    return None if good in expression.split("|") or not expression else _number(expression)


def _ttl(test: Mapping[str, str]) -> int:
    """The usual start value where it lies in the measured range, else the middle of that."""
    guess, exact = test.get("TG", ""), test.get("T", "40").split("|")[0]
    low, _, high = exact.partition("-")
    if guess and int(low, 16) <= _number(guess) <= int(high or low, 16):
        return _number(guess)
    return min(255, _number(exact))


_FLAGS = dict(zip("FSRPAUE", (1 << bit for bit in range(7)), strict=True))


def _tcp_replies(tests: Tests) -> Iterator[tuple[str, TcpReply]]:
    first = tests.get("T1")
    if _answers(first) and first is not None:
        for number in range(1, 7):
            own = {
                "O": tests.get("OPS", {}).get(f"O{number}", ""),
                "W": tests.get("WIN", {}).get(f"W{number}", "0"),
            }
            yield f"S{number}", _tcp_reply({**first, **own})
    ecn = tests.get("ECN")
    if _answers(ecn) and ecn is not None:
        echoed = _longest(ecn.get("CC", "N"))
        flags = {"Y": "ASE", "S": "ASE", "O": "AS"}.get(echoed, "AS")
        yield "ECN", _tcp_reply({"S": "O", "A": "S+", "F": flags, **ecn}, congested=echoed)
    for name in ("T2", "T3", "T4", "T5", "T6", "T7"):
        test = tests.get(name)
        if _answers(test) and test is not None:
            yield name, _tcp_reply(test)


def _tcp_reply(test: Mapping[str, str], congested: str = "N") -> TcpReply:
    flags = sum(_FLAGS[letter] for letter in _longest(test.get("F", "")))
    oddities = _longest(test.get("Q", ""))
    return TcpReply(
        ttl=_ttl(test),
        dont_fragment=_longest(test.get("DF", "N")) == "Y",
        window=_number(test.get("W", "0")),
        seq=_longest(test.get("S", "Z")),
        ack=_longest(test.get("A", "Z")),
        flags=flags | (packets.CWR if congested in "SO" else 0),
        options=_longest(test.get("O", "")),
        data=quirks.data_of_crc(_number(test.get("RD", "0"))),
        reserved=8 if "R" in oddities else 0,
        urgent=0xBEEF if "U" in oddities else 0,
    )


def _udp_reply(tests: Tests) -> UdpReply | None:
    test = tests.get("U1")
    if not _answers(test) or test is None:
        return None
    return UdpReply(
        ttl=_ttl(test),
        dont_fragment=_longest(test.get("DF", "N")) == "Y",
        length=_number(test.get("IPL", "164")),
        unused=_number(test.get("UN", "0")),
        quoted_length=_number_unless(test.get("RIPL", "")),
        quoted_ident=_number_unless(test.get("RID", "")),
        quoted_checksum=test.get("RIPCK", "G").split("|")[0],
        quoted_udp_checksum=_number_unless(test.get("RUCK", "")),
        spoil_data=test.get("RUD", "G").split("|")[0] == "I",
    )


def _echo_reply(tests: Tests) -> EchoReply | None:
    test = tests.get("IE")
    if not _answers(test) or test is None:
        return None
    return EchoReply(
        ttl=_ttl(test),
        dont_fragment=test.get("DFI", "S").split("|")[0],
        code=test.get("CD", "S").split("|")[0],
    )


def _sequences(test: Mapping[str, str]) -> Sequences:
    tcp, icmp, shared = _idents(test)
    step = max(1, int(re.split(r"[-|]", test.get("GCD", "1").lstrip("><"))[0], 16))
    rate = _power(_number(test.get("ISR", "0")))
    spread = _spread(test, rate, unit=step if step > 9 else 1)
    return Sequences(
        rate=rate,
        spread=spread,
        step=step,
        tcp_ident=tcp,
        closed_ident=test.get("CI", "I").split("|")[0],
        icmp_ident=icmp,
        shared_ident=shared,
        timestamp_hz=_timestamp_hz(test.get("TS", "U").split("|")[0]),
    )


def _spread(test: Mapping[str, str], rate: float, unit: int) -> float:
    """The middle of SP's range; its low end where the middle is less than a twentieth of the
    rate, since then what the scheduler adds to nmap's times is no longer small beside it."""
    expression = test.get("SP", "0")
    middle, low = _number(expression), int(re.split(r"[-|]", expression)[0], 16)
    return unit * _power(middle if unit * _power(middle) > rate / 20 else low)


def _power(eighths: int) -> float:
    """nmap reports rates and spreads as eight times their binary logarithm."""
    return 2.0 ** (eighths / 8) if eighths else 0.0


def _idents(test: Mapping[str, str]) -> tuple[str, str, bool]:
    """TI and II that fit each other and SS: nmap prints SS only where both grow alike."""
    tcp = test.get("TI", "I").split("|")
    icmp = [kind for kind in test.get("II", "I").split("|") if kind != "RD"] or ["I"]
    pairs = [(one, other) for one in tcp for other in icmp]
    if "SS" not in test:
        return (*pairs[0], False)
    alike = [pair for pair in pairs if pair[0] == pair[1] and pair[0] in ("I", "BI", "RI")]
    return (*(alike or pairs)[0], "S" in test["SS"].split("|"))


def _timestamp_hz(letter: str) -> float | None:
    """TS is U, 0, or the binary logarithm of the clock's rate, with three round exceptions."""
    if letter == "U":
        return None
    return {"0": 0.0, "1": 2.0, "7": 100.0, "8": 200.0}.get(letter, 2.0 ** _number(letter))

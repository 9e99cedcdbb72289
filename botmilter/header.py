"""The header fields that carry a verdict: out of a Verdict, and back.  Pure.

``docs/header.md`` has the grammar (ABNF).  What is written is printable ASCII whatever the
network said, folded below 78 columns; a fold is LF and a tab, which is what a milter hands to the
MTA.  What is read may be anything: :func:`parse` raises ValueError and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from math import floor, isfinite
from typing import TypeVar

from botmilter.model import IPAddress, Label, Reason, Verdict
from botmilter.net import parse_ip
from botmilter.signals import BY_NAME, Group

DEFAULT_PREFIX = "X-Bot-"
VERDICT, SCORE, LEVEL, SEAL = "Verdict", "Score", "Level", "Seal"

REASONS_AT_MOST = 8
LEVEL_AT_MOST = 50
#: RFC 5322 section 2.1.1 recommends 78 characters; the tab of a fold shows as up to eight columns.
LINE_AT_MOST = 77
_TAB_COLUMNS = 8

T = TypeVar("T")

_FOLD = "\n\t"
_NO_TOKEN = re.compile(r"[^A-Za-z0-9._-]")
_TOKEN_AT_MOST = 60


@dataclass(frozen=True, slots=True)
class Value:
    """What an ``X-Bot-Verdict`` field says."""

    label: Label
    score: float | None
    """None for ``unknown`` and ``exempt``."""
    origin: IPAddress | None
    reasons: tuple[str, ...] = ()
    """Names of the signals that speak against the host, strongest first."""
    missing: tuple[str, ...] = ()
    """Names of the probes that gave no evidence."""
    host: str = ""
    """Who judged; empty where the field does not say."""


def render(
    verdict: Verdict, prefix: str = DEFAULT_PREFIX, host: str = ""
) -> tuple[tuple[str, str], ...]:
    """The fields for *verdict*, in order: (name, folded value)."""
    return fields_of(value_of(verdict, host), prefix)


@lru_cache(maxsize=1024)
def fields_of(said: Value, prefix: str = DEFAULT_PREFIX) -> tuple[tuple[str, str], ...]:
    """The fields that say *said*, in order: (name, folded value).

    Remembered, because a known host's mails all get the same.
    """
    name = f"{prefix}{VERDICT}"
    fields = [(name, _fold(_params(said), len(name) + 2))]
    if said.score is not None:
        fields.append((f"{prefix}{SCORE}", _number(said.score)))
        if level := level_of(said.score):
            fields.append((f"{prefix}{LEVEL}", "*" * level))
    return tuple(fields)


def value_of(verdict: Verdict, host: str = "") -> Value:
    """What a header says of *verdict*, which is less than the verdict knows."""
    against = [one.signal.name for one in verdict.reasons if one.points > 0 and _is_seen(one)]
    return Value(
        verdict.label,
        _rounded(verdict.score) if verdict.label.is_judged else None,
        verdict.origin.ip,
        _tokens(against)[:REASONS_AT_MOST],
        _tokens(seen.probe for seen in verdict.missing),
        _token(host),
    )


def _is_seen(reason: Reason) -> bool:
    """Whether it is a signal of its own, and not what two of them weigh together."""
    row = BY_NAME.get(reason.signal.name)
    return row is None or row.group is not Group.PAIR


def level_of(score: float) -> int:
    """Full points as a count, for filters that cannot compare numbers: 0 to 50."""
    return max(0, min(LEVEL_AT_MOST, floor(score)))


@cache
def own_names(prefix: str = DEFAULT_PREFIX) -> frozenset[str]:
    """The names of all our fields, in lower case."""
    return frozenset(f"{prefix}{name}".lower() for name in (VERDICT, SCORE, LEVEL, SEAL))


def ours(fields: Iterable[tuple[str, T]], names: Collection[str]) -> list[tuple[str, T]]:
    """Those *fields*, each name and value, that pass for one of *names*, which are
    :func:`own_names`: in any case, with a blank before the colon (RFC 5322 section 4.5)."""
    return [field for field in fields if field[0].rstrip(" \t").lower() in names]


def parse(value: str) -> Value:
    """What the value of an ``X-Bot-Verdict`` field says, folded or not.

    Parameters of a later version are passed over.  Raises ValueError, saying what was expected,
    where *value* is not what :func:`render` gives; in time linear in its length.
    """
    label, *rest = ("".join(part.split()) for part in value.split(";"))
    params: dict[str, str] = {}
    for part in rest:
        name, equals, text = part.partition("=")
        if not equals or name in params:
            raise ValueError(f"expected name=value once, got {part[:60]!r}")
        params[name] = text
    if label not in set(Label):
        raise ValueError(f"expected a label such as bot, got {label[:60]!r}")
    score = params.get("score")
    if (score is not None) != Label(label).is_judged:
        raise ValueError("expected score= with bot, suspect and clean, and only there")
    return Value(
        Label(label),
        None if score is None else _read_number(score),
        _read_origin(params.get("origin", "")),
        _read_list(params.get("reasons")),
        _read_list(params.get("missing")),
        params.get("host", ""),
    )


# -- writing ------------------------------------------------------------------------------------


def _rounded(score: float) -> float:
    """Two decimals, and no minus before a zero."""
    return round(score, 2) + 0.0 if isfinite(score) else 0.0


def _number(score: float) -> str:
    """At least one decimal, at most two: 8.5, 3.25, 7.0."""
    text = f"{score:.2f}"
    return text.removesuffix("0") if text.endswith("0") else text


@lru_cache(maxsize=4096)
def _token(name: str) -> str:
    return _NO_TOKEN.sub("_", name[:_TOKEN_AT_MOST])


def _tokens(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(_token(name) for name in names if name)


def _params(said: Value) -> Iterator[tuple[str, ...]]:
    """The value cut where it may be folded: for each parameter the items of its list."""
    score = () if said.score is None else (_number(said.score),)
    origin = "none" if said.origin is None else str(said.origin)
    params = {
        "score": score,
        "origin": (origin,),
        "reasons": said.reasons,
        "missing": said.missing,
        "host": (said.host,) if said.host else (),
    }
    yield (str(said.label),)
    for name, (first, *more) in ((name, items) for name, items in params.items() if items):
        items = [f"{name}={first}", *more]
        yield (*(f"{item}," for item in items[:-1]), items[-1])


def _fold(params: Iterable[tuple[str, ...]], column: int) -> str:
    """*params* on lines of at most LINE_AT_MOST columns; the first begins at *column*.

    A list is broken only where it is longer than a line, so that a pattern such as
    ``reasons=\\S*smtp`` goes on matching.
    """
    text = ""
    for param in params:
        fits_a_line = len("".join(param)) < LINE_AT_MOST - _TAB_COLUMNS
        for number, piece in enumerate(["".join(param)] if fits_a_line else param):
            glue = ("; " if number == 0 else "") if text else ""
            if text and column + len(glue) + len(piece) >= LINE_AT_MOST:
                text, column = text + glue.rstrip() + _FOLD, _TAB_COLUMNS
                glue = ""
            text += glue + piece
            column += len(glue) + len(piece)
    return text


# -- reading ------------------------------------------------------------------------------------


def _read_number(text: str) -> float:
    if not re.fullmatch(r"-?[0-9]{1,6}\.[0-9]{1,2}", text):
        raise ValueError(f"expected a score such as 8.5, got {text[:60]!r}")
    return float(text) + 0.0


def _read_origin(text: str) -> IPAddress | None:
    if text == "none":
        return None
    ip = parse_ip(text[:100])
    if ip is None:
        raise ValueError(f"expected origin= with an address or none, got {text[:60]!r}")
    return ip


def _read_list(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(text.split(","))
    if not all(names) or any(_NO_TOKEN.search(name) for name in names):
        raise ValueError(f"expected names between commas, got {text[:60]!r}")
    return names

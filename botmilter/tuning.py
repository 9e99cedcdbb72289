"""Weights fitted to an admin's own labelled mail.  Pure; the only importer of scikit-learn.

In: cases, each the signals of one mail with its origin's network and whether it was wanted.  Out:
weights and a threshold, with what they are worth on mail they were not fitted to.

* A group of signals does not simply add, so the regression sees what each signal *contributed*
  (its share after its group's rule), and everything shown is counted through ``score.judge``.
* Mail of one network is never in both halves of a cross-validation, and a network counts once in
  the fit: a thousand mails of one list server are one fact.
* A signal that accuses by its stated meaning never clears, nor the other way round: whatever
  comes out with the wrong sign is left out (weight 0) and the rest is fitted again.
* Only signals with points now, seen in enough networks, are fitted; the others stay as they are.

No chance is involved: the same mail gives the same weights.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from botmilter import score
from botmilter.errors import DataError
from botmilter.model import Label, Signal
from botmilter.score import Rules
from botmilter.signals import Group

#: Below these a fit says more of the sample than of the world: each of five parts is to hold four
#: networks of either kind.
MAILS_AT_LEAST = 100
NETWORKS_AT_LEAST = 20
#: A signal seen in fewer networks keeps its weight.
SEEN_AT_LEAST = 10
FOLDS = 5
#: No detail of a header becomes a proof by itself, however it lies in one sample.
WEIGHT_AT_MOST = 3.0
#: Thresholds are looked for in these steps, from one whole doubt upwards: a sample in which less
#: tells all wanted mail apart is one where little was measured.
_STEP = 0.1
_LOWEST = 1.0
#: So far ``bot`` stays above ``suspect``.
_GAP = 1.0
#: Normal quantile of a two-sided 95 %.
_Z = 1.959964
#: A threshold nobody reaches: totals then are not held below it.
_NO_CEILING = 1000.0
_NOT_FITTED = frozenset({Group.NOTE, Group.DNSBL})


@dataclass(frozen=True, slots=True)
class Case:
    """One labelled mail."""

    unwanted: bool
    network: str
    """Of its origin; what is never in both halves."""
    signals: tuple[Signal, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with the 95 % interval of Wilson's score."""

    count: int
    of: int

    @property
    def value(self) -> float:
        return self.count / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        n, p = max(self.of, 1), self.value
        middle = p + _Z**2 / (2 * n)
        half = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return (max(0.0, (middle - half) / (1 + _Z**2 / n)), (middle + half) / (1 + _Z**2 / n))


@dataclass(frozen=True, slots=True)
class Quality:
    """What a set of rules does to the cases."""

    auc: float
    """How often an unwanted mail has more points than a wanted one."""
    marked: Share
    """Unwanted mails labelled ``suspect`` or ``bot``: hits."""
    false_marked: Share
    """Wanted ones: false hits."""
    bots: Share
    """Unwanted mails labelled ``bot``."""
    false_bots: Share


@dataclass(frozen=True, slots=True)
class Evidence:
    """One signal in the sample, counted in networks."""

    name: str
    unwanted: Share
    wanted: Share
    ratio: float
    """How many times likelier in an unwanted network than in a wanted one."""
    low: float
    high: float
    """Its 95 % interval (Katz, half a network added to each count)."""
    old: float
    new: float


@dataclass(frozen=True, slots=True)
class Fit:
    """What came out."""

    weights: Mapping[str, float]
    """The fitted ones only; empty where the present weights were not beaten."""
    rules: Rules
    """All weights and both thresholds."""
    old: Quality
    new: Quality
    """By cross-validation: weights and threshold of each part come from the others."""
    evidence: tuple[Evidence, ...]
    mails: tuple[int, int]
    """Unwanted, wanted."""
    networks: tuple[int, int]


def fit(cases: Sequence[Case], rules: Rules, max_false_hits: float) -> Fit:
    """Fit weights and the ``suspect`` threshold, so that of the wanted mail at most the share
    *max_false_hits* is marked in cross-validation.

    Time: a second for 1,000 mails.  Raises DataError where they are too few.
    """
    _enough(cases, max_false_hits)
    present = [_points(case, rules.weights) for case in cases]
    parts = [
        _Part(train, test, {**rules.weights, **_weights([cases[p] for p in train], rules)})
        for train, test in _split(cases)
    ]
    points, fitted = _folded(cases, parts), _weights(cases, rules)
    if _auc(cases, points) <= _auc(cases, present):
        points, fitted = present, {}
        parts = [replace(part, weights=rules.weights) for part in parts]
    weights = {**rules.weights, **fitted}
    threshold = _threshold(cases, points, range(len(cases)), max_false_hits)
    old_labels = [score.judge(case.signals, rules).label for case in cases]
    new_labels = _labels(cases, points, parts, rules, max_false_hits)
    return Fit(
        fitted,
        _rules(weights, threshold, rules),
        _quality(cases, present, old_labels),
        _quality(cases, points, new_labels),
        tuple(_evidence(cases, rules.weights, weights)),
        (_count(cases, True), _count(cases, False)),
        (len(_networks(cases, True)), len(_networks(cases, False))),
    )


# -- enough ------------------------------------------------------------------------------------


def _enough(cases: Sequence[Case], max_false_hits: float) -> None:
    wanted_mails = max(MAILS_AT_LEAST, math.ceil(round(1 / max_false_hits, 6)))
    problems = []
    for what, unwanted, mails in (
        ("unwanted", True, MAILS_AT_LEAST),
        ("wanted", False, wanted_mails),
    ):
        have, networks = _count(cases, unwanted), len(_networks(cases, unwanted))
        if have < mails or networks < NETWORKS_AT_LEAST:
            problems.append(
                f"of {what} mail {mails} from {NETWORKS_AT_LEAST} networks are needed, "
                f"got {have} from {networks}"
            )
    if problems:
        note = ""
        if wanted_mails > MAILS_AT_LEAST:
            note = f"; {max_false_hits:.3g} of fewer wanted mails is less than one mail"
        raise DataError(f"too few to fit: {'; '.join(problems)}{note}")


def _count(cases: Sequence[Case], unwanted: bool) -> int:
    return sum(case.unwanted is unwanted for case in cases)


def _networks(cases: Sequence[Case], unwanted: bool) -> set[str]:
    return {case.network for case in cases if case.unwanted is unwanted}


# -- the fit -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """Of the cross-validation; places in the list of cases."""

    train: Sequence[int]
    test: Sequence[int]
    weights: Mapping[str, float]
    """Fitted to *train*."""


def _split(cases: Sequence[Case]) -> Iterator[tuple[list[int], list[int]]]:
    """Train and test; each network is in one test part."""
    groups = [case.network for case in cases]
    for train, test in GroupKFold(FOLDS).split(cases, groups=groups):
        yield train.tolist(), test.tolist()


def _folded(cases: Sequence[Case], parts: Sequence[_Part]) -> list[float]:
    """Each case's points by the weights that were fitted without its network."""
    found = {place: _points(cases[place], part.weights) for part in parts for place in part.test}
    return [found[place] for place in range(len(cases))]


def _labels(
    cases: Sequence[Case], points: Sequence[float], parts: Sequence[_Part], old: Rules, most: float
) -> list[Label]:
    """Each case's label by weights and threshold that were found without its network."""
    found = {}
    for part in parts:
        rules = _rules(part.weights, _threshold(cases, points, part.train, most), old)
        for place in part.test:
            found[place] = score.judge(cases[place].signals, rules).label
    return [found[place] for place in range(len(cases))]


def _weights(cases: Sequence[Case], rules: Rules) -> dict[str, float]:
    """New weights of the signals that can be fitted, each with the sign that it has now."""
    names = _fittable(cases, rules)
    shares = [_shares(case, rules) for case in cases]
    counts = _case_weights(cases)
    left = list(names)
    found: dict[str, float] = {}
    while left:
        rows = [[row.get(name, 0.0) for name in left] for row in shares]
        model = LogisticRegression(max_iter=1000).fit(
            rows, [case.unwanted for case in cases], sample_weight=counts
        )
        found = dict(zip(left, map(float, model.coef_[0]), strict=True))
        wrong = [name for name in left if found[name] * rules.weight(name) <= 0]
        if not wrong:
            break
        left = [name for name in left if name not in wrong]
    found = {name: found.get(name, 0.0) if name in left else 0.0 for name in names}
    return _to_points(found, shares, counts, rules)


def _fittable(cases: Sequence[Case], rules: Rules) -> list[str]:
    seen = Counter(
        name for name, _ in {(one.name, case.network) for case in cases for one in case.signals}
    )
    return sorted(
        name
        for name, count in seen.items()
        if count >= SEEN_AT_LEAST and rules.weight(name) and score.group_of(name) not in _NOT_FITTED
    )


def _shares(case: Case, rules: Rules) -> dict[str, float]:
    """What part of its weight each signal of *case* counts with, after its group's rule."""
    judged = score.judge(case.signals, replace(rules, bot=_NO_CEILING))
    return {r.signal.name: r.points / r.weight for r in judged.reasons if r.weight}


def _case_weights(cases: Sequence[Case]) -> list[float]:
    """Each network once, both kinds of mail alike."""
    mails = Counter((case.unwanted, case.network) for case in cases)
    networks = Counter(unwanted for unwanted, _ in mails)
    some = sum(networks.values()) / 2
    return [some / networks[case.unwanted] / mails[case.unwanted, case.network] for case in cases]


def _to_points(
    found: Mapping[str, float],
    shares: Sequence[Mapping[str, float]],
    counts: Sequence[float],
    rules: Rules,
) -> dict[str, float]:
    """Log-odds as points: the mean mail's points, without their signs, stay as many as they are,
    so that thresholds and groups' limits keep their meaning."""

    def size(weights: Mapping[str, float]) -> float:
        return sum(
            count * abs(weights[name]) * part
            for row, count in zip(shares, counts, strict=True)
            for name, part in row.items()
            if name in weights
        )

    before, after = size({name: rules.weight(name) for name in found}), size(found)
    scale = before / after if after else 0.0
    return {
        name: round(max(-WEIGHT_AT_MOST, min(WEIGHT_AT_MOST, value * scale)), 2) + 0.0
        for name, value in found.items()
    }


# -- what it is worth --------------------------------------------------------------------------


def _points(case: Case, weights: Mapping[str, float]) -> float:
    return score.judge(case.signals, Rules(weights, _NO_CEILING, _NO_CEILING - 1)).score


def _auc(cases: Sequence[Case], points: Sequence[float]) -> float:
    return float(roc_auc_score([case.unwanted for case in cases], points))


def _threshold(
    cases: Sequence[Case], points: Sequence[float], places: Sequence[int], ceiling: float
) -> float:
    """The lowest that at most the share *ceiling* of the wanted mail reaches."""
    wanted = sorted((points[place] for place in places if not cases[place].unwanted), reverse=True)
    allowed = math.floor(ceiling * len(wanted) + 1e-9)
    highest = wanted[allowed] if allowed < len(wanted) else 0.0
    return round(max(_LOWEST, (math.floor(round(highest / _STEP, 6)) + 1) * _STEP), 2)


def _rules(weights: Mapping[str, float], suspect: float, old: Rules) -> Rules:
    return Rules(weights, max(old.bot, round(suspect + _GAP, 2)), suspect)


def _quality(cases: Sequence[Case], points: Sequence[float], labels: Sequence[Label]) -> Quality:
    def share(unwanted: bool, wanted_labels: tuple[Label, ...]) -> Share:
        mine = [
            label for case, label in zip(cases, labels, strict=True) if case.unwanted is unwanted
        ]
        return Share(sum(label in wanted_labels for label in mine), len(mine))

    marked = (Label.SUSPECT, Label.BOT)
    return Quality(
        _auc(cases, points),
        share(True, marked),
        share(False, marked),
        share(True, (Label.BOT,)),
        share(False, (Label.BOT,)),
    )


def _evidence(
    cases: Sequence[Case], old: Mapping[str, float], new: Mapping[str, float]
) -> Iterator[Evidence]:
    unwanted, wanted = (_seen_in(cases, kind) for kind in (True, False))
    of = len(_networks(cases, True)), len(_networks(cases, False))
    for name in sorted(unwanted.keys() | wanted.keys()):
        yes, no = Share(unwanted[name], of[0]), Share(wanted[name], of[1])
        log, half = _likelihood_ratio(yes, no)
        yield Evidence(
            name,
            yes,
            no,
            math.exp(log),
            math.exp(log - half),
            math.exp(log + half),
            old.get(name, 0.0),
            new.get(name, 0.0),
        )


def _seen_in(cases: Sequence[Case], unwanted: bool) -> Counter[str]:
    """Of each signal: in how many networks at least one mail shows it."""
    mine = [case for case in cases if case.unwanted is unwanted]
    return Counter(
        name for name, _ in {(one.name, case.network) for case in mine for one in case.signals}
    )


def _likelihood_ratio(yes: Share, no: Share) -> tuple[float, float]:
    """Natural logarithm, and half the width of its interval."""
    a, b, n, m = yes.count + 0.5, no.count + 0.5, yes.of + 1.0, no.of + 1.0
    return math.log(a / n) - math.log(b / m), _Z * math.sqrt(1 / a - 1 / n + 1 / b - 1 / m)

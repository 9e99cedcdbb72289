"""Weights fitted to made-up mail of which we know what tells it apart."""

from __future__ import annotations

import math
import random

import pytest

pytest.importorskip("sklearn", reason="the extra tune is not installed")

from botmilter import score, tuning
from botmilter.errors import DataError
from botmilter.model import Label, Signal
from botmilter.score import Rules
from botmilter.signals import DEFAULT_WEIGHTS
from botmilter.tuning import Case, Share

RULES = Rules(DEFAULT_WEIGHTS, bot=5.0, suspect=3.0)

#: Chance of each signal in an unwanted and in a wanted mail.
_WORLD = {
    "rdns.none": (0.5, 0.3),
    "mail.no_id": (0.9, 0.05),
    "helo.no_dot": (0.1, 0.6),  # accuses by its meaning, seen in wanted mail
    "host.confirmed": (0.1, 0.5),
    "path.relayed": (0.2, 0.4),
    "chain.bad_zone": (0.01, 0.0),  # too seldom
}


def made_up(mails: int = 200, networks: int = 50, seed: int = 1) -> list[Case]:
    chance = random.Random(seed)
    cases = []
    for unwanted in (True, False):
        for number in range(mails):
            seen = [
                Signal(name)
                for name, (yes, no) in _WORLD.items()
                if chance.random() < (yes if unwanted else no)
            ]
            network = f"198.18.{number % networks + (0 if unwanted else 100)}.0/24"
            cases.append(Case(unwanted, network, tuple(seen)))
    return cases


def test_what_tells_mail_apart_gains_and_what_does_not_loses() -> None:
    fit = tuning.fit(made_up(), RULES, 0.05)
    old, new = DEFAULT_WEIGHTS, fit.weights
    assert new["mail.no_id"] > 2 * old["mail.no_id"]
    assert 0 <= new["rdns.none"] < old["rdns.none"]
    assert fit.new.auc > fit.old.auc + 0.1
    assert fit.rules.weights["mail.no_id"] == new["mail.no_id"]


def test_no_weight_changes_its_sign_and_none_becomes_a_proof() -> None:
    fit = tuning.fit(made_up(), RULES, 0.05)
    assert fit.weights["helo.no_dot"] == 0.0
    assert all(value * DEFAULT_WEIGHTS[name] >= 0 for name, value in fit.weights.items())
    assert max(map(abs, fit.weights.values())) <= tuning.WEIGHT_AT_MOST


def test_what_is_seldom_seen_keeps_its_weight() -> None:
    fit = tuning.fit(made_up(), RULES, 0.05)
    assert "chain.bad_zone" not in fit.weights
    assert fit.rules.weights["chain.bad_zone"] == DEFAULT_WEIGHTS["chain.bad_zone"]


@pytest.mark.parametrize("ceiling", [0.01, 0.05, 0.2])
def test_the_ceiling_holds_through_the_judge_itself(ceiling: float) -> None:
    cases = made_up()
    fit = tuning.fit(cases, RULES, ceiling)
    wanted = [case for case in cases if not case.unwanted]
    labels = [score.judge(case.signals, fit.rules).label for case in wanted]
    marked = sum(label in (Label.SUSPECT, Label.BOT) for label in labels)
    assert marked / len(wanted) <= ceiling + 0.01  # fitted to all, the ceiling by parts
    low, _ = fit.new.false_marked.interval
    assert low <= ceiling
    assert fit.rules.suspect < fit.rules.bot


def test_a_looser_ceiling_hits_more() -> None:
    tight, loose = (tuning.fit(made_up(), RULES, ceiling) for ceiling in (0.01, 0.2))
    assert loose.new.marked.count > tight.new.marked.count
    assert loose.rules.suspect < tight.rules.suspect


def test_the_same_mail_gives_the_same_weights() -> None:
    assert tuning.fit(made_up(), RULES, 0.05) == tuning.fit(made_up(), RULES, 0.05)


def test_a_network_that_is_known_by_heart_is_worth_nothing() -> None:
    """A signal that only one network's many mails show says nothing of other networks."""
    cases = made_up()
    one = "198.18.200.0/24"
    cases += [Case(True, one, (Signal("mail.bad_id"), Signal("host.confirmed")))] * 200
    fit = tuning.fit(cases, RULES, 0.05)
    assert "mail.bad_id" not in fit.weights
    assert fit.networks == (51, 50)


def test_where_nothing_is_better_the_present_weights_stay() -> None:
    noise = [
        Case(case.unwanted, case.network, (Signal("rdns.none"),) if place % 3 else ())
        for place, case in enumerate(made_up())
    ]
    fit = tuning.fit(noise, RULES, 0.05)
    assert fit.weights == {}
    assert fit.rules.weights == DEFAULT_WEIGHTS
    assert fit.new.auc == fit.old.auc


@pytest.mark.parametrize(
    ("mails", "networks", "ceiling", "text"),
    [
        (60, 50, 0.05, "of unwanted mail 100 from 20 networks are needed, got 60 from 50"),
        (200, 10, 0.05, "of wanted mail 100 from 20 networks are needed, got 200 from 10"),
        (200, 50, 0.001, "of wanted mail 1000 from 20 networks are needed, got 200 from 50"),
        (0, 1, 0.05, "got 0 from 0"),
    ],
)
def test_too_few(mails: int, networks: int, ceiling: float, text: str) -> None:
    with pytest.raises(DataError, match=text):
        tuning.fit(made_up(mails, networks), RULES, ceiling)


def test_a_likelihood_ratio_with_its_interval() -> None:
    fit = tuning.fit(made_up(), RULES, 0.05)
    row = next(row for row in fit.evidence if row.name == "host.confirmed")
    assert (row.unwanted.of, row.wanted.of) == (50, 50)
    assert row.ratio == pytest.approx(
        (row.unwanted.count + 0.5) / (row.wanted.count + 0.5), rel=1e-6
    )
    assert row.low < row.ratio < row.high
    assert math.isclose(row.ratio / row.low, row.high / row.ratio)


@pytest.mark.parametrize(
    ("share", "low", "high"),
    [  # Wilson's interval by hand
        (Share(0, 300), 0.0, 0.01264),
        (Share(5, 10), 0.2366, 0.7634),
        (Share(0, 0), 0.0, 0.7935),
    ],
)
def test_an_interval(share: Share, low: float, high: float) -> None:
    assert share.interval == pytest.approx((low, high), abs=2e-4)

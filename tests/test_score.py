"""The judgement: docs/scoring.md's cases, and the rules that are not addition."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from botmilter import score, signals
from botmilter.model import Label, Signal
from botmilter.profiles import PROFILES
from botmilter.score import Rules

RULES = Rules(signals.DEFAULT_WEIGHTS, bot=5.0, suspect=3.0)

ALL_NAMES_BAD = "rdns.unconfirmed rdns.dynamic rdns.pool helo.own_name helo.bare_address"

CASES = [
    # what was seen, score, label
    ("os.client smtp.filtered", 7.0, Label.BOT),
    ("os.client smtp.refused host.confirmed", 5.0, Label.BOT),
    ("os.client smtp.filtered rdns.dynamic", 8.5, Label.BOT),
    ("os.client smtp.filtered host.mx", 5.0, Label.BOT),
    ("", None, Label.UNKNOWN),
    ("smtp.filtered", None, Label.UNKNOWN),
    ("smtp.filtered rdns.none", None, Label.UNKNOWN),
    ("smtp.other", None, Label.UNKNOWN),
    ("chain.bad_zone", None, Label.UNKNOWN),
    ("os.unix smtp.filtered host.confirmed", -1.5, Label.CLEAN),
    ("os.unix smtp.filtered rdns.dynamic helo.mismatch", 2.25, Label.CLEAN),
    ("os.server smtp.banner", -3.0, Label.CLEAN),
    ("os.server smtp.filtered", 1.5, Label.CLEAN),
    ("os.both smtp.banner helo.mismatch rdns.none", 0.25, Label.CLEAN),
    ("os.both smtp.filtered", 3.5, Label.SUSPECT),
    ("os.both smtp.filtered " + ALL_NAMES_BAD, 4.9, Label.SUSPECT),
    ("smtp.filtered rdns.dynamic helo.mismatch", 3.25, Label.SUSPECT),
    ("smtp.filtered " + ALL_NAMES_BAD, 4.5, Label.SUSPECT),
    ("os.unix smtp.banner rdns.dynamic host.mx", -4.5, Label.CLEAN),
    ("os.unix smtp.banner rdns.dynamic host.a", -2.5, Label.CLEAN),
    ("os.appliance smtp.refused rdns.dynamic", 5.0, Label.BOT),
    ("os.appliance smtp.refused rdns.none", 4.5, Label.SUSPECT),
    ("os.client smtp.banner", 0.0, Label.CLEAN),
    ("os.client smtp.slow " + ALL_NAMES_BAD, 3.0, Label.SUSPECT),
    ("p0f.client smtp.refused", 6.0, Label.BOT),
    ("os.client p0f.unix smtp.refused", 7.0, Label.BOT),
    ("dnsbl.listed smtp.refused rdns.dynamic helo.mismatch", 5.38, Label.BOT),
    ("chain.by_is_helo helo.bare_address smtp.filtered", 3.5, Label.SUSPECT),
]


def seen(text: str) -> list[Signal]:
    return [Signal(name) for name in text.split()]


@pytest.mark.parametrize(("names", "points", "label"), CASES)
def test_a_case_of_the_table(names: str, points: float | None, label: Label) -> None:
    judged = score.judge(seen(names), RULES)
    assert judged.label is label
    if points is not None:
        assert judged.score == pytest.approx(points, abs=0.005)


def test_the_ceiling_says_what_it_held_back() -> None:
    judged = score.judge(seen("os.both smtp.filtered " + ALL_NAMES_BAD), RULES)
    assert judged.why == "6.5 held at 4.9: no proof"


def test_a_dnsbl_that_has_spoken_halves_what_names_say() -> None:
    names = {
        r.signal.name: r.points for r in score.judge(seen("rdns.none dnsbl.listed"), RULES).reasons
    }
    assert names["rdns.none"] == 0.5


def test_a_client_system_behind_one_address_with_a_server_is_never_a_bot() -> None:
    judged = score.judge(seen("os.client smtp.refused smtp.banner " + ALL_NAMES_BAD), RULES)
    assert judged.label is not Label.BOT


@pytest.mark.parametrize(
    ("known", "possible", "changes"),
    [
        ("smtp.banner host.confirmed", {"os.client", "os.both", "os.unix"}, False),
        ("smtp.filtered", {"os.client"}, True),
        ("", {"os.server"}, True),  # weighs nothing, yet turns unknown into clean
        ("os.client smtp.filtered rdns.dynamic", {"ping.answered"}, False),
        ("os.client smtp.filtered rdns.dynamic", set(), False),
    ],
)
def test_waiting_is_worth_while_only_where_the_label_can_change(
    known: str, possible: set[str], changes: bool
) -> None:
    assert score.can_change(seen(known), possible, RULES) is changes


#: What probes and mails bring; the judgement itself adds the other two.
NAMES = st.sampled_from(sorted(signals.BY_NAME.keys() - {score.PAIR, score.DISAGREEMENT}))
SIGNALS = st.lists(st.builds(Signal, NAMES, st.floats(0, 1)), max_size=12)


@given(SIGNALS)
def test_no_heap_of_small_doubts_convicts(found: list[Signal]) -> None:
    harmless = {"smtp.refused", "smtp.filtered", "dnsbl.listed"}
    doubts = [signal for signal in found if signal.name not in harmless]
    assert score.judge(doubts, RULES).label is not Label.BOT


@st.composite
def some_rules(draw: st.DrawFn) -> Rules:
    """Of any profile, with some weights set to nothing."""
    weights = draw(st.sampled_from(sorted(PROFILES)).map(PROFILES.__getitem__))
    without = draw(st.sets(st.sampled_from(sorted(weights)), max_size=8))
    return Rules({**weights, **dict.fromkeys(without, 0.0)}, bot=5.0, suspect=3.0)


def without(*names: str) -> Rules:
    return Rules({**RULES.weights, **dict.fromkeys(names, 0.0)}, bot=5.0, suspect=3.0)


STUDY = Rules(PROFILES["study-2009"], bot=5.0, suspect=3.0)


@example(seen("os.both smtp.filtered"), seen("p0f.client"), STUDY)
@example(seen("os.client smtp.filtered"), seen("smtp.banner"), without("smtp.banner"))
@example(
    seen("smtp.filtered rdns.dynamic helo.mismatch"), seen("dnsbl.listed"), without("dnsbl.listed")
)
@example(
    seen("os.both smtp.filtered rdns.none host.a"), seen("rdns.dynamic"), without("rdns.dynamic")
)
@given(SIGNALS, SIGNALS, some_rules())
def test_what_can_change_says_no_to_never_happens(
    known: list[Signal], more: list[Signal], rules: Rules
) -> None:
    full = [Signal(signal.name) for signal in more]
    if not score.can_change(known, {signal.name for signal in full}, rules):
        assert score.judge([*known, *full], rules).label is score.judge(known, rules).label


def test_what_is_not_studied_makes_no_pair() -> None:
    judged = score.judge(seen("os.unix smtp.filtered p0f.client"), STUDY)
    assert judged.label is Label.CLEAN
    assert judged.score == pytest.approx(0.5)


@given(SIGNALS)
def test_the_order_of_evidence_does_not_matter(found: list[Signal]) -> None:
    forward, backward = score.judge(found, RULES), score.judge(found[::-1], RULES)
    assert (forward.label, forward.score) == (backward.label, backward.score)


@pytest.mark.parametrize(
    ("names", "differ"),
    [
        ("p0f.unix os.client", True),
        ("p0f.client os.unix", True),
        ("p0f.both os.client", False),
        ("p0f.unix os.unix", False),
        ("p0f.unix", False),
    ],
)
def test_p0f_and_nmap_that_differ_are_told(names: str, differ: bool) -> None:
    reasons = {reason.signal.name for reason in score.judge(seen(names), RULES).reasons}
    assert ("os.disagreement" in reasons) is differ


def test_equal_contributions_come_in_the_order_of_the_table() -> None:
    reasons = score.judge(seen("rdns.dynamic smtp.filtered os.client"), RULES).reasons
    assert [reason.signal.name for reason in reasons] == [
        "os.client",
        "pair.client_no_service",
        "smtp.filtered",
        "rdns.dynamic",
    ]


def test_a_signal_of_another_version_is_no_error() -> None:
    assert score.judge([Signal("future.signal")], RULES).label is Label.UNKNOWN

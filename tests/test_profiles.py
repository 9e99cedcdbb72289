"""The study's definition, and nothing else, under its profile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmilter import config, score, signals
from botmilter.model import Label, Signal
from botmilter.profiles import PROFILES
from botmilter.score import Rules

STUDY = Rules(PROFILES["study-2009"], bot=5.0, suspect=3.0)


def label(text: str, rules: Rules = STUDY) -> Label:
    return score.judge([Signal(name) for name in text.split()], rules).label


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ("ping.answered os.client smtp.filtered", Label.BOT),  # both hosts of the study, run 1
        ("ping.silent smtp.filtered", Label.UNKNOWN),  # the same, run 2
        ("os.client smtp.banner", Label.CLEAN),
        ("os.both smtp.refused", Label.SUSPECT),
        ("os.server smtp.filtered", Label.CLEAN),
        ("os.client smtp.refused rdns.dynamic", Label.BOT),
    ],
)
def test_a_case_of_the_study(seen: str, expected: Label) -> None:
    assert label(seen) is expected


NOT_WINDOWS = sorted(signals.BY_NAME.keys() - {"os.client", "os.both", "p0f.client", "p0f.both"})


@given(st.lists(st.sampled_from(NOT_WINDOWS)))
def test_linux_and_others_are_never_a_bot(seen: list[str]) -> None:
    assert label(f"{' '.join(seen)} os.unix") in (Label.CLEAN, Label.SUSPECT)


def test_the_profile_is_chosen_in_the_configuration_and_single_weights_beat_it() -> None:
    chosen = config.load(None, ["score.profile = 'study-2009'", "weights.os.client = 4"])
    assert chosen.weights == {**PROFILES["study-2009"], "os.client": 4.0}
    assert config.load(None).weights == signals.DEFAULT_WEIGHTS

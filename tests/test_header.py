"""The header fields: what they say, that they fold, that they read back."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmilter import header
from botmilter.model import (
    Label,
    Observation,
    Origin,
    OriginWhy,
    Reason,
    Signal,
    Status,
    Verdict,
)
from botmilter.net import canonical
from botmilter.signals import TABLE


def verdict(
    label: Label = Label.BOT,
    score: float = 8.5,
    ip: str | None = "198.18.7.12",
    reasons: tuple[tuple[str, float], ...] = (),
    missing: tuple[str, ...] = (),
) -> Verdict:
    return Verdict(
        label,
        score,
        Origin(OriginWhy.CLIENT, ip_address(ip) if ip else None),
        tuple(Reason(Signal(name), points, points) for name, points in reasons),
        tuple(Observation(name, "k", Status.FAILED, reason="broken") for name in missing),
    )


def test_a_bot_has_verdict_score_and_level() -> None:
    seen = verdict(
        reasons=(
            ("os.client", 3.0),
            ("pair.client_no_service", 2.5),  # what the two weigh together: in the score only
            ("smtp.filtered", 1.5),
            ("rdns.dynamic", 1.5),
            ("os.x", 0.0),
        ),
        missing=("p0f",),
    )
    (name, value), *more = header.render(seen)
    assert name == "X-Bot-Verdict"
    assert value == (
        "bot; score=8.5; origin=198.18.7.12;\n"
        "\treasons=os.client,smtp.filtered,rdns.dynamic; missing=p0f"
    )
    assert more == [("X-Bot-Score", "8.5"), ("X-Bot-Level", "********")]


@pytest.mark.parametrize("label", [Label.UNKNOWN, Label.EXEMPT])
def test_what_is_not_judged_has_no_score(label: Label) -> None:
    assert header.render(verdict(label, ip=None)) == (("X-Bot-Verdict", f"{label}; origin=none"),)


@pytest.mark.parametrize(
    ("score", "text", "level"),
    [
        (-3.0, "-3.0", 0),
        (-0.001, "0.0", 0),
        (0.99, "0.99", 0),
        (1.0, "1.0", 1),
        (3.25, "3.25", 3),
        (4.9, "4.9", 4),
        (400.0, "400.0", 50),
        (float("nan"), "0.0", 0),
    ],
)
def test_score_and_level_agree(score: float, text: str, level: int) -> None:
    fields = dict(header.render(verdict(Label.CLEAN, score)))
    assert fields["X-Bot-Score"] == text
    assert fields.get("X-Bot-Level", "") == "*" * level


def test_reasons_are_the_eight_strongest_against_the_host() -> None:
    reasons = (*((f"chain.r{n}", 20.0 - n) for n in range(12)), ("host.mx", -2.0))
    said = header.value_of(verdict(reasons=reasons))
    assert said.reasons == tuple(f"chain.r{n}" for n in range(8))


def test_prefix_and_host_are_the_admins() -> None:
    ((name, value), *_) = header.render(verdict(), "X-Site-", "mx1.example.org")
    assert name == "X-Site-Verdict"
    assert header.parse(value).host == "mx1.example.org"


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("X-Bot-Verdict", True),
        ("x-bot-SCORE", True),
        ("X-BOT-LEVEL \t", True),
        ("X-Bot-Verdict\xff", False),
        ("X-Bot-Verdicts", False),
        ("X-Botanist", False),
        ("X-Bot-", False),
        ("", False),
    ],
)
def test_forged_copies_are_known_by_name(name: str, ours: bool) -> None:
    assert bool(header.ours([(name, None)], header.own_names())) is ours


def test_every_field_that_is_rendered_is_known_as_ours() -> None:
    for prefix in ("X-Bot-", "X-Site-Bot-"):
        fields = header.render(verdict(), prefix)
        assert len(fields) == 3
        swapped = [(name.swapcase(), value) for name, value in fields]
        assert header.ours(swapped, header.own_names(prefix)) == swapped


_names = st.one_of(st.sampled_from([row.name for row in TABLE]), st.text(max_size=80))


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict:
    return Verdict(
        draw(st.sampled_from(Label)),
        draw(st.floats(-99_999, 99_999)),
        Origin(OriginWhy.CLIENT, draw(st.none() | st.ip_addresses().map(canonical))),
        tuple(
            Reason(Signal(name), points, points)
            for name, points in draw(st.lists(st.tuples(_names, st.floats(-5, 5)), max_size=12))
        ),
        tuple(Observation(name, "k", Status.LATE) for name in draw(st.lists(_names, max_size=8))),
    )


@given(verdicts(), st.text(max_size=80))
def test_what_is_written_reads_back(seen: Verdict, host: str) -> None:
    ((_, value), *_) = header.render(seen, host=host)
    expected = header.value_of(seen, host)
    assert header.parse(value) == expected


@given(verdicts(), st.text(max_size=80))
def test_every_line_is_short_printable_ascii(seen: Verdict, host: str) -> None:
    for name, value in header.render(seen, host=host):
        for number, line in enumerate(value.split("\n")):
            assert number == 0 or line[0] == "\t"
            shown = f"{name}: {line}" if number == 0 else line.expandtabs(8)
            assert len(shown) < 78
            assert shown.isascii()
            assert shown.isprintable()
            assert line.strip()


@given(st.text() | st.lists(st.sampled_from("bot;=,. \n\tscore8-origne"), max_size=60).map("".join))
def test_any_text_reads_or_is_a_value_error(text: str) -> None:
    with suppress(ValueError):
        said = header.parse(text)
        assert said.label.is_judged == (said.score is not None)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("", "a label"),
        ("robot; origin=none", "a label"),
        ("bot; origin=none", "score="),
        ("unknown; score=1.0; origin=none", "score="),
        ("bot; score=1e5; origin=none", "a score"),
        ("bot; score=5.0", "origin="),
        ("bot; score=5.0; origin=house", "origin="),
        ("bot; score=5.0; origin=none; origin=none", "once"),
        ("bot; score=5.0; origin=none; nonsense", "name=value"),
        ("unknown; origin=none; missing=", "names"),
        ("unknown; origin=none; missing=a,,b", "names"),
    ],
)
def test_what_is_not_ours_is_refused_with_what_was_expected(value: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        header.parse(value)


def test_a_later_versions_parameters_are_passed_over() -> None:
    said = header.parse("clean; score=-3.0; origin=2001:db8::1; colour=green")
    assert said == header.Value(Label.CLEAN, -3.0, ip_address("2001:db8::1"))


def test_the_example_in_the_docs_is_what_is_rendered() -> None:
    seen = verdict(
        reasons=(("os.client", 3.0), ("smtp.filtered", 1.5), ("rdns.dynamic", 1.5)),
        missing=("p0f",),
    )
    example = "".join(f"{name}: {value}\n" for name, value in header.render(seen))
    docs = Path(__file__).parent.parent / "docs/header.md"
    assert f"```\n{example}```\n" in docs.read_text()

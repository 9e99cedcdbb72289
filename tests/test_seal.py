"""A seal holds for the verdict and the mail it was made for, and for no other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmilter import seal

KEY = b"sixteen octets!!"
VERDICT = "bot; score=8.5; origin=198.18.7.12;\n\treasons=os.client,smtp.filtered"
ID = "<1@proper.example>"
TEXT = st.text(max_size=60)


@given(st.binary(min_size=16), TEXT, TEXT, TEXT)
def test_a_seal_holds_and_is_printable(key: bytes, verdict: str, queue: str, message: str) -> None:
    made = seal.seal(key, verdict, queue, message)
    assert made.replace("\n\t", "").isprintable()
    assert made.isascii()
    assert max(map(len, made.split("\n\t"))) < 70 or len(queue) > 50
    assert seal.holds(key, made, verdict, message)


def test_a_relay_may_fold_anew() -> None:
    made = seal.seal(KEY, VERDICT, "4ABC", ID)
    assert seal.holds(KEY, " ".join(made.split()), VERDICT.replace("\n\t", "\r\n   "), f" {ID} ")


@pytest.mark.parametrize(
    ("key", "verdict", "message_id"),
    [
        (b"another key of ours", VERDICT, ID),
        (KEY, VERDICT.replace("bot", "clean", 1), ID),
        (KEY, VERDICT.replace("8.5", "8.6"), ID),
        (KEY, VERDICT, "<2@proper.example>"),
        (KEY, VERDICT, ""),
    ],
)
def test_for_anything_else_it_does_not(key: bytes, verdict: str, message_id: str) -> None:
    assert not seal.holds(key, seal.seal(KEY, VERDICT, "4ABC", ID), verdict, message_id)


def test_another_queue_id_breaks_it() -> None:
    made = seal.seal(KEY, VERDICT, "4ABC", ID)
    assert not seal.holds(KEY, made.replace("4ABC", "4ABD"), VERDICT, ID)


@given(st.text())
def test_any_text_is_no_seal_and_no_error(text: str) -> None:
    assert not seal.holds(KEY, text, VERDICT, ID)


def test_a_message_id_may_be_folded_anew_but_no_part_moves_into_the_next() -> None:
    made = seal.seal(KEY, VERDICT, "4ABC", "a\r\n\t b")
    assert seal.holds(KEY, made, VERDICT, "a b")
    assert not seal.holds(KEY, made, VERDICT, "ab")
    assert not seal.holds(KEY, made.replace("4ABC", "4ABCa"), VERDICT, "b")

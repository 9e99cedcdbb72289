"""Whatever mail and network say, what we write is one printable ASCII line, and what we run is
fixed words and one address."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from botmilter import header
from botmilter.milter.app import _line
from botmilter.milter.base import Judgement, log_line
from botmilter.milter.judge import log_fields
from botmilter.model import (
    IPAddress,
    Label,
    Observation,
    Origin,
    OriginWhy,
    Reason,
    Signal,
    Status,
    Verdict,
)
from botmilter.probes import osdetect

LINE = re.compile(r"[\x20-\x7e]*")
FOLDED = re.compile(r"[\x20-\x7e]+(\n\t[\x21-\x7e][\x20-\x7e]*)*")
OPTION = re.compile(r"-n|-Pn|-O|-T4|-oX|-|-p|-6|--privileged|--[a-z-]+|\d+(ms)?|\d+(,\d+)*")

TEXT = st.text(max_size=300) | st.sampled_from(
    ["a\r\nX-Evil: 1", "a\nb", "\x00", "\udcff\udc80", "ä" * 300, "; score=-9", "--script=x", "%n"]
)
IPS = st.ip_addresses()


def verdict(ip: IPAddress, texts: list[str], label: Label, score: float) -> Verdict:
    """With *texts* wherever the network's or the mail's words can stand."""
    reasons = tuple(Reason(Signal(text, 1.0, text), 1.0, 1.0) for text in texts)
    missing = tuple(Observation(text, text, Status.FAILED, reason=text) for text in texts)
    return Verdict(label, score, Origin(OriginWhy.CLIENT, ip), reasons, missing, why=texts[0])


@given(IPS, st.lists(TEXT, min_size=1, max_size=12), st.sampled_from(Label), st.floats(), TEXT)
def test_a_header_field_is_printable_ascii_and_folded_properly(
    ip: IPAddress, texts: list[str], label: Label, score: float, host: str
) -> None:
    for name, value in header.render(verdict(ip, texts, label, score), host=host):
        assert LINE.fullmatch(name)
        assert FOLDED.fullmatch(value), value
        assert len(value) < 4000


@given(IPS, st.lists(TEXT, min_size=1, max_size=12), st.sampled_from(Label), st.floats(), TEXT)
def test_a_log_line_is_one_line_of_words_of_printable_ascii(
    ip: IPAddress, texts: list[str], label: Label, score: float, queue_id: str
) -> None:
    fields = log_fields(verdict(ip, texts, label, score))
    line = _line(Judgement((), fields), queue_id, 0.0)
    assert LINE.fullmatch(line)
    assert len(line) <= 2000
    assert not any(" " in log_line({"why": text}) for text in fields.values())


@given(IPS, st.floats(min_value=0.01, max_value=3600))
def test_nmap_gets_fixed_options_and_numbers_of_ours(ip: IPAddress, limit_s: float) -> None:
    for word in osdetect.options(ip, limit_s):
        assert OPTION.fullmatch(word), word

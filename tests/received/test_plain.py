"""What one expression reads is read by the grammar in the same way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmilter.received import dialects, plain
from botmilter.received.chain import take_apart
from tests.received.test_hostile import FEIGNED, LABEL, NAMES

LINE = (
    "from {helo} ({rdns} [{address}]){tls} by {by}{program} with {protocol} id {id}{recipient}; "
    "{date}{zone}"
)
#: What stands in each place of a plain line.
PLAIN = {
    "helo": ("mail.example", "pc", "[10.0.0.7]"),
    "rdns": ("mail.example", "unknown", "localhost"),
    "address": ("192.0.2.7", "IPv6:2001:db8::9", "::ffff:192.0.2.7"),
    "tls": (
        "",
        " (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))",
        " (using TLSv1 with cipher AES (256/256 bits)) (No client certificate requested)",
    ),
    "by": ("mx.example",),
    "program": (" (Postfix)", " (8.17.1/8.17.1)", ""),
    "protocol": ("ESMTPS", "SMTP", "esmtpsa", "LMTP"),
    "id": ("4AbcD12", "g98K72f04022", "1a-2b.3c"),
    "recipient": ("", " for <u@example.org>", " for <u+v_w@mx.example.org>"),
    "date": ("Tue, 02 Jan 2024 03:04:05 +0100", "Tue, 2 Jan 2024 03:04:60 -0730"),
    "zone": ("", " (CET)"),
}
#: What may stand there besides.
ODD = {
    "helo": NAMES | st.sampled_from(["[10.0.0.999]", "10.0.0.7", "a)", "a(", "by", "HELO", '"a']),
    "rdns": NAMES | st.sampled_from(["10.0.0.7", "x@y.example", "mx.example.", "x y.example", ""]),
    "address": st.sampled_from(["192.0.2.777", "7", "fe80::1%2", "unix", "IPv6:7.0.0.7"]),
    "tls": st.sampled_from([" (TLS)", " (authenticated)", " (may be forged)", " (HELO x)", " by"]),
    "by": NAMES | st.sampled_from(["mx.google.com", "fetchmail-6.x", "x.aliyun.example", "by"]),
    "program": st.sampled_from([" (8.1)", " (8.1/)", " (Exim 4.96)", " (Postfix, x)", " (LMTP)"]),
    "protocol": st.sampled_from([*dialects.PROTOCOLS, "Esmtp", "X", "id", "by", "ESMTP via x"]),
    "id": FEIGNED | LABEL | st.sampled_from(["smtpd", "by", "for", "<x@y>", "x;", "15.20.1.2"]),
    "recipient": st.sampled_from([" for <u>", ' for <"a b"@x.example>', " for u", " (x)", " by y"]),
    "date": st.sampled_from(["Tue, 2 Jan 2024 03:04:05 +9999", "Tue, 32 Jan 2024 03:04:05 +0000"]),
    "zone": st.sampled_from([" (cet)", " by x", ";", " (CET) (x)", " (x by y)"]),
}  # fmt: skip


def _line(**parts: str) -> str:
    return LINE.format_map({place: usual[0] for place, usual in PLAIN.items()} | parts)


@st.composite
def lines(draw: st.DrawFn) -> str:
    """Plain ones, with something odd in two places at most."""
    parts = {place: draw(st.sampled_from(usual)) for place, usual in PLAIN.items()}
    for place in draw(st.lists(st.sampled_from(sorted(ODD)), max_size=2)):
        parts[place] = draw(ODD[place])
    return _line(**parts)


@pytest.mark.parametrize(
    ("place", "text"), [(place, text) for place, usual in PLAIN.items() for text in usual]
)
def test_the_commonest_lines_are_plain(place: str, text: str) -> None:
    line = _line(**{place: text})
    assert plain.read(line, 3) == take_apart(line, 3)


@given(lines())
def test_what_is_plain_is_read_as_if_it_were_not(line: str) -> None:
    assert plain.read(line, 0) in (None, take_apart(line, 0))

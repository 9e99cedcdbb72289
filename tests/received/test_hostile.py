"""Any bytes give a chain, in time linear in their number."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from botmilter.model import Chain, HopKind, OriginWhy, Trust
from botmilter.received import chain as received_chain
from botmilter.received import forgery, origin, parse, parse_line
from botmilter.received.dialects import DIALECTS

#: What lines are made of, so that random ones come near to real ones.
PIECES = st.sampled_from(
    [
        "from", "by", "with", "via", "id", "for", ";", ";;", "(", ")", "[", "]", "((", "))", "@",
        "192.0.2.7", "[192.0.2.7]", "2001:db8::9", "[IPv6:", "::ffff:", "fe80::1%2", "10.0.0.999",
        "helo=", "HELO", "IDENT:", "ident=", "unknown", "mx.example", "(Postfix)", "Exim", "qmail",
        "ESMTPSA", "HTTP", "Microsoft SMTP Server", "Authenticated sender: x", "may be forged",
        "envelope-from <", '<"', '"@', ">", "Tue, 02 Jan 2024 03:04:05 +0100", "\r\n\t", "\0", "é",
        "account u", "port=25", "ssl1.example", "authenticated", "using ", "envelope-from", "+9999",
        "\ud83d\ude00", "-", "?", "'", ",",
    ]
)  # fmt: skip
LINES = st.lists(PIECES, max_size=40).flatmap(
    lambda pieces: st.sampled_from([" ".join(pieces), "".join(pieces)])
)


def judge(block: bytes) -> Chain:
    """All that is done with the lines of a mail."""
    chain = parse(block)
    for trust in (Trust(), Trust(own_relays=2, own_names=(".example",), by_authentication=True)):
        found = origin.find(chain, trust)
        assert len(found.roles) in (0, len(chain.hops))
        forgery.signals(chain, found, trust)
    return chain


@given(st.binary(max_size=2000))
@example(b"\n\n")
def test_any_bytes_give_a_chain(block: bytes) -> None:
    judge(block)
    judge(b"Received: " + block)


@given(st.lists(LINES, max_size=5))
def test_anything_near_to_a_line_gives_a_hop(lines: list[str]) -> None:
    flat = [line.replace("\r\n\t", " ").encode("utf-8", "surrogatepass") for line in lines]
    assert len(judge(b"".join(b"Received: " + line + b"\n" for line in flat)).hops) == len(flat)


#: What stands between "from" and "by", whole: a word or a comment each.
PEER_ITEMS = (
    "h.example", "[192.0.2.7]", "192.0.2.7", "(192.0.2.7)", "([192.0.2.7])", "(r.example)",
    "(r.example [192.0.2.7])", "(x@192.0.2.7)", "(x@[192.0.2.7])", "(@[192.0.2.7])", "(x@)",
    "([192.0.2.7] helo=x ident=y)", "(HELO x)", "(HELO)", "(helo=)", "(ident=)", "(port=25)",
    "(account u HELO x)", "(may be forged)", "(unknown)", "()", "([)", "(])", "helo=", '"', "[",
)  # fmt: skip


@pytest.mark.no_cover
def test_every_order_of_a_peers_parts_gives_a_hop() -> None:
    behind = [f"by mx.example {dialect.marks[0]}" for dialect in DIALECTS if dialect.marks]
    for count in (0, 1, 2):
        for head in product(PEER_ITEMS, repeat=count):
            for tail in behind:
                judge(f"Received: from {' '.join(head)} {tail}\n".encode())
    for head in product(PEER_ITEMS, repeat=3):
        judge(f"Received: from {' '.join(head)} by mx.example\n".encode())


@given(LINES)
def test_a_helo_never_becomes_the_peer(helo: str) -> None:
    clean = helo.replace("\r\n\t", " ").replace("<", "").encode("utf-8", "surrogatepass")
    line = (
        b"from " + clean + b" (rdns.example [203.0.113.9]) by mx.example (Postfix) with SMTP id A"
    )
    hop = parse_line(line)
    assert (str(hop.ip), hop.kind, hop.by) == ("203.0.113.9", HopKind.RELAY, "mx.example")
    assert not hop.authenticated


#: How a name begins that tries to pass for something a program writes.
FEIGNED = st.sampled_from(
    [
        "using", "client", "not", "no", "authenticated", "auth", "tls", "TLSv1.3", "ssl1", "SSL",
        "may", "envelope-from", "return-path", "squirrelmail", "nasmail", "proxying", "mailfrom",
        "misconfigured", "version", "cipher", "peer", "uid", "for", "For", "original", "user",
        "ident", "account", "HELO", "EHLO", "LHLO", "helo", "port", "unix", "local", "unknown",
        "from", "by", "BY", "with", "via", "id", "10.0.0.1", "192.0.2", "8.17.1", "Postfix", "Exim",
        "invoked", "qmail-scanner", "fetchmail-6", "LMTP", "IPv6",
    ]
)  # fmt: skip
LABEL = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
#: Whoever owns an address has DNS call it what he likes, within what a resolver lets through.
NAMES = st.builds(
    lambda first, rest: ".".join([first, *rest]), FEIGNED | LABEL, st.lists(LABEL, max_size=3)
)
#: Lines of a relay that looks its client's name up, and notes it beside the address.
NAMING = (
    "from h ({} [203.0.113.9]) by mx.example (Postfix) with ESMTP id 4A",
    "from h ({} [203.0.113.9]) (using TLSv1.3 with cipher AES) by mx.example (Postfix) with ESMTP",
    "from h ({} [203.0.113.9]) by mx.example (8.17.1/8.17.1) with ESMTP id 4A",
    "from h ({} [203.0.113.9] (may be forged)) by mx.example (8.17.1/8.17.1) with ESMTP id 4A",
    "from h (x@{} [203.0.113.9]) by mx.example (8.17.1/8.17.1) with ESMTP id 4A",
    "from {} ([203.0.113.9] helo=h) by mx.example with esmtp (Exim 4.96) id 1a-2b-3c",
    "from {} ([203.0.113.9]) by mx.example with esmtp (Exim 4.96) id 1a-2b-3c",
    "from {} (HELO h) (203.0.113.9) by mx.example with SMTP",
    "from {} (203.0.113.9) by mx.example with SMTP",
)
#: Those of programs that might as well write ``(HELO [192.0.2.7])``.
NAMING_UNKNOWN = (
    "from h ({} [203.0.113.9]) by mx.example (OpenSMTPD) with ESMTP id 4A",
    "from h ({} [::ffff:203.0.113.9]) by mx.example with ESMTP",
)


@given(NAMES, st.sampled_from(NAMING + NAMING_UNKNOWN))
def test_the_owner_of_a_name_cannot_hide_behind_it(name: str, line: str) -> None:
    """A line that names no peer is passed over, and what stands below it would be believed; one
    that tells of a login exempts the mail."""
    hop = parse_line(f"{line.format(name)}; Tue, 02 Jan 2024 03:04:05 +0100".encode())
    assert not hop.authenticated
    if line in NAMING_UNKNOWN and name in ("HELO", "EHLO", "LHLO"):
        assert hop.kind is HopKind.BROKEN, "which ends the walk, too"
    else:
        assert (str(hop.ip), hop.kind, hop.by) == ("203.0.113.9", HopKind.RELAY, "mx.example")


def _repeat(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: b"Received: " + unit * (size // len(unit)) + b"\n"


UNITS: tuple[bytes, ...] = (
    b"(", b")", b"()", b"((x)", b"[", b"]", b"[(", b"from ", b"by ", b"from x by y ", b"; ", b";",
    b" ", b"\n\t", b"a", b"1.", b"1:", b"@", b"<", b'<"', b'<"a', b'"', b'"@', b'"a"@',
    b"helo=", b"(helo=x) ", b"id ",
    b' for <"', b' for <"\\"', b' for "x for ".', b' mailfrom:"a"\\', b'for "b"@ ', b'(Client CN "',
    b'" (not verified))', b"[192.0.2.7] (helo=x ident=", b'"\\',
    b"(x [192.0.2.7]) by ", b"(192.0.2.7) by ", b"with ", b"+0100 ", b"Tue, 02 Jan 2024 03:04:05 ",
    b"2024-01-02 0", b"Tue, 1", b" (envelope-from <x>)", b"(may be forged) ", b"account x ",
)  # fmt: skip


@pytest.fixture
def of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of any length are read: what is linear does not rest on the limit."""
    monkeypatch.setattr(received_chain, "LINE_AT_MOST", sys.maxsize)


def _seconds(block: bytes) -> float:
    """The shortest of three runs: the one that was disturbed least."""
    times = []
    for _ in range(3):
        start = time.process_time()
        judge(block)
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize(
    "make",
    [
        *(_repeat(unit) for unit in UNITS),
        lambda size: b"Received: from x by y; 1 Jan 2024 01:02:03 +0000\n" * (size // 49),
        lambda size: b"Received: from " + b"(" * (size // 2) + b")" * (size // 2) + b" by y\n",
    ],
    ids=[*(unit.decode() for unit in UNITS), "lines", "nested"],
)
@pytest.mark.no_cover  # the tracer takes as long as the parser
@pytest.mark.usefixtures("of_any_length")
def test_time_is_linear_in_the_input(make: Callable[[int], bytes]) -> None:
    gc.collect()
    small, large = _seconds(make(32_000)), _seconds(make(256_000))
    # eight times the input; quadratic would take sixty-four times as long
    assert large < 24 * max(small, 0.001)


@pytest.mark.no_cover
@pytest.mark.usefixtures("of_any_length")
@pytest.mark.parametrize("unit", [b"(", b"x ", b"by (y [192.0.2.7]) "])
def test_a_line_of_a_megabyte_is_read(unit: bytes) -> None:
    assert len(judge(_repeat(unit)(1_000_000)).hops) == 1


def test_a_line_longer_than_any_mta_s_is_not_read_and_ends_the_walk() -> None:
    head = b"Received: from x (x [192.0.2.8]) by mx.example (Postfix) "
    below = b"\nReceived: from y (y [192.0.2.9]) by z\n"
    for padding, ip in ((b"x" * 1_000, "192.0.2.8"), (b"x" * 20_000, None)):
        found = origin.find(judge(head + padding + below), Trust(own_relays=1))
        assert (found.ip and str(found.ip)) == ip
        assert found.why is (OriginWhy.RELAY if ip else OriginWhy.UNREADABLE)


@pytest.mark.no_cover
def test_ten_thousand_lines_are_read() -> None:
    line = b"Received: from h (r.example [192.0.2.7]) by mx (Postfix) with SMTP id A1; x\r\n"
    assert len(judge(line * 10_000).hops) == 10_000

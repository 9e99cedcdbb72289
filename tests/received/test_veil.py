"""What a sender writes in the places that are his, quoted as each program quotes it, tells nothing
of how he came."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botmilter.model import Chain, Hop, HopKind, Trust
from botmilter.received import origin, parse_line
from tests.received.test_formats import CASES
from tests.received.test_hostile import LINES, PIECES

#: What has once worked.
ATTACKS = (
    "fetchmail-1", "Postfix", "with both STARTTLS and AUTH", "u+with qmail-scanner",
    "authenticated",
    "u+<(r [198.51.100.77]) by x", "u+<) (authenticated)", '") (r [198.51.100.77]) by x "',
    "[198.51.100.77]", "x) (r [198.51.100.77]) by y with esmtpsa (Exim 4.80) id 1",
    "x with ESMTPSA", "x via HTTP", "x by y with ESMTPSA", 'for <"', '@x> (r [198.51.100.77]) by y',
    'for <"(b"@c>)', "account x", "IDENT:", "helo=",
    '(x" (not verified))', '(Client CN "', "sender", "mailfrom:", "envelope-from=",
    "; Tue, 02 Jan 2024 03:04:05 +0100",
)  # fmt: skip
#: What a client may have put where a program writes it, quoted as that program does.
WORDS = st.lists(PIECES, max_size=12).map(lambda pieces: " ".join(pieces).replace("\r\n\t", " "))
CHOSEN = st.one_of(
    LINES.map(lambda text: text.replace("\r\n\t", " ")), WORDS, st.sampled_from(ATTACKS)
)


def _mailbox(local: str) -> str:
    """RFC 5321 section 4.1.2, as all programs spell it again."""
    if re.fullmatch(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+", local):
        return f"{local}@example.org"
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"@example.org'


def _neutered(text: str) -> str:
    """Postfix' HELO (smtpd.c, helo_cmd)."""
    return re.sub(r'[^ -~]|[<>()\\";:@]', "?", text).strip() or "h"


def _balanced(text: str) -> str:
    """Postfix' certificate names (smtpd.c, comment_sanitize)."""
    depth, out = 0, ""
    for letter in re.sub(r"[^ -~]|\\", "?", text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        out += "?" if depth < 0 else letter
        depth = max(depth, 0)
    return out + ")" * depth


def _atom(text: str) -> str:
    """Sendmail's ident (cleanstrcpy)."""
    return re.sub(r"[^A-Za-z0-9!#$%&'*+./^_`{|}~-]", "", text)


def _safe(text: str) -> str:
    """qmail's (received.c, issafe)."""
    return re.sub(r"[^A-Za-z0-9.@%+/=:-]", "?", text)


def _plain(text: str) -> str:
    """A HELO as Exim and Sendmail take it."""
    return re.sub(r"[^A-Za-z0-9.:_\[\]-]", "", text) or "h"


def _printed(text: str) -> str:
    """Exim's ident (string_printing): anything, in one line."""
    return re.sub(r"[^ -~]", "?", text)[:127]


#: HELO, ident and certificate, sender, recipient, each for the field of the same number.
TEMPLATES = {
    "postfix": (
        ("from {0} (r.example [203.0.113.9]) (using TLSv1.3 with cipher X (256/256 bits))"
        ' (Client CN "{1}", Issuer "{1}" (not verified))'
        " by mx.example (Postfix) with ESMTP id 4B for <{3}>"),
        _neutered,
        _balanced,
    ),
    "sendmail": (
        ("from {0} ({1}@r.example [203.0.113.9] (may be forged))"
        " by mx.example (8.17.1/8.17.1) with ESMTP id 4B for <{3}>"),
        _plain,
        _atom,
    ),
    "sendmail without a name": (
        "from {0} ({1}@[203.0.113.9]) by mx.example (8.17.1/8.17.1) with SMTP id 4B for <{3}>",
        _plain,
        _atom,
    ),
    "exim": (
        ("from r.example ([203.0.113.9]:4321 helo={0} ident={1}) by mx.example with esmtp"
        " (Exim 4.96) (envelope-from <{2}>) id 1rK-1 for {3}"),
        _plain,
        _printed,
    ),
    "exim without a name": (
        ("from [203.0.113.9] (port=4321 helo={0} ident={1}) by mx.example with esmtp"
        " (Exim 4.96) (envelope-from <{2}>) id 1rK-1 for {3}"),
        _plain,
        _printed,
    ),
    "exim without a greeting": (
        "from [203.0.113.9] (ident={1}) by mx.example with smtp (Exim 4.96) id 1rK-1 for {3}",
        _plain,
        _printed,
    ),
    "qmail": ("from r.example (HELO {0}) ({1}@203.0.113.9) by mx.example with SMTP", _safe, _safe),
    "qmail-ldap": (
        ("from r.example (HELO {0}) ({1}@[203.0.113.9]) (envelope-sender <{2}>)"
        " by mx.example (qmail-ldap-1.03) with SMTP for <{3}>"),
        _safe,
        _safe,
    ),
    "google": (
        ("from {0} (r.example. [203.0.113.9]) by mx.google.com with ESMTPS id a1si23 for <{3}>"
        " (version=TLS1_3 cipher=X bits=256/256)"),
        _plain,
        _plain,
    ),
    "courier": (
        "from {0} (r.example [::ffff:203.0.113.9]) by mx.example with esmtp",
        _neutered,
        _plain,
    ),
    "smail": (
        ("from {0} from [203.0.113.9] by mx.example (Smail3.1.30.16) with esmtp"
        " for <{3}> sender: <{2}> id <m1@h.example>"),
        _plain,
        _plain,
    ),
    "exchange": (
        "from {0} (203.0.113.9) by mx.example (10.1.2.3) with Microsoft SMTP Server id 15.20.1.1",
        _plain,
        _plain,
    ),
}  # fmt: skip
NOTHING = "x"


@pytest.mark.parametrize("program", TEMPLATES)
@settings(max_examples=300)
@pytest.mark.no_cover  # other tests reach every line, and the tracer takes as long as the parser
@given(helo=CHOSEN, other=CHOSEN, sender=CHOSEN, recipient=CHOSEN)
def test_nothing_that_a_sender_chose_tells_how_he_came(
    program: str, helo: str, other: str, sender: str, recipient: str
) -> None:
    line, spell_helo, spell_other = TEMPLATES[program]

    def read(*chosen: str) -> Hop:
        texts = spell_helo(chosen[0]), spell_other(chosen[1]), *map(_mailbox, chosen[2:])
        date = "; Tue, 02 Jan 2024 03:04:05 +0000"
        return parse_line((line.format(*texts) + date).encode("utf-8", "surrogatepass"))

    said, plain = read(helo, other, sender, recipient), read(*[NOTHING] * 4)
    assert plain.kind is HopKind.RELAY
    for name in ("ip", "kind", "authenticated", "by", "rdns_verified", "dialect", "protocol", "at"):
        assert getattr(said, name) == getattr(plain, name), name
    for trust in (Trust(own_relays=1), Trust(by_authentication=True)):
        found = origin.find(Chain((said,)), trust)
        assert (str(found.ip), found.why) == (
            "203.0.113.9",
            origin.find(Chain((plain,)), trust).why,
        )


#: Lines of every known program whose peer is noted in a comment, behind a greeting that may be
#: anything or nearly.
GREETED = tuple(
    case["line"]
    for case in CASES
    if case.get("kind", "relay") == "relay"
    and case["line"].startswith(f"from {case.get('helo')} (")
    and parse_line(case["line"].encode()).dialect not in ("exim", "qmail", "communigate")
)
_ADDRESSED = re.compile(r"<(?:u@example\.org|x@example\.net)>")


@settings(max_examples=1000)
@pytest.mark.no_cover
@given(line=st.sampled_from(GREETED), helo=CHOSEN, mailbox=CHOSEN)
def test_of_no_known_program_a_greeting_or_a_mailbox_changes_the_way(
    line: str, helo: str, mailbox: str
) -> None:
    plain = parse_line(line.encode())
    chosen = line.replace(f"from {plain.helo} (", f"from {_neutered(helo)} (", 1)
    chosen = _ADDRESSED.sub(lambda _: f"<{_mailbox(mailbox)}>", chosen)
    said = parse_line(chosen.encode("utf-8", "surrogatepass"))
    for name in ("ip", "kind", "authenticated", "by", "rdns_verified"):
        assert getattr(said, name) == getattr(plain, name), name


#: RCPT's argument as sendmail takes it (parseaddr.c, prescan): brackets within brackets, comments
#: anywhere, and a blank only within one of them.
_INSIDE = CHOSEN.map(lambda text: re.sub(r'[<>()"\\]', "", text))
ARGUMENTS = st.builds(
    lambda form, *texts: form.format(*texts),
    st.sampled_from(
        [
            "<u@example.org>({})({})",
            "<{} ({}) <u@example.org>>",
            '({}; (x))<"{} \\" ) by y"@example.org>',
            '<u@example.org>"{}"(\\) {})',
        ]
    ),
    _INSIDE,
    _INSIDE,
)


@given(argument=ARGUMENTS, helo=st.sampled_from(["h", "[203.0.113.9]", "x.example"]))
@pytest.mark.parametrize("note", ["r.example [{}]", "x@r.example [{}] (may be forged)", "[{}]"])
@pytest.mark.parametrize("tls", ["", " (version=TLSv1.3 cipher=AES bits=256 verify=NO)"])
def test_nothing_in_an_argument_of_rcpt_tells_how_a_mail_came_to_sendmail(
    note: str, tls: str, argument: str, helo: str
) -> None:
    hop = parse_line(
        f"from {helo} ({note.format('203.0.113.9')}) by h.example (8.17.1/8.17.1) with ESMTP id 4B"
        f"{tls} for {argument}; Mon, 01 Jan 2024 01:02:03 +0100".encode("utf-8", "surrogatepass")
    )
    assert (str(hop.ip), hop.kind, hop.by) == ("203.0.113.9", HopKind.RELAY, "h.example")
    assert not hop.authenticated
    assert hop.dialect == "sendmail"
    assert hop.at is not None

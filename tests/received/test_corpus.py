"""The sample of real mail beside the repository, where it is there; nothing of it is copied."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from botmilter.model import HopKind, OriginWhy, Trust
from botmilter.received import grammar, parse, plain
from botmilter.received.chain import split, take_apart
from botmilter.received.forgery import signals
from botmilter.received.origin import find

ARCHIVE = Path(__file__).parents[2].parent / "shared" / "corpus" / "headers.tar.gz"

pytestmark = pytest.mark.skipif(not ARCHIVE.exists(), reason=f"{ARCHIVE} is not there")

_INSIDE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
_SITE = ("212.17.35.15", "193.120.211.219", "213.105.180.140", "193.120.149.226")
TRUSTED = {
    "easy-ham-1": _INSIDE + _SITE,
    "spam-1": _INSIDE + _SITE,
    "phishing-pot": ("10.0.0.0/8", "fe80::/10", "2603:1000::/24", "2a01:111::/32"),
}
_SENDER_IP = re.compile(rb"^X-Sender-IP: (\S+)", re.MULTILINE)


@cache
def mails() -> Mapping[str, bytes]:
    with tarfile.open(ARCHIVE) as archive:
        files = ((entry.name, archive.extractfile(entry)) for entry in archive if entry.isfile())
        return {name: file.read() for name, file in files if file is not None}


def trust(name: str) -> Trust:
    return Trust(networks=tuple(ip_network(text) for text in TRUSTED[Path(name).parent.name]))


def test_every_mail_has_an_origin_or_never_left_trusted_hosts() -> None:
    found = {name: find(parse(block), trust(name)) for name, block in mails().items()}
    odd = {
        name: origin.why
        for name, origin in found.items()
        if origin.why not in (OriginWhy.RELAY, OriginWhy.LOCAL)
    }
    assert odd == {}


def test_a_fifth_of_the_lines_are_plain_and_read_as_if_they_were_not() -> None:
    texts = [grammar.unfold(value) for block in mails().values() for value in split(block)]
    by_one_expression = {text: hop for text in texts if (hop := plain.read(text, 0)) is not None}
    assert by_one_expression == {text: take_apart(text, 0) for text in by_one_expression}
    assert len(by_one_expression) > len(texts) / 5


def test_without_trust_the_border_of_every_mail_is_assumed() -> None:
    found = {name: find(parse(block), Trust()).why for name, block in mails().items()}
    assert set(found.values()) <= {OriginWhy.ASSUMED, OriginWhy.LOCAL}


def test_the_origin_is_the_address_that_the_receiving_host_noted() -> None:
    noted = 0
    for name, block in mails().items():
        sender = _SENDER_IP.search(block)
        if sender is not None:
            noted += 1
            assert find(parse(block), trust(name)).ip == ip_address(sender[1].decode()), name
    assert noted == 150


def test_few_lines_are_unreadable() -> None:
    hops = [hop for block in mails().values() for hop in parse(block).hops]
    broken = [hop for hop in hops if hop.kind is HopKind.BROKEN]
    assert len(broken) / len(hops) < 0.002


def test_honest_mail_seldom_contradicts_itself() -> None:
    flagged = 0
    ham = [name for name in mails() if "easy-ham" in name]
    for name in ham:
        chain = parse(mails()[name])
        strong = [
            signal
            for signal in signals(chain, find(chain, trust(name)), trust(name))
            if signal.strength == 1
        ]
        flagged += bool(strong)
    assert flagged / len(ham) < 0.05

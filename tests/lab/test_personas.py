"""Fingerprints of nmap's database become what a host answers."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from tests.lab import personas, quirks, worlds
from tests.lab.packets import ACK, RST, SYN

_TWO_OF_A_NAME = """
Fingerprint A box
Class Nobody | embedded || WAP
SEQ(SP=0-5%GCD=FA00|1F400%ISR=9B-A5%TI=RD|I%II=I%SS=S|O%TS=7)
T1(R=N)

Fingerprint A box
Class Somebody | embedded || WAP
SEQ(SP=F7-10B%GCD=1-6%ISR=102-112%TI=RD|I%II=I%SS=S|O%TS=7)
OPS(O1=|M5B4NW0NNT11S%O2=%O3=%O4=%O5=%O6=)
WIN(W1=FFFF%W2=0%W3=0%W4=0%W5=0%W6=0)
T1(R=Y%DF=Y%T=3B-45%TG=40%S=O%A=O|S+%F=A|AS%RD=0%Q=)
T5(R=Y%DF=N%T=41%TG=40%W=0%S=Z%A=S+%F=AR%O=%RD=0%Q=)

"""


@pytest.fixture
def box(tmp_path: Path) -> personas.Persona:
    database = tmp_path / "nmap-os-db"
    database.write_text(_TWO_OF_A_NAME, encoding="ascii")
    return personas.load("A box", database)


def test_a_later_databases_wider_range_stands_for_the_name(tmp_path: Path) -> None:
    database = tmp_path / "nmap-os-db"
    database.write_text(_TWO_OF_A_NAME.replace("A box", "Box 4.1 - 6.2"), encoding="ascii")
    assert personas.load("Box 4.1 - 5.6", database).name == "Box 4.1 - 6.2"
    with pytest.raises(personas.UnknownPersonaError):
        personas.load("Box 4.2 - 5.6", database)


def test_of_two_fingerprints_with_one_name_the_more_talkative_is_played(
    box: personas.Persona,
) -> None:
    assert box.classes == ("Somebody | embedded || WAP",)


def test_of_alternatives_the_fuller_answer_is_given(box: personas.Persona) -> None:
    reply = box.tcp["S1"]
    assert (reply.flags, reply.ack, reply.options) == (SYN | ACK, "S+", "M5B4NW0NNT11S")


def test_probes_that_the_fingerprint_leaves_out_are_not_answered(box: personas.Persona) -> None:
    assert set(box.tcp) == {"S1", "S2", "S3", "S4", "S5", "S6", "T5"}
    assert box.udp is None
    assert box.echo is None
    assert box.tcp["T5"].flags == ACK | RST


def test_the_usual_ttl_is_taken_only_where_it_was_measured(box: personas.Persona) -> None:
    assert box.tcp["S1"].ttl == 0x40
    assert box.tcp["T5"].ttl == 0x41


def test_idents_are_chosen_to_grow_alike_where_the_fingerprint_says_so(
    box: personas.Persona,
) -> None:
    assert (box.sequences.tcp_ident, box.sequences.icmp_ident) == ("I", "I")
    assert box.sequences.shared_ident


@pytest.mark.parametrize("name", [worlds.XP, worlds.LINUX, worlds.W98, worlds.ROUTER])
def test_increments_have_the_mean_and_the_spread_of_the_fingerprint(name: str) -> None:
    sequences = personas.load(name).sequences
    rates = quirks.increments(sequences.rate, sequences.spread)
    assert statistics.mean(rates) == pytest.approx(sequences.rate)
    assert statistics.stdev(rates) == pytest.approx(sequences.spread, rel=0.01)


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("M5B4NW8ST11", "020405b401030308" + "0402" + "080a0000000700000009"),
        ("NNT00S", "0101" + "080a0000000000000000" + "0402"),
        ("L", "00"),
        ("", ""),
    ],
)
def test_options_are_written_as_nmap_reads_them(text: str, raw: str) -> None:
    assert quirks.option_bytes(text, timestamp=7, echo=9).hex() == raw


def test_a_persona_that_nmap_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(personas.UnknownPersonaError, match="Windows 1995"):
        personas.load("Windows 1995")


def test_every_sixtieth_fingerprint_of_the_installed_database_can_be_played() -> None:
    names = personas.names()
    assert len(names) > 3000
    for name in names[::60]:
        persona = personas.load(name)
        numbers = persona.sequences
        assert len(quirks.increments(numbers.rate, numbers.spread)) == 5
        assert quirks.ident_base(numbers.tcp_ident, usual=7) < 2**16
        for reply in persona.tcp.values():
            assert len(quirks.option_bytes(reply.options, 5, 6)) <= 40
            assert reply.window < 2**16

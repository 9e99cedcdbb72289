"""nmap's XML, its own and hostile."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmilter.probes import nmap_xml

HOST = """<host{attributes}><status state="up" reason="user-set"/>
<ports><port protocol="tcp" portid="25"><state state="filtered"/></port></ports>
<os><portused state="open" proto="tcp" portid="135"/>{matches}</os></host>"""

MATCH = """<osmatch name="{name}" accuracy="{accuracy}">
<osclass type="general purpose" vendor="Microsoft" osfamily="Windows" osgen="XP" accuracy="93"/>
<osclass type="general purpose" vendor="Microsoft" osfamily="Windows" accuracy="85"/></osmatch>"""


def document(*hosts: str, end: str = "<runstats/></nmaprun>") -> bytes:
    return f'<?xml version="1.0"?><!DOCTYPE nmaprun><nmaprun>{"".join(hosts)}{end}'.encode()


def host(*matches: str, attributes: str = "") -> str:
    return HOST.format(matches="".join(matches), attributes=attributes)


def test_the_whole_answer_is_read() -> None:
    found = nmap_xml.facts(document(host(MATCH.format(name="Windows XP SP3", accuracy="93"))))
    assert found["state"] == "up"
    assert found["ports"] == {"25": "filtered"}
    (match,) = found["matches"]
    assert (match["name"], match["accuracy"]) == ("Windows XP SP3", 93)
    assert [one["generation"] for one in match["classes"]] == ["XP", ""]


def test_a_match_s_accuracy_is_its_own_and_not_its_last_class_s() -> None:
    found = nmap_xml.facts(document(host(MATCH.format(name="x", accuracy="93"))))
    assert [one["accuracy"] for one in found["matches"][0]["classes"]] == [93, 85]
    assert found["matches"][0]["accuracy"] == 93


def test_no_match_and_no_host_are_told_apart_from_trouble() -> None:
    assert nmap_xml.facts(document(host()))["matches"] == []
    assert nmap_xml.facts(document())["state"] == "down"


def test_a_host_that_ran_out_of_time_says_so() -> None:
    assert nmap_xml.facts(document(host(attributes=' timedout="true"')))["timed_out"] is True


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"garbage",
        document(host(), end=""),
        document(host(), end="</nmaprun>"),
        b"<html><runstats/></html>",
        b'<!DOCTYPE a [<!ENTITY b "ha">]><nmaprun>&b;<runstats/></nmaprun>',
    ],
)
def test_what_is_cut_or_not_nmap_s_is_refused(xml: bytes) -> None:
    with pytest.raises(ValueError, match="nmap's output"):
        nmap_xml.facts(xml)


@pytest.mark.parametrize("accuracy", ["", "-1", "x", "٣", "1000"])
def test_an_odd_accuracy_is_a_percentage_all_the_same(accuracy: str) -> None:
    found = nmap_xml.facts(document(host(MATCH.format(name="x", accuracy=accuracy))))
    assert 0 <= found["matches"][0]["accuracy"] <= 100


SAFE = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")))


@given(SAFE)
def test_hostile_texts_come_out_printable(text: str) -> None:
    name = text.translate({ord(char): f"&#{ord(char)};" for char in '<>&"'})
    found = nmap_xml.facts(document(host(MATCH.format(name=name, accuracy="93"))))
    assert json.dumps(found, ensure_ascii=False).isascii()


@given(st.binary())
def test_any_bytes_give_facts_or_a_value_error(xml: bytes) -> None:
    with suppress(ValueError):
        nmap_xml.facts(xml)


@pytest.mark.parametrize("encoding", ["x-unheard-of", "utf-7", "idna", "hex"])
def test_an_odd_encoding_is_a_plain_error(encoding: str) -> None:
    with suppress(ValueError):
        nmap_xml.facts(f'<?xml version="1.0" encoding="{encoding}"?><nmaprun/>'.encode())

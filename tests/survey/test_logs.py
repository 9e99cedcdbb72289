"""The study's readable log of each host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from botmilter.model import Observation, Status
from botmilter.survey import logs
from tests.survey.values import host, mail, osdetect, ping, record, smtp

XP = record("198.18.7.12", ping(True), smtp("filtered"), osdetect("Windows", "XP"), label="bot")


def test_the_log_has_what_the_study_wrote_down() -> None:
    lines = logs.text(XP).splitlines()
    assert lines[0] == "From: Offer <offer@cheap.example>"
    assert lines[1] == "To: reader@reader.example"
    assert "Received IP: 198.18.7.12 (origin, proved)" in lines
    assert "Time: 2009-08-03T14:16:35+00:00" in lines
    assert "smtp: no answer" in lines
    assert any(line.startswith("ping: answered") for line in lines)
    assert any(line.startswith("osdetect: Windows XP (100 %)") for line in lines)


def test_a_probe_that_could_not_be_asked_gives_its_reason() -> None:
    failed = Observation("ping", "k", Status.FAILED, reason="no privilege")
    assert "ping: failed (no privilege)" in logs.text(record("198.18.7.12", failed))


def test_the_files_name_has_neither_colon_nor_slash(tmp_path: Path) -> None:
    path = logs.write(record("2001:db8::1", ping(False)), tmp_path)
    assert path == tmp_path / "2001-db8--1_20090803T141635Z.log"
    assert path.read_text().endswith("\n")


def test_what_mails_and_hosts_say_stays_printable_ascii() -> None:
    nasty = "\x1b[31mred\r\nReceived IP: 192.0.2.1 \u202e\xff"
    evil = replace(XP, host=host(mails=[mail(sender=nasty, helo=nasty, received=nasty)]))
    evil = replace(evil, observations=(osdetect("Windows", "XP", nasty), *XP.observations[:2]))
    text = logs.text(evil)
    assert text.replace("\n", "").isprintable()
    assert text.isascii()
    assert sum(line.startswith("Received IP:") for line in text.splitlines()) == 1


def test_of_many_mails_some_are_listed_and_all_are_counted() -> None:
    many = replace(XP, host=host(mails=[mail(n) for n in range(25)]))
    text = logs.text(many)
    assert text.count("From: ") == 20
    assert "(and 5 more mails)" in text

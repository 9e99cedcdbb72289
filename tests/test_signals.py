"""The table of signals, and its documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from botmilter.signals import BY_NAME, TABLE, Group, Row

DOCUMENT = (Path(__file__).parent.parent / "docs" / "signals.md").read_text()

_ROW = re.compile(r"\| `([a-z0-9_.]+)` \| (-?[0-9.]+) \| (.+?) \| (.*?) ?\|")


def documented() -> dict[str, Row]:
    found: dict[str, Row] = {}
    group = ""
    for line in DOCUMENT.splitlines():
        if line.startswith("## "):
            group = line[3:].lower()
        elif row := _ROW.fullmatch(line):
            found[row[1]] = Row(row[1], Group(group), float(row[2]), row[3], row[4])
    return found


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def test_the_document_lists_every_signal_and_no_other() -> None:
    assert documented().keys() == BY_NAME.keys()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_the_document_says_what_the_table_says(row: Row) -> None:
    there = documented()[row.name]
    assert there == Row(row.name, row.group, row.weight, capital(row.meaning), capital(row.source))


def test_no_signal_stands_twice() -> None:
    assert len(BY_NAME) == len(TABLE)


@pytest.mark.parametrize("row", [row for row in TABLE if row.weight], ids=lambda row: row.name)
def test_points_have_a_source(row: Row) -> None:
    assert row.source


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_group_points_one_way_where_its_rule_needs_it(row: Row) -> None:
    if row.group in (Group.NAMES, Group.CHAIN, Group.PAIR):
        assert row.weight >= 0
    if row.group is Group.CLEAR:
        assert row.weight < 0
    if row.group is Group.NOTE:
        assert row.weight == 0


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_name_is_a_topic_and_a_word(row: Row) -> None:
    assert re.fullmatch(r"[a-z0-9]+\.[a-z0-9_]+", row.name)

"""The report's page, as a browser shows and prints it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from botmilter.survey import analyse, charts, report
from botmilter.survey.analyse import Place, Seen
from botmilter.survey.records import Record
from botmilter.survey.report import Survey
from tests.browser import Browser, Page, browser
from tests.survey.values import osdetect, ping, record, smtp

#: Where to leave what was seen, for looking at it: BOTMILTER_PICTURES=/tmp/x tests/run …
_PICTURES = os.environ.get("BOTMILTER_PICTURES")

_SYSTEMS = (
    *[("Windows", "XP")] * 2,
    *[("Windows", "10")] * 6,
    *[("Windows", "2016")] * 10,
    *[("Linux", "4.X")] * 22,
    *[("FreeBSD", "11.X")] * 5,
    *[("embedded", "")] * 8,
)
_LONG = "host-198-18-7-12.a-very-long-name-of-a-pool.customers.provider-of-networks.example"


def _hosts(gone: int) -> tuple[Seen, ...]:
    return tuple(_host(n, is_gone=n % 5 < gone) for n in range(len(_SYSTEMS)))


def _host(number: int, is_gone: bool) -> Seen:
    family, generation = _SYSTEMS[number]
    label = "bot" if family == "Windows" and generation in ("XP", "10") else "clean"
    facts = (ping(True), smtp("filtered"), osdetect(family, generation))
    known: Record = record(f"198.18.7.{number}", *facts, label=label, score=number / 3)
    if is_gone:
        known = record(f"198.18.7.{number}", ping(False), smtp("filtered"), label="unknown")
    place = Place(("JP", "CN", "BR")[number % 3], f"AS6449{number % 9} Net of somebody, Inc.")
    return replace(analyse.seen(known.to_json(), place), name=_LONG if number % 2 else "")


@pytest.fixture(scope="module")
def surveys() -> list[Survey]:
    return [Survey("august 2009 <&>", _hosts(0)), Survey("october 2009", _hosts(3))]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as one:
        yield one


@pytest.fixture(scope="module")
def url(surveys: list[Survey], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report.page(surveys), encoding="utf-8")
    return path.as_uri()


#: Letters smaller than a reader's, the text within pictures too, as they come to stand on screen.
_SMALL = """[...document.querySelectorAll("p, td, th, li, figcaption, svg text")]
    .filter(e => e.textContent.trim() && e.checkVisibility())
    .map(e => {
        const drawn = e instanceof SVGElement ? e.getScreenCTM() : {a: 1, b: 0};
        const scale = Math.hypot(drawn.a, drawn.b);
        return [e.textContent.trim(), parseFloat(getComputedStyle(e).fontSize) * scale];
    })
    .filter(([text, size]) => size < 9.5)"""


def _show(chromium: Browser, url: str, width: int) -> Page:
    page = chromium.show(url, width, _SMALL)
    if _PICTURES:
        folder = Path(_PICTURES)
        folder.mkdir(exist_ok=True)
        (folder / f"{width}.png").write_bytes(page.screenshot)
        (folder / f"{width}.pdf").write_bytes(page.pdf)
    return page


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_is_sound_loads_nothing_and_fits(chromium: Browser, url: str, width: int) -> None:
    page = _show(chromium, url, width)
    assert page.errors == ()
    assert page.requests == (url,)
    assert page.scroll_width <= width
    assert page.evaluated == []
    for word in ("Windows 95-XP", "august 2009 <&>", "JP", "AS64490", "198.18.7.1", "gone"):
        assert word in page.text


@pytest.mark.slow
def test_the_page_prints_on_few_sheets(chromium: Browser, url: str) -> None:
    pdf = _show(chromium, url, 1280).pdf
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 8


def test_all_hosts_of_one_class_make_a_picture() -> None:
    for count in range(1, 60):
        shares = analyse.shares(("a", "b"), ["a"] * count)
        assert charts.bars("t", [("run", shares)]).startswith("<svg")


def test_a_survey_without_mails_times_makes_a_page() -> None:
    one = Survey("x", (replace(_host(0, False), hours=()),))
    assert report.page([one]).count("<svg") == 6

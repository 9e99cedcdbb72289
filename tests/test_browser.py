"""The browser of the tests sees what it is there to see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Browser, browser

_STRICT = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as one:
        yield one


def page(folder: Path, body: str) -> str:
    path = folder / "page.html"
    head = "<!doctype html><title>t</title><meta name=viewport content='width=device-width'>"
    path.write_text(head + body)
    return path.as_uri()


def test_a_sound_page_has_no_errors_and_fits(chromium: Browser, tmp_path: Path) -> None:
    shown = chromium.show(page(tmp_path, "<p>hello<p hidden>unseen"), 400, "1 + 1")
    assert (shown.errors, shown.scroll_width) == ((), 400)
    assert shown.text.strip() == "hello"
    assert shown.evaluated == 2
    assert shown.screenshot.startswith(b"\x89PNG")
    assert shown.pdf.startswith(b"%PDF")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<script>console.error('broken')</script>", "broken"),
        ("<script>throw new Error('thrown')</script>", "thrown"),
        ("<img src=missing.png>", "ERR_FILE_NOT_FOUND"),
        (f"{_STRICT}<style>p {{ color: red }}</style>", "Content Security Policy"),
    ],
)
def test_what_is_wrong_with_a_page_is_told(
    chromium: Browser, tmp_path: Path, body: str, complaint: str
) -> None:
    shown = chromium.show(page(tmp_path, body), 1280)
    assert any(complaint in error for error in shown.errors), shown.errors


def test_a_page_too_wide_shows(chromium: Browser, tmp_path: Path) -> None:
    shown = chromium.show(page(tmp_path, "<div style='width: 900px'>wide</div>"), 400)
    assert shown.scroll_width >= 900


def test_every_request_is_listed(chromium: Browser, tmp_path: Path) -> None:
    shown = chromium.show(page(tmp_path, "<img src='http://127.0.0.1:9/x.png'>"), 1280)
    assert "http://127.0.0.1:9/x.png" in shown.requests

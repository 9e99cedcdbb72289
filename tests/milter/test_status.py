"""The status page: hostile text in it, over the real daemon, and in a real browser."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from botmilter.errors import StoreError
from botmilter.milter import loopback, status
from botmilter.milter.observer import Totals
from botmilter.milter.status import Kept, Seen, StatusPage
from botmilter.model import Label
from botmilter.store.tally import SLOT_S, Row, SqliteTally
from tests.browser import Browser, browser
from tests.milter.conftest import PATIENCE_S, wait_until
from tests.milter.test_observer import Running

#: Where to leave what was seen, for looking at it: BOTMILTER_PICTURES=/tmp/x tests/run …
_PICTURES = os.environ.get("BOTMILTER_PICTURES")

NOW = 1_800_003_000.0  # 08:50 UTC
EVIL = "<script>alert('x')</script>\"&\r\n\x1b[31m\u202e"
SYSTEMS = ("Microsoft Windows 10 1709 - 1909", "Linux 2.6.32 - 3.10", "unknown")


def _seen(now: float = NOW) -> Seen:
    """A busy day with everything that the page can show."""
    slots = range(int(now // SLOT_S) - 24 * 6, int(now // SLOT_S) + 1)
    rows = [
        Row(slot, f"mails {label}", (slot % 37 + 3) * many)
        for slot in slots
        for label, many in (("bot", 9), ("suspect", 1), ("clean", 14), ("unknown", 3))
    ]
    rows += [Row(slots[-1], f"system {name}", 7 - n) for n, name in enumerate(SYSTEMS)]
    reasons = [
        ["rdns.dynamic", 2.0, "host-198-18-7-12.a-very-long-name-of-a-pool.customers.isp.example"],
        ["os.client", 3.25, SYSTEMS[0]],
        ["port25.filtered", 1.5, ""],
    ]
    bots = {
        f"198.18.7.{n}": {
            "at": now - 60 * n,
            "score": 8.75,
            "system": SYSTEMS[0],
            "reasons": reasons,
        }
        for n in range(30)
    }
    bots = {"2001:db8:1234:5678::/64": bots["198.18.7.0"], **bots}
    counts = {"probes ping answered": 40.0, "probes ping failed": 2.0, "took_s ping": 21.0}
    counts |= {f"probes osdetect {state}": 12.0 for state in ("answered", "silent", "late")}
    counts |= {"mails bot": 5.0, "mails clean": 9.0, "store_errors": 4.0, "rate_refusals": 3.0}
    gauges = {"workers serving": 2.0, "queue osdetect": 11.0, "waiting": 6.0}
    return Seen(now, now - 7200, counts, gauges, 1, Kept(rows, bots))


class _Tags(HTMLParser):
    """What elements and texts a browser would find."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name in ("src", "style") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_nothing_hostile_becomes_markup() -> None:
    entry = {"at": NOW, "score": 7, "system": EVIL, "reasons": [[EVIL, 1, EVIL]]}
    words = (f"mails {EVIL}", f"system {EVIL}", f"origin {EVIL} bot")
    kept = Kept([Row(int(NOW // SLOT_S), word, 3) for word in words], {EVIL: entry})
    counts = {f"probes {EVIL.replace(' ', '')} failed": 2.0}
    gauges = {f"queue {EVIL}": 1.0, f"workers {EVIL}": 1.0}
    for seen in (
        Seen(NOW, NOW, counts, gauges, 0, kept),
        Seen(NOW, NOW, counts, gauges, 0, None, EVIL),
    ):
        page = status.page(seen)
        found = _Tags(page)
        assert "script" not in found.tags
        assert "<script>alert('x')</script>" in "".join(found.texts)  # shown, as text
        assert not re.search(r"[^\x20-\x7e\n]", page)


def test_hours_are_the_clocks_and_what_is_older_is_left_out() -> None:
    hour = int(NOW // 3600)
    rows = [
        Row(hour * 6, "mails bot", 1),
        Row(hour * 6 + 5, "mails bot", 2),
        Row(hour * 6 - 1, "mails clean", 4),
        Row((hour - 23) * 6, "mails bot", 8),
        Row((hour - 23) * 6 - 1, "mails bot", 16),
        Row((hour + 1) * 6, "mails bot", 32),
        Row(hour * 6, "probes ping failed", 64),
    ]
    hours = status.by_hour(rows, NOW)
    assert len(hours) == 24
    assert (hours[23], hours[22], hours[0]) == ({"bot": 3}, {"clean": 4}, {"bot": 8})
    assert sum(one.total() for one in hours) == 15


def test_the_bars_fit_into_the_picture_and_every_verdict_has_a_colour() -> None:
    page = status.page(_seen())
    bars = re.findall(r'<rect class="\w+" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', page)
    assert len(bars) == 24 * 4
    assert all(0 <= float(x) <= 360 - float(wide) and float(y) >= 9.9 for x, y, wide in bars)
    for label in Label:
        assert f'<i class="{label.value}"></i>{label.value} ' in page
        assert f".{label.value} {{ fill:" in page


def test_the_page_shows_what_is_there() -> None:
    found = " ".join(_Tags(status.page(_seen())).texts)
    for text in ("2027-01-15 08:50 UTC", "198.18.7.18", "2.6.32", "os.client +3.25", "osdetect 11"):
        assert text in found
    assert "198.18.7.19" not in found  # twenty are enough
    assert "0.50 s" in found  # 21 s for 42 pings
    assert _Tags(status.page(_seen())).tags.count("h2") == 5


def test_an_empty_day_makes_a_page() -> None:
    page = status.page(Seen(NOW, NOW, {}, {}, 0, Kept([], {})))
    for text in ("No mail.", "No bot.", "No measurement yet."):
        assert text in page


def test_with_the_memory_store_it_shows_what_was_counted_since_the_start() -> None:
    page = status.page(replace(_seen(), kept=None))
    assert "Over time nothing is kept" in page
    assert "Verdicts since 2027-01-15 06:50 UTC" in page
    assert "clean <b>9</b>" in page


def test_a_store_that_comes_back_is_asked_again(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    page = StatusPage(Totals(), lambda: SqliteTally(folder / "x.stats.sqlite"))
    kind, text = page("")
    assert kind == "text/html; charset=utf-8"
    assert b"The store is out of reach" in text
    folder.mkdir()
    assert b"out of reach" not in page("")[1]


def test_a_store_that_cannot_even_be_opened_is_said() -> None:
    def fail() -> None:
        raise StoreError("[store] url: no such <host>")

    assert b"no such &lt;host&gt;" in StatusPage(Totals(), fail)("")[1]


@contextmanager
def _running(folder: Path, more: str = "") -> Iterator[tuple[Running, int]]:
    """The daemon and the page's port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    running = Running(folder, f'web.listen = "127.0.0.1:{port}"\n{more}')
    try:
        yield running, port
        running.stop()
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def _ask(port: int, method: str = "GET", host: str = "", path: str = "/") -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as client:
        client.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
        answer = client.getresponse()
        return answer.status, answer.read().decode()


def test_the_daemon_serves_it_to_this_machine_and_for_reading(tmp_path: Path) -> None:
    with _running(tmp_path) as (running, port):
        running.mail()
        running.process.send_signal(signal.SIGUSR1)  # workers that drain write what they have
        wait_until(lambda: "unknown <b>1</b>" in _ask(port)[1], "the mail on the page")
        wait_until(lambda: "serving 2" in _ask(port)[1], "the new workers")
        code, page = _ask(port)
        assert code == 200
        assert "Verdicts, last 24 hours" in page  # from the store, as another process wrote it
        assert _ask(port, host="rebound.example")[0] == 421
        assert _ask(port, "POST")[0] == 501
        assert _ask(port, path="/metrics")[0] == 404
        assert _ask(port, "HEAD") == (200, "")


def test_the_daemons_page_comes_while_its_store_is_away(tmp_path: Path) -> None:
    away = 'store.kind = "redis"\nstore.url = "redis://:secret@127.0.0.1:1"\n'
    with _running(tmp_path, away) as (running, port):
        running.mail()
        wait_until(lambda: "unknown <b>1</b>" in _ask(port)[1], "the observer's own count")
        page = _ask(port)[1]
        assert "The store is out of reach" in page
        assert "secret" not in page


def _with_long_words(seen: Seen) -> Seen:
    assert seen.kept is not None
    long = "W" * 120
    entry = {"at": seen.now, "score": 9, "system": long, "reasons": [["rdns.dynamic", 1, long]]}
    rows = [*seen.kept.rows, Row(int(seen.now // SLOT_S), f"system {long}", 2)]
    return replace(seen, kept=Kept(rows, {"198.18.9.9": entry, **seen.kept.bots}))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A full page, under the headers that the daemon sends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        text = status.page(_with_long_words(_seen(time.time()))).encode()
        server = loopback._Server(listener, {"/": lambda _: ("text/html; charset=utf-8", text)})
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.shutdown()  # or it would ask the closed socket again and again, to the last test
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as one:
        yield one


#: Tables of which a part is out of sight.
_HIDDEN = """[...document.querySelectorAll(".table")]
    .filter(e => e.scrollWidth > e.clientWidth).length"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_it_without_complaint(chromium: Browser, url: str, width: int) -> None:
    page = chromium.show(url, width, _HIDDEN)
    if _PICTURES:
        folder = Path(_PICTURES)
        folder.mkdir(exist_ok=True)
        (folder / f"status-{width}.png").write_bytes(page.screenshot)
    assert page.errors == ()
    assert page.requests == (url,)
    assert page.scroll_width <= width
    assert page.evaluated == 0
    for text in ("198.18.7.1", "2001:db8:1234:5678::/64", SYSTEMS[0], "Mails by hour"):
        assert text in page.text

"""A real browser for pages we make: Chromium without a window, spoken to over a pipe.

What it speaks is the DevTools protocol, JSON objects that end in a NUL octet; the pipe needs no
port and ends the browser when the test ends.  The browser is unpacked by ``tests/run`` and its
network is the private one; what a page asks for is listed all the same.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import net

PROGRAM = "chromium-headless-shell"

#: Longest a page may take; two cores may be shared with much else.
PATIENCE_S = 60.0

_OPTIONS = (
    "--no-sandbox",  # the tests are root, and the page is ours
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",  # a phone's take no room
    "--remote-debugging-pipe",
)

#: Descriptors 3 and 4 are the pipe; our ends are its input and output.
_WITH_PIPE = ("sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh")


@dataclass(frozen=True, slots=True)
class Page:
    """A page as the browser shows it at one width."""

    text: str
    """What a reader sees, without the hidden parts."""
    errors: tuple[str, ...]
    """Errors and warnings of the console, exceptions, violated policies, failed requests."""
    requests: tuple[str, ...]
    """Every address asked for, the page's own first."""
    scroll_width: int
    """CSS pixels of the whole document; more than the viewport's is a horizontal overflow."""
    screenshot: bytes
    """The whole page, as PNG."""
    pdf: bytes
    """The page as it prints."""
    evaluated: Any
    """The value of the expression that :meth:`Browser.show` was given."""


class Browser:
    """One browser, which shows a page at a time.  Used by one thread."""

    def __init__(self, folder: Path) -> None:
        command = (*_WITH_PIPE, PROGRAM, *_OPTIONS, f"--user-data-dir={folder}")
        home = {**os.environ, "HOME": str(folder)}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=home,
        )
        self._pending = b""
        self._sent = 0
        self._events: list[dict[str, Any]] = []

    def show(self, url: str, width: int, evaluate: str = "null", height: int = 900) -> Page:
        """The page at *url* in a viewport of *width* by *height* CSS pixels.

        Below 600 as a phone does it: a page that names no viewport is laid out 980 pixels wide.
        *evaluate* is an expression of JavaScript whose value is plain JSON data; a policy that
        forbids the page its scripts does not keep the browser from it.
        """
        self._events.clear()
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable", session)
        self._call(
            "Emulation.setDeviceMetricsOverride",
            session,
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        went = self._call("Page.navigate", session, url=url)
        assert "errorText" not in went, f"{url}: {went['errorText']}"
        self._wait_for("Page.loadEventFired")
        page = self._look(session, evaluate)
        self._call("Target.closeTarget", targetId=target)
        return page

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _look(self, session: str, evaluate: str) -> Page:
        return Page(
            text=self._value(session, "document.body.innerText"),
            evaluated=self._value(session, evaluate),
            scroll_width=self._value(session, "document.documentElement.scrollWidth"),
            screenshot=self._picture(session, "Page.captureScreenshot", captureBeyondViewport=True),
            pdf=self._picture(session, "Page.printToPDF"),
            errors=tuple(filter(None, map(_complaint, self._events))),
            requests=tuple(
                event["params"]["request"]["url"]
                for event in self._events
                if event["method"] == "Network.requestWillBeSent"
            ),
        )

    def _value(self, session: str, expression: str) -> Any:
        got = self._call("Runtime.evaluate", session, expression=expression, returnByValue=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def _picture(self, session: str, method: str, **options: Any) -> bytes:
        return base64.b64decode(self._call(method, session, **options)["data"])

    def _call(self, method: str, session: str | None = None, /, **params: Any) -> dict[str, Any]:
        self._sent += 1
        order = {"id": self._sent, "method": method, "params": params}
        if session is not None:
            order["sessionId"] = session
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\0")
        self._process.stdin.flush()
        end = time.monotonic() + PATIENCE_S
        while (answer := self._hear(end)).get("id") != self._sent:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _wait_for(self, method: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not any(event["method"] == method for event in self._events):
            self._hear(end)

    def _hear(self, end: float) -> dict[str, Any]:
        """The next object; events are kept too."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while b"\0" not in self._pending:
            ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{PROGRAM} did not answer within {PATIENCE_S:.0f} s"
            data = os.read(fd, 1 << 20)
            assert data, f"{PROGRAM} ended with {self._process.wait()}"
            self._pending += data
        text, _, self._pending = self._pending.partition(b"\0")
        told: dict[str, Any] = json.loads(text)
        if "method" in told:
            self._events.append(told)
        return told


def _complaint(event: dict[str, Any]) -> str | None:
    """What *event* says is wrong; None where it says nothing of the kind."""
    params = event["params"]
    match event["method"]:
        case "Runtime.exceptionThrown":
            return str(params["exceptionDetails"])
        case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
            return str(params["args"])
        case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
            return f"{params['entry']['text']} {params['entry'].get('url', '')}"
        case "Network.loadingFailed":
            return f"not loaded: {params['errorText']} {params.get('blockedReason', '')}"
    return None


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with an empty profile.  Skips the test where Debian's package is not there."""
    net.require_private()
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"no {PROGRAM} here: tests/run brings it on Debian, Ubuntu has no package")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        one = Browser(Path(folder))
        try:
            yield one
        finally:
            one.close()

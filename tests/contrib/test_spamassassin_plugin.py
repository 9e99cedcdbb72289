"""The SpamAssassin plugin in the real spamassassin: with a daemon that says what a test wants, and
with the real one in the laboratory."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.programs import find
from tests.lab import mta, worlds
from tests.lab.dns import NameServer
from tests.lab.filter import Filter
from tests.lab.lab import Lab

CONTRIB = Path(__file__).parents[2] / "contrib/spamassassin"

pytestmark = pytest.mark.slow

PC = "198.18.7.12"

#: Nobody to ask here; whom SpamAssassin trusts, it has to be told.
SITE = """\
dns_available no
use_bayes 0
report_safe 0
clear_headers
add_header all Hits _TESTS(,)_
trusted_networks 192.0.2.0/24
botmilter_socket {socket}
botmilter_timeout {timeout_s}
"""


class SpamAssassin:
    """A site with the plugin."""

    def __init__(self, folder: Path, query_socket: Path, timeout_s: float = 5.0) -> None:
        self.folder = folder / "spamassassin"
        self.folder.mkdir()
        for name in ("BotMilter.pm", "botmilter-plugin.pre", "botmilter-plugin.cf"):
            shutil.copy(CONTRIB / name, self.folder)
        (self.folder / "local.cf").write_text(SITE.format(socket=query_socket, timeout_s=timeout_s))
        for packaged in Path("/etc/spamassassin").glob("*.pre"):
            shutil.copy(packaged, self.folder)
        (folder / "rules").mkdir()
        (folder / "rules/none.cf").write_text("# only ours\n")
        self.rules = folder / "rules"

    def run(self, *options: str, message: bytes = b"") -> tuple[str, str]:
        """What it writes, and its debug lines."""
        command = [find("spamassassin"), f"--siteconfigpath={self.folder}", *options]
        done = subprocess.run(
            command, input=message, cwd=self.folder, capture_output=True, timeout=90, check=False,
            env={**os.environ, "HOME": str(self.folder), "LC_ALL": "C"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.decode("latin-1"), done.stderr.decode("latin-1")

    def hits(self, message: bytes, *options: str) -> tuple[set[str], str]:
        """Names of our rules without their beginning, and the debug lines."""
        ours = f"--configpath={self.rules}"
        out, debug = self.run(ours, "-D", "botmilter", *options, message=message)
        assert out.count("X-Spam-Hits:") == 1, out
        assert out.endswith("Hello.\n"), out
        assert "BotMilter.pm line" not in debug, debug  # Perl's own complaints
        return set(re.findall(r"\bBOTMILTER_(\w+)", out)), debug


class Daemon:
    """Answers each connection with the next of *answers*, as they are; the last one stays."""

    def __init__(self, path: Path, answers: Sequence[bytes | None]) -> None:
        self.asked: list[Any] = []
        self._answers = list(answers)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._silent: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            self.asked.append(json.loads(client.recv(65536)))
            if answer is None:
                self._silent.append(client)
                continue
            with client, suppress(OSError):
                client.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for client in self._silent:
            client.close()


Answering = Callable[..., Daemon]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    made: list[Daemon] = []

    def make(*answers: bytes | None) -> Daemon:
        made.append(Daemon(tmp_path / "query.sock", answers))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def site(tmp_path: Path) -> SpamAssassin:
    return SpamAssassin(tmp_path, tmp_path / "query.sock")


def received(ip: str, helo: str = "home-pc", by: str = "mx.example.net") -> str:
    return (
        f"Received: from {helo} ({helo} [{ip}])\n\tby {by} (Postfix) with ESMTP id 4F1D32C0\n"
        "\tfor <reader@example.net>; Mon, 23 Nov 2026 03:00:00 +0000 (UTC)\n"
    )


def mail(*lines: str) -> bytes:
    return (
        f"Return-Path: <a@proper.example>\n{''.join(lines)}"
        "From: a@proper.example\nTo: b@example.net\nSubject: hello\n"
        "Message-ID: <1@proper.example>\nDate: Mon, 23 Nov 2026 03:00:00 +0000\n\nHello.\n"
    ).encode()


def said(verdict: str, score: float | None = None, reasons: Mapping[str, float] = {}) -> bytes:
    listed = [{"signal": name, "points": points} for name, points in reasons.items()]
    return json.dumps({"verdict": verdict, "score": score, "reasons": listed}).encode() + b"\n"


def test_spamassassin_finds_nothing_wrong_with_plugin_and_rules(site: SpamAssassin) -> None:
    assert site.run("--lint") == ("", "")


def test_the_rules_are_those_on_the_header() -> None:
    """Names, scores and descriptions; but for the one on what the plugin does not see."""

    def rules(name: str) -> set[str]:
        lines = (CONTRIB / name).read_text().splitlines()
        return {line for line in lines if line.startswith(("score", "describe"))}

    left = rules("botmilter.cf") - rules("botmilter-plugin.cf")
    assert rules("botmilter-plugin.cf") <= rules("botmilter.cf")
    assert all("BOTMILTER_FORGED" in line for line in left)


REASONS = {"os.client": 3.0, "pair.client_no_service": 2.5, "smtp.filtered": 1.5, "rdns.pool": 1.5}


@pytest.mark.parametrize(
    ("answer", "hits"),
    [
        (said("bot", 8.5, REASONS), "BOT DYNAMIC LEVEL_7 LEVEL_8 NO_SERVICE OS_CLIENT"),
        (said("bot", 7.99, {"os.client": 0.0, "smtp.banner": -3.0}), "BOT LEVEL_7"),
        (said("suspect", 3.5, {"smtp.refused": 1.5}), "SUSPECT NO_SERVICE"),
        (said("clean", -3.0), "CLEAN"),
        (said("unknown", 9.0), "UNKNOWN"),
        (said("exempt"), ""),
    ],
)
def test_the_rules_of_an_answer_hit(
    site: SpamAssassin, answering: Answering, answer: bytes, hits: str
) -> None:
    daemon = answering(answer)
    forged = "X-Bot-Verdict: clean; score=-9\nX-Bot-Level: **********\n"
    assert site.hits(mail(forged, received(PC)))[0] == set(hits.split())
    assert daemon.asked == [{"ip": PC, "helo": "home-pc", "sender": "a@proper.example"}]


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ([received("192.0.2.1", "relay"), received(PC), received("203.0.113.9")], [PC]),
        ([received(PC, by="relay"), received("192.0.2.1"), received("203.0.113.9")], [PC]),
        ([received("192.0.2.1")], []),
        ([], []),
    ],
    ids=["behind a trusted relay", "a forged trusted relay below", "only trusted", "none"],
)
def test_the_first_untrusted_relay_is_asked_about_and_nobody_else(
    site: SpamAssassin, answering: Answering, lines: list[str], asked: list[str]
) -> None:
    daemon = answering(said("bot", 8.5))
    hits, _ = site.hits(mail(*lines))
    assert [question["ip"] for question in daemon.asked] == asked
    assert ("BOT" in hits) == bool(asked)


def test_without_network_tests_nobody_is_asked(site: SpamAssassin, answering: Answering) -> None:
    daemon = answering(said("bot", 8.5))
    assert site.hits(mail(received(PC)), "-L")[0] == set()
    assert daemon.asked == []


def test_without_a_daemon_the_mail_is_scanned_as_ever(site: SpamAssassin) -> None:
    hits, debug = site.hits(mail("X-Bot-Verdict: bot; score=9\n", received(PC)))
    assert (hits, debug.count("no connection to")) == (set(), 1)


def test_a_daemon_that_hangs_costs_the_time_limit_and_no_more(
    tmp_path: Path, answering: Answering
) -> None:
    site = SpamAssassin(tmp_path, tmp_path / "query.sock", timeout_s=1.0)
    answering(said("clean", 0.0), None)
    began = time.monotonic()
    site.hits(mail(received(PC)))
    usual_s = time.monotonic() - began
    began = time.monotonic()
    hits, debug = site.hits(mail(received(PC)))
    assert (hits, debug.count("no answer in time")) == (set(), 1)
    assert time.monotonic() - began < usual_s + 1.0 + 1.5


GARBAGE = [
    b"",
    b"\n",
    b"\xff\x00\xfe\n",
    b"{}\n",
    b"[]\n",
    b'"bot"\n',
    b"[" * 5000 + b"\n",
    b"x" * 200_000,
    b'{"verdict":"bot"}\n',
    b'{"verdict":"bot","score":null}\n',
    b'{"verdict":"bot","score":true}\n',
    b'{"verdict":"bot","score":[9]}\n',
    b'{"verdict":"bot","score":"9 or more"}\n',
    b'{"verdict":"bot","score":1e400}\n',
    b'{"verdict":["bot"],"score":9}\n',
    b'{"verdict":{"bot":1},"score":9}\n',
    b'{"verdict":"worse","score":9}\n',
    b'{"verdict":"bot\\n","score":9}\n',
    b'{"error":"rate limit: 600 a minute"}\n',
    b'{"error":["\\u001b[31m"]}\n',
    b'{"verdict":"bot","score":9.0',
]
LIES = [
    (b'{"verdict":"clean","score":0.5,"reasons":7}\n', "CLEAN"),
    (b'{"verdict":"clean","score":0.5,"reasons":[7,null,{}, {"signal":7}]}\n', "CLEAN"),
    (b'{"verdict":"clean","score":0,"reasons":[{"signal":["os.client"],"points":1}]}\n', "CLEAN"),
    (b'{"verdict":"clean","score":0,"reasons":[{"signal":"os.client","points":"x"}]}\n', "CLEAN"),
]


def test_garbage_hits_no_rule_and_holds_no_mail(site: SpamAssassin, answering: Answering) -> None:
    """Mail after mail out of one mbox, so that one run serves them all."""
    answers = [*GARBAGE, *(lie for lie, _ in LIES), said("suspect", 4.0)]
    daemon = answering(*answers)
    one = b"From a@proper.example Mon Nov 23 03:00:00 2026\n" + mail(received(PC)) + b"\n"
    rules = f"--configpath={site.rules}"
    out, debug = site.run(rules, "-D", "botmilter", "--mbox", message=one * len(answers))
    assert len(daemon.asked) == len(answers)
    each = [set(re.findall(r"\bBOTMILTER_(\w+)", text)) for text in re.split(r"(?m)^From a@", out)]
    assert each[1:] == [*[set()] * len(GARBAGE), *({hit} for _, hit in LIES), {"SUSPECT"}]
    assert "BotMilter.pm line" not in debug, debug
    assert all(character.isprintable() or character == "\n" for character in debug)


def test_the_real_filter_tells_spamassassin_of_an_infected_pc() -> None:
    hosts = (worlds.INFECTED_PC, worlds.MAIL_SERVER)
    with Lab(hosts), NameServer(hosts, worlds.RECORDS), mta.open_folder() as folder:
        settings = {"query.socket": f"unix:{folder}/query.sock", "budget.per_mail_s": 20}
        site = SpamAssassin(folder, folder / "query.sock", timeout_s=25)
        with Filter(folder / "milter", settings) as judge:
            forged = "X-Bot-Verdict: clean; score=-9\n"
            hits, debug = site.hits(mail(forged, received(PC)))
            expected = "BOT DYNAMIC LEVEL_7 LEVEL_8 NO_SERVICE OS_CLIENT"
            assert hits == set(expected.split()), debug
            server = worlds.MAIL_SERVER
            letter = mail(received(str(server.ip), server.names[0]))
            assert site.hits(letter)[0] == {"CLEAN"}
            assert f"query origin={PC} verdict=bot" in judge.log

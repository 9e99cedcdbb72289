"""``botmilter query`` against a socket that answers what a test wants."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from botmilter.cli import botmilter

Answering = Callable[[bytes], list[bytes]]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    """Answer one question with these octets; gives the list that will hold the question."""
    threads: list[threading.Thread] = []

    def answer(octets: bytes) -> list[bytes]:
        asked: list[bytes] = []
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "q"))
        listener.listen()

        def serve() -> None:
            with listener, listener.accept()[0] as client:
                asked.append(client.recv(65536))
                client.sendall(octets)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return asked

    yield answer
    for thread in threads:
        thread.join(10)


def query(folder: Path, *arguments: str) -> Result:
    where = f'query.socket="unix:{folder}/q"'
    return CliRunner().invoke(botmilter, ["query", "--set", where, *arguments])


ANSWER = {
    "verdict": "bot",
    "header": [["X-Bot-Verdict", "bot; score=8.5;\n\torigin=198.18.7.12"], ["X-Bot-Score", "8.5"]],
}
LINE = json.dumps(ANSWER).encode() + b"\n"


def test_the_header_is_printed_that_a_mail_would_get(tmp_path: Path, answering: Answering) -> None:
    asked = answering(LINE)
    done = query(tmp_path, "198.18.7.12", "--helo", "pc", "--sender", "a@b.example")
    assert (done.exit_code, done.stdout) == (
        0,
        "X-Bot-Verdict: bot; score=8.5;\n\torigin=198.18.7.12\nX-Bot-Score: 8.5\n",
    )
    assert [json.loads(line) for line in asked] == [
        {"ip": "198.18.7.12", "helo": "pc", "sender": "a@b.example"}
    ]


def test_the_whole_answer_is_printed_as_json(tmp_path: Path, answering: Answering) -> None:
    asked = answering(LINE)
    done = query(tmp_path, "--json", "::ffff:198.18.7.12")
    assert json.loads(done.stdout) == ANSWER
    assert asked == [b'{"ip": "198.18.7.12"}\n']


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b'{"error":"rate limit: 600 a minute"}\n', "refused: rate limit: 600 a minute"),
        (b'{"error":"\\u001b[31m"}\n', "refused: ?[31m"),
        (b"[]\n", "refused: no object"),
        (b"\xff\n", "expected a line of JSON"),
        (b"", "expected a line of JSON"),
    ],
)
def test_a_refusal_is_one_line(
    tmp_path: Path, answering: Answering, answer: bytes, complaint: str
) -> None:
    answering(answer)
    done = query(tmp_path, "198.18.7.12")
    assert done.exit_code == 69
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_keeps_it_from_asking_is_one_line(tmp_path: Path) -> None:
    for arguments, code, complaint in (
        (["198.18.7.12"], 69, "No such file or directory: is botmilter running?"),
        (["pc.example.net"], 66, "expected an IPv4 or IPv6 address, got pc.example.net"),
        (["--set", 'query.socket=""', "198.18.7.12"], 78, "[query] socket: expected unix:/PATH"),
    ):
        done = query(tmp_path, *arguments)
        assert (done.exit_code, done.stderr.count("\n")) == (code, 1)
        assert complaint in done.stderr

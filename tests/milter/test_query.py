"""The query socket: what may be asked, and that no asker can hold it up."""

from __future__ import annotations

import json
import os
import pwd
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from botmilter.errors import InputError
from botmilter.milter import query
from botmilter.milter.query import Desk, Limits, Question, read_question
from botmilter.net import parse_ip
from tests.milter.conftest import PATIENCE_S, Filter, verdict, wait_until

IP = "198.18.7.12"


@pytest.mark.parametrize(
    ("line", "helo", "domain"),
    [
        (b'{"ip": "198.18.7.12"}', None, None),
        (b'{"ip":"::ffff:198.18.7.12","helo":null,"sender":null}', None, None),
        (b'{"ip":"198.18.7.12","helo":"","sender":"<>"}', None, None),
        (b'{"ip":"198.18.7.12","helo":"pc","sender":"<A@Example.COM.>"}', "pc", "example.com"),
        (b'{"ip":"198.18.7.12","helo":"a\\r\\nb\\u00ff\\ud800"}', "a??b??", None),
        (b'{"ip":"198.18.7.12","sender":"nobody"}', None, None),
    ],
)
def test_a_question_is_read(line: bytes, helo: str | None, domain: str | None) -> None:
    ip = parse_ip(IP)
    assert ip is not None
    assert read_question(line) == Question(ip, helo, domain)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"", "one line of JSON"),
        (b"198.18.7.12", "one line of JSON"),
        (b"\xff\xfe\xfd", "one line of JSON"),
        (b"[" * 4000, "one line of JSON"),
        (b'["198.18.7.12"]', "expected an object"),
        (b"{}", "ip: expected an IPv4 or IPv6 address"),
        (b'{"ip": 3323070220}', "ip: expected text of at most 64 characters"),
        (b'{"ip": ["198.18.7.12"]}', "ip: expected text"),
        (b'{"ip": "198.18.7.12 -sL"}', "ip: expected an IPv4 or IPv6 address"),
        (b'{"ip": "pc.example.net"}', "ip: expected an IPv4 or IPv6 address"),
        (b'{"ip": "198.18.7.0/24"}', "ip: expected an IPv4 or IPv6 address"),
        (b'{"ip": "198.18.7.12", "port": 25}', "unknown key port"),
        (b'{"ip": "198.18.7.12", "a\\nb": 25}', "unknown key a?b"),
        (b'{"ip": "198.18.7.12", "helo": 1}', "helo: expected text of at most 255"),
        (b'{"ip": "198.18.7.12", "helo": "%s"}' % (b"x" * 256), "helo: expected text of at most"),
        (b'{"ip": "198.18.7.12", "sender": {}}', "sender: expected text of at most 320"),
    ],
)
def test_anything_else_is_refused_with_a_word(line: bytes, complaint: str) -> None:
    with pytest.raises(InputError) as error:
        read_question(line)
    assert complaint in str(error.value)


class Office:
    """A desk at work on a Unix socket."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.path = str(folder / "query.sock")
        self.may_answer = threading.Event()
        self.may_answer.set()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()
        listener.setblocking(False)
        self.control, self.theirs = socket.socketpair()
        self.desk = Desk(listener, self.theirs, self._answer, limits)
        self.thread = threading.Thread(target=self.desk.run, args=(5.0,), daemon=True)
        self.thread.start()
        assert self.control.recv(1) == b"r"

    def _answer(self, question: Question) -> Mapping[str, Any]:
        if question.helo == "raise":
            raise RuntimeError("the engine is ill")
        self.may_answer.wait(PATIENCE_S)
        return {"verdict": "bot", "origin": str(question.ip)}

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE_S)
        try:
            client.connect(self.path)
        except OSError:
            client.close()
            raise
        return client

    def ask(self, line: bytes) -> dict[str, Any]:
        with self.connect() as client:
            client.sendall(line)
            return answer_on(client)

    def close(self) -> None:
        self.may_answer.set()
        self.control.send(b"d")
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        self.control.close()
        self.theirs.close()


def answer_on(client: socket.socket) -> dict[str, Any]:
    """The one line that comes."""
    said = b""
    while b"\n" not in said and (chunk := client.recv(65536)):
        said += chunk
    assert said.endswith(b"\n"), said
    given: dict[str, Any] = json.loads(said)
    return given


Open = Callable[..., Office]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Open]:
    opened: list[Office] = []

    def open_one(at_once: int = 4, per_minute: int = 100) -> Office:
        opened.append(Office(tmp_path, Limits(at_once, per_minute)))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


QUESTION = b'{"ip": "198.18.7.12"}\n'
ANSWER = {"verdict": "bot", "origin": IP}


def test_one_line_in_one_line_out(office: Open) -> None:
    desk = office()
    assert desk.ask(QUESTION) == ANSWER
    assert desk.ask(QUESTION + b"garbage after the line\n") == ANSWER


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "one line of JSON"),
        (b"\n", "one line of JSON"),
        (b"\0" * 100 + b"\n", "one line of JSON"),
        (b"x" * 100_000, "a line of at most 4096 octets"),
        (b'{"ip": "198.18.7.12", "helo": "raise"}\n', "internal error"),
    ],
)
def test_a_hostile_line_gets_an_error_and_the_next_one_an_answer(
    office: Open, line: bytes, complaint: str
) -> None:
    desk = office()
    assert complaint in desk.ask(line)["error"]
    assert desk.ask(QUESTION) == ANSWER


def test_who_hangs_up_or_stays_silent_holds_nobody_up(
    office: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "LINE_LIMIT_S", 0.5)
    desk = office(at_once=2)
    desk.connect().close()
    with desk.connect() as half:
        half.sendall(b'{"ip": ')
        half.shutdown(socket.SHUT_WR)
        assert "newline" in answer_on(half)["error"]
    with desk.connect() as silent, desk.connect() as slow:
        began = time.monotonic()
        for octet in QUESTION[:3]:
            slow.sendall(bytes([octet]))
            time.sleep(0.05)
        assert "expected a line within" in answer_on(silent)["error"]
        assert "expected a line within" in answer_on(slow)["error"]
        assert time.monotonic() - began < 3
    assert desk.ask(QUESTION) == ANSWER


def test_so_many_at_once_and_no_more(office: Open) -> None:
    desk = office(at_once=2)
    desk.may_answer.clear()
    with desk.connect() as first, desk.connect() as second:
        first.sendall(QUESTION)
        second.sendall(QUESTION)
        with desk.connect() as third:
            assert answer_on(third) == {"error": "busy: 2 questions at once"}
        desk.may_answer.set()
        assert answer_on(first) == answer_on(second) == ANSWER
    # their places are free a moment after their answers
    wait_until(lambda: desk.ask(QUESTION) == ANSWER, "an answer once the others have theirs")


def test_so_many_a_minute_and_no_more(office: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "_MINUTE_S", 3600.0 * 24 * 365 * 1000)
    desk = office(per_minute=3)
    assert [desk.ask(QUESTION) for _ in range(3)] == [ANSWER] * 3
    with desk.connect() as fourth:
        assert answer_on(fourth) == {"error": "rate limit: 3 a minute"}


def test_at_a_stop_an_open_question_is_still_answered(office: Open) -> None:
    desk = office()
    desk.may_answer.clear()
    with desk.connect() as client:
        client.sendall(QUESTION)
        time.sleep(0.1)
        desk.control.send(b"d")
        time.sleep(0.1)
        with pytest.raises(OSError, match="refused"):
            desk.connect()
        desk.may_answer.set()
        assert answer_on(client) == ANSWER


# -- with the whole daemon ----------------------------------------------------------------------


def ask(path: str, question: Mapping[str, object]) -> dict[str, Any]:
    """The answer; waits while a new process takes an old one's place."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(path)
        client.sendall(json.dumps(question).encode() + b"\n")
        return answer_on(client)


def test_the_daemon_answers_reloads_and_stops(start: Callable[..., Filter], tmp_path: Path) -> None:
    path = str(tmp_path / "query.sock")
    one = start(query=path, mark="old")
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    said = ask(path, {"ip": IP, "helo": "pc"})
    assert (said["ip"], said["helo"], said["mark"]) == (IP, "pc", "old")
    assert said["pid"] != verdict(one.send())["pid"]
    one.configure(mark="new")
    one.reload()
    one.wait_for("reload: done")
    wait_until(lambda: ask(path, {"ip": IP})["mark"] == "new", "the new configuration's answer")
    assert one.stop() == 0
    assert not Path(path).exists()


def test_a_killed_query_process_is_replaced_and_no_mail_notices(
    start: Callable[..., Filter], tmp_path: Path
) -> None:
    path = str(tmp_path / "query.sock")
    one = start(query=path)
    first = ask(path, {"ip": IP})["pid"]
    with pytest.raises(AssertionError):
        ask(path, {"ip": IP, "helo": "die"})
    verdict(one.send())
    assert ask(path, {"ip": IP})["pid"] != first
    one.wait_for("query process ended")


def test_the_query_socket_stays_where_it_is_at_a_reload(
    start: Callable[..., Filter], tmp_path: Path
) -> None:
    one = start(query=str(tmp_path / "query.sock"))
    one.configure(query=str(tmp_path / "other.sock"))
    one.reload()
    one.wait_for("[query] socket cannot change at a reload: restart")
    assert ask(str(tmp_path / "query.sock"), {"ip": IP})["ip"] == IP


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_query_process_has_no_privilege(start: Callable[..., Filter], tmp_path: Path) -> None:
    path = str(tmp_path / "query.sock")
    start(query=path, user="nobody")
    said = ask(path, {"ip": IP})
    assert (said["uid"], said["capabilities"]) == (pwd.getpwnam("nobody").pw_uid, 0)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=100),
    st.none() | st.integers() | st.text(max_size=50),
    st.none() | st.floats() | st.lists(st.none()) | st.text(max_size=300),
)
def test_any_line_is_a_question_of_plain_words_or_refused(
    octets: bytes, text: object, other: object
) -> None:
    whole = {"ip": IP, "helo": text, "sender": other}
    for line in (octets, *(json.dumps(one).encode() for one in (whole, {"ip": text}, other))):
        said = _read_or_refusal(line)
        assert said.isascii()
        assert said.isprintable()


def _read_or_refusal(line: bytes) -> str:
    try:
        question = read_question(line)
    except InputError as error:
        return str(error)
    return f"{question.helo} {question.sender_domain}"

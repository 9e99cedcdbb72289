"""Whoever does not read our standard error holds nobody up."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from botmilter.cli.stderr import StderrHandler

To = Callable[[int], logging.Logger]

LINE = "x" * 20


def lines(fd: int) -> list[str]:
    """What is there to be read now."""
    os.set_blocking(fd, False)
    read = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(fd, 65536):
            read += chunk
    return read.decode().splitlines()


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Reader's and writer's, with little room between them."""
    if request.param == "pipe":
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    else:
        pair = socket.socketpair()
        pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        reader, writer = (one.detach() for one in pair)
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def logger_to() -> Iterator[Callable[[int], logging.Logger]]:
    handlers: list[StderrHandler] = []

    def make(fd: int) -> logging.Logger:
        handlers.append(StderrHandler(fd))
        logger = logging.Logger("test")
        logger.addHandler(handlers[-1])
        return logger

    yield make
    for handler in handlers:
        handler.close()


def test_a_stalled_reader_costs_lines_and_no_time(ends: tuple[int, int], logger_to: To) -> None:
    reader, writer = ends
    log = logger_to(writer)
    started = time.monotonic()
    for _ in range(1000):
        log.info(LINE)
    assert time.monotonic() - started < 2
    kept = lines(reader)
    assert 5 < len(kept) < 500
    assert set(kept) == {LINE}
    log.info("again")
    log.info("and again")
    told, *rest = lines(reader)
    assert told == f"{1000 - len(kept)} lines of the log are lost: nobody read standard error"
    assert rest == ["again", "and again"]


def test_the_descriptor_stays_blocking_for_those_who_share_it(
    ends: tuple[int, int], logger_to: To
) -> None:
    logger_to(ends[1]).info(LINE)
    assert os.get_blocking(ends[1])


def test_a_reader_that_is_gone_raises_nothing(logger_to: To) -> None:
    reader, writer = os.pipe()
    log = logger_to(writer)
    os.close(reader)
    log.info(LINE)
    os.close(writer)


def test_a_file_takes_every_line_at_its_end(tmp_path: Path, logger_to: To) -> None:
    file = tmp_path / "log"
    file.write_text("before\n")
    with file.open("ab", buffering=0) as opened:
        log = logger_to(opened.fileno())
        log.info("one\udcff")
        with file.open("a") as other:
            other.write("another's\n")
        log.info("two")
    assert file.read_text().splitlines() == ["before", "one\\udcff", "another's", "two"]


def test_a_line_past_logging_looks_like_one_through_it_in_each_process() -> None:
    reader, writer = os.pipe()
    handler = StderrHandler(writer)
    handler.setFormatter(logging.Formatter("[%(process)d]: %(levelname)s %(message)s"))
    log = logging.Logger("test")
    log.addHandler(handler)
    log.info("by logging")
    handler.info("past it")
    if not (child := os.fork()):
        handler.info("past it")
        os._exit(0)
    os.waitpid(child, 0)
    assert lines(reader) == [
        f"[{os.getpid()}]: INFO by logging",
        f"[{os.getpid()}]: INFO past it",
        f"[{child}]: INFO past it",
    ]
    handler.close()
    os.close(reader)
    os.close(writer)


def test_lines_past_logging_are_counted_when_lost_too(ends: tuple[int, int], logger_to: To) -> None:
    reader, writer = ends
    (handler,) = logger_to(writer).handlers
    assert isinstance(handler, StderrHandler)
    for _ in range(1000):
        handler.info(LINE)
    kept = lines(reader)
    handler.info("again")
    assert lines(reader) == [
        f"{1000 - len(kept)} lines of the log are lost: nobody read standard error",
        "again",
    ]

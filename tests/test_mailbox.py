"""Saved mail in every form gives its header blocks, each bounded, in order."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as some

from botmilter import mailbox
from botmilter.errors import InputError, SetupError
from botmilter.mailbox import messages

ONE = b"Received: by a\nSubject: 1\n\nbody\n"
MBOX = (
    b"From x Tue Jan  2 03:04:05 2024\nSubject: 1\n\nbody\nFrom here on\n\n"
    b">From quoted\n\nFrom y Tue Jan  2 03:04:06 2024\nSubject: 2\n\nbody\n"
)


def headers(path: Path | str) -> list[bytes]:
    return [mail.header for mail in messages(path)]


def names(path: Path) -> list[str]:
    return [Path(mail.name).name for mail in messages(path)]


def test_a_file_is_one_mail_and_its_body_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "mail.eml"
    file.write_bytes(ONE)
    assert headers(file) == [b"Received: by a\nSubject: 1\n"]
    assert names(file) == ["mail.eml"]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", zstandard.compress),
    ],
)
def test_a_compressed_file_is_read_as_what_it_holds(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    file = tmp_path / f"box{suffix}"
    file.write_bytes(compress(MBOX))
    assert names(file) == [f"box{suffix}", f"box{suffix}#2"]
    assert [header.splitlines()[1] for header in headers(tmp_path)] == [
        b"Subject: 1",
        b"Subject: 2",
    ]


def test_zstandard_files_may_be_many_frames(tmp_path: Path) -> None:
    file = tmp_path / "box.zst"
    file.write_bytes(zstandard.compress(MBOX) + zstandard.compress(b"\n" + MBOX))
    assert len(headers(file)) == 4


def test_without_its_package_zst_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "box.zst").write_bytes(zstandard.compress(MBOX))
    with pytest.raises(SetupError, match="contrib/install --with zstd"):
        headers(tmp_path)


def test_an_mbox_is_many_mails(tmp_path: Path) -> None:
    file = tmp_path / "box"
    file.write_bytes(MBOX)
    assert [header.splitlines()[1] for header in headers(file)] == [b"Subject: 1", b"Subject: 2"]


def test_a_single_mail_may_begin_with_an_mbox_line(tmp_path: Path) -> None:
    file = tmp_path / "mail"
    file.write_bytes(b"From x Tue Jan  2 03:04:05 2024\n" + ONE)
    assert headers(file) == [b"From x Tue Jan  2 03:04:05 2024\nReceived: by a\nSubject: 1\n"]


def test_crlf_ends_the_header_as_well(tmp_path: Path) -> None:
    file = tmp_path / "mail"
    file.write_bytes(ONE.replace(b"\n", b"\r\n"))
    assert headers(file) == [b"Received: by a\r\nSubject: 1\r\n"]


def test_a_maildir_gives_cur_and_new_in_order_of_delivery(tmp_path: Path) -> None:
    for folder in ("cur", "new", "tmp"):
        (tmp_path / folder).mkdir()
    for name in ("cur/1700000001.a:2,S", "new/1700000002.b", "cur/1700000003.c:2,", "tmp/9.d"):
        (tmp_path / name).write_bytes(ONE)
    assert names(tmp_path) == ["1700000001.a:2,S", "1700000002.b", "1700000003.c:2,"]


def test_a_folder_gives_its_files_then_its_folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/1", "c", "b", ".hidden"):
        (tmp_path / name).write_bytes(ONE)
    assert names(tmp_path) == ["b", "c", "1"]


def test_a_folder_linked_to_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "mail").write_bytes(ONE)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert names(tmp_path) == ["mail"]


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ONE)))
    assert [(mail.name, mail.header[:12]) for mail in messages("-")] == [("-", b"Received: by")]


def test_an_empty_file_is_a_mail_without_header(tmp_path: Path) -> None:
    file = tmp_path / "empty"
    file.touch()
    assert headers(file) == [b""]


def test_a_header_without_end_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "huge"
    file.write_bytes(b"x" * (mailbox.HEADER_LIMIT * 2))
    assert len(headers(file)[0]) <= mailbox.HEADER_LIMIT


@pytest.mark.parametrize("content", [None, b"no gzip"])
@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst"])
def test_what_cannot_be_read_is_said(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    file = tmp_path / f"mail.{suffix}"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=rf"mail\.{suffix}: cannot be read"):
        headers(file)


def test_of_a_folder_what_can_be_read_comes_and_what_cannot_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(ONE)
    (tmp_path / "b.gz").write_bytes(b"no gzip")
    (tmp_path / "c.eml").write_bytes(ONE)
    found = messages(tmp_path)
    assert [Path(next(found).name).name for _ in "ac"] == ["a.eml", "c.eml"]
    with pytest.raises(InputError, match=r"b\.gz: cannot be read: Not a gzipped file"):
        next(found)


def test_of_several_places_each_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(ONE)
    (tmp_path / "empty").mkdir()
    empty: list[str] = []
    places = [str(tmp_path / name) for name in ("gone", "empty", "a.eml")]
    found = mailbox.of_all(places, empty.append)
    assert Path(next(found).name).name == "a.eml"
    assert empty == [places[1]]
    with pytest.raises(InputError, match="gone: cannot be read: No such file"):
        next(found)


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("zst", zstandard.compress),
    ],
)
def test_a_file_that_is_cut_off_is_said_to_be(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    file = tmp_path / f"mail.{suffix}"
    file.write_bytes(compress(ONE * 100)[:-5])
    with pytest.raises(InputError, match=r"cut off|ended before the end-of-stream"):
        headers(file)


@pytest.mark.parametrize("text", [ONE, MBOX])
def test_a_byte_order_mark_is_left_out(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "plain").write_bytes(text)
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbf" + text)
    assert headers(tmp_path / "marked") == headers(tmp_path / "plain")


def by_lines(text: bytes) -> list[bytes]:
    """The same, read line by line."""
    found, header, in_header, after_empty = [], b"", True, True
    for number, line in enumerate(text.splitlines(keepends=True)):
        is_empty = line in (b"\n", b"\r\n")
        if not in_header and after_empty and line.startswith(b"From ") and text[:5] == b"From ":
            in_header, header = True, line
        elif in_header and is_empty and (header or number == 0):
            found.append(header)
            in_header = False
        elif in_header:
            header += line
        after_empty = is_empty
    return [*found, header] if in_header else found


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
@given(pieces=some.lists(some.sampled_from([b"\n", b"\r\n", b"From ", b"x", b"a: b\n", b"\n\n"])))
def test_where_a_chunk_ends_makes_no_difference(chunk: int, pieces: list[bytes]) -> None:
    text = b"From a\n" + b"".join(pieces)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mailbox, "_CHUNK", chunk)
        patched.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        assert headers("-") == by_lines(text)

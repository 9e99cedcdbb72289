"""Packets to bytes and back."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab import packets, quirks
from tests.lab.packets import Ip4, Segment

_WORD = st.integers(0, 2**32 - 1)
_SHORT = st.integers(0, 2**16 - 1)


def test_the_checksum_is_that_of_the_example_in_rfc_1071() -> None:
    assert packets.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D


@given(_WORD, _WORD, st.binary(max_size=64), _SHORT, st.booleans())
def test_an_ip_packet_survives_packing(
    src: int, dst: int, payload: bytes, ident: int, whole: bool
) -> None:
    packet = Ip4(src, dst, packets.TCP, payload, 128, 4, ident, whole)
    raw = packet.pack()
    assert Ip4.parse(raw) == packet
    assert packets.checksum(raw[:20]) == 0


@given(_SHORT, _WORD, _WORD, st.binary(max_size=40).map(lambda b: b[: len(b) & ~3]))
def test_a_segment_survives_packing(port: int, seq: int, ack: int, options: bytes) -> None:
    segment = Segment(port, 25, seq, ack, packets.ACK, 512, options, b"HELO", 7, 8)
    raw = segment.pack(1, 2)
    assert Segment.parse(raw) == segment
    assert packets.checksum(struct.pack("!IIHH", 1, 2, packets.TCP, len(raw)) + raw) == 0


@given(st.binary(max_size=80))
def test_garbage_is_no_packet_and_no_crash(raw: bytes) -> None:
    packet = Ip4.parse(raw)
    Segment.parse(packet.payload if packet else raw)


@pytest.mark.parametrize("crc", [0xE44A4E43, 0x1F59B3D4, 1, 0xFFFFFFFF])
def test_the_text_of_a_reset_has_the_checksum_of_the_fingerprint(crc: int) -> None:
    assert zlib.crc32(quirks.data_of_crc(crc)) == crc

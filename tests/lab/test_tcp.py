"""The hosts' TCP on its own: what the kernel's client seldom shows."""

from __future__ import annotations

import pytest

from tests.lab.host import OPEN, TARPIT, Does, Port, smtp
from tests.lab.packets import ACK, FIN, PSH, RST, SYN, Segment
from tests.lab.services import script
from tests.lab.tcp import Connection
from tests.lab.timers import Timers

_CLIENT, _SERVER = 40000, 25


class _Peer:
    """Somebody who talks to a port by hand, on a clock of his own."""

    def __init__(self, port: Port) -> None:
        self.timers, self.now = Timers(), 1000.0
        self.got: list[Segment] = []
        self.is_over = False
        self._seq = 5000
        self.syn = self._segment(SYN, ack=0)
        self.connection = Connection(
            self.syn, script(port), self.got.append, self._end, self.timers
        )
        self.connection.receive(self.syn, self.now)
        self._seq += 1

    def _end(self) -> None:
        self.is_over = True

    def _segment(self, flags: int, ack: int, data: bytes = b"", window: int = 65535) -> Segment:
        return Segment(_CLIENT, _SERVER, self._seq, ack, flags, window, payload=data)

    def say(
        self, data: bytes = b"", flags: int = ACK, window: int = 65535, ack: int | None = None
    ) -> list[Segment]:
        """Send a segment that acknowledges everything so far; what comes back."""
        before = len(self.got)
        number = self.acknowledged if ack is None else ack
        self.connection.receive(self._segment(flags, number, data, window), self.now)
        self._seq += len(data) + bool(flags & FIN)
        return self.got[before:]

    def wait(self, seconds: float) -> list[Segment]:
        before = len(self.got)
        self.now += seconds
        self.timers.run(self.now)
        return self.got[before:]

    @property
    def acknowledged(self) -> int:
        return max(
            each.seq + len(each.payload) + bool(each.flags & (SYN | FIN)) for each in self.got
        )


def test_a_repeated_syn_gets_the_same_answer() -> None:
    peer = _Peer(OPEN)
    peer.connection.receive(peer.syn, peer.now)
    first, second = peer.got
    assert first == second
    assert first.flags == SYN | ACK


def test_what_is_not_acknowledged_is_sent_again_with_growing_pauses() -> None:
    peer = _Peer(smtp("x.example"))
    syn_ack = peer.got[0]
    (greeting,) = peer.say()
    assert greeting.payload == b"220 x.example\r\n"
    assert peer.wait(0.4) == []
    assert peer.wait(0.2) == [greeting]
    assert peer.wait(0.6) == []
    assert peer.wait(0.6) == [greeting]
    assert peer.say(ack=syn_ack.seq + 1 + len(greeting.payload)) == []
    assert peer.wait(5.0) == []


def test_a_peer_that_never_acknowledges_is_given_up() -> None:
    peer = _Peer(smtp("x.example"))
    peer.say()
    for _ in range(20):
        peer.wait(40.0)
    assert peer.is_over
    assert len(peer.got) == 2 + 6


def test_no_more_is_sent_than_the_window_holds() -> None:
    peer = _Peer(Port(Does.ENDLESS))
    assert sum(len(each.payload) for each in peer.say(window=3000)) == 3000
    assert sum(len(each.payload) for each in peer.say(window=0)) == 0
    assert sum(len(each.payload) for each in peer.say(window=5000)) == 5000


def test_data_that_comes_twice_is_taken_once() -> None:
    peer = _Peer(smtp("x.example"))
    peer.say()
    helo = peer._segment(ACK | PSH, peer.acknowledged, b"HELO a\r\n")
    peer.connection.receive(helo, peer.now)
    peer.connection.receive(helo, peer.now)
    assert [each.payload for each in peer.got].count(b"250 x.example\r\n") == 1


def test_a_line_may_come_in_pieces() -> None:
    peer = _Peer(smtp("x.example"))
    peer.say()
    assert [each.payload for each in peer.say(b"HE")] == [b""]
    assert peer.say(b"LO a\r\n")[-1].payload == b"250 x.example\r\n"


def test_commands_sent_in_one_go_are_answered_in_order() -> None:
    peer = _Peer(smtp("x.example"))
    peer.say()
    answer = b"".join(each.payload for each in peer.say(b"RSET\r\nHELO a\r\nQUIT\r\n"))
    assert [line[:3] for line in answer.splitlines()] == [b"250", b"250", b"221"]
    assert peer.got[-1].flags & FIN


def test_both_sides_closing_ends_the_connection() -> None:
    peer = _Peer(OPEN)
    peer.say()
    assert peer.say(flags=ACK | FIN)[-1].flags & FIN
    peer.say()
    assert peer.is_over


@pytest.mark.parametrize("port", [OPEN, TARPIT, smtp("x.example")])
def test_a_reset_ends_the_connection_without_a_word(port: Port) -> None:
    peer = _Peer(port)
    peer.say()
    assert peer.say(flags=RST) == []
    assert peer.is_over
    assert peer.wait(100.0) == []


def test_a_forgotten_connection_is_cleared_away() -> None:
    peer = _Peer(OPEN)
    peer.wait(1000.0)
    assert peer.is_over

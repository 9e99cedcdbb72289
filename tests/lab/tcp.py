"""The passive side of TCP, as much of RFC 9293 as the kernel's client and nmap notice.

In order delivery, acknowledgements, windows, retransmission with back-off, FIN and RST.  Left out:
out-of-order reassembly (a TUN device does not reorder; what arrives early is sent again by the
peer), congestion control, window scaling, urgent data, keep-alive.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.lab.packets import ACK, FIN, PSH, RST, SYN, Segment
from tests.lab.services import READ, Script, Wait
from tests.lab.timers import Timers

_MSS = 1400
_OUR_WINDOW = 65535
_ISS = 0x2000_0000
_FIRST_RETRY_S = 0.5
_RETRIES = 6
_LONGEST_LINE = 65536
_MOST_QUEUED = 65536
#: A peer that says nothing for so long is forgotten.
_IDLE_S = 900.0


class Connection:
    """One accepted connection; *send* takes segments, *forget* is called once at its end."""

    def __init__(
        self,
        syn: Segment,
        script: Script,
        send: Callable[[Segment], None],
        forget: Callable[[], None],
        timers: Timers,
    ) -> None:
        self._local, self._remote = syn.dport, syn.sport
        self._script, self._send, self._forget, self._timers = script, send, forget, timers
        self._una = self._next = _ISS + 1
        self._expected = (syn.seq + 1) & 0xFFFFFFFF
        self._window = syn.window
        self._out = bytearray()
        """From the first unacknowledged byte on."""
        self._line = bytearray()
        self._established = self._dead = False
        self._peer_closed = self._finished = self._fin_sent = False
        self._reading = self._waiting = False
        self._retries = self._timer = 0
        self._heard_at = 0.0

    # -- from the peer ---------------------------------------------------------------------------

    def receive(self, segment: Segment, now: float) -> None:
        if not self._heard_at:
            self._timers.at(now + _IDLE_S, self._check_idle)
        self._heard_at = now
        if segment.flags & RST:
            self.end()
        elif segment.flags & SYN:
            self._transmit(SYN | ACK, _ISS, options=b"\x02\x04" + _MSS.to_bytes(2))
        elif segment.flags & ACK:
            self._acknowledged(segment, now)
            if not self._dead:
                self._take(segment, now)

    def end(self) -> None:
        """Forget the connection without a word."""
        if not self._dead:
            self._dead = True
            self._script.close()
            self._forget()

    def _acknowledged(self, segment: Segment, now: float) -> None:
        self._window = segment.window
        count = (segment.ack - self._una) & 0xFFFFFFFF
        if count > ((self._next - self._una) & 0xFFFFFFFF):
            return
        self._established = True
        if not count:
            return
        self._una = (self._una + count) & 0xFFFFFFFF
        del self._out[:count]
        self._retries, self._timer = 0, self._timer + 1
        self._arm(now)
        if self._fin_sent and self._una == self._next and self._peer_closed:
            self.end()

    def _take(self, segment: Segment, now: float) -> None:
        ends = bool(segment.flags & FIN)
        if not segment.payload and not ends:
            self._go_on(now)
            return
        if segment.seq == self._expected and not self._peer_closed:
            self._line += segment.payload[: _LONGEST_LINE - len(self._line)]
            self._peer_closed = ends
            self._expected = (segment.seq + len(segment.payload) + ends) & 0xFFFFFFFF
        self._transmit(ACK, self._next)
        self._go_on(now)
        if self._fin_sent and self._peer_closed and self._una == self._next:
            self.end()

    # -- the script ------------------------------------------------------------------------------

    def _go_on(self, now: float) -> None:
        """Let the script run as far as it can, then send as much as the peer takes."""
        while self._established and not (self._dead or self._finished or self._waiting):
            if self._reading:
                newline = self._line.find(b"\n") + 1
                if not newline and not self._peer_closed:
                    break
                line = bytes(self._line[: newline or None])
                del self._line[: len(line)]
                self._step(line or None, now)
            elif len(self._out) <= _MOST_QUEUED:
                self._step(None, now)
            else:
                break
        self._flush(now)

    def _step(self, answer: bytes | None, now: float) -> None:
        self._reading = False
        try:
            step = self._script.send(answer)
        except StopIteration:
            self._finished = True
            return
        if isinstance(step, bytes):
            self._out += step
        elif isinstance(step, Wait):
            if step.seconds > 0:
                self._waiting = True
                self._timers.at(now + step.seconds, self._wake)
        elif step is READ:
            self._reading = True
        else:
            self._transmit(RST | ACK, self._next)
            self.end()

    def _wake(self, now: float) -> None:
        if not self._dead:
            self._waiting = False
            self._go_on(now)

    # -- to the peer -----------------------------------------------------------------------------

    def _transmit(self, flags: int, seq: int, payload: bytes = b"", options: bytes = b"") -> None:
        numbers = (self._local, self._remote, seq & 0xFFFFFFFF, self._expected)
        self._send(Segment(*numbers, flags, _OUR_WINDOW, options, payload))

    def _flush(self, now: float) -> None:
        if self._dead or self._fin_sent:
            return
        in_flight = (self._next - self._una) & 0xFFFFFFFF
        while (room := min(self._window, len(self._out)) - in_flight) > 0:
            part = bytes(self._out[in_flight : in_flight + min(room, _MSS)])
            self._transmit(ACK | PSH, self._next, part)
            self._next = (self._next + len(part)) & 0xFFFFFFFF
            in_flight += len(part)
        if self._finished and in_flight == len(self._out):
            self._transmit(ACK | FIN, self._next)
            self._next, self._fin_sent = (self._next + 1) & 0xFFFFFFFF, True
        self._arm(now)

    def _arm(self, now: float) -> None:
        """One timer for the oldest unacknowledged byte; its number tells stale ones apart."""
        if self._una != self._next and not self._dead:
            self._timer += 1
            number, wait_s = self._timer, _FIRST_RETRY_S * 2**self._retries
            self._timers.at(now + wait_s, lambda at: self._retry(number, at))

    def _retry(self, number: int, now: float) -> None:
        if self._dead or number != self._timer or self._una == self._next:
            return
        self._retries += 1
        if self._retries > _RETRIES:
            self.end()
            return
        payload = bytes(self._out[:_MSS])
        self._transmit(ACK | (FIN if self._fin_sent and not payload else PSH), self._una, payload)
        self._arm(now)

    def _check_idle(self, now: float) -> None:
        if self._dead:
            return
        if now - self._heard_at >= _IDLE_S:
            self.end()
        else:
            self._timers.at(self._heard_at + _IDLE_S, self._check_idle)

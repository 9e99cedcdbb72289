"""Coverage-guided fuzzing of the header parser: any bytes, a chain, an origin, signals.

Run by test_fuzz.py for a bounded time; by hand for longer::

    .venv/bin/python tests/fuzz/fuzz_received.py -max_total_time=3600 CORPUS_FOLDER
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["botmilter.received", "botmilter.net"]):
    from botmilter.model import Trust
    from botmilter.received import parse
    from botmilter.received.forgery import signals
    from botmilter.received.origin import find

TRUSTS = (Trust(), Trust(own_relays=2, own_names=(".example",), by_authentication=True))


def one_input(data: bytes) -> None:
    for block in (data, b"Received: " + data):
        chain = parse(block)
        assert all(hop.index == at for at, hop in enumerate(chain.hops))
        for trust in TRUSTS:
            origin = find(chain, trust)
            assert origin.ip is None or origin.hop is not None
            signals(chain, origin, trust)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

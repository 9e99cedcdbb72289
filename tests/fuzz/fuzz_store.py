"""Coverage-guided fuzzing of what a store gives back: any row, what it means, and its opt-outs.

Run by the tests for a bounded time; by hand for longer::

    .venv/bin/python tests/fuzz/fuzz_store.py -max_total_time=3600 CORPUS_FOLDER

An input is the probe's and the key's line, then the row.
"""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_network

import atheris

with atheris.instrument_imports(include=["botmilter.store.stored", "botmilter.model"]):
    from botmilter import abuse
    from botmilter.cli import build
    from botmilter.config import load
    from botmilter.measuring import interpret
    from botmilter.model import Label, Origin, OriginWhy, Target, Verdict
    from botmilter.store import stored
    from botmilter.store.by_host import by_host

NETWORK = ip_network("198.18.0.0/15")
PROBES = {probe.name: probe for probe in build.probes(load())}
TARGET = Target(ip_address("198.18.7.12"), "pc.example", "sender.example")
VERDICT = Verdict(Label.BOT, 9.0, Origin(OriginWhy.CLIENT, TARGET.ip))


def one_input(data: bytes) -> None:
    probe, _, rest = data.partition(b"\n")
    key, _, row = rest.partition(b"\n")
    stored.opt_out(key, row, row)
    stored.number(row)
    stored.concerns(stored.text(key), NETWORK)
    found = stored.row(probe, key, 1e9, row)
    if found is None:
        return
    assert (found.seen.probe, found.seen.key) == (stored.text(probe), stored.text(key))
    assert stored.unpack(stored.pack(found.seen), found.seen.probe, found.seen.key) == found.seen
    if found.seen.probe in PROBES:
        interpret(PROBES[found.seen.probe], found.seen, TARGET)
    for ip, rows in by_host([found]):
        assert stored.is_about(rows[0].seen.key, ip_network(ip))
    text = abuse.text(TARGET.ip, VERDICT, [found.seen], has_mail=False)
    assert text.isascii()
    assert text.replace("\n", "").isprintable()


if __name__ == "__main__":
    import logging

    logging.disable()  # facts that mean nothing are logged with a traceback each
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

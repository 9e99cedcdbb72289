"""Coverage-guided fuzzing of what else comes from outside: one target, named first.

Run by test_fuzz.py for a bounded time; by hand for longer::

    .venv/bin/python tests/fuzz/fuzz_network.py header -max_total_time=3600 CORPUS_FOLDER
"""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["botmilter"]):
    import dns.exception
    import dns.message

    from botmilter import config, header, seal
    from botmilter.clock import Deadline
    from botmilter.errors import ConfigError
    from botmilter.lookup import LookupTrouble, _answer
    from botmilter.model import Observation, Status, Target
    from botmilter.probes import nmap_xml, smtp


_FILE = Path(tempfile.mkdtemp()) / "fuzz.toml"
_TARGET = Target(ip_address("198.18.0.9"), "mail.example")


def read_header(data: bytes) -> None:
    text = data.decode("latin-1")
    with suppress(ValueError):
        said = header.parse(text)
        assert all(value.isascii() for _, value in header.fields_of(said))
    seal.holds(b"sixteen octets!!", text, text, text)


def read_config(data: bytes) -> None:
    """The file on the left of the first NUL, one ``--set`` on its right."""
    text, _, override = data.decode("utf-8", "replace").partition("\0")
    with suppress(ConfigError):
        _FILE.write_text(text)
        config.load(_FILE, [override] if override else [])


def read_nmap(data: bytes) -> None:
    with suppress(ValueError):
        nmap_xml.facts(data)


def read_dns(data: bytes) -> None:
    with suppress(dns.exception.DNSException, LookupTrouble):
        message = dns.message.from_wire(data, raise_on_truncation=True)
        if isinstance(message, dns.message.QueryMessage):
            answer = _answer(message)
            assert all(text.isascii() and text.isprintable() for text in answer.texts)


def read_banner(data: bytes) -> None:
    """As the host's words after the connection; it hangs up afterwards."""
    probe = smtp.SmtpProbe(1.0, "me.example")
    theirs, ours = socket.socketpair()
    with theirs, ours:
        theirs.sendall(data[:4096])
        theirs.shutdown(socket.SHUT_WR)
        facts = probe._talk(ours, Deadline.after(1.0))
    assert all(text.isascii() and text.isprintable() for text in facts.values() if text)
    list(probe.interpret(Observation("smtp", "k", Status.ANSWERED, facts), _TARGET))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "header": read_header,
    "config": read_config,
    "nmap": read_nmap,
    "dns": read_dns,
    "banner": read_banner,
}

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()

"""A real name server (NSD) for the simulated hosts.

It is authoritative for the root, so that every name and every address has an answer: what the
hosts and the extra records say, NXDOMAIN for all the rest, SERVFAIL below the zones given as
broken.  NSD is started from wherever it lies (``LAB_NSD``, the search path, /usr/sbin), with a
configuration of its own in a folder of its own; no service of the machine is touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from tests.lab import net
from tests.lab.host import Host
from tests.lab.lab import LabError

_TTL_S = 60
_START_LIMIT_S = 10.0

_CONFIGURATION = """\
server:
    ip-address: {address}@{port}
    server-count: 1
    username: ""
    chroot: ""
    pidfile: ""
    zonesdir: "{folder}"
    zonelistfile: "{folder}/zone.list"
    xfrdfile: "{folder}/xfrd.state"
    xfrdir: "{folder}"
    logfile: "{folder}/log"
    database: ""
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: "."
    zonefile: "root.zone"
"""
_BROKEN_ZONE = """\
zone:
    name: "{name}"
    zonefile: "is-not-there.zone"
"""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a zone file: ``Record("proper.example", "MX", "10 mail.proper.example.")``."""

    name: str
    kind: str
    value: str
    ttl_s: int = _TTL_S


def txt(name: str, text: str) -> Record:
    """A TXT record, in strings of at most 255 octets."""
    parts = (text[i : i + 255] for i in range(0, len(text), 255))
    escaped = (part.replace("\\", "\\\\").replace('"', '\\"') for part in parts)
    return Record(name, "TXT", " ".join(f'"{part}"' for part in escaped))


def zone_text(hosts: Iterable[Host], records: Iterable[Record], serial: int) -> str:
    """The root zone: PTR for every name of a host, A where it leads back, and *records*."""
    lines = [
        f". {_TTL_S} IN SOA ns.lab.example. hostmaster.lab.example. {serial} 60 60 60 {_TTL_S}",
        f". {_TTL_S} IN NS ns.lab.example.",
        f"ns.lab.example. {_TTL_S} IN A {net.NAME_SERVER}",
    ]
    for host in hosts:
        for name in host.names:
            lines.append(f"{host.ip.reverse_pointer}. {_TTL_S} IN PTR {name}.")
            if host.leads_back:
                lines.append(f"{name}. {_TTL_S} IN A {host.ip}")
    lines += (f"{each.name}. {each.ttl_s} IN {each.kind} {each.value}" for each in records)
    return "\n".join(lines) + "\n"


class NameServer:
    """The running name server, answering at *address* and *port* once made.

    Raises LabError where there is no nsd, or where it does not start.
    """

    def __init__(
        self,
        hosts: Iterable[Host] = (),
        records: Iterable[Record] = (),
        *,
        broken: Iterable[str] = (),
        address: str = net.NAME_SERVER,
        port: int = 53,
    ) -> None:
        self.address, self.port = address, port
        self._serial = 1
        self._folder = Path(tempfile.mkdtemp(prefix="lab-nsd-"))
        self._write(hosts, records)
        broken_zones = "".join(_BROKEN_ZONE.format(name=name) for name in broken)
        configuration = self._folder / "nsd.conf"
        configuration.write_text(
            _CONFIGURATION.format(address=address, port=port, folder=self._folder) + broken_zones,
            encoding="ascii",
        )
        try:
            self._process = subprocess.Popen([_program(), "-d", "-c", str(configuration)])
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        try:
            self._await_serial()
        except BaseException:
            self.close()
            raise

    def update(self, hosts: Iterable[Host], records: Iterable[Record] = ()) -> None:
        """Serve these instead, from the return of this call on."""
        self._serial += 1
        self._write(hosts, records)
        self._process.send_signal(signal.SIGHUP)
        self._await_serial()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, hosts: Iterable[Host], records: Iterable[Record]) -> None:
        text = zone_text(hosts, records, self._serial)
        fresh = self._folder / "root.zone.new"
        fresh.write_text(text, encoding="ascii")
        fresh.rename(self._folder / "root.zone")

    def _await_serial(self) -> None:
        give_up = time.monotonic() + _START_LIMIT_S
        while self._served_serial() != self._serial:
            if self._process.poll() is not None or time.monotonic() > give_up:
                log = self._folder / "log"
                said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
                raise LabError(f"nsd does not serve: {said[-500:].strip() or 'it says nothing'}")
            time.sleep(0.02)

    def _served_serial(self) -> int | None:
        query = dns.message.make_query(".", dns.rdatatype.SOA)
        try:
            answer = dns.query.udp(query, self.address, timeout=0.5, port=self.port)
        except (dns.exception.DNSException, OSError):
            return None
        return int(answer.answer[0][0].serial) if answer.answer else None


def _program() -> str:
    found = os.environ.get("LAB_NSD") or shutil.which("nsd") or shutil.which("/usr/sbin/nsd")
    if not found:
        raise LabError("no nsd: run tests/run, or unpack it by tests/lab/unpack, or set LAB_NSD")
    return found

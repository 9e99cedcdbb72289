"""Probe ``osdetect``: what system the host runs, by nmap's OS detection.

Sent, by nmap: SYN to eight fixed ports (two tries), then the sixteen packets of its OS detection
(https://nmap.org/book/osdetect-methods.html).  No script, no version scan, no UDP scan.  Only
after another probe has shown that the host is alive: nmap spends 3 to 4.5 s on a silent one to
say nothing.  Options by the time there is, from measurements with nmap 7.93: a host that answers
takes 1.4 to 4.8 s with eight ports up to a round trip of 150 ms, 1.7 to 2.3 s with port 25 alone.
That goes by the probe's limit, not by what a mail waits: for one that waits 3 s the eight ports
name 53 to 67 % of hosts of all kinds in time, port 25 alone 42 % (docs/performance.md).

Each nmap computes for 0.2 s.  At first it gets only what CPU others leave over (SCHED_IDLE): four
at a time on two CPUs made one in a hundred of known hosts' mails wait 6 to 8 ms, now 4.  A *nice*
value does not do it: since Linux 6.6 who runs is seldom interrupted within 3 ms.  After a third of
its time it takes part like everybody, or a busy container would never see a bot: beside four busy
programs it gets 0.1 s of 3 while it stands back, 1.1 where these are in another session or cgroup.

python-nmap finds the program.  It does not run it: it would leave a killed nmap unreaped, pass
the address through a shell's word splitting, and never look at the exit status.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Any

import nmap

from botmilter.clock import Deadline
from botmilter.errors import SetupError
from botmilter.model import IPAddress, Observation, Signal, Status, Target
from botmilter.net import printable
from botmilter.probes import nmap_xml
from botmilter.probes.base import Operation
from botmilter.probes.oses import Kind, OsClass, kind_of_all

#: The port that counts, what Windows, servers and routers have open, and with luck a closed one.
PORTS = "25,80,135,139,443,445,3389,22"

#: One round of the OS detection (the default of five repeats it), fast timing, no name look-up,
#: and no host discovery: a firewalled host drops that too.
_ALWAYS = ("-n", "-Pn", "-O", "--max-os-tries", "1", "-T4", "-oX", "-")
_THOROUGH = ("--max-retries", "1", "-p", PORTS)
_QUICK = ("--max-retries", "0", "-p", "25")
#: From here on the eight ports fit.
_THOROUGH_FROM_S = 4.9
#: nmap's own limit lies this much below ours, so that it ends by itself.
_HOST_TIMEOUT_BEFORE_S = 0.5

#: The share of its time in which nmap gets only what CPU others leave over.
_STANDS_BACK = 1 / 3

#: Below this a match is a guess, and counts for nothing.
_ACCURACY_FROM = 80

_SIGNAL_OF = {
    Kind.CLIENT: "os.client",
    Kind.BOTH: "os.both",
    Kind.APPLIANCE: "os.appliance",
    Kind.UNIX: "os.unix",
    Kind.SERVER: "os.server",
}


def scan(ip: IPAddress, limit_s: float) -> dict[str, Any]:
    """What nmap says of *ip*: the facts of :func:`botmilter.probes.nmap_xml.facts`.

    Blocks at most *limit_s* and the moment it takes to kill.  Needs CAP_NET_RAW.  Raises
    SetupError where nmap is missing, lacks the privilege, fails or is not done in time.
    """
    command = [program(), *options(ip, limit_s), str(ip)]
    output, errors, code = _run(command, limit_s)
    if code != 0 or b"requires root privileges" in errors:
        what = printable(errors.strip().splitlines()[0]) if errors.strip() else "no message"
        hint = ": start botmilter as root" if b"root privileges" in errors else ""
        raise SetupError(f"nmap ended with {code}: {what}{hint}")
    try:
        return nmap_xml.facts(output)
    except ValueError as error:
        raise SetupError(printable(str(error))) from error


def options(ip: IPAddress, limit_s: float) -> list[str]:
    """nmap's options for *limit_s* seconds: fixed words and one number of ours."""
    ports = _THOROUGH if limit_s >= _THOROUGH_FROM_S else _QUICK
    host_timeout_ms = max(500, int((limit_s - _HOST_TIMEOUT_BEFORE_S) * 1000))
    more = ["--host-timeout", f"{host_timeout_ms}ms"]
    if os.geteuid() != 0:
        more.append("--privileged")  # it has CAP_NET_RAW, if anything, and will not look
    if isinstance(ip, IPv6Address):
        more.append("-6")
    return [*_ALWAYS, *ports, *more]


_finding = threading.Lock()
_found: list[str] = []


def program() -> str:
    """nmap's path, in the PATH or one of python-nmap's places; looked for until found, because
    somebody may install it meanwhile.  Raises SetupError where it is not there."""
    with _finding:
        if not _found:
            try:
                _found.append(str(nmap.PortScanner()._nmap_path))
            except nmap.PortScannerError:
                raise SetupError("nmap is not installed, or not in the PATH") from None
        return _found[0]


def _run(command: list[str], limit_s: float) -> tuple[bytes, bytes, int]:
    try:
        process = subprocess.Popen(  # noqa: S603 - a list of fixed words and an address object
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # a new session has a share of the CPU of its own, sched(7)
        )
    except OSError as error:
        _found.clear()
        raise SetupError(f"nmap cannot be started: {error.strerror}") from error
    with process:
        try:
            output, errors = _output(process, limit_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise SetupError(f"nmap was not done within {limit_s:.1f} s") from None
    return output, errors, process.returncode


def _output(process: subprocess.Popen[bytes], limit_s: float) -> tuple[bytes, bytes]:
    """Raises TimeoutExpired."""
    deadline = Deadline.after(limit_s)
    _schedule(process, os.SCHED_IDLE)
    with suppress(subprocess.TimeoutExpired):
        return process.communicate(timeout=limit_s * _STANDS_BACK)
    _schedule(process, os.SCHED_OTHER)
    return process.communicate(timeout=deadline.left())


def _schedule(process: subprocess.Popen[bytes], policy: int) -> None:
    with suppress(OSError):  # a sandbox may forbid it, or it has ended
        os.sched_setscheduler(process.pid, policy, os.sched_param(0))


class OsDetectProbe:
    """*scan* asks: the function above, or the privileged process's.  Facts: as it says."""

    name = "osdetect"
    shows_life = False
    wants_life = True
    sends_to_host = True
    signals = frozenset(_SIGNAL_OF.values())

    def __init__(self, limit_s: float, ipv6: bool, scan: Operation) -> None:
        self.limit_s = limit_s
        self._ipv6 = ipv6
        self._scan = scan

    def store_key(self, target: Target) -> str:
        return str(target.ip)

    def measure(self, target: Target, deadline: Deadline) -> Observation:
        key = self.store_key(target)
        if isinstance(target.ip, IPv6Address) and not self._ipv6:
            return Observation(self.name, key, Status.SKIPPED, reason="off for IPv6")
        try:
            facts = self._scan(target.ip, deadline.left())
        except (SetupError, TimeoutError) as error:
            return Observation(self.name, key, Status.FAILED, reason=printable(str(error)))
        if facts["timed_out"]:
            return Observation(self.name, key, Status.SILENT, facts)
        return Observation(self.name, key, Status.ANSWERED, facts)

    def interpret(self, seen: Observation, target: Target) -> Iterable[Signal]:
        accuracy, classes = best_classes(seen)
        signal_name = _SIGNAL_OF.get(kind_of_all(classes))
        if signal_name is None or accuracy <= _ACCURACY_FROM:
            return []
        strength = (accuracy - _ACCURACY_FROM) / (100 - _ACCURACY_FROM)
        systems = sorted({f"{c.family} {c.generation}".strip() or c.type for c in classes})
        return [Signal(signal_name, strength, f"{', '.join(systems)} ({accuracy} %)")]


def best_classes(seen: Observation) -> tuple[int, tuple[OsClass, ...]]:
    """The best accuracy, and the classes of all matches that have it: order among equals is not
    meaning.  Zero and none where nmap found no open and closed port, or nothing alike."""
    matches = list(seen.facts["matches"])
    accuracy = max((int(match["accuracy"]) for match in matches), default=0)
    best = (match for match in matches if int(match["accuracy"]) == accuracy)
    return accuracy, tuple(OsClass(**found) for match in best for found in match["classes"])

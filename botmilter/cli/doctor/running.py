"""The running filter: who it is, whether the MTA's user reaches it, what it does to forgeries.

A mail is shown to it as an MTA would, over the milter protocol (``include/libmilter/mfdef.h``),
as from this machine itself: exempt, so nobody is looked at for it.  Nothing is delivered.
"""

from __future__ import annotations

import math
import re
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from botmilter.cli.doctor import reach
from botmilter.cli.doctor.findings import Findings, ok, unchecked, wrong
from botmilter.cli.programs import UNIT, output_of
from botmilter.config import Settings
from botmilter.errors import SetupError

#: Whom contrib/install makes.
_SERVICE_USER = "botmilter"
_LIMIT_S = 10.0
_VERSION, _ACTIONS, _STEPS = 6, 0x1FF, 0x1FFFFF
#: Commands that the filter may have asked not to get, and not to answer (SMFIP_NO…, SMFIP_NR_…).
_UNWANTED = {b"C": 0x1, b"H": 0x2, b"M": 0x4, b"R": 0x8, b"B": 0x10, b"L": 0x20, b"N": 0x40}
_UNWANTED |= {b"T": 0x200}
_QUIET = {b"L": 0x80, b"C": 0x1000, b"H": 0x2000, b"M": 0x4000, b"R": 0x8000}
_QUIET |= {b"T": 0x10000, b"N": 0x40000, b"B": 0x80000}
#: Answers that end the mail, and edits that change a header field.
_FINAL, _CHANGE, _ADD = b"actdry", b"m", b"h"
_ANSWER_AT_MOST = 1_000_000
#: Of systemd's time spans.
_UNIT_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def unix_path(chosen: Settings) -> Path | None:
    kind, _, where = chosen.milter.socket.partition(":")
    return Path(where) if kind == "unix" else None


def user_of(chosen: Settings) -> str:
    """Whom the filter runs as: the configured user, else the one its socket belongs to, else, where
    it does not run, the service's own; empty: root."""
    path = unix_path(chosen)
    if chosen.milter.user or path is None:
        return chosen.milter.user
    try:
        owner = path.owner()
    except (OSError, KeyError):
        return _SERVICE_USER if reach.User.named(_SERVICE_USER) else ""
    return "" if owner == "root" else owner


def stopping(chosen: Settings) -> Findings:
    """Whether systemd, where it has our unit, leaves open sessions their time at a stop."""
    shown = output_of("systemctl", "show", "--property=TimeoutStopUSec", "--value", UNIT)
    loaded = output_of("systemctl", "show", "--property=LoadState", "--value", UNIT)
    if shown is None or loaded is None or loaded.strip() != "loaded":
        return
    grace_s, limit_s = chosen.milter.stop_grace_s, _span_s(shown.strip())
    said = f"systemd waits {shown.strip()} at a stop, open sessions may go on for {grace_s:g} s"
    if grace_s < limit_s:
        yield ok("stop", said)
    else:
        do = f"systemctl edit {UNIT}: [Service] TimeoutStopSec= above [milter] stop_grace_s"
        yield wrong("stop", said, do)


def _span_s(text: str) -> float:
    """``1min 30s`` as systemd writes it; ``infinity`` has no number, as what is not understood."""
    parts = re.findall(r"([\d.]+)(us|ms|s|min|h|d)\b", text)
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts) if parts else math.inf


def access(chosen: Settings, mta: reach.User | None) -> Findings:
    """Whether the MTA's user may use the socket."""
    path = unix_path(chosen)
    if path is None or mta is None:
        return
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except OSError as error:
        yield wrong("socket", f"{path}: {error.strerror}", "start botmilter")
        return
    if not is_socket:
        yield wrong("socket", f"{path} is no socket", "choose another [milter] socket")
    elif problem := reach.obstacle(mta, path, reach.WRITE | reach.READ):
        yield wrong(
            "socket",
            problem,
            f'set [milter] socket_group = "{mta.name}" and socket_mode = "0660", and let that'
            f" group enter {path.parent}",
        )
    else:
        yield ok("socket", f"user {mta.name} may use {path}")


def forgeries(chosen: Settings) -> Findings:
    """Whether the filter runs, and takes away what looks like its own fields."""
    name = f"{chosen.header.prefix}Verdict"
    try:
        edits = _shown(chosen, name.encode())
    except PermissionError:
        yield unchecked("forgery", "you may not use the filter's socket", "run it as root")
    except (OSError, SetupError, EOFError, struct.error) as error:
        yield wrong("running", f"no filter answers: {error}", "start botmilter; its log says more")
    else:
        yield ok("running", "the filter answers")
        gone = [data for code, data in edits if code == _CHANGE and name.encode() in data]
        if gone and all(data.endswith(b"\0\0") for data in gone):
            yield ok("forgery", f"a forged {name} is taken away")
        else:
            yield wrong(
                "forgery",
                f"a forged {name} is left in the mail",
                "reload botmilter: it may run with another [header] prefix",
            )


def _shown(chosen: Settings, field: bytes) -> list[tuple[bytes, bytes]]:
    """The edits to a mail with a forged *field*."""
    with _connected(chosen) as filter_:
        _send(filter_, b"O", struct.pack(">III", _VERSION, _ACTIONS, _STEPS))
        code, data = _receive(filter_)
        if code != b"O":
            raise SetupError("what listens there is no mail filter")
        steps = struct.unpack(">III", data[:12])[2]
        for command, argument in _mail(field):
            if steps & _UNWANTED[command]:
                continue
            _send(filter_, command, argument)
            if not steps & _QUIET[command] and (answer := _receive(filter_)[0]) != b"c":
                raise SetupError(f"it answered {answer!r} to {command!r}")
        _send(filter_, b"E")
        edits = []
        while (edit := _receive(filter_))[0] not in _FINAL:
            edits.append(edit)
        _send(filter_, b"Q")
    return edits


def _mail(field: bytes) -> Iterator[tuple[bytes, bytes]]:
    yield b"C", b"localhost\x004" + struct.pack(">H", 25) + b"127.0.0.1\0"
    yield b"H", b"localhost\0"
    yield b"M", b"<doctor@localhost>\0"
    yield b"R", b"<doctor@localhost>\0"
    yield b"T", b""
    yield b"L", field + b"\0clean; score=-9.00; origin=none\0"
    yield b"N", b""
    yield b"B", b"botmilter doctor\r\n"


def _connected(chosen: Settings) -> socket.socket:
    kind, _, where = chosen.milter.socket.partition(":")
    path = unix_path(chosen)
    if path is None:
        port, _, host = where.partition("@")
        default = "::1" if kind == "inet6" else "127.0.0.1"
        return socket.create_connection((host.strip("[]") or default, int(port)), _LIMIT_S)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(_LIMIT_S)
    try:
        client.connect(str(path))
    except BaseException:
        client.close()
        raise
    return client


def _send(to: socket.socket, command: bytes, data: bytes = b"") -> None:
    to.sendall(struct.pack(">I", len(data) + 1) + command + data)


def _receive(source: socket.socket) -> tuple[bytes, bytes]:
    (length,) = struct.unpack(">I", _exactly(source, 4))
    if not 0 < length <= _ANSWER_AT_MOST:
        raise SetupError("what listens there is no mail filter")
    packet = _exactly(source, length)
    return packet[:1], packet[1:]


def _exactly(source: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        chunk = source.recv(size - len(got))
        if not chunk:
            raise EOFError("it hung up")
        got += chunk
    return got

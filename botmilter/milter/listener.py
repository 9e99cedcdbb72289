"""The socket on which the MTA finds the filter, made in plain Python before any worker.

``unix:PATH``, ``inet:PORT@HOST`` or ``inet6:PORT@HOST``, as MTAs write it.  A Unix socket is the
one to use: over TCP a mail costs 43 to 87 ms more, because libmilter and Postfix write an answer
in two segments (Nagle's algorithm against delayed acknowledgement); TCP_NODELAY on the listening
socket, which accepted ones inherit, takes half of that off.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import stat
from pathlib import Path

from botmilter.errors import SetupError

#: Connections that wait while all workers are starting; more than an MTA's process limit.
BACKLOG = 1024
#: Of the socket that the configuration has by default.  Made where it is missing, as /run is empty
#: after each boot, and who starts us without systemd's unit has nobody else to make it.
OWN_FOLDER = Path("/run/botmilter")


def listen(
    address: str,
    mode: int = 0o660,
    group: str = "",
    owner: str = "",
    table: str = "milter",
    key: str = "socket",
) -> socket.socket:
    """The listening socket for *address*, as *key* in *table* of the configuration wants it;
    raises SetupError saying what to do."""
    kind, _, where = address.partition(":")
    try:
        if kind == "unix":
            _require_folder(Path(where).parent, f"[{table}] {key}")
            return _listen_unix(Path(where), mode, group, owner, table)
        return _listen_inet(where, socket.AF_INET6 if kind == "inet6" else socket.AF_INET)
    except OSError as error:
        raise SetupError(f"[{table}] {key} = {address!r}: {error.strerror or error}") from error


def take_down(listener: socket.socket) -> None:
    """No new connection from now on, in any process that shares *listener*."""
    where = listener.getsockname()
    if isinstance(where, str) and where:
        with contextlib.suppress(OSError):
            Path(where).unlink()
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _require_folder(folder: Path, setting: str) -> None:
    """Any but ours is the MTA's or mistyped: the MTA would look for the socket elsewhere."""
    if folder == OWN_FOLDER:
        folder.mkdir(mode=0o755, exist_ok=True)
    elif not folder.is_dir():
        raise SetupError(f"{setting}: there is no folder {folder}: make it, or correct the path")


def _listen_unix(path: Path, mode: int, group: str, owner: str, table: str) -> socket.socket:
    _remove_stale(path, table)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~mode)
    try:
        made.bind(str(path))
    finally:
        os.umask(before)
    if group or owner:
        os.chown(path, _user_id(owner, table), _group_id(group, table))
    return _listening(made)


def _remove_stale(path: Path, table: str) -> None:
    """Remove what a killed filter left at *path*; never another file, never a live socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SetupError(f"{path} exists and is no socket: choose another [{table}] socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise SetupError(f"{path} exists and cannot be tried: {error.strerror}") from None
    raise SetupError(f"another filter listens on {path}: stop it, or choose another socket")


def _group_id(group: str, table: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid if group else -1
    except KeyError:
        raise SetupError(
            f"[{table}] socket_group: there is no group {group!r} on this machine"
        ) from None


def _user_id(owner: str, table: str) -> int:
    try:
        return pwd.getpwnam(owner).pw_uid if owner else -1
    except KeyError:
        raise SetupError(
            f"[{table}] socket_owner: there is no user {owner!r} on this machine"
        ) from None


def _listen_inet(where: str, family: socket.AddressFamily) -> socket.socket:
    port, _, host = where.partition("@")
    default = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.bind((host.strip("[]") or default, int(port)))
    return _listening(made)


def _listening(made: socket.socket) -> socket.socket:
    # not blocking: of several workers that a connection wakes, one gets it; the others must not
    # hang in accept(), where they could not be told to stop listening
    made.setblocking(False)
    made.listen(BACKLOG)
    return made

"""The one small process that holds CAP_NET_RAW.

It takes an operation, a canonical address and a limit, nothing else, and gives back what the
operation measured.  The workers, which parse hostile mail, hold no capability; a worker taken
over can make us probe public hosts, within the guard's rules, and no more.

Transport: one SOCK_SEQPACKET pair shared by all workers.  A request is a JSON datagram
``{"operation", "ip", "limit_s"}`` with a socket of its own for the answer (SCM_RIGHTS).  The
parent keeps both ends, so that a new process takes over where a killed one left.  The process
ends when nobody holds the other end any more.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import logging
import os
import pwd
import resource
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from botmilter.clock import Deadline
from botmilter.errors import SetupError
from botmilter.model import IPAddress
from botmilter.net import ProbeGuard, canonical, printable
from botmilter.probes.base import Operation

log = logging.getLogger(__name__)

#: Of one operation, where the configuration does not tell.
_AT_ONCE = 64
_LIMIT_AT_MOST_S = 120.0
#: What a limit may be overstepped by before the client gives up: starting and reaping nmap.
_GRACE_S = 2.0
_REQUEST_AT_MOST = 1024
_ANSWER_AT_MOST = 1024 * 1024


# -- the process --------------------------------------------------------------------------------


class Prober:
    """Answers requests from *channel* until its other end is closed everywhere."""

    def __init__(
        self,
        channel: socket.socket,
        operations: Mapping[str, Operation],
        guard: ProbeGuard,
        at_once: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """*at_once*: of each operation so many, whatever the others do."""
        self._channel = channel
        self._operations = operations
        self._guard = guard
        self._room = {
            name: threading.BoundedSemaphore(at_once.get(name, _AT_ONCE)) for name in operations
        }

    def serve(self) -> None:
        while True:
            request, fds, _, _ = socket.recv_fds(self._channel, _REQUEST_AT_MOST, 1)
            if not request:
                return
            for fd in fds:
                try:
                    reply = socket.socket(fileno=fd)
                except OSError:  # no socket: nobody waits there for an answer
                    os.close(fd)
                    continue
                self._start(request, reply)

    def _start(self, request: bytes, reply: socket.socket) -> None:
        try:
            name, ip, limit_s = self._checked(request)
        except Exception as error:  # whatever it was, the other side is told
            _refuse(reply, error)
            return
        room = self._room[name]
        if not room.acquire(blocking=False):
            _answer(reply, {"error": "busy: as many are under way as may be"})
            return

        def run() -> None:
            try:
                _answer(reply, {"result": self._operations[name](ip, limit_s)})
            except Exception as error:  # the same
                _refuse(reply, error)
            finally:
                room.release()

        try:
            threading.Thread(target=run, daemon=True).start()
        except RuntimeError:
            room.release()
            _answer(reply, {"error": "no thread left"})

    def _checked(self, request: bytes) -> tuple[str, IPAddress, float]:
        """Raises ValueError or KeyError; trusts nothing that came."""
        data = json.loads(request)
        ip = canonical(ipaddress.ip_address(str(data["ip"])))
        if refusal := self._guard.refusal(ip):
            raise ValueError(f"{ip} must not be probed: {refusal}")
        limit_s = float(data["limit_s"])
        if not 0 < limit_s <= _LIMIT_AT_MOST_S:
            raise ValueError(f"limit_s from 0 to {_LIMIT_AT_MOST_S:.0f} expected, got {limit_s}")
        name = str(data["operation"])
        if name not in self._operations:
            raise KeyError(name)
        return name, ip, limit_s


def _refuse(reply: socket.socket, error: Exception) -> None:
    _answer(reply, {"error": printable(f"{type(error).__name__}: {error}")})


def _answer(reply: socket.socket, answer: dict[str, Any]) -> None:
    """A client that has gone away is no matter of ours."""
    with reply:
        try:
            reply.settimeout(_GRACE_S)
            reply.sendall(json.dumps(answer).encode())
        except (OSError, TypeError, ValueError) as error:
            log.debug("no answer given: %s", error)


# -- the workers' side --------------------------------------------------------------------------


class PrivilegedClient:
    """Asks the privileged process.  Safe for many threads."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def call(self, operation: str, ip: IPAddress, limit_s: float) -> dict[str, Any]:
        """What *operation* measured at *ip*.

        Blocks at most *limit_s* and two seconds.  Raises TimeoutError when that is over, and
        SetupError where the operation failed, was refused or nobody answers, with the reason.
        """
        try:
            mine, theirs = socket.socketpair()
        except OSError as error:  # no descriptor left
            raise SetupError(f"{operation}: {error.strerror}") from error
        with mine:
            with theirs:
                self._send(operation, ip, limit_s, theirs)
            text = _read_all(mine, Deadline.after(limit_s + _GRACE_S))
        try:
            answer = json.loads(text or b"{}")
        except ValueError:
            raise SetupError(f"{operation}: the privileged process ended in mid-answer") from None
        if "result" in answer:
            return dict(answer["result"])
        raise SetupError(f"{operation}: {answer.get('error', 'the privileged process ended')}")

    def operation(self, name: str) -> Operation:
        """*name* as a function, as probes take it."""

        def call(ip: IPAddress, limit_s: float) -> dict[str, Any]:
            return self.call(name, ip, limit_s)

        return call

    def _send(self, operation: str, ip: IPAddress, limit_s: float, reply: socket.socket) -> None:
        request = {"operation": operation, "ip": str(ip), "limit_s": limit_s}
        try:
            socket.send_fds(
                self._channel,
                [json.dumps(request).encode()],
                [reply.fileno()],
                socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
            )
        except BlockingIOError:
            raise SetupError(f"{operation}: the privileged process is busy") from None
        except OSError as error:
            raise SetupError(f"{operation}: no privileged process: {error}") from error


def _read_all(reply: socket.socket, deadline: Deadline) -> bytes:
    """All until the end; raises TimeoutError."""
    chunks: list[bytes] = []
    size = 0
    try:
        while size < _ANSWER_AT_MOST:
            reply.settimeout(max(0.001, deadline.left()))  # 0 would mean not to wait at all
            chunk = reply.recv(65536)
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
    except TimeoutError:
        raise TimeoutError("the privileged process gave no answer in time") from None
    return b"".join(chunks)


def channel() -> tuple[socket.socket, socket.socket]:
    """The prober's end and the workers' end."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


# -- privileges ---------------------------------------------------------------------------------

CAP_NET_RAW = 13

#: getrlimit(2): 20 less the lowest nice value.
_NICE_0 = 20

# linux/prctl.h and linux/capability.h
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522


def become(user: str, keep: frozenset[int] = frozenset()) -> None:
    """Be *user* from now on, with the capabilities *keep* and no other.

    An empty *user*, or not being root, leaves the user as it is; the capabilities go all the
    same, except root's own.  Kept ones are ambient: nmap, which has none of its own, inherits
    them (and wants ``--privileged`` to believe it).  Raises SetupError.
    """
    is_root = os.geteuid() == 0
    if is_root and not user:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if is_root:
        _check(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities")
        _set_user(user)
    kept = sum(1 << one for one in keep & permitted())
    _set_capabilities(libc, kept)
    _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "clear ambient")
    for one in keep & permitted():
        _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, one, 0, 0), "raise ambient")


def let_children_hurry() -> None:
    """Whoever may set limits allows what it starts to compute like everybody after standing back
    (sched(7): a return from SCHED_IDLE takes RLIMIT_NICE).  Others have it from the unit."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NICE, (_NICE_0, _NICE_0))


def hold_back() -> None:
    """Use no capability from now on, but stay able to hand CAP_NET_RAW to a new prober.

    For the parent: it has to be able to start a prober in the place of one that died, and a child
    has no more than its parent.  So the capability stays permitted, but neither effective (nothing
    the parent does is allowed by it) nor ambient (nothing it starts inherits it).  Root is left
    as it is: it becomes other users, and its sockets are given to groups.
    """
    if os.geteuid() == 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    kept = (1 << CAP_NET_RAW) if CAP_NET_RAW in permitted() else 0
    _set_capabilities(libc, kept, effective=0)
    _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "clear ambient")


def _set_user(user: str) -> None:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise SetupError(f"[milter] user: there is no user {user!r} on this machine") from None
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def permitted() -> frozenset[int]:
    """The capabilities this process may use, by number (capabilities(7))."""
    with Path("/proc/self/status").open(encoding="utf-8") as status:
        mask = next(int(line.split()[1], 16) for line in status if line.startswith("CapPrm:"))
    return frozenset(bit for bit in range(64) if mask >> bit & 1)


def _set_capabilities(libc: ctypes.CDLL, mask: int, effective: int | None = None) -> None:
    """Permitted, inheritable and, unless told otherwise, effective."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    used = mask if effective is None else effective
    halves = [(number & 0xFFFFFFFF, number >> 32) for number in (used, mask, mask)]
    data = (ctypes.c_uint32 * 6)(*(low for low, _ in halves), *(high for _, high in halves))
    _check(libc.capset(header, data), "drop capabilities")


def _check(result: int, what: str) -> None:
    if result != 0:
        raise SetupError(f"cannot {what}: {os.strerror(ctypes.get_errno())}")

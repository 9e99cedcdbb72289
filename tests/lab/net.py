"""The laboratory's corner of a private network namespace.

What it makes, and takes away again:

* ``lab0``, a TUN device whose other end is the laboratory's process.  198.18.0.0/15 (RFC 2544,
  for benchmarks) leads there, and so does everything else: a packet to any other address ends in
  the laboratory too, where it is counted and answered by nobody.
* 198.18.0.2 on it: where our own probes come from.
* 198.18.0.1 on ``lo``: where the MTA under test listens, on whatever ports.  198.18.0.53 on
  ``lo``: the name server.
* The trick by which mail clients have simulated hosts' addresses.  A client socket is bound to,
  say, 198.18.7.12 with IP_TRANSPARENT (:func:`tests.lab.client.connect`) and connects to the
  MTA; what the MTA answers *from* 198.18.0.1 is routed by a rule of its own into a table in
  which all of 198.18.0.0/15 is local, and so finds that socket.  What the MTA's filter sends to
  198.18.7.12 comes from 198.18.0.2, misses the rule, and reaches the simulated host.
  So never bind a probe to 198.18.0.1.

Nothing is done where a packet could get out: any other interface that is up, or a route that the
laboratory did not make, is refused.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

DEVICE = "lab0"
NETWORK = "198.18.0.0/15"
MTA = "198.18.0.1"
SCANNER = "198.18.0.2"
SCANNER_IPV6 = "fd00:198:18::2"
NAME_SERVER = "198.18.0.53"
#: Packets that may wait for the laboratory; more at once are lost, and :func:`dropped` says so.
QUEUE_LENGTH = 10_000

_TABLE, _PREFERENCE = "218", "218"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_SCANNER_HEX = f"{struct.unpack('=I', socket.inet_aton(SCANNER))[0]:08X}:"
#: tcp_states.h: all but FIN-WAIT-2, TIME-WAIT, CLOSE and LISTEN.
_SENDING_STATES = frozenset({"01", "02", "03", "04", "08", "09", "0B"})
_SIOCGIFFLAGS, _IFF_UP = 0x8913, 0x1

_SYSCTLS = {
    # the replies' way back is not the way out
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/lo/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    # the MTA's address talks to itself over lo
    "net/ipv4/conf/all/accept_local": "1",
    # what a test leaves open to a host that has gone is over soon, not after minutes
    "net/ipv4/tcp_orphan_retries": "1",
    # no link-local address, so no solicitations and reports of the kernel's among the packets
    f"net/ipv6/conf/{DEVICE}/addr_gen_mode": "1",
}

_COMMANDS = f"""
link set lo up
addr replace {MTA}/32 dev lo
addr replace {NAME_SERVER}/32 dev lo
addr replace {SCANNER}/32 dev {DEVICE}
link set {DEVICE} up txqueuelen {QUEUE_LENGTH}
route replace {NETWORK} dev {DEVICE} src {SCANNER}
route replace default dev {DEVICE} src {SCANNER}
route replace local {NETWORK} dev lo table {_TABLE}
rule add pref {_PREFERENCE} from {MTA} lookup {_TABLE}
"""

#: So that a packet to an IPv6 address is seen as well; a kernel may lack IPv6.
_COMMANDS_IPV6 = f"""
-6 addr replace {SCANNER_IPV6}/128 dev {DEVICE} nodad
-6 route replace default dev {DEVICE}
"""

_UNDO = f"""
rule del pref {_PREFERENCE}
route flush table {_TABLE}
addr del {MTA}/32 dev lo
addr del {NAME_SERVER}/32 dev lo
"""


class NotPrivateError(RuntimeError):
    """This network namespace has a way out: run the tests by tests/run, or under
    ``unshare --net``."""


def require_private() -> None:
    """Raises NotPrivateError if a packet could leave this machine."""
    others = [name for _, name in socket.if_nameindex() if name not in ("lo", DEVICE)]
    up = [name for name in others if _is_up(name)]
    if up:
        raise NotPrivateError(f"interface {up[0]} is up; only lo may be: use unshare --net")
    ways_out = {line.split()[0] for line in _routes()} - {"lo", DEVICE}
    if ways_out:
        raise NotPrivateError(f"a route leads out by {ways_out.pop()}: use unshare --net")


def _is_up(name: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", name.encode(), 0)
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
    return bool(struct.unpack("16sH14x", answer)[1] & _IFF_UP)


def _routes() -> list[str]:
    return Path("/proc/self/net/route").read_text(encoding="ascii").splitlines()[1:]


def open_device() -> int:
    """Create ``lab0`` and return its non-blocking file descriptor; closing it removes the device.

    Raises NotPrivateError, or OSError without root or without /dev/net/tun.
    """
    require_private()
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
        _configure()
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _configure() -> None:
    for name, value in _SYSCTLS.items():
        path = Path("/proc/sys") / name
        if path.exists():
            path.write_text(value, encoding="ascii")
    _ip(f"rule del pref {_PREFERENCE}", check=False)
    for command in _COMMANDS.strip().splitlines():
        _ip(command)
    for command in _COMMANDS_IPV6.strip().splitlines():
        _ip(command, check=False)


def clean_up() -> None:
    """Take away what closing the device leaves behind."""
    for command in _UNDO.strip().splitlines():
        _ip(command, check=False)


def _ip(command: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *command.split()], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise OSError(f"ip {command}: {done.stderr.strip()}")


def sending() -> list[str]:
    """What may still send packets from 198.18.0.2: each nmap, each connection that is not over."""
    found = []
    for program in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # it has ended
            found += [name for name in program.read_text().split() if name == "nmap"]
    for line in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, remote, state = line.split()[:4]
        if local.startswith(_SCANNER_HEX) and state in _SENDING_STATES:
            found.append(f"{remote} in state {state}")
    return found


def dropped() -> int:
    """Packets to ``lab0`` that were lost before the laboratory saw them."""
    for line in Path("/proc/self/net/dev").read_text(encoding="ascii").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == DEVICE:
            return int(numbers.split()[11])
    return 0

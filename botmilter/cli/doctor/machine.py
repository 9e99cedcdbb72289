"""The machine itself: the privilege, nmap, the store, the key, whom it trusts."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import NoReturn

from botmilter.cli import build
from botmilter.cli.doctor import reach
from botmilter.cli.doctor.findings import Finding, Findings, ok, unchecked, wrong
from botmilter.config import Settings
from botmilter.errors import BotmilterError, SetupError
from botmilter.milter import privileged
from botmilter.milter.privileged import CAP_NET_RAW, PrivilegedClient, Prober
from botmilter.model import IPAddress, IPNetwork
from botmilter.net import ProbeGuard

_HERE = ip_address("127.0.0.1")
_LOOPBACK = ip_network("127.0.0.0/8")
_NMAP_LIMIT_S = 15.0
_PING_LIMIT_S = 2.0

#: Networks this large or larger hold more than one site's hosts.
_MANY_V4, _MANY_V6 = 15, 31

_TODO = {
    "ping": "start botmilter as root or under contrib/systemd's unit, or switch [probe.ping] off",
    "osdetect": "install nmap, and start botmilter as root or under contrib/systemd's unit; or"
    " switch [probe.osdetect] off",
}


def raw_packets(chosen: Settings, user: str) -> Findings:
    """Ping and nmap as *user* does them through the prober, against this machine's loopback."""
    probe = chosen.probe
    wanted = {"ping": (probe.ping.enabled, _PING_LIMIT_S)}
    wanted["osdetect"] = (probe.osdetect.enabled, _NMAP_LIMIT_S)
    for name, (enabled, limit_s) in wanted.items():
        if not enabled:
            yield unchecked(name, f"[probe.{name}] is switched off")
        elif os.geteuid() != 0 and CAP_NET_RAW not in privileged.permitted():
            yield unchecked(name, "only root can tell", "run botmilter doctor as root")
        else:
            yield _tried(name, user, limit_s)


def _tried(name: str, user: str, limit_s: float) -> Finding:
    try:
        _as_prober(name, user, limit_s)
    except (SetupError, TimeoutError) as error:
        return wrong(name, str(error), _TODO[name])
    return ok(name, f"works as user {user or 'root'}")


def _as_prober(name: str, user: str, limit_s: float) -> None:
    """One measurement of loopback by a prober of our own; raises SetupError, TimeoutError."""
    theirs, ours = privileged.channel()
    pid = os.fork()
    if pid == 0:
        _be_prober(theirs, ours, user)
    theirs.close()
    try:
        PrivilegedClient(ours).call(name, _HERE, limit_s)
    finally:
        ours.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _be_prober(theirs: socket.socket, ours: socket.socket, user: str) -> NoReturn:
    try:
        ours.close()
        privileged.become(user, frozenset({CAP_NET_RAW}))
        Prober(theirs, build.operations(), ProbeGuard((_LOOPBACK,))).serve()
    finally:
        os._exit(0)


def store(chosen: Settings, user: reach.User) -> Findings:
    """Whether what is learnt about hosts can be kept."""
    kind = chosen.store.kind
    if kind == "memory":
        yield ok("store", "in memory, as configured: forgotten at each restart")
    elif kind == "redis":
        yield _shared_store(chosen)
    else:
        yield _own_store(build.sqlite_file(chosen.store), user)


def _own_store(file: Path, user: reach.User) -> Finding:
    folder = file.parent
    if problem := reach.obstacle(user, folder, reach.WRITE | reach.ENTER):
        do = f"install -d -o {user.name} -m 0750 {folder}, or set [store] path"
        return wrong("store", problem, do)
    problem = reach.obstacle(user, file, reach.READ | reach.WRITE) if _is_there(file) else None
    if problem:
        return wrong("store", problem, f"chown {user.name} {file}*")
    return ok("store", f"{folder} is writable for {user.name}")


def _is_there(file: Path) -> bool:
    """As far as we may see."""
    try:
        return file.exists()
    except OSError:
        return False


def _shared_store(chosen: Settings) -> Finding:
    try:
        found = build.store(chosen.store)
        found.get("rdns", "doctor", 0.0)
        found.close()
    except BotmilterError as error:
        return wrong("store", str(error), "start Redis, or correct [store] url")
    return ok("store", "Redis answers")


def key(chosen: Settings, reader: reach.User | None) -> Findings:
    """Whether the key that seals verdicts is there, ours alone, and to be read by *reader*, whom
    the filter starts as."""
    if not chosen.header.key_file:
        return
    path = Path(chosen.header.key_file)
    try:
        build.key(chosen)
        mode = stat.S_IMODE(path.stat().st_mode)
    except (BotmilterError, OSError) as error:
        yield wrong("key", str(error), "see docs/header.md for how to make one")
        return
    if mode & 0o027:
        yield wrong("key", f"{path} has mode {mode:04o}", f"chmod 0640 {path}")
    elif reader and (problem := reach.obstacle(reader, path, reach.READ)):
        yield wrong("key", problem, f"chgrp {reader.name} {path}; chmod 0640 {path}")
    else:
        yield ok("key", f"{path} has mode {mode:04o}")


def trust(chosen: Settings, own: Iterable[IPAddress]) -> Findings:
    """Whether whom we trust makes sense on this machine, whose addresses are *own*."""
    networks = chosen.trust.networks
    for network in networks:
        if _is_too_wide(network):
            yield wrong(
                "trust",
                f"[trust] networks has {network}: whoever is in it can write himself an origin",
                "name the relays' own addresses",
            )
            return
    if networks or chosen.trust.own_relays or chosen.trust.own_names:
        yield ok("trust", f"{len(networks)} networks")
    elif any(ip.is_global for ip in own):
        yield ok("trust", "nobody: mail comes straight from the Internet")
    else:
        yield unchecked(
            "trust",
            "this machine has private addresses only and trusts nobody",
            "if a relay hands mail to it, name that in [trust] networks; if a router shows its"
            " own address in place of the clients', no host can be judged",
        )


def _is_too_wide(network: IPNetwork) -> bool:
    many = _MANY_V4 if network.version == 4 else _MANY_V6
    return network.prefixlen <= many and not network.is_private

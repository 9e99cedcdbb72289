"""Real Redis servers on loopback: one alone, a sentinel, a cluster of three.

What they write is in *folder*, and of no use past their end.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.fakes.programs import find, free_port, listens, running

Server = subprocess.Popen[bytes]

_SLOTS = 16384
#: A node that has just started serves nobody for two seconds.
_CLUSTER_LIMIT_S = 20.0


@dataclass(frozen=True)
class Tls:
    """A certificate for 127.0.0.1 that vouches for itself."""

    key: Path
    cert: Path

    @classmethod
    def made_in(cls, folder: Path) -> Tls:
        key, cert = folder / "key.pem", folder / "cert.pem"
        subprocess.run(
            [find("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", str(key), "-out", str(cert)],
            check=True, capture_output=True,
        )  # fmt: skip
        return cls(key, cert)

    def on(self, port: int, **more: str) -> list[str]:
        """What makes a Redis server speak nothing else on *port*."""
        settings = {
            "port": "0",
            "tls-port": str(port),
            "tls-cert-file": str(self.cert),
            "tls-key-file": str(self.key),
            "tls-ca-cert-file": str(self.cert),
            "tls-auth-clients": "no",
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        return [word for name, value in settings.items() for word in (f"--{name}", value)]


def redis_server(
    folder: Path, place: int | Path, *options: str, program: str = "redis-server"
) -> AbstractContextManager[Server]:
    """A Redis on port *place*, or on the Unix socket *place* and no port; *options* as
    redis-server takes them, the last counts."""
    is_ready: Callable[[], bool]
    if isinstance(place, Path):
        where, is_ready = ["--port", "0", "--unixsocket", str(place)], place.exists
    else:
        where, is_ready = ["--port", str(place), "--bind", "127.0.0.1"], partial(listens, place)
    return running([find(program), *where, "--save", "", *options], is_ready, folder)


def redis_sentinel(
    folder: Path, port: int, settings: str, *options: str
) -> AbstractContextManager[Server]:
    """A sentinel; *settings* is lines of its file, which it writes to."""
    file = folder / f"sentinel-{port}.conf"
    file.write_text(f"port {port}\nbind 127.0.0.1\n{settings}")
    command = [find("redis-server"), str(file), "--sentinel", *options]
    return running(command, lambda: listens(port), folder)


def redis_cli(port: int, *words: str | bytes, given: bytes | None = None) -> bytes:
    """What the server on *port* answers to *words*; with ``-x`` before them *given* is the last."""
    command = [find("redis-cli"), "-p", str(port), *words]
    return subprocess.check_output(command, input=given, timeout=10)


@contextmanager
def redis_cluster(folder: Path, ports: Sequence[int]) -> Iterator[list[Server]]:
    """A cluster of masters on *ports*, each with its share of the slots."""
    buses, nodes = [free_port() for _ in ports], []
    with ExitStack() as stack:
        for port, bus in zip(ports, buses, strict=True):
            home = folder / f"node-{port}"
            home.mkdir(exist_ok=True)
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
            nodes.append(stack.enter_context(redis_server(home, port, *options)))
        _join(ports, buses)
        yield nodes


def _join(ports: Sequence[int], buses: Sequence[int]) -> None:
    for number, port in enumerate(ports):
        first, end = (_SLOTS * each // len(ports) for each in (number, number + 1))
        redis_cli(port, "cluster", "addslotsrange", str(first), str(end - 1))
        for other, bus in zip(ports, buses, strict=True):
            if other != port:  # everybody meets everybody: hearsay takes seconds
                redis_cli(port, "cluster", "meet", "127.0.0.1", str(other), str(bus))
    end_at = time.monotonic() + _CLUSTER_LIMIT_S
    for port in ports:
        while not _is_whole(port, len(ports)):
            assert time.monotonic() < end_at, redis_cli(port, "cluster", "nodes").decode()
            time.sleep(0.05)


def _is_whole(port: int, nodes: int) -> bool:
    said = redis_cli(port, "cluster", "info").split()
    return {b"cluster_state:ok", b"cluster_known_nodes:%d" % nodes} <= set(said)

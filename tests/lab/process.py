"""The laboratory's process: owns the TUN device, moves packets, takes orders.

Orders are JSON objects, one a line, on standard input; each gets one line of JSON on standard
output.  The end of standard input ends the process, so that it never outlives whoever started it.

    {"put": [HOST, …]}        add or change hosts (see Host.to_json)
    {"remove": ["IP", …]}     let hosts vanish
    {"flows": true}           [[protocol, src, dst, dport, count], …] since the last such order
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from dataclasses import astuple
from ipaddress import IPv4Address
from typing import Any

from tests.lab import net
from tests.lab.host import Host
from tests.lab.timers import Timers
from tests.lab.world import World

_LONGEST_PACKET = 65536
_PACKETS_PER_ROUND = 64


def main() -> int:
    """Serve until standard input ends, or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    try:
        device = net.open_device()
    except (OSError, net.NotPrivateError) as error:
        _reply({"error": str(error)})
        return 1
    # the steadiness of sequence numbers hangs on when a packet is seen
    with contextlib.suppress(PermissionError):
        os.nice(-15)
    try:
        _reply({"ready": net.DEVICE})
        _serve(device)
    finally:
        os.close(device)
        net.clean_up()
    return 0


def _serve(device: int) -> None:
    timers = Timers()
    world = World(lambda raw: _write(device, raw), timers)
    orders = sys.stdin.fileno()
    pending = b""
    while True:
        ready, _, _ = select.select([device, orders], [], [], timers.wait_s(timers.now(), 60.0))
        timers.run(timers.now())
        if device in ready:
            _drain(device, world, timers)
        if orders in ready:
            data = os.read(orders, 65536)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                # whatever was sent before an order was given is in its answer
                _drain(device, world, timers, at_most=net.QUEUE_LENGTH)
                _reply(_obey(json.loads(line), world))


def _drain(device: int, world: World, timers: Timers, at_most: int = _PACKETS_PER_ROUND) -> None:
    for _ in range(at_most):
        try:
            raw = os.read(device, _LONGEST_PACKET)
        except BlockingIOError:
            return
        world.receive(raw, timers.now())


def _write(device: int, raw: bytes) -> None:
    # A full queue loses packets, as everywhere.
    with contextlib.suppress(BlockingIOError):
        os.write(device, raw)


def _obey(order: dict[str, Any], world: World) -> dict[str, Any]:
    try:
        world.put(Host.from_json(host) for host in order.get("put", ()))
        world.remove(IPv4Address(ip) for ip in order.get("remove", ()))
    except (LookupError, TypeError, ValueError, OSError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    if "flows" not in order:
        return {}
    flows = [[*astuple(flow), count] for flow, count in world.flows.items()]
    world.flows.clear()
    return {"flows": flows, "dropped": net.dropped()}


def _reply(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""The laboratory's corner of the network namespace."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab import net
from tests.lab.lab import Lab, LabError


def test_the_namespace_is_left_as_it_was_found() -> None:
    def state() -> str:
        commands = ("ip rule", "ip -o addr", "ip route show table all")
        return "".join(subprocess.getoutput(command) for command in commands)

    before = state()
    with Lab():
        assert net.DEVICE in state()
    assert state() == before


def test_a_namespace_with_a_way_out_is_refused() -> None:
    subprocess.run(["ip", "tuntap", "add", "out0", "mode", "tun"], check=True)
    try:
        subprocess.run(["ip", "link", "set", "out0", "up"], check=True)
        with pytest.raises(LabError, match="out0 is up"):
            Lab()
    finally:
        subprocess.run(["ip", "link", "del", "out0"], check=True)


def test_the_laboratory_ends_with_whoever_started_it() -> None:
    code = "import os; from tests.lab.lab import Lab; lab = Lab(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    give_up = time.monotonic() + 5
    while any(name == net.DEVICE for _, name in socket.if_nameindex()):
        assert time.monotonic() < give_up
        time.sleep(0.02)

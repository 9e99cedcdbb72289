"""The laboratory's corner of the network namespace."""

from __future__ import annotations

import subprocess

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

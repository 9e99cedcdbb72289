"""Our own addresses."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from botmilter.interfaces import own_addresses


def test_loopback_is_ours() -> None:
    assert ip_address("127.0.0.1") in own_addresses()


def test_only_local_host_addresses_are_ours(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/fib_trie").write_text(
        "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 198.18.0.0\n        /15 universe UNICAST\n"
        "     |-- 198.18.0.1\n        /32 host LOCAL\n"
        "     |-- 198.19.255.255\n        /32 link BROADCAST\n"
    )
    (tmp_path / "net/if_inet6").write_text(
        "20010db8000000000000000000000025 02 40 00 80     eth0\n"
    )
    assert own_addresses(tmp_path) == {ip_address("198.18.0.1"), ip_address("2001:db8::25")}


def test_where_the_kernel_does_not_tell_none_are_known(tmp_path: Path) -> None:
    assert own_addresses(tmp_path) == frozenset()

"""The kernel's own client, ping and the resolver of the operating system meet the hosts."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.lab import net, packets, worlds
from tests.lab.client import Smtp
from tests.lab.host import FILTERED, PROHIBITED, RESETS, UNREACHABLE, Host, Ping, Port, smtp
from tests.lab.lab import Lab, LabError
from tests.lab.packets import Ip4

_PAYLOAD = b"sixteen octets.."


def _greeting(host: Host, limit_s: float = 2.0, port: int = 25) -> bytes:
    with socket.create_connection((str(host.ip), port), limit_s) as connection:
        connection.settimeout(limit_s)
        return connection.recv(200)


def _ping(host: Host, limit_s: float = 0.5) -> Ip4:
    """The reply to an echo request; raises TimeoutError."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(limit_s)
        request = packets.icmp(packets.ECHO_REQUEST, 0, b"\0\7\0\1" + _PAYLOAD)
        raw.sendto(request, (str(host.ip), 0))
        reply = Ip4.parse(raw.recv(2000))
        assert reply
        return reply


@pytest.mark.parametrize(
    ("host", "greeting"),
    [
        (worlds.MAIL_SERVER, b"220 mail.proper.example ESMTP\r\n"),
        (worlds.EXCHANGE, b"220 mail.office.example Microsoft ESMTP MAIL Service ready\r\n"),
        (worlds.REJECTING, b"421 too busy\r\n"),
        (worlds.NOT_SMTP, b"SSH-2.0-OpenSSH_9.2\r\n"),
    ],
)
def test_a_server_greets_as_it_should(lab: Lab, host: Host, greeting: bytes) -> None:
    assert _greeting(host) == greeting


@pytest.mark.parametrize(
    ("host", "error"),
    [
        (worlds.INFECTED_PC, TimeoutError),
        (worlds.BLACK_HOLE, TimeoutError),
        (worlds.INFECTED_BEHIND_FORWARDER, ConnectionRefusedError),
        (worlds.SLOW_SERVER, TimeoutError),
    ],
)
def test_a_port_that_gives_no_greeting_gives_the_right_error(
    lab: Lab, host: Host, error: type[OSError]
) -> None:
    with pytest.raises(error):
        _greeting(host, limit_s=0.5)


@pytest.mark.parametrize(
    ("port", "error"),
    [
        (PROHIBITED, "No route to host"),
        (UNREACHABLE, "No route to host"),
        (RESETS, "Connection reset by peer"),
    ],
)
def test_unreachable_and_reset_reach_the_kernels_client(lab: Lab, port: Port, error: str) -> None:
    host = replace(worlds.MAIL_SERVER, ip=IPv4Address("198.18.90.1"), ports={25: port})
    lab.put(host)
    with pytest.raises(OSError, match=error):
        _greeting(host)
    lab.remove(host.ip)


def test_a_slow_server_greets_after_its_time(lab: Lab) -> None:
    host = replace(worlds.SLOW_SERVER, ip=IPv4Address("198.18.90.2"), ports={25: smtp("s", 0.4)})
    lab.put(host)
    started = time.monotonic()
    assert _greeting(host) == b"220 s\r\n"
    assert 0.4 <= time.monotonic() - started < 1.4


def test_a_tarpit_gives_one_byte_at_a_time(lab: Lab) -> None:
    assert _greeting(worlds.TARPITTED) == b"2"


def test_a_greeting_without_end_neither_ends_nor_stops_the_laboratory(lab: Lab) -> None:
    with socket.create_connection((str(worlds.GARRULOUS.ip), 25), 5) as connection:
        taken = 0
        while taken < 3_000_000:
            taken += len(connection.recv(65536))
        assert _greeting(worlds.MAIL_SERVER).startswith(b"220")


def test_a_large_mail_can_be_handed_to_a_simulated_server(lab: Lab) -> None:
    with Smtp(net.SCANNER, address=str(worlds.MAIL_SERVER.ip)) as client:
        text = b"Subject: x\r\n\r\n" + b"much to say\r\n" * 50_000
        assert client.sendmail("a@b.example", ["c@d.example"], text) == {}
        assert client.ehlo()[0] == 250


def test_three_hundred_connections_stand_at_once(lab: Lab) -> None:
    with ExitStack() as stack:
        all_of_them = [
            stack.enter_context(socket.create_connection((str(worlds.MAIL_SERVER.ip), 25), 5))
            for _ in range(300)
        ]
        assert all(one.recv(200).startswith(b"220") for one in all_of_them)
        for one in all_of_them:
            one.sendall(b"QUIT\r\n")
        assert all(one.recv(200).startswith(b"221") and not one.recv(1) for one in all_of_them)


def test_the_round_trip_takes_as_long_as_configured(lab: Lab) -> None:
    far = replace(worlds.MAIL_SERVER, ip=IPv4Address("198.18.90.3"), round_trip_s=0.15)
    lab.put(far)
    started = time.monotonic()
    socket.create_connection((str(far.ip), 25), 5).close()
    assert 0.15 <= time.monotonic() - started < 0.6


@pytest.mark.parametrize(
    ("ping", "by", "payload"),
    [
        (Ping.ANSWERED, "198.18.90.6", _PAYLOAD),
        (Ping.THIRD_HOST, "198.18.90.7", _PAYLOAD),
        (Ping.FALSE_TIME, "198.18.90.6", b"\x42\x7f" * 8),
        (Ping.CUT, "198.18.90.6", b""),
    ],
)
def test_ping_is_answered_honestly_or_not(lab: Lab, ping: Ping, by: str, payload: bytes) -> None:
    host = replace(worlds.MAIL_SERVER, ip=IPv4Address("198.18.90.6"), ping=ping)
    lab.put(host)
    reply = _ping(host)
    assert str(IPv4Address(reply.src)) == by
    assert reply.payload[4:] == b"\0\7\0\1" + payload


def test_an_error_may_come_without_the_packet_it_is_about(lab: Lab) -> None:
    host = replace(worlds.MAIL_SERVER, ip=IPv4Address("198.18.90.6"), ping=Ping.CUT_ERROR)
    lab.put(host)
    reply = _ping(host)
    assert (reply.payload[0], len(reply.payload)) == (packets.UNREACHABLE, 8)


def test_a_black_hole_does_not_answer_ping(lab: Lab) -> None:
    with pytest.raises(TimeoutError):
        _ping(worlds.BLACK_HOLE)


def test_a_host_that_vanishes_no_longer_answers(lab: Lab) -> None:
    host = replace(worlds.MAIL_SERVER, ip=IPv4Address("198.18.90.4"))
    lab.put(host)
    assert _greeting(host)
    lab.remove(host.ip)
    with pytest.raises(TimeoutError):
        _greeting(host, limit_s=0.3)


def test_a_host_can_change_while_it_runs(lab: Lab) -> None:
    host = replace(worlds.MAIL_SERVER, ip=IPv4Address("198.18.90.5"))
    lab.put(host)
    assert _greeting(host)
    lab.put(replace(host, ports={25: FILTERED}))
    with pytest.raises(TimeoutError):
        _greeting(host, limit_s=0.3)


def _connect(address: str, family: int = socket.AF_INET) -> None:
    with socket.socket(family) as client:
        client.settimeout(0.1)
        client.connect_ex((address, 25))


@pytest.mark.parametrize(
    "send",
    [
        lambda: _connect("198.19.255.1"),
        lambda: _connect("203.0.113.5"),
        lambda: _connect("2001:db8::5", socket.AF_INET6),
    ],
    ids=["in-the-laboratory", "anywhere-else", "ipv6"],
)
def test_every_packet_is_counted_wherever_it_goes(lab: Lab, send: Callable[[], None]) -> None:
    lab.forget_flows()
    assert lab.destinations() == set()
    send()
    assert len(lab.destinations()) == 1


def test_what_was_left_open_to_a_host_that_has_gone_is_soon_over(lab: Lab) -> None:
    host = replace(worlds.MAIL_SERVER, ip=IPv4Address("198.18.67.1"), names=())
    lab.put(host)
    with socket.create_connection((str(host.ip), 25), timeout=5) as connection:
        assert connection.recv(1024)  # with the greeting unread its end would be a reset
        lab.remove(host.ip)
    assert net.sending()
    lab.await_quiet()
    lab.forget_flows()
    assert lab.destinations() == set()


def test_flows_tell_protocol_and_port(lab: Lab) -> None:
    lab.forget_flows()
    _greeting(worlds.MAIL_SERVER)
    assert {(flow.protocol, flow.src, flow.dst, flow.dport) for flow in lab.flows()} == {
        (socket.IPPROTO_TCP, net.SCANNER, str(worlds.MAIL_SERVER.ip), 25)
    }


def test_an_unknown_persona_is_refused_and_the_laboratory_goes_on(lab: Lab) -> None:
    with pytest.raises(LabError, match="Windows 1995"):
        lab.put(replace(worlds.MAIL_SERVER, persona="Windows 1995"))
    assert _greeting(worlds.MAIL_SERVER)


@pytest.mark.parametrize("port", [25, 587, 2525])
def test_a_mail_client_has_a_simulated_hosts_address(lab: Lab, port: int) -> None:
    """While what the MTA's own host sends to that address reaches the simulated host."""
    with (
        socket.create_server((net.MTA, port)) as listener,
        lab.client_socket(worlds.INFECTED_PC.ip, port) as client,
    ):
        connection, peer = listener.accept()
        with connection:
            assert peer[0] == str(worlds.INFECTED_PC.ip)
            connection.sendall(b"220 mta\r\n")
            assert client.recv(100) == b"220 mta\r\n"
            assert _ping(worlds.INFECTED_PC).src == int(worlds.INFECTED_PC.ip)
            with pytest.raises(TimeoutError):
                _greeting(worlds.INFECTED_PC, limit_s=0.3)
            client.sendall(b"QUIT\r\n")
            assert connection.recv(100) == b"QUIT\r\n"

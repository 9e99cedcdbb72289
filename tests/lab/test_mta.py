"""The private Postfix behaves as the tests that rely on it believe."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import mta

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def postfix() -> Iterator[mta.Postfix]:
    with mta.open_folder() as folder, mta.Postfix(folder, ("127.0.0.1", "::1")) as running:
        yield running


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("port", [mta.MX_PORT, mta.SUBMISSION_PORT, mta.UNFILTERED_PORT])
def test_a_mail_is_delivered_from_each_port(postfix: mta.Postfix, address: str, port: int) -> None:
    recipient = f"port{port}-{address.count(':')}@example.net"
    with smtplib.SMTP(address, port, timeout=10) as client:
        client.sendmail("a@sender.example", [recipient], "Subject: to you\r\n\r\nHello.\r\n")
    assert postfix.mail_to(recipient)["Subject"] == "to you"


def test_a_client_on_loopback_may_claim_another_address(postfix: mta.Postfix) -> None:
    with smtplib.SMTP("127.0.0.1", mta.MX_PORT, timeout=10) as client:
        client.ehlo()
        client.docmd("XCLIENT", "ADDR=198.18.7.12 NAME=pc.example HELO=pc LOGIN=reader")
        client.sendmail("a@sender.example", ["claimed@example.net"], "\r\nHello.\r\n")
    assert "(pc.example [198.18.7.12])" in postfix.mail_to("claimed@example.net")["Received"]


def test_a_load_balancer_tells_the_client_by_the_proxy_protocol(postfix: mta.Postfix) -> None:
    with socket.create_connection(("127.0.0.1", mta.PROXY_PORT), timeout=10) as connection:
        connection.sendall(b"PROXY TCP4 198.18.7.13 198.18.0.1 40000 25\r\n")
        client = smtplib.SMTP(timeout=10)
        client.sock = connection
        assert client.getreply()[0] == 220
        client.sendmail("a@sender.example", ["proxied@example.net"], "\r\nHello.\r\n")
    assert "[198.18.7.13]" in postfix.mail_to("proxied@example.net")["Received"]


def test_mail_for_strangers_is_not_relayed(postfix: mta.Postfix) -> None:
    with (
        smtplib.SMTP("127.0.0.1", mta.MX_PORT, timeout=10) as client,
        pytest.raises(smtplib.SMTPRecipientsRefused),
    ):
        client.sendmail("a@sender.example", ["b@elsewhere.example"], "\r\nHello.\r\n")


def test_the_machines_own_postfix_is_not_touched(postfix: mta.Postfix) -> None:
    spool = Path("/var/spool/postfix/pid/master.pid")
    assert "/etc/postfix" not in postfix.log
    assert not spool.exists() or spool.stat().st_mtime < Path("/proc/1").stat().st_mtime


def test_queue_and_mailbox_outlive_a_restart() -> None:
    with mta.open_folder() as folder:
        for number in range(2):
            with (
                mta.Postfix(folder, ("127.0.0.2",)) as postfix,
                smtplib.SMTP("127.0.0.2", mta.MX_PORT, timeout=10) as client,
            ):
                client.sendmail("a@sender.example", [f"n{number}@example.net"], "\r\nHello.\r\n")
                postfix.mail_to(f"n{number}@example.net")
                assert len(postfix.delivered()) == number + 1


def test_a_postfix_that_cannot_start_says_why() -> None:
    with (
        mta.open_folder() as folder,
        socket.create_server(("127.0.0.3", mta.SUBMISSION_PORT)),
        pytest.raises(RuntimeError, match="Address already in use"),
        mta.Postfix(folder, ("127.0.0.3",)),
    ):
        pass

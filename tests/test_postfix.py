"""The filter behind a real Postfix: by TCP, gone, and back again; and our own users.

The Unix socket and port 587 are in test_main_job.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from botmilter import header
from tests.lab import mta, net, worlds
from tests.lab.client import Smtp
from tests.lab.filter import Filter
from tests.lab.lab import Lab
from tests.lab.mta import Postfix

pytestmark = pytest.mark.slow

PC = worlds.INFECTED_PC.ip
PORT = 8891

#: What is judged is in test_main_job; here it is who is heard.
NO_PROBES: dict[str, object] = {
    f"probe.{name}.enabled": False for name in ("rdns", "smtp", "ping", "osdetect")
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with Lab(worlds.DEMO), mta.open_folder() as made:
        yield made


def _send(postfix: Postfix, reader: str) -> EmailMessage:
    recipient = f"{reader}@{mta.DOMAIN}"
    with Smtp(PC, helo="home-pc", timeout_s=60.0) as client:
        client.sendmail("somebody@sender.example", [recipient], "Subject: x\n\nHello.\n")
    return postfix.mail_to(recipient)


def _origins(mail: EmailMessage) -> list[object]:
    return [header.parse(str(value)).origin for value in mail.get_all("X-Bot-Verdict", [])]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_filter_is_reached_by_tcp(folder: Path, host: str) -> None:
    tcp = Filter(folder / "milter", NO_PROBES, tcp=(host, PORT))
    with tcp, Postfix(folder, (net.MTA,), tcp.address) as postfix:
        assert _origins(_send(postfix, "reader")) == [PC]


def test_mail_passes_without_the_filter_and_is_marked_again_when_it_is_back(folder: Path) -> None:
    judge = Filter(folder / "milter", NO_PROBES)
    with judge, Postfix(folder, (net.MTA,), judge.address) as postfix:
        assert _origins(_send(postfix, "before")) == [PC]
        judge.stop()
        assert _origins(_send(postfix, "without")) == []
        judge.start()
        assert _origins(_send(postfix, "after")) == [PC]


def test_the_mta_may_be_restarted_under_the_filter(folder: Path) -> None:
    judge = Filter(folder / "milter", NO_PROBES)
    with judge:
        for reader in ("first", "second"):
            with Postfix(folder, (net.MTA,), judge.address) as postfix:
                assert _origins(_send(postfix, reader)) == [PC]


# -- our own users ------------------------------------------------------------------------------


def _labels(mail: EmailMessage) -> list[object]:
    return [header.parse(str(value)).label for value in mail.get_all("X-Bot-Verdict", [])]


def _sasl() -> dict[str, str]:
    """Main.cf's lines for Cyrus SASL, with one user where it looks by default: /etc is our own
    layer here (tests/lab/inside)."""
    database = Path("/etc/sasldb2")
    made = ["saslpasswd2", "-p", "-c", "-f", str(database), "-u", mta.HOST, "anna"]
    subprocess.run(made, input=b"secret", check=True, timeout=30)
    database.chmod(0o644)
    return {"smtpd_sasl_auth_enable": "yes", "smtpd_sasl_local_domain": mta.HOST}


def test_a_user_who_logs_in_is_exempt_on_the_mx_port_too(folder: Path) -> None:
    judge = Filter(folder / "milter", NO_PROBES)
    with judge, Postfix(folder, (net.MTA,), judge.address, _sasl()) as postfix:
        with Smtp(PC, helo="home-pc", timeout_s=60.0) as client:
            client.login("anna", "secret")
            client.sendmail("anna@example.net", [f"in@{mta.DOMAIN}"], "Subject: x\n\nHello.\n")
        assert _labels(postfix.mail_to(f"in@{mta.DOMAIN}")) == ["exempt"]
        stranger = Smtp(PC, helo="home-pc", timeout_s=60.0)
        with stranger, pytest.raises(smtplib.SMTPAuthenticationError):
            stranger.login("anna", "guessed")
        assert _labels(_send(postfix, "out")) != ["exempt"]


def _certificate(folder: Path) -> Path:
    place = folder / "tls.pem"
    request = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    more = ("-nodes", "-subj", f"/CN={mta.HOST}", "-keyout", str(place), "-out", str(folder / "c"))
    subprocess.run([*request, *more], check=True, capture_output=True, timeout=30)
    with place.open("a") as chain:
        chain.write((folder / "c").read_text())
    return place


class _Smtps(Smtp):
    """TLS from the first octet; nobody here can vouch for the certificate."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(super()._get_socket(host, port, timeout))


def test_a_service_named_originating_is_for_own_users_on_port_465_too(folder: Path) -> None:
    judge = Filter(folder / "milter", NO_PROBES)
    tls = {"smtpd_tls_chain_files": str(_certificate(folder))}
    with judge, Postfix(folder, (net.MTA,), judge.address, tls) as postfix:
        with _Smtps(PC, mta.SMTPS_PORT, helo="home-pc", timeout_s=60.0) as client:
            client.sendmail("anna@example.net", [f"in@{mta.DOMAIN}"], "Subject: x\n\nHello.\n")
        assert _labels(postfix.mail_to(f"in@{mta.DOMAIN}")) == ["exempt"]

"""A private Postfix: real programs, own configuration, queue and mailbox in a temporary folder.

Nothing of the machine's own Postfix is read or written (``postfix -c``), and no log service is
needed.  Runs inside ``tests/lab/enter`` only, as root.  It listens on the addresses given, as an
MX host on port 25 and on the further ports of :data:`SERVICES`, takes mail for any recipient in
:data:`DOMAIN` and delivers it into one Maildir.

What an SMTP test needs from an MTA besides: a client on loopback may use XCLIENT, which also
stands in for authentication (``XCLIENT LOGIN=``), and PROXY protocol has a port of its own.
"""

from __future__ import annotations

import email
import email.policy
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Self

DOMAIN = "example.net"
HOST = "mx.example.net"

MX_PORT = 25
SUBMISSION_PORT = 587
SMTPS_PORT = 465
"""TLS from the first octet; only with ``smtpd_tls_chain_files`` among the options."""
PROXY_PORT = 10025
UNFILTERED_PORT = 10026
"""As the MX port, but without the filter: what Postfix alone costs."""

#: Port to the options in master.cf that make it what it is.
SERVICES: Mapping[int, Mapping[str, str]] = {
    MX_PORT: {},
    # the name is what Debian's master.cf says to milters on the submission ports
    SUBMISSION_PORT: {
        "syslog_name": "postfix/submission",
        "milter_macro_daemon_name": "ORIGINATING",
    },
    SMTPS_PORT: {
        "syslog_name": "postfix/submissions",
        "smtpd_tls_wrappermode": "yes",
        "milter_macro_daemon_name": "ORIGINATING",
    },
    PROXY_PORT: {"smtpd_upstream_proxy_protocol": "haproxy"},
    UNFILTERED_PORT: {"smtpd_milters": ""},
}

#: The processes behind smtpd that receiving and delivering a mail takes; columns as in master(5),
#: none in a chroot.
_INTERNAL = """\
pickup    unix n - n 60 1 pickup
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
smtp      unix - - n - - smtp
showq     unix n - n - - showq
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
virtual   unix - n n - - virtual
anvil     unix - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
"""

_START_LIMIT_S = 15.0
_STOP_LIMIT_S = 10.0
_PAUSE_S = 0.02


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that users other than root can reach too, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="mail-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


class Postfix:
    """A Postfix whose files are in *folder* (see :func:`open_folder`), running from ``start`` to
    ``stop`` or within ``with``; queue and mailbox outlive a stop.

    *milter* is the value of ``smtpd_milters``, for instance ``unix:/path`` or ``inet:HOST:PORT``;
    *options* are further lines of main.cf.
    """

    def __init__(
        self,
        folder: Path,
        listen: Iterable[str] = ("127.0.0.1",),
        milter: str = "",
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._listen = tuple(listen)
        self._options = {"smtpd_milters": milter, **(options or {})}
        has_key = "smtpd_tls_chain_files" in self._options
        self._services = {
            port: more for port, more in SERVICES.items() if has_key or port != SMTPS_PORT
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it greets on all its ports; RuntimeError with its log if it does not."""
        self.configure()
        with (self._folder / "out").open("wb") as output:
            self._process = subprocess.Popen(
                ["postfix", "-c", str(self._folder / "conf"), "start-fg"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and all its processes, within some seconds."""
        if self._process is None:
            return
        self._signal_master(signal.SIGTERM)
        try:
            self._process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._signal_master(signal.SIGKILL)
            self._process.kill()
            self._process.wait(_STOP_LIMIT_S)
        self._process = None
        for _ in _until(_STOP_LIMIT_S):  # its smtpds outlive the master by a moment
            if not any(accepts(address, MX_PORT) for address in self._listen):
                return

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        file = self._folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def delivered(self) -> list[EmailMessage]:
        """The mails in the mailbox, in order of arrival."""
        files = sorted(
            (self._folder / "mail/box/new").glob("*"), key=lambda f: f.stat().st_mtime_ns
        )
        return [_read(file) for file in files]

    def mail_to(self, recipient: str, limit_s: float = 10.0) -> EmailMessage:
        """The mail delivered to *recipient*; waits for it at most *limit_s*, else TimeoutError."""
        for _ in _until(limit_s):
            for mail in self.delivered():
                if mail["Delivered-To"] == recipient:
                    return mail
        raise TimeoutError(f"no mail to {recipient} after {limit_s} s; log:\n{self.log}")

    def configure(self) -> None:
        """Write all its files; ``start`` does."""
        folder = self._folder
        for name in ("conf", "queue", "data", "mail"):
            (folder / name).mkdir(exist_ok=True)
        for name in ("data", "mail"):
            shutil.chown(folder / name, "postfix", "postfix")
        main = _main_cf(folder) | self._options
        lines = [f"{key} = {value}\n" for key, value in main.items()]
        (folder / "conf/main.cf").write_text("".join(lines))
        (folder / "conf/master.cf").write_text(
            "".join(_smtpd_lines(self._listen, self._services)) + _INTERNAL
        )

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        waiting = {(address, port) for address in self._listen for port in self._services}
        for _ in _until(_START_LIMIT_S):
            if self._process.poll() is not None:
                break
            waiting = {place for place in waiting if not accepts(*place)}
            if not waiting:
                return
        output = (self._folder / "out").read_text(errors="replace")
        raise RuntimeError(f"Postfix does not listen on {sorted(waiting)}:\n{output}{self.log}")

    def _signal_master(self, number: signal.Signals) -> None:
        """Signal the process group that the master leads."""
        try:
            os.killpg(int((self._folder / "queue/pid/master.pid").read_text()), number)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return  # never came so far, or is gone already


def _main_cf(folder: Path) -> dict[str, str]:
    user = pwd.getpwnam("postfix")
    return {
        "compatibility_level": "3.6",
        "queue_directory": f"{folder}/queue",
        "data_directory": f"{folder}/data",
        "maillog_file": f"{folder}/log",
        "maillog_file_prefixes": str(folder),
        "myhostname": HOST,
        "mydestination": "",
        "mynetworks": "127.0.0.0/8 [::1]/128",
        "inet_protocols": "all",
        "alias_maps": "",
        "virtual_mailbox_domains": DOMAIN,
        "virtual_mailbox_base": f"{folder}/mail",
        "virtual_mailbox_maps": "static:box/",
        "virtual_uid_maps": f"static:{user.pw_uid}",
        "virtual_gid_maps": f"static:{user.pw_gid}",
        "smtpd_recipient_restrictions": "reject_unauth_destination",
        "smtpd_relay_restrictions": "",
        "smtpd_authorized_xclient_hosts": "127.0.0.0/8 [::1]/128",
        # what is measured is the filter, not Postfix's own limits on one client
        "smtpd_client_connection_count_limit": "0",
        "milter_default_action": "accept",
    }


def _smtpd_lines(listen: Iterable[str], services: Mapping[int, Mapping[str, str]]) -> Iterator[str]:
    for address in listen:
        place = f"[{address}]" if ":" in address else address
        for port, options in services.items():
            arguments = "".join(f" -o {key}={value}" for key, value in options.items())
            yield f"{place}:{port} inet n - n - - smtpd{arguments}\n"


def _until(limit_s: float) -> Iterator[None]:
    """Loop with pauses until *limit_s* is over, at least once."""
    end = time.monotonic() + limit_s
    yield
    while time.monotonic() < end:
        time.sleep(_PAUSE_S)
        yield


def accepts(address: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((address, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _read(file: Path) -> EmailMessage:
    with file.open("rb") as stream:
        return email.message_from_binary_file(stream, policy=email.policy.default)

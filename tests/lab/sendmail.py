"""A private Sendmail: Debian's programs out of a folder, own configuration, queue and mailbox.

Sendmail and Postfix exclude each other as packages, so Sendmail is not laid over /usr: it runs out
of the folder that ``tests/lab/unpack`` made and :data:`FOLDER_VARIABLE` names.  Runs inside
``tests/lab/enter`` only, as root.  Its configuration is what ``sendmail.mc`` gives, with the line
of docs/operations.md for the filter; it listens on port 25 and, for submission, under the name of
Sendmail's default (but not asking for a password), on 587.
"""

from __future__ import annotations

import email
import email.policy
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Self

from tests.lab.mta import DOMAIN, HOST, MX_PORT, SUBMISSION_PORT, accepts

FOLDER_VARIABLE = "BOTMILTER_SENDMAIL"

_START_LIMIT_S = 15.0
_STOP_LIMIT_S = 10.0
_PAUSE_S = 0.05

#: FOLDER, FILTER and <domain> are filled in.
_MC = """\
include(`m4/cf.m4')
VERSIONID(`botmilter tests')
OSTYPE(`linux')
FEATURE(`accept_unresolvable_domains')
FEATURE(`accept_unqualified_senders')
define(`confTO_IDENT', `0')
define(`confDEF_USER_ID', `mail:mail')
define(`QUEUE_DIR', `FOLDER/queue')
define(`confPID_FILE', `FOLDER/pid')
undefine(`ALIAS_FILE')
undefine(`STATUS_FILE')
FILTER
MAILER(`local')
MAILER(`smtp')
LOCAL_DOMAIN(`<domain>')
LOCAL_RULE_0
R$+ < @ <domain> . >	$#box $@ box $: $1
MAILER_DEFINITIONS
Mbox, P=FOLDER/deliver, F=DFMn, S=0, R=0, T=DNS/RFC822/X-Unix, A=deliver $u
"""

#: Renamed when complete, so that nobody reads half a mail.
_DELIVER = """\
#!/bin/sh
cd FOLDER/box && cat >".$1" && mv ".$1" "$1"
"""


class Sendmail:
    """A Sendmail whose files are in *folder* (see :func:`tests.lab.mta.open_folder`), on the
    addresses *listen*; *milter* is the equates of ``INPUT_MAIL_FILTER``, such as
    ``S=unix:/path``."""

    def __init__(self, folder: Path, listen: Sequence[str], milter: str) -> None:
        self._folder = folder
        self._listen = tuple(listen)
        self._milter = milter
        self._programs = Path(os.environ[FOLDER_VARIABLE]) / "usr"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it greets on all its ports; RuntimeError with its output if it does not."""
        self.configure()
        with (self._folder / "out").open("ab") as output:
            self._process = subprocess.Popen(
                [str(self._folder / "sendmail"), "-bD", f"-C{self._folder}/sendmail.cf"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,
            )
        places = [
            (address, port) for address in self._listen for port in (MX_PORT, SUBMISSION_PORT)
        ]
        end = time.monotonic() + _START_LIMIT_S
        while self._process.poll() is None and time.monotonic() < end:
            if all(accepts(*place) for place in places):
                return
            time.sleep(_PAUSE_S)
        self.stop()
        raise RuntimeError(f"Sendmail does not listen:\n{(self._folder / 'out').read_text()}")

    def stop(self) -> None:
        """End it and the sessions it has forked."""
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(_STOP_LIMIT_S)
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def mail_to(self, name: str, limit_s: float = 10.0) -> EmailMessage:
        """The mail delivered to *name* in :data:`DOMAIN`; waits for it, else TimeoutError."""
        file = self._folder / "box" / name
        end = time.monotonic() + limit_s
        while not file.exists():
            if time.monotonic() > end:
                raise TimeoutError(f"no mail to {name} after {limit_s} s; queue:\n{self._queue()}")
            time.sleep(_PAUSE_S)
        return _read(file)

    def delivered(self) -> list[EmailMessage]:
        """The mails delivered to anybody, in no order."""
        return [_read(file) for file in (self._folder / "box").glob("[!.]*")]

    def _queue(self) -> str:
        """What Sendmail notes of the mails it could not deliver."""
        notes = sorted((self._folder / "queue").glob("qf*"))
        return "\n".join(file.read_text(errors="replace") for file in notes)

    def _environment(self) -> Mapping[str, str]:
        libraries = ":".join(str(path) for path in self._programs.glob("lib/*-linux-gnu"))
        return {**os.environ, "LD_LIBRARY_PATH": libraries}

    def configure(self) -> None:
        """Write all its files; ``start`` does."""
        folder = self._folder
        for name in ("queue", "box"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        shutil.chown(folder / "box", "mail", "mail")  # Sendmail's default user, who delivers
        (folder / "deliver").write_text(_DELIVER.replace("FOLDER", str(folder)))
        (folder / "deliver").chmod(0o755)
        # a copy, because the setgid original is started without LD_LIBRARY_PATH; a new one, because
        # a session of the one that was stopped may still run the old one
        (folder / "sendmail").unlink(missing_ok=True)
        shutil.copyfile(self._programs / "libexec/sendmail/sendmail", folder / "sendmail")
        (folder / "sendmail").chmod(0o755)
        (folder / "sendmail.mc").write_text(self._mc())
        made = subprocess.run(
            [str(self._programs / "bin/m4"), str(folder / "sendmail.mc")],
            cwd=self._programs / "share/sendmail/cf",
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        (folder / "sendmail.cf").write_text(made.stdout)

    def _mc(self) -> str:
        lines = [
            f"INPUT_MAIL_FILTER(`botmilter', `{self._milter}')",
            f"define(`confDOMAIN_NAME', `{HOST}')",
        ]
        for address in self._listen:
            for port, name in ((MX_PORT, "MTA"), (SUBMISSION_PORT, "MSA")):
                modifier = ", M=E" if name == "MSA" else ""
                family = "inet6" if ":" in address else "inet"
                where = f"Family={family}, Addr={address}, Port={port}, Name={name}"
                lines.append(f"DAEMON_OPTIONS(`{where}{modifier}')")
        lines.append("FEATURE(`no_default_msa')")
        text = _MC.replace("FILTER", "\n".join(lines)).replace("<domain>", DOMAIN)
        return text.replace("FOLDER", str(self._folder))


def _read(file: Path) -> EmailMessage:
    return email.message_from_bytes(file.read_bytes(), policy=email.policy.default)

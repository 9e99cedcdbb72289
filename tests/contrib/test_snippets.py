"""The lines to paste into an MTA's configuration: the MTA reads them, the doctor likes them."""

from __future__ import annotations

import os
import re
import smtplib
import subprocess
from pathlib import Path

import pytest

from botmilter import config
from botmilter.cli.doctor import postfix, sendmail
from botmilter.cli.doctor.findings import State
from tests.lab import mta, net
from tests.lab.mta import Postfix
from tests.lab.sendmail import Sendmail

ETC = Path(__file__).parents[2] / "etc"
POSTCONF_LINE = re.compile(r'postconf -e "smtpd_milters=[^"]*"')
OURS = "{ unix:botmilter/socket, default_action=accept }"
#: What is said of them beside smtpd_milters: nothing, as where Postfix's default still holds.
NOBODY_PASSES = {"milter_default_action": "tempfail"}
FILTER_LINE = re.compile(r"^INPUT_MAIL_FILTER\(`\w+', `([^']*)'\)", re.MULTILINE)


@pytest.mark.slow
def test_postfix_asks_botmilter_first_and_lets_mail_pass_without_it() -> None:
    text = (ETC / "postfix/main.cf").read_text().replace("\n    ", " ")
    pairs = (line.partition("=") for line in text.splitlines() if line and line[0] != "#")
    options = {key.strip(): value.strip() for key, _, value in pairs}
    with mta.open_folder() as folder:
        Postfix(folder, options=NOBODY_PASSES | options).configure()
        _require_nothing_wrong(folder)


def _require_nothing_wrong(folder: Path) -> None:
    found = postfix.gather(folder / "conf")
    assert found is not None
    chosen = config.load(None, (f'milter.socket="unix:{folder}/queue/botmilter/socket"',))
    assert [one.state for one in postfix.check(chosen, found)] == [State.OK] * 4


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "inet:localhost:8891, { inet:localhost:11332 }"])
def test_the_documented_line_puts_botmilter_before_what_is_there(before: str) -> None:
    (line,) = POSTCONF_LINE.findall((ETC.parent / "README.md").read_text())
    with mta.open_folder() as folder:
        Postfix(folder, milter=before, options=NOBODY_PASSES).configure()
        value = _set_by(line, folder)
        assert value.rstrip(",") == ", ".join(filter(None, [OURS, before]))
        _require_nothing_wrong(folder)


def _set_by(line: str, folder: Path) -> str:
    """The value of smtpd_milters when a shell has run *line*."""
    environment = {**os.environ, "MAIL_CONFIG": str(folder / "conf")}
    command = f"{line} && postconf -h smtpd_milters"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=environment, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.slow
def test_mail_passes_while_the_filter_of_the_documented_line_is_down() -> None:
    with mta.open_folder() as folder:
        # the comma is what the line leaves where no filter was there before
        running = Postfix(folder, milter=f"{OURS},", options=NOBODY_PASSES)
        with running, smtplib.SMTP("127.0.0.1", mta.MX_PORT, timeout=60) as client:
            client.sendmail("a@sender.example", [f"b@{mta.DOMAIN}"], "Subject: x\n\nHello.\n")
            assert running.mail_to(f"b@{mta.DOMAIN}")["Subject"] == "x"
            assert "connect to Milter service" in running.log


@pytest.mark.slow
def test_sendmail_asks_botmilter_first_and_lets_mail_pass_without_it() -> None:
    first, *others = FILTER_LINE.findall((ETC / "sendmail/botmilter.mc").read_text())
    assert others
    with mta.open_folder() as folder:
        Sendmail(folder, [net.MTA], first).configure()
        found = sendmail.gather(folder / "sendmail.cf")
    assert found is not None
    assert [one.state for one in sendmail.check(config.load(None), found)] == [State.OK] * 4


def test_the_documentation_has_the_same_line_for_postfix() -> None:
    for file in ("docs/operations.md", "contrib/quickstart"):
        text = (ETC.parent / file).read_text().replace("\\$", "$")
        readme = (ETC.parent / "README.md").read_text()
        assert POSTCONF_LINE.findall(text) == POSTCONF_LINE.findall(readme), file


def test_the_documentation_has_the_same_line_for_sendmail() -> None:
    first = FILTER_LINE.findall((ETC / "sendmail/botmilter.mc").read_text())[0]
    for file in ("README.md", "docs/operations.md", "contrib/quickstart"):
        text = (ETC.parent / file).read_text()
        assert f"`{first}'" in text.replace("\\`", "`"), file

"""The lines to paste into an MTA's configuration: the MTA reads them, the doctor likes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from botmilter import config
from botmilter.cli.doctor import postfix, sendmail
from botmilter.cli.doctor.findings import State
from tests.lab import mta, net
from tests.lab.mta import Postfix
from tests.lab.sendmail import Sendmail

ETC = Path(__file__).parents[2] / "etc"
FILTER_LINE = re.compile(r"^INPUT_MAIL_FILTER\(`\w+', `([^']*)'\)", re.MULTILINE)


@pytest.mark.slow
def test_postfix_asks_botmilter_first_and_lets_mail_pass_without_it() -> None:
    lines = (ETC / "postfix/main.cf").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    options = {key.strip(): value.strip() for key, _, value in pairs}
    with mta.open_folder() as folder:
        Postfix(folder, options=options).configure()
        found = postfix.gather(folder / "conf")
        assert found is not None
        chosen = config.load(None, (f'milter.socket="unix:{folder}/queue/botmilter/socket"',))
        assert [one.state for one in postfix.check(chosen, found)] == [State.OK] * 4


@pytest.mark.slow
def test_sendmail_asks_botmilter_first_and_lets_mail_pass_without_it() -> None:
    first, *others = FILTER_LINE.findall((ETC / "sendmail/botmilter.mc").read_text())
    assert others
    with mta.open_folder() as folder:
        Sendmail(folder, [net.MTA], first).configure()
        found = sendmail.gather(folder / "sendmail.cf")
    assert found is not None
    assert [one.state for one in sendmail.check(config.load(None), found)] == [State.OK] * 4


def test_the_documentation_has_the_same_line_for_sendmail() -> None:
    first = FILTER_LINE.findall((ETC / "sendmail/botmilter.mc").read_text())[0]
    for file in ("README.md", "docs/operations.md", "contrib/quickstart"):
        text = (ETC.parent / file).read_text()
        assert f"`{first}'" in text.replace("\\`", "`"), file

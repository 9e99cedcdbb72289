"""``botmilter abuse``: the report is read back as an abuse desk's program reads it."""

from __future__ import annotations

import email
import email.policy
import json
import mailbox
import time
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from botmilter.cli import botmilter
from botmilter.model import Observation, Status
from botmilter.store.sqlite import SqliteStore

BOT, CLEAN, OLD_BOT = "198.18.7.12", "198.18.7.13", "2001:db8::7"
HOSTILE = "pc\x1b[2J\r\nBcc: victim@x.example\r\n\r\nFrom nobody\u202e"
FILTERED = {"outcome": "filtered", "greeting": HOSTILE, "ehlo": ""}
NAMES = {"names": [HOSTILE], "confirmed": [], "unchecked": [], "neighbours": {}}
WINDOWS = {"type": "x", "vendor": "Microsoft", "family": "Windows", "generation": "XP"}
XP = {"matches": [{"name": "XP", "accuracy": 100, "classes": [{**WINDOWS, "accuracy": 100}]}]}
MAIL = (
    f"Received: from home-pc ([{BOT}])\n\tby mx.example with SMTP;"
    " Sun, 1 Mar 2009 12:00:00 +0000\nSubject: From hell\n\nbody\n"
)


@pytest.fixture
def chosen(tmp_path: Path) -> list[str]:
    store = SqliteStore(tmp_path / "s.sqlite")
    now = time.time()
    for ip, age_s in ((BOT, 60.0), (OLD_BOT, 90000.0)):
        at = now - age_s
        store.put(Observation("smtp", ip, Status.SILENT, FILTERED, "", at), 1e5)
        store.put(Observation("rdns", ip, Status.ANSWERED, NAMES, "", at), 1e5)
        store.put(Observation("osdetect", ip, Status.ANSWERED, XP, "", at), 1e5)
    store.put(Observation("rdns", CLEAN, Status.ANSWERED, NAMES, "", now), 1e5)
    store.close()
    here = ("--set", f'store.path="{tmp_path}/s.sqlite"')
    return [*here, "--set", 'header.host="mx.x.example"']


def run(chosen: list[str], *arguments: str) -> Result:
    return CliRunner().invoke(botmilter, ["abuse", *chosen, *arguments])


def parsed(text: str) -> EmailMessage:
    made = email.message_from_string(text, policy=email.policy.default)
    assert isinstance(made, EmailMessage)
    assert not made.defects
    return made


def test_the_report_is_arf_and_says_what_is_stored_and_what_is_not(chosen: list[str]) -> None:
    result = run(chosen, BOT, "--to", "abuse@isp.example")
    assert result.exit_code == 0, result.output
    assert result.stdout.isascii()
    mail = parsed(result.stdout)
    assert mail.get_content_type() == "multipart/report"
    assert mail.get_param("report-type") == "feedback-report"
    assert (mail["From"], mail["To"]) == ("postmaster@mx.x.example", "abuse@isp.example")
    assert set(mail.keys()) >= {"Date", "Subject", "MIME-Version"}
    assert "Bcc" not in mail
    words, feedback, original = mail.iter_parts()
    assert "judged      bot" in words.get_content()
    assert "its header is not enclosed" in words.get_content()
    assert max(map(len, words.get_content().splitlines())) <= 80
    assert feedback.get_content_type() == "message/feedback-report"
    fields = next(iter(feedback.iter_parts()))
    assert (fields["Feedback-Type"], fields["Version"]) == ("abuse", "1")
    assert fields["Source-IP"] == BOT
    assert "Bcc" not in fields
    assert (original.get_content_type(), original.get_payload()) == ("text/rfc822-headers", "")


def test_a_mail_s_header_is_enclosed_if_it_is_that_host_s(
    chosen: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mail").write_text(MAIL)
    result = run(chosen, BOT, "--mail", str(tmp_path / "mail"))
    assert result.exit_code == 0, result.output
    original = list(parsed(result.stdout).iter_parts())[2]
    assert "Subject: From hell" in str(original.get_payload())
    assert "body" not in str(original.get_payload())
    other = run(chosen, CLEAN, "--mail", str(tmp_path / "mail"))
    assert (other.exit_code, f"its origin is {BOT}" in other.stderr) == (66, True)


def test_all_bots_of_a_day_are_an_mbox(chosen: list[str], tmp_path: Path) -> None:
    result = run(chosen, "--since", "1d")
    (tmp_path / "reports").write_text(result.stdout)
    with closing(mailbox.mbox(tmp_path / "reports")) as box:
        subjects = [str(mail["Subject"]) for mail in box]
    assert [BOT in subject for subject in subjects] == [True]
    assert run(chosen, "--since", "9d").stdout.count("\nSource-IP: ") == 2


def test_json_has_the_mail_too(chosen: list[str]) -> None:
    said = json.loads(run(chosen, BOT, "--json").stdout)
    assert (said["ip"], said["verdict"]) == (BOT, "bot")
    assert parsed(said["mail"])["Subject"].startswith("Abuse report: ")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((CLEAN,), 1, "nothing to report"),
        (("198.18.9.9",), 1, "nothing is known of 198.18.9.9"),
        (("nonsense",), 66, "expected an IPv4 or IPv6 address"),
        ((), 2, "expected IP"),
        (("--since", "yesterday"), 2, "such as 36h or 1d"),
        ((BOT, "--to", "a@b.example\nBcc: c@d.example"), 2, "expected an address"),
    ],
)
def test_what_cannot_be_reported_is_said(
    chosen: list[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = run(chosen, *arguments)
    assert (result.exit_code, said in result.stderr) == (code, True), result.output

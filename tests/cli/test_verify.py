"""``botmilter verify`` on saved mails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from botmilter import seal
from botmilter.cli import botmilter

KEY = b"sixteen octets!!"
VERDICT = "bot; score=8.5; origin=198.18.7.12;\n\treasons=os.client"
SEAL = seal.seal(KEY, VERDICT, "4ABC", "<1@x.example>")
MAIL = "Message-ID: <1@x.example>\nSubject: x\n\nHello.\n"


def verify(folder: Path, header: str, key: bytes = KEY) -> Result:
    (folder / "mail").write_bytes((header + MAIL).encode())
    (folder / "key").write_bytes(key + b"\n")
    chosen = ("--set", f"header.key_file='{folder}/key'")
    return CliRunner().invoke(botmilter, ["verify", "--json", *chosen, str(folder / "mail")])


@pytest.mark.parametrize(
    ("header", "said", "code"),
    [
        (f"X-Bot-Verdict: {VERDICT}\nX-Bot-Seal: {SEAL}\n", "ours", 0),
        (f"x-bot-seal: {SEAL}\nX-BOT-VERDICT: {VERDICT}\n", "ours", 0),
        (f"X-Bot-Verdict: clean\nX-Bot-Seal: {SEAL}\n", "forged", 1),
        (f"X-Bot-Verdict: {VERDICT}\nX-Bot-Seal: v=1; id=; mac=00\n", "forged", 1),
        (f"X-Bot-Verdict: {VERDICT}\n", "no seal", 1),
        (f"X-Bot-Seal: {SEAL}\n", "no verdict", 1),
    ],
)
def test_what_is_said_of_a_mail(header: str, said: str, code: int, tmp_path: Path) -> None:
    result = verify(tmp_path, header)
    assert (json.loads(result.stdout)["seal"], result.exit_code) == (said, code)


LONG = f"<{'1' * 3000}@x.example>"


@pytest.mark.parametrize(
    ("message_id", "fields"),
    [
        ("<1@x.example>", "Subject: hi\rX-Bot-Verdict: x\nMessage-ID: <1@x.example>\n"),
        ("<1@x.example>", "Subject: hi\r\rX\nMessage-ID: <1@x.example>\n"),
        (" <1@\n x.example>", "Message-ID: <1@\n x.example>\n"),
        ("<1@ x.example>", "Message-ID:\r\n\t<1@\r\n\tx.example>\r\n"),
        (LONG, f"Message-ID: {LONG}\n"),
    ],
    ids=["a bare CR", "two bare CRs", "a folded Message-ID", "folded anew", "a long Message-ID"],
)
def test_nothing_that_a_sender_writes_makes_a_verdict_seem_another_ones(
    message_id: str, fields: str, tmp_path: Path
) -> None:
    sealed = seal.seal(KEY, VERDICT, "4ABC", message_id)
    result = verify(tmp_path, f"{fields}X-Bot-Verdict: {VERDICT}\nX-Bot-Seal: {sealed}\n")
    assert json.loads(result.stdout)["seal"] == "ours"


def test_a_short_or_missing_key_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    short = verify(tmp_path, "", b"short")
    assert (short.exit_code, "expected 16 octets or more, got 5" in short.stderr) == (78, True)
    without = CliRunner().invoke(botmilter, ["verify", str(tmp_path / "mail")])
    assert (without.exit_code, "key_file: expected a file" in without.stderr) == (78, True)

"""``botmilter trace`` shows chain and origin, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from botmilter.cli import botmilter

MAIL = (
    "Received: from fw.example (fw.example [192.0.2.1])\n"
    "\tby mx.example (Postfix) with ESMTPS id A1; Tue, 02 Jan 2024 12:00:05 +0000\n"
    "Received: from friend (dsl7.example [203.0.113.9])\n"
    "\tby fw.example (Postfix) with SMTP id B1; Tue, 02 Jan 2024 12:00:00 +0000\n"
    "Received: from x\x1b[31m (10.0.0.999) by y.example with SMTP\n"
    "Subject: hello\n\nbody\n"
)


def run(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(botmilter, ["trace", *arguments], input=given)


@pytest.fixture
def mail(tmp_path: Path) -> str:
    file = tmp_path / "mail.eml"
    file.write_text(MAIL)
    return str(file)


def plain(*arguments: str, given: str | None = None) -> dict[str, Any]:
    result = run("--json", *arguments, given=given)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


#: The study's: the second line names the origin, the third is the sender's invention.
STUDY = (Path(__file__).parents[1] / "data/study.header").read_text()


@pytest.mark.parametrize(
    ("trusted", "signal"),
    [("203.216.244.210", "helo.bare_address"), ("203.216.244.0/22", "helo.own_name")],
)
def test_the_studys_example_has_its_origin_and_nothing_below_is_believed(
    trusted: str, signal: str
) -> None:
    found = plain("--trust", trusted, "-", given=STUDY)
    assert (found["origin"]["ip"], found["origin"]["hop"]) == ("61.48.71.52", 1)
    assert [hop["role"] for hop in found["hops"]] == ["trusted", "border", "claimed"]
    assert {signal, "chain.by_is_helo"} <= {one["name"] for one in found["signals"]}


def test_json_holds_all_that_is_promised(mail: str) -> None:
    found = plain("--trust", "192.0.2.0/24", mail)
    assert set(found) == {"file", "hops", "origin", "defects", "signals"}
    assert found["file"] == mail
    hop = found["hops"][1]
    assert {
        key: hop[key]
        for key in ("index", "source", "ip", "rdns", "helo", "by", "ident", "protocol", "at")
    } == {
        "index": 1,
        "source": "header",
        "ip": "203.0.113.9",
        "rdns": "dsl7.example",
        "helo": "friend",
        "by": "fw.example",
        "ident": None,
        "protocol": "SMTP",
        "at": "2024-01-02T12:00:00+00:00",
    }
    assert [hop["trusted"] for hop in found["hops"]] == [True, True, False]
    assert [hop["role"] for hop in found["hops"]] == ["trusted", "border", "claimed"]
    origin = found["origin"]
    assert (origin["ip"], origin["why"], origin["hop"]) == ("203.0.113.9", "relay", 1)
    assert {signal["name"] for signal in found["signals"]} == {"helo.no_dot", "chain.broken_link"}
    assert "hop 2: no address where one belongs" in found["defects"]


def test_json_is_one_object_a_line(mail: str) -> None:
    lines = run("--json", mail, mail).stdout.splitlines()
    assert [json.loads(line)["file"] for line in lines] == [mail, mail]


def test_trust_may_come_from_the_configuration(mail: str, tmp_path: Path) -> None:
    config = tmp_path / "botmilter.toml"
    config.write_text('[trust]\nnetworks = ["192.0.2.1"]\n')
    assert plain("--config", str(config), mail)["origin"]["ip"] == "203.0.113.9"


@pytest.mark.parametrize(
    "options", [("--own-relays", "2"), ("--own-name", "FW.example"), ("--trust", "192.0.2.1")]
)
def test_each_way_to_say_trust_moves_the_border(mail: str, options: tuple[str, str]) -> None:
    assert plain(*options, mail)["origin"]["ip"] == "203.0.113.9"


def test_standard_input_is_read(mail: str) -> None:
    assert plain("-", given=MAIL)["origin"]["why"] == "assumed"


def test_table_names_border_origin_and_what_is_suspicious(mail: str) -> None:
    text = run("--trust", "192.0.2.1", mail).stdout
    assert "origin: 203.0.113.9 (relay)" in text
    assert "border" in text
    assert "= origin" in text
    assert "suspicious: helo.no_dot: greets as friend" in text
    assert "defect: hop 2: no address where one belongs" in text


def test_without_trust_the_assumption_is_said_loudly(mail: str) -> None:
    assert "WARNING: no trust is configured" in run(mail).stdout


def test_hostile_text_reaches_no_terminal(mail: str) -> None:
    assert "\x1b" not in run(mail).stdout
    assert "\\u001b" not in run("--json", mail).stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (("/nonexistent/mail",), 66, "cannot be read"),
        (("--trust", "192.0.2.0/99", "-"), 2, "expected a network"),
        (("--config", "/nonexistent/c.toml", "-"), 78, "cannot be read"),
        ((), 2, "Missing argument"),
    ],
)
def test_wrong_use_is_explained(arguments: tuple[str, ...], exit_code: int, says: str) -> None:
    result = run(*arguments, given="")
    assert result.exit_code == exit_code
    assert says in result.output

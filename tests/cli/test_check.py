"""``botmilter check``: the header the milter would add, and why."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from botmilter import cli, header
from botmilter.cli import build
from botmilter.config import Settings
from botmilter.model import Label, Signal, Status
from tests.cli.fakes import LONG_NAME, FakeProbe

BORDER = "Received: from mail.example.com (mail.example.com [{ip}]) by mx.example.org with ESMTP"
LAB = ("--set", 'probe.allow_networks=["198.18.0.0/15"]')


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    return write(tmp_path / "mail.eml")


def write(path: Path, ip: str = "198.18.7.12") -> Path:
    path.write_text(f"{BORDER.format(ip=ip)}\nSubject: x\n\ntext\n")
    return path


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[FakeProbe]:
    """What ``check`` finds as its probes; a test fills it."""
    found: list[FakeProbe] = []

    def fakes(settings: Settings) -> tuple[FakeProbe, ...]:
        return tuple(found)

    monkeypatch.setattr(build, "probes", fakes)
    return found


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.botmilter, ["check", *map(str, arguments)])


def judged(*arguments: str | Path) -> dict[str, Any]:
    result = run("--json", *arguments)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_exactly_the_header_is_printed(mail: Path, probes: list[FakeProbe]) -> None:
    probes += [
        FakeProbe("osdetect", [Signal("os.client")]),
        FakeProbe("smtp", [Signal("smtp.filtered")]),
    ]
    result = run(*LAB, mail)
    lines = result.stdout.replace("\n\t", " ").splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "X-Bot-Verdict",
        "X-Bot-Score",
        "X-Bot-Level",
    ]
    said = header.parse(lines[0].partition(":")[2])
    assert (said.label, said.score, str(said.origin)) == (Label.BOT, 7.0, "198.18.7.12")
    assert said.missing == ()


def test_an_address_that_must_not_be_probed_gets_no_packet_and_says_why(
    mail: Path, probes: list[FakeProbe]
) -> None:
    probes.append(FakeProbe("smtp", [Signal("smtp.filtered")]))
    result = run(mail)
    assert probes[0].asked == []
    assert result.stdout.startswith("X-Bot-Verdict: unknown; origin=198.18.7.12; missing=smtp\n")
    assert "smtp skipped: private or reserved" in result.stderr


def test_what_does_not_work_is_said_beside_the_header(mail: Path, probes: list[FakeProbe]) -> None:
    could = frozenset({"os.client"})
    probes.append(FakeProbe("osdetect", (), Status.FAILED, "nmap is not installed", 0.0, could))
    result = run(*LAB, mail)
    assert result.exit_code == 0
    assert "osdetect failed: nmap is not installed" in result.stderr
    assert "missing=osdetect" in result.stdout


def test_a_saved_mail_without_trust_says_that_the_border_is_assumed(
    mail: Path, probes: list[FakeProbe]
) -> None:
    assert "no trust is configured" in run(mail).stderr
    assert "no trust is configured" not in run("--trust", "203.0.113.0/24", mail).stderr


def test_the_budget_holds_while_a_probe_hangs(mail: Path, probes: list[FakeProbe]) -> None:
    probes.append(FakeProbe("smtp", [Signal("smtp.banner")], takes_s=2.0))
    started = time.monotonic()
    said = judged(*LAB, "--budget", "0.2", mail)
    assert time.monotonic() - started < 1.0
    assert [(one["probe"], one["status"]) for one in said["missing"]] == [("smtp", "late")]


def test_a_weight_can_be_tried_without_a_file(mail: Path, probes: list[FakeProbe]) -> None:
    probes += [
        FakeProbe("smtp", [Signal("smtp.refused")]),
        FakeProbe("osdetect", [Signal("os.both")]),
    ]
    assert judged(*LAB, mail)["score"] == 3.5
    assert judged(*LAB, "--set", "weights.os.both=2.5", mail)["score"] == 4.0


def test_from_the_store_a_second_look_is_the_same_and_asks_nobody(
    mail: Path, probes: list[FakeProbe], tmp_path: Path
) -> None:
    probes.append(FakeProbe("smtp", [Signal("smtp.refused")], could_say=frozenset({"smtp.banner"})))
    probes.append(FakeProbe("osdetect", [Signal("os.client")]))
    kept = (*LAB, "--set", f"store.path='{tmp_path}/kept.sqlite'", "--set", "store.kind='sqlite'")
    unseen = judged(*kept, "--from-store", mail)
    assert {one["reason"] for one in unseen["missing"]} == {"not in the store"}
    assert not any(probe.asked for probe in probes)
    first = judged(*kept, mail)
    again = judged(*kept, "--from-store", mail)
    assert (again["verdict"], again["score"]) == (first["verdict"], first["score"]) == ("bot", 7.0)
    assert [len(probe.asked) for probe in probes] == [1, 1]


def test_offline_and_from_the_store_exclude_each_other(mail: Path, probes: list[FakeProbe]) -> None:
    assert run(*LAB, "--offline", "--from-store", mail).exit_code == 2


def test_offline_asks_nobody(mail: Path, probes: list[FakeProbe]) -> None:
    probes.append(FakeProbe("smtp", [Signal("smtp.filtered")]))
    said = judged(*LAB, "--offline", mail)
    assert probes[0].asked == []
    assert said["missing"] == []


def test_explain_names_signals_points_and_what_could_have_changed(
    mail: Path, probes: list[FakeProbe]
) -> None:
    probes += [
        FakeProbe("osdetect", [Signal("os.client", detail="Windows XP\x1b[31m")]),
        FakeProbe("smtp", status=Status.FAILED, could_say=frozenset({"smtp.filtered"})),
    ]
    result = run(*LAB, "--explain", mail)
    assert "\x1b" not in result.stdout
    text = " ".join(result.stdout.split())
    assert "os.client os 3 1 +3 Windows XP?[31m" in text
    assert "smtp failed bot (smtp.filtered)" in text


def test_explain_shows_names_whole_where_the_output_is_no_terminal(
    mail: Path, probes: list[FakeProbe]
) -> None:
    could = frozenset({"smtp.banner", "smtp.rejecting", "smtp.slow", "smtp.filtered"})
    seen = FakeProbe("osdetect", [Signal("os.client", detail=f"{LONG_NAME}: pool")])
    missing = FakeProbe("smtp", (), Status.FAILED, LONG_NAME, 0.0, could)
    for probe in (seen, missing):
        probes[:] = [probe]
        text = "".join(run(*LAB, "--explain", mail).stdout.split())
        assert (f"{LONG_NAME}:pool" in text) == (probe is seen)
        assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_json_tells_the_same(mail: Path, probes: list[FakeProbe]) -> None:
    probes += [
        FakeProbe("osdetect", [Signal("os.client", 0.5, "Windows XP")]),
        FakeProbe("smtp", status=Status.FAILED, could_say=frozenset({"smtp.banner"})),
    ]
    said = judged(*LAB, mail)
    assert said["file"] == str(mail)
    assert (said["verdict"], said["score"]) == ("clean", 1.5)
    assert said["origin"]["ip"] == "198.18.7.12"
    assert said["reasons"] == [
        {
            "signal": "os.client",
            "group": "os",
            "strength": 0.5,
            "weight": 3.0,
            "points": 1.5,
            "detail": "Windows XP",
        }
    ]
    assert said["header"][1] == ["X-Bot-Score", "1.5"]
    assert said["missing"][0]["could"] == []


def test_every_mail_of_a_mailbox_is_judged(tmp_path: Path, probes: list[FakeProbe]) -> None:
    mbox = tmp_path / "mbox"
    one = f"From a@example.com Mon Aug  3 23:16:35 2009\n{BORDER}\n\ntext\n\n"
    mbox.write_text(one.format(ip="198.18.7.12") + one.format(ip="198.18.7.13"))
    result = run("--json", mbox)
    origins = [json.loads(line)["origin"]["ip"] for line in result.stdout.splitlines()]
    assert origins == ["198.18.7.12", "198.18.7.13"]


def test_one_unreadable_file_does_not_keep_the_others_from_being_judged(
    mail: Path, probes: list[FakeProbe], tmp_path: Path
) -> None:
    result = run("--json", tmp_path / "typo.eml", mail)
    assert result.exit_code == 66
    assert "typo.eml: cannot be read: No such file or directory" in result.stderr
    assert json.loads(result.stdout)["file"] == str(mail)


def test_a_folder_without_mail_is_said_to_be_empty(tmp_path: Path, probes: list[FakeProbe]) -> None:
    result = run("--offline", tmp_path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no mail in it" in result.stderr


def test_a_bad_network_is_a_usage_error_with_a_suggestion(mail: Path) -> None:
    result = run("--trust", "10.1/16", mail)
    assert result.exit_code == 2
    assert "did you mean 10.1.0.0/16?" in result.stderr


def test_a_configured_store_that_cannot_be_used_is_said(mail: Path, tmp_path: Path) -> None:
    result = run("--offline", "--set", f'store.path="{tmp_path}/no/where.sqlite"', mail)
    assert result.exit_code == 69
    assert "[store] path" in result.stderr


def test_the_keys_of_the_json_are_documented(mail: Path, probes: list[FakeProbe]) -> None:
    docs = (Path(__file__).parents[2] / "docs/check.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", docs, re.MULTILINE)
    both = {key for key, meaning in rows if "`probe` only" not in meaning}
    assert set(judged(mail)) == both
    assert {key for key, _ in rows} - both == {"observations"}

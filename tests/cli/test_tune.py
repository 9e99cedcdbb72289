"""``botmilter tune`` at a shell: made-up mail in, a piece of configuration out."""

from __future__ import annotations

import json
import random
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("sklearn", reason="the extra tune is not installed")

from botmilter import cli, config
from botmilter.cli import build
from botmilter.model import Observation, Status
from botmilter.signals import DEFAULT_WEIGHTS

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "headers.tar.gz"
SITE = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "212.17.35.15"),
    *("193.120.211.219", "213.105.180.140", "193.120.149.226"),
)


def write(path: Path, kind: str, mails: int, seed: int) -> Path:
    """An mbox: spam comes without a Message-ID and often without a name."""
    chance, lines = random.Random(seed), []
    for number in range(mails):
        ip = f"198.{18 if kind == 'spam' else 19}.{number % 40}.7"
        is_odd = chance.random() < (0.8 if kind == "spam" else 0.05)
        name = f"unknown [{ip}]" if chance.random() < 0.3 else f"mail{number}.example.com [{ip}]"
        lines += [
            "From x Mon Nov 23 08:00:00 2026",
            f"Received: from mail{number}.example.com ({name})",
            "\tby mx.example.org (Postfix) with ESMTP id 1; Mon, 23 Nov 2026 08:00:00 +0000",
            "Date: Mon, 23 Nov 2026 08:00:00 +0000",
            *([] if is_odd else [f"Message-ID: <{number}@example.com>"]),
            *("", "text", ""),
        ]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def spam(tmp_path: Path) -> Path:
    return write(tmp_path / "spam.mbox", "spam", 150, 1)


@pytest.fixture
def ham(tmp_path: Path) -> Path:
    return write(tmp_path / "ham.mbox", "ham", 150, 2)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.botmilter, ["tune", *map(str, arguments)])


def test_a_piece_of_configuration_that_the_filter_takes(
    spam: Path, ham: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned.toml"
    result = run(spam, "--ham", ham, "--max-false-hits", "10%", "--out", out)
    assert result.exit_code == 0, result.output
    assert "150 unwanted mails of 40 networks, 150 wanted of 40" in result.stdout
    assert "area under the curve" in result.stdout
    settings = config.load(out)
    assert settings.weights["mail.no_id"] > DEFAULT_WEIGHTS["mail.no_id"]
    assert settings.weights["smtp.banner"] == DEFAULT_WEIGHTS["smtp.banner"]
    assert settings.score.suspect < settings.score.bot


def test_what_is_shown_is_also_there_for_programs(spam: Path, ham: Path) -> None:
    result = run("--json", "--max-false-hits", "0.1", spam, "--ham", ham)
    said = json.loads(result.stdout)
    assert said["mails"] == {"unwanted": 150, "wanted": 150}
    assert said["new"]["hits"]["of"] == said["new"]["false_hits"]["of"] == 150
    assert said["new"]["auc"] > said["present"]["auc"]
    rows = {row["signal"]: row for row in said["signals"]}
    assert rows["mail.no_id"]["interval"][0] > 1
    assert rows["mail.no_id"]["new"] == said["weights"]["mail.no_id"]


def test_what_the_store_remembers_of_the_hosts_is_evidence_too(
    spam: Path, ham: Path, tmp_path: Path
) -> None:
    place = f"store.path={str(tmp_path / 'kept.sqlite')!r}"
    keys = (place, "store.kind='sqlite'", "probe.allow_networks=['198.18.0.0/15']")
    chosen = [part for key in keys for part in ("--set", key)]
    settings = config.load(None, keys).store
    store = build.store(settings)
    for number in range(40):
        for second, outcome in ((18, "refused"), (19, "greeting")):
            facts = {"outcome": outcome, "greeting": "", "ehlo": ""}
            seen = Observation("smtp", f"198.{second}.{number}.7", Status.ANSWERED, facts)
            store.put(replace(seen, taken_at=time.time()), 3600)
    store.close()
    by_mail = json.loads(run("--json", *chosen, spam, "--ham", ham).stdout)
    said = json.loads(run("--json", "--from-store", *chosen, spam, "--ham", ham).stdout)
    assert {"smtp.refused", "smtp.banner"} & {row["signal"] for row in by_mail["signals"]} == set()
    rows = {row["signal"]: row for row in said["signals"]}
    assert rows["smtp.refused"]["interval"][0] > 1 > rows["smtp.banner"]["interval"][1]
    assert said["new"]["auc"] > by_mail["new"]["auc"]
    assert said["new"]["auc"] > 0.99


def test_all_that_follows_ham_is_wanted_mail_up_to_the_next_option(
    spam: Path, ham: Path, tmp_path: Path
) -> None:
    more = write(tmp_path / "more.mbox", "ham", 50, 3)
    before = run("--ham", ham, more, "--json", spam)
    after = run(spam, "--json", "--ham", ham, "--ham", more)
    assert json.loads(before.stdout)["mails"] == {"unwanted": 150, "wanted": 200}
    assert before.stdout == after.stdout


def test_too_few_mails_are_refused_and_nothing_is_written(spam: Path, tmp_path: Path) -> None:
    few = write(tmp_path / "few.mbox", "ham", 30, 3)
    out = tmp_path / "tuned.toml"
    result = run(spam, "--ham", few, "--out", out)
    assert result.exit_code == 65
    assert result.stderr == (
        "too few to fit: of wanted mail 100 from 20 networks are needed, got 30 from 30\n"
    )
    assert not out.exists()


def test_a_file_that_cannot_be_read_is_named_and_the_fit_is_to_the_others(
    spam: Path, ham: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned.toml"
    result = run(tmp_path / "gone", spam, "--ham", ham, "--out", out)
    assert result.exit_code == 66
    assert result.stderr == f"{tmp_path / 'gone'}: cannot be read: No such file or directory\n"
    assert "150 unwanted mails of 40 networks, 150 wanted of 40" in result.stdout
    assert out.exists()


@pytest.mark.parametrize("share", ["0", "60%", "-1%", "x", "nan", "%"])
def test_a_share_that_is_none(spam: Path, ham: Path, share: str) -> None:
    result = run(spam, "--ham", ham, f"--max-false-hits={share}")
    assert result.exit_code == 2
    assert "expected a share from 0.01% to 50%" in result.stderr


def test_a_missing_file_and_a_folder_that_is_not_there(
    spam: Path, ham: Path, tmp_path: Path
) -> None:
    gone = run(spam, "--ham", tmp_path / "gone")
    assert (gone.exit_code, "cannot be read" in gone.stderr) == (66, True)
    nowhere = run(spam, "--ham", ham, "--out", tmp_path / "no" / "tuned.toml")
    assert (nowhere.exit_code, "cannot be written" in nowhere.stderr) == (66, True)


def test_without_scikit_learn_it_says_what_to_install(
    spam: Path, ham: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "botmilter.tuning", raising=False)
    monkeypatch.delattr("botmilter.tuning", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    result = run(spam, "--ham", ham)
    assert result.exit_code == 69
    assert "contrib/install --with tune" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS.exists(), reason="no corpus beside the project")
def test_real_mail(tmp_path: Path) -> None:
    """Thresholds for mail of networks that they were not found with keep near the ceiling."""
    with tarfile.open(CORPUS) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".eml"):
                body = archive.extractfile(member)
                assert body is not None
                target = tmp_path / Path(member.name).parent.name / Path(member.name).name
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(body.read())
    trust = [part for network in SITE for part in ("--trust", network)]
    result = run(tmp_path / "spam-1", "--ham", tmp_path / "easy-ham-1", "--json", *trust)
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["new"]["auc"] >= said["present"]["auc"] > 0.85
    false = said["new"]["false_hits"]
    assert false["count"] / false["of"] <= 0.02
    assert said["new"]["hits"]["count"] / said["new"]["hits"]["of"] > 0.4

"""``botmilter survey`` over its folder's life, with probes that send nothing."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from botmilter import cli
from botmilter.cli import build
from botmilter.config import Settings
from botmilter.model import Signal
from botmilter.survey import records
from tests.cli.fakes import FakeProbe
from tests.survey import study
from tests.test_geo import countries, networks

HOSTS = [f"198.18.0.{n}" for n in range(1, 9)]
_SETTINGS = (
    *("--set", 'probe.allow_networks=["198.18.0.0/15"]', "--set", 'store.kind="memory"'),
    *("--trust", "192.0.2.1/32"),
)


@pytest.fixture
def probe() -> FakeProbe:
    return FakeProbe("smtp", [Signal("smtp.filtered")])


@pytest.fixture(autouse=True)
def _one_probe(monkeypatch: pytest.MonkeyPatch, probe: FakeProbe) -> None:
    """*probe* is the only one there is."""

    def fakes(settings: Settings) -> tuple[FakeProbe, ...]:
        return (probe,)

    monkeypatch.setattr(build, "probes", fakes)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    path = tmp_path / "box"
    path.write_bytes(study.mbox(HOSTS))
    return path


def botmilter(*arguments: object) -> Result:
    return CliRunner().invoke(cli.botmilter, [*map(str, arguments)])


def survey(*arguments: object) -> Result:
    return botmilter("survey", *arguments, *_SETTINGS)


def done(*arguments: object) -> Result:
    result = survey(*arguments)
    assert result.exit_code == 0, result.output
    return result


def test_each_host_has_a_record_and_a_log(tmp_path: Path, box: Path, probe: FakeProbe) -> None:
    out = tmp_path / "out"
    shown = done(box, "--out", out)
    assert Counter(probe.asked) == Counter(HOSTS)
    assert sorted(one.host.ip for one in records.read(out)) == HOSTS
    assert len(list((out / "logs").glob("198.18.0.*_*Z.log"))) == len(HOSTS)
    assert "verdict" in shown.stdout


def test_of_a_mailbox_that_grew_only_the_new_hosts_are_measured(
    tmp_path: Path, box: Path, probe: FakeProbe
) -> None:
    done(box, "--out", tmp_path / "out")
    probe.asked.clear()
    box.write_bytes(study.mbox([*HOSTS, "198.18.0.99"]))
    shown = done(box, "--out", tmp_path / "out")
    assert probe.asked == ["198.18.0.99"]
    assert "1 new, 8 known" in shown.stderr


def test_a_file_that_cannot_be_read_is_named_and_the_hosts_of_the_others_are_measured(
    tmp_path: Path, box: Path, probe: FakeProbe
) -> None:
    shown = survey(tmp_path / "gone", box, "--out", tmp_path / "out")
    assert shown.exit_code == 66
    assert f"{tmp_path / 'gone'}: cannot be read: No such file or directory" in shown.stderr
    assert Counter(probe.asked) == Counter(HOSTS)
    assert "verdict" in shown.stdout
    done(box, "--out", tmp_path / "out")  # nothing is left to resume


@pytest.mark.parametrize("given", [["gone"], ["--repeat", "gone"]])
def test_where_nothing_can_be_read_nothing_is_begun(tmp_path: Path, given: list[str]) -> None:
    *option, place = given
    shown = survey(*option, tmp_path / place, "--out", tmp_path / "out")
    assert shown.exit_code == 66
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "place"),
    [
        ("--out", "file"),
        ("--out", "file/below"),
        ("--out", "odd"),
        ("--move-to", "file"),
        ("--move-to", "file/below"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_in_a_line(
    tmp_path: Path, box: Path, probe: FakeProbe, option: str, place: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "odd" / "worklist.sqlite").mkdir(parents=True)
    out = () if option == "--out" else ("--out", tmp_path / "out")
    shown = survey(box, *out, option, tmp_path / place)
    assert (shown.exit_code, shown.stderr.count("\n")) == (69, 1)
    assert f"{tmp_path / place}" in shown.stderr
    assert "cannot be written: " in shown.stderr
    assert not (tmp_path / "out").exists()
    assert not probe.asked


def test_what_a_run_judges_anew_or_reports_may_have_no_place(tmp_path: Path, box: Path) -> None:
    done(box, "--out", tmp_path / "out")
    (tmp_path / "file").write_text("in the way")
    for words in (
        ("survey", "--rejudge", tmp_path / "out", "--out", tmp_path / "file"),
        ("report", tmp_path / "out", "--csv", tmp_path / "file"),
        ("report", tmp_path / "out", "--html", tmp_path / "file" / "below"),
    ):
        shown = botmilter(*words)
        assert (shown.exit_code, "cannot be written: " in shown.stderr) == (69, True)


def test_a_host_that_opted_out_is_recorded_and_gets_no_packet(
    tmp_path: Path, box: Path, probe: FakeProbe
) -> None:
    done(box, "--out", tmp_path / "out", "--set", 'probe.never_networks=["198.18.0.1"]')
    known = records.latest(tmp_path / "out")
    assert HOSTS[0] not in probe.asked
    assert known[HOSTS[0]].observations[0].reason == "trusted, own or opted out"


def test_interrupted_it_goes_on_with_resume_and_repeats_nothing(
    tmp_path: Path, box: Path, probe: FakeProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    real, taken = records.Journal.append, Counter[str]()

    def interrupted(journal: records.Journal, record: records.Record) -> None:
        real(journal, record)
        taken[record.host.ip] += 1
        if taken.total() == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(records.Journal, "append", interrupted)
        assert survey(box, "--out", out).exit_code == 130
    assert survey(box, "--out", out).exit_code == 69
    probe.asked.clear()
    done("--out", out, "--resume")
    # by the interrupted run, too, whose threads may still be at it
    assert set(probe.asked) == set(HOSTS) - set(taken)
    assert sorted(one.host.ip for one in records.read(out)) == sorted(HOSTS)
    assert [one.run for one in records.read(out)] == [1] * 8


def test_resume_with_nothing_to_resume_takes_what_is_new(tmp_path: Path, box: Path) -> None:
    done(box, "--out", tmp_path / "out", "--resume")
    done(box, "--out", tmp_path / "out", "--resume")
    assert len(list(records.read(tmp_path / "out"))) == 8


def test_a_repetition_measures_the_same_hosts_again(
    tmp_path: Path, box: Path, probe: FakeProbe
) -> None:
    done(box, "--out", tmp_path / "out")
    probe.asked.clear()
    done("--repeat", tmp_path / "out", "--out", tmp_path / "again")
    assert Counter(probe.asked) == Counter(HOSTS)
    before, after = (records.latest(tmp_path / name) for name in ("out", "again"))
    assert {ip: one.host.mails for ip, one in before.items()} == {
        ip: one.host.mails for ip, one in after.items()
    }


def test_rejudging_leaves_the_folder_as_it_is_and_asks_nobody(
    tmp_path: Path, box: Path, probe: FakeProbe
) -> None:
    done(box, "--out", tmp_path / "out")
    before = (tmp_path / "out" / records.FILE).read_bytes()
    probe.asked.clear()
    shown = done("--rejudge", tmp_path / "out", "--set", "weights.smtp.filtered=4")
    assert probe.asked == []
    assert (tmp_path / "out" / records.FILE).read_bytes() == before
    assert shown.stdout.count(" -> ") == 8


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("box",), 2),
        (("--out", "out"), 2),
        (("box", "--rejudge", "out"), 2),
        (("box", "--repeat", "out", "--out", "again"), 2),
        (("missing", "--out", "out"), 66),
        (("--rejudge", "missing"), 66),
        (("--repeat", "missing", "--out", "out"), 66),
        (("box", "--out", "out", "--set", "probe.smpt.limit_s=1"), 78),
    ],
)
def test_what_cannot_be_done_ends_with_its_code(
    arguments: tuple[str, ...],
    code: int,
    tmp_path: Path,
    box: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert survey(*arguments).exit_code == code


def test_the_report_counts_every_host_and_writes_its_tables(tmp_path: Path, box: Path) -> None:
    done(box, "--out", tmp_path / "out")
    shown = botmilter("report", tmp_path / "out", "--csv", tmp_path / "csv")
    assert shown.exit_code == 0, shown.output
    assert "out: 8 hosts" in shown.stdout
    with (tmp_path / "csv" / "hosts.csv").open(newline="") as file:
        assert sorted(row["ip"] for row in csv.DictReader(file)) == HOSTS


def test_without_matplotlib_the_report_has_its_tables_and_only_the_page_is_refused(
    tmp_path: Path, box: Path
) -> None:
    done(box, "--out", tmp_path / "out")
    tables, page = tmp_path / "csv", tmp_path / "page.html"
    bare = (
        "import sys; sys.modules['matplotlib'] = None;"
        "from botmilter.cli import botmilter; botmilter()"
    )
    command = [sys.executable, "-c", bare, "report", str(tmp_path / "out")]
    csv_alone = subprocess.run([*command, "--csv", str(tables)], timeout=60)
    assert (csv_alone.returncode, (tables / "hosts.csv").exists()) == (0, True)
    page_too = subprocess.run(
        [*command, "--html", str(page)], timeout=60, stderr=subprocess.PIPE, text=True
    )
    assert (page_too.returncode, page.exists()) == (69, False)
    assert "the pictures need the package matplotlib" in page_too.stderr


def test_a_report_of_nothing_is_an_error(tmp_path: Path) -> None:
    assert botmilter("report", tmp_path).exit_code == 66


def test_the_report_tells_countries_and_networks_where_files_are_named(
    tmp_path: Path, box: Path
) -> None:
    box.write_bytes(study.mbox([*HOSTS, HOSTS[0], "198.18.101.1", "198.18.102.1"]))
    done(box, "--out", tmp_path / "out")
    files = {"country": countries(tmp_path / "c.mmdb"), "network": networks(tmp_path / "n.mmdb")}
    named = [word for key, path in files.items()
             for word in ("--set", f'survey.{key}_database="{path}"')]  # fmt: skip
    page, tables = tmp_path / "page.html", tmp_path / "csv"
    shown = botmilter("report", tmp_path / "out", *named, "--csv", tables, "--html", page)
    assert shown.exit_code == 0, shown.output
    with (tables / "places.csv").open(newline="") as file:
        rows = [tuple(row.values())[1:] for row in csv.DictReader(file)]
    assert rows == [
        ("Countries", "unknown", "8", "9"),
        ("Countries", "JP", "1", "1"),
        ("Countries", "N?O", "1", "1"),
        ("Networks", "unknown", "8", "9"),
        ("Networks", "AS64496 Kikuchi Net", "1", "1"),
        ("Networks", "AS64497", "1", "1"),
    ]
    for text in (shown.stdout, page.read_text()):
        assert "AS64496 Kikuchi Net" in text
        assert "JP" in text


def test_without_such_files_the_report_says_nothing_of_places(tmp_path: Path, box: Path) -> None:
    done(box, "--out", tmp_path / "out")
    page, tables = tmp_path / "page.html", tmp_path / "csv"
    shown = botmilter("report", tmp_path / "out", "--csv", tables, "--html", page)
    assert not (tables / "places.csv").exists()
    assert "Countries" not in page.read_text()
    assert "countries" not in shown.stdout


def test_a_missing_file_of_countries_is_named(tmp_path: Path, box: Path) -> None:
    done(box, "--out", tmp_path / "out")
    named = ("--set", f'survey.country_database="{tmp_path}/none.mmdb"')
    shown = botmilter("report", tmp_path / "out", *named)
    assert shown.exit_code == 78
    assert "country_database" in shown.stderr
    assert "none.mmdb" in shown.stderr

"""``botmilter store`` over SQLite and Redis, as an administrator types it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from botmilter import config
from botmilter.cli import botmilter, build
from botmilter.model import Observation, Status
from botmilter.store.base import Store
from tests.cli.fakes import LONG_NAME, Run

CLUSTER = 'store={kind="redis", url="redis+cluster://127.0.0.1:1"}'
HOSTILE = "\x1b[31m[bold]\r\nx\u202e"


@pytest.fixture
def store(chosen: list[str]) -> Iterator[Store]:
    """The same store, as a filter has it, with three hosts in it."""
    made = build.store(config.load(None, chosen[1::2]).store)
    now = time.time()
    hour_s = 3600.0  # half of one passes before another age is shown, or another time left
    taken_at, later = now - 26.5 * hour_s, now - 25.5 * hour_s
    for ip, probe, facts in (
        ("198.18.7.12", "rdns", {"names": [HOSTILE]}),
        ("198.18.7.12", "smtp", {"banner": HOSTILE}),
        ("198.18.7.9", "smtp", {}),
        ("2001:db8::7", "ping", {}),
    ):
        made.put(Observation(probe, ip, Status.ANSWERED, facts, "", taken_at), 100 * hour_s)
    name = f"198.18.7.9 {HOSTILE} x"
    made.put(Observation("senderhost", name, Status.SILENT, {}, "", later), 26 * hour_s)
    yield made
    made.close()


def lines(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.usefixtures("store")
def test_the_list_has_a_line_for_each_host_in_the_order_of_addresses(run: Run) -> None:
    said = run("store", "list")
    assert [line.split() for line in said.stdout.splitlines()] == [
        ["host", "age", "left", "probes"],
        ["198.18.7.9", "1d", "1h", "3d", "1h", "senderhost", "smtp"],
        ["198.18.7.12", "1d", "2h", "3d", "1h", "rdns", "smtp"],
        ["2001:db8::7", "1d", "2h", "3d", "1h", "ping"],
    ]
    assert [one["ip"] for one in lines(run("store", "list", "--json", "198.18.7.8/29"))] == [
        "198.18.7.9",
        "198.18.7.12",
    ]


@pytest.mark.usefixtures("store")
def test_a_host_is_shown_with_its_facts_and_nothing_a_terminal_would_obey(run: Run) -> None:
    for ip in ("198.18.7.12", "198.18.7.9"):
        for shown in (run("store", "show", ip), run("store", "show", ip, "--json")):
            assert shown.exit_code == 0
            assert {"\x1b", "\r", "\u202e"}.isdisjoint(shown.stdout)
    found = lines(run("store", "show", "198.18.7.12", "--json"))
    assert {one["probe"]: one["facts"] for one in found} == {
        "rdns": {"names": [HOSTILE]},
        "smtp": {"banner": HOSTILE},
    }


def test_facts_are_shown_whole_where_the_output_is_no_terminal(run: Run, store: Store) -> None:
    facts = {"names": [LONG_NAME] * 10}
    store.put(Observation("rdns", "198.18.7.20", Status.ANSWERED, facts, "", time.time()), 60)
    text = "".join(run("store", "show", "198.18.7.20").stdout.split())
    assert text.count(LONG_NAME) == 10


def test_who_held_an_address_is_shown_and_is_no_probe(run: Run, store: Store) -> None:
    now = time.time()
    for ip in ("198.18.7.9", "198.18.7.200"):
        note = Observation("holder", ip, Status.ANSWERED, {"holder": f"pc {HOSTILE}"}, "", now)
        store.put(note, 60)
    listed = [line.split() for line in run("store", "list", "198.18.7.0/24").stdout.splitlines()]
    assert [line[0] for line in listed] == ["host", "198.18.7.9", "198.18.7.12"]
    assert listed[1][-2:] == ["senderhost", "smtp"]
    (one, _) = lines(run("store", "list", "--json", "198.18.7.0/24"))
    assert (one["probes"], one["observations"]) == (["senderhost", "smtp"], 2)
    for ip in ("198.18.7.9", "198.18.7.200"):
        text = run("store", "show", ip).stdout
        assert ("held by pc ?[31m" in text, "holder" in text) == (True, False)
        (said,) = [
            line for line in lines(run("store", "show", ip, "--json")) if "probe" not in line
        ]
        assert (said["ip"], said["held_by"]) == (ip, f"pc {HOSTILE}")


@pytest.mark.usefixtures("store")
def test_nothing_known_has_an_exit_code_of_its_own(run: Run) -> None:
    said = run("store", "show", "198.18.7.1")
    assert (said.exit_code, said.stdout) == (1, "nothing is known of 198.18.7.1\n")


def test_what_is_forgotten_is_gone(run: Run, store: Store) -> None:
    said = run("store", "forget", "198.18.7.12")
    assert (said.exit_code, said.stdout) == (0, "forgotten: 2 observations of 198.18.7.12\n")
    assert store.get("smtp", "198.18.7.12", time.time()) is None
    assert store.get("smtp", "198.18.7.9", time.time()) is not None
    assert lines(run("store", "forget", "198.18.0.0/15", "--json")) == [
        {"network": "198.18.0.0/15", "forgotten": 2}
    ]


def test_an_address_in_ipv6_s_clothes_is_the_ipv4_one(run: Run, store: Store) -> None:
    assert run("store", "forget", "::ffff:198.18.7.9").stdout.startswith("forgotten: 2 ")


def test_purge_keeps_to_keep_days_whatever_a_row_says(run: Run, store: Store) -> None:
    now, day_s = time.time(), 86400.0
    for key, days in (("198.18.7.1", 3.0), ("198.18.7.2", 1.0)):
        store.put(Observation("rdns", key, Status.ANSWERED, taken_at=now - days * day_s), 9e6)
    assert run("store", "purge", "--set", "store.keep_days=2").exit_code == 0
    time.sleep(0.02)  # Redis drops within its next look
    found = {str(one["ip"]) for one in lines(run("store", "list", "--json"))}
    assert "198.18.7.1" not in found
    assert {"198.18.7.2", "198.18.7.9"} <= found


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "198.18.7"), 66, "198.18.7: expected an address or a network"),
        (("forget", "198.18.7.1/24"), 66, "did you mean 198.18.7.0/24?"),
        (("list", "--set", 'store={kind="memory"}'), 69, "ends with the process"),
        (("list", "--set", 'store={path="/nowhere/s.sqlite"}'), 69, "not there or not writable"),
        (("list", "--set", 'store={kind="redis", url="redis://127.0.0.1:1"}'), 69, "refused"),
        (("list", "--set", CLUSTER), 69, "redis+cluster://127.0.0.1:1: "),
        (("forget", "198.18.7.1", "--set", CLUSTER), 69, "redis+cluster://127.0.0.1:1: "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    result = CliRunner().invoke(botmilter, ["store", *arguments])
    assert (result.exit_code, result.stderr.count("\n"), result.stdout) == (code, 1, "")
    assert said in result.stderr


def test_a_store_that_is_not_there_yet_is_not_made_by_looking(tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite"
    result = CliRunner().invoke(botmilter, ["store", "list", "--set", f'store.path="{file}"'])
    assert (result.exit_code, "nothing is stored there yet" in result.stderr) == (69, True)
    assert not file.exists()


# -- opt-outs -----------------------------------------------------------------------------------


def test_a_network_is_added_listed_and_removed(run: Run) -> None:
    assert run("optout", "add", "198.18.7.0/24", "--note", f"ticket 7{HOSTILE}").exit_code == 0
    assert run("optout", "add", "2001:db8::/32").exit_code == 0
    assert run("optout", "add", "198.18.6.1").exit_code == 0
    listed = lines(run("optout", "list", "--json"))
    assert [one["network"] for one in listed] == ["198.18.6.1/32", "198.18.7.0/24", "2001:db8::/32"]
    text = run("optout", "list").stdout
    assert text.isascii()
    assert "ticket 7?[31m" in text
    assert (
        run("optout", "remove", "198.18.7.0/24").stdout == "198.18.7.0/24 may get packets again\n"
    )
    assert len(lines(run("optout", "list", "--json"))) == 2


def test_what_is_not_listed_as_named_is_not_removed(run: Run) -> None:
    run("optout", "add", "198.18.7.0/24")
    said = run("optout", "remove", "198.18.7.12")
    assert said.exit_code == 1
    assert said.stderr == "198.18.7.12/32 is not on the list; listed: 198.18.7.0/24\n"


def test_purge_leaves_the_list_alone(run: Run, store: Store) -> None:
    run("optout", "add", "198.18.7.0/24")
    run("store", "purge", "--set", "store.keep_days=1")
    assert len(store.opt_outs()) == 1


def test_root_makes_the_file_for_the_folder_s_owner(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    nobody = 65534
    folder.chmod(0o755)
    os.chown(folder, nobody, nobody)
    added = CliRunner().invoke(
        botmilter, ["optout", "add", "198.18.7.12", "--set", f'store.path="{folder}/s.sqlite"']
    )
    assert added.exit_code == 0, added.stderr
    assert {file.stat().st_uid for file in folder.iterdir()} == {nobody}

"""``botmilter config`` and what all commands share: help, exit codes, messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from botmilter import cli, config

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.botmilter, arguments)


def as_nobody(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with *arguments*, for whom not everything is readable."""
    become = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    return subprocess.run(
        [*become, sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


# -- config -------------------------------------------------------------------------------------

BAD = """
[budget]
per_mial_s = 3
under_load_s = "soon"
[trust]
networks = ["192.0.2.1/24"]
"""


def test_check_names_all_problems_and_ends_with_78(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(BAD)
    result = run("config", "check", str(path))
    assert result.exit_code == 78
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.removeprefix(f"{path}: ") for line in lines] == [
        "line 3: [budget] per_mial_s: unknown key (did you mean per_mail_s?)",
        'line 4: [budget] under_load_s: expected a number, got "soon"',
        (
            "line 6: [trust] networks, item 1: expected a network such as 192.0.2.0/24 or"
            ' 2001:db8::/32 (did you mean 192.0.2.0/24?), got "192.0.2.1/24"'
        ),
    ]


def test_check_tells_programs_the_same(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(BAD)
    result = run("config", "check", "--json", str(path))
    assert result.exit_code == 78
    said = json.loads(result.stdout)
    assert said["file"] == str(path)
    assert len(said["problems"]) == 3


def test_check_of_a_good_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text("[budget]\nper_mail_s = 3\n")
    assert run("config", "check", str(path)).stdout == f"{path}: no problem\n"


def test_check_without_any_file_says_that_the_defaults_hold() -> None:
    assert run("config", "check").stdout == "no file: the defaults hold\n"


def test_the_machines_own_file_is_read_where_there_is_one(tmp_path: Path) -> None:
    config.DEFAULT_PATH.write_text("[budget]\nper_mail_s = 2.5\n")
    assert "per_mail_s = 2.5\n" in run("config", "show").stdout


@needs_root
def test_the_machines_own_file_in_a_folder_that_is_closed_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "botmilter.toml").touch()
    tmp_path.chmod(0o700)
    program = (
        "from pathlib import Path; from botmilter import cli, config;"
        f"config.DEFAULT_PATH = Path('{tmp_path}/botmilter.toml'); cli.botmilter()"
    )
    for arguments in (["config", "check"], ["config", "show"], ["trace", "-"]):
        done = as_nobody("-c", program, *arguments)
        assert done.returncode == 78
        assert done.stderr == f"{tmp_path}/botmilter.toml: cannot be read: Permission denied\n"


@needs_root
def test_a_file_that_is_named_and_closed_cannot_be_read(tmp_path: Path) -> None:
    for folder in (*tmp_path.parents[:2], tmp_path):
        folder.chmod(0o755)
    path = tmp_path / "closed.toml"
    path.touch(0o600)
    for code, arguments in (
        (78, ("config", "check")),
        (78, ("config", "show", "--config")),
        (78, ("stats", "--config")),
        (66, ("abuse", "198.18.7.12", "--mail")),
    ):
        done = as_nobody("-m", "botmilter", *arguments, str(path))
        assert done.returncode == code
        assert done.stderr == f"{path}: cannot be read: Permission denied\n"


@needs_root
@pytest.mark.parametrize("command", ["check", "trace", "report"])
def test_what_lies_in_a_closed_folder_cannot_be_read(command: str, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "survey").mkdir(parents=True)
    (closed / "mail.eml").write_text("Subject: x\n\n")
    closed.chmod(0o700)
    what = closed / ("survey" if command == "report" else "mail.eml")
    done = as_nobody("-m", "botmilter", command, str(what))
    assert done.returncode == 66
    assert "cannot be read: Permission denied" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_names_a_key_that_run_could_not_read(tmp_path: Path) -> None:
    file = tmp_path / "botmilter.toml"
    file.write_text(f'[header]\nkey_file = "{tmp_path}/none"\n')
    done = run("config", "check", str(file))
    assert done.exit_code == 78
    assert "[header] key_file cannot be read: No such file" in done.output


def test_show_has_the_file_and_the_settings_of_this_run(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[budget]\nper_mail_s = 3\n")
    result = run("config", "show", "--config", str(path), "--set", "weights.os.client=4", "--json")
    said = json.loads(result.stdout)
    assert (said["budget"]["per_mail_s"], said["weights"]["os"]["client"]) == (3.0, 4.0)


def test_defaults_are_a_file_that_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "defaults.toml"
    path.write_text(run("config", "defaults").stdout)
    assert config.load(path) == config.load()
    assert json.loads(run("config", "defaults", "--json").stdout) == tomllib.loads(path.read_text())


# -- all commands -------------------------------------------------------------------------------


def commands(
    group: click.Group = cli.botmilter, name: Sequence[str] = ()
) -> dict[tuple[str, ...], click.Command]:
    context = click.Context(group)
    found: dict[tuple[str, ...], click.Command] = {}
    for one in group.list_commands(context):
        command = group.get_command(context, one)
        assert command is not None
        if isinstance(command, click.Group):
            found |= commands(command, (*name, one))
        else:
            found[*name, one] = command
    return found


@pytest.mark.parametrize("name", commands(), ids=" ".join)
def test_the_help_of_every_command_shows_an_example(name: tuple[str, ...]) -> None:
    result = run(*name, "--help")
    assert result.exit_code == 0
    assert f"$ botmilter {' '.join(name)}" in result.stdout


def test_an_unknown_command_is_a_usage_error() -> None:
    assert run("chekc").exit_code == 2


def test_a_broken_pipe_ends_quietly() -> None:
    program = f"{sys.executable} -m botmilter config defaults | true"
    done = subprocess.run(
        ["bash", "-c", f"for i in 1 2 3; do {program}; done"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [("config", "defaults"), ("trace", "-")], ids=" ".join)
def test_a_reader_who_is_gone_before_the_first_word_is_no_error(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "botmilter", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("config", "defaults"),
        ("config", "show", "--json"),
        ("check", "--offline", "--explain", "-"),
        ("trace", "-"),
        ("optout", "add", "198.18.7.12"),
    ],
    ids=" ".join,
)
def test_an_output_that_is_full_is_said_in_one_line(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    store = f'[store]\npath = "{tmp_path}/s.sqlite"\n'
    (tmp_path / "c.toml").write_text(store)
    chosen = ("--config", str(tmp_path / "c.toml")) if arguments[0] in ("check", "optout") else ()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "botmilter", *arguments, *chosen],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.stderr == "standard output cannot be written: No space left on device\n"
    assert done.returncode == 74


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_no_command_needs_libmilter_to_show_its_help(command: str) -> None:
    program = (
        "import sys; from botmilter.cli import botmilter;"
        f"botmilter(['{command}', '--help'], standalone_mode=False);"
        "sys.exit(bool({'Milter', 'milter'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0

"""``contrib/install`` puts everything below one folder and takes it away again; the man pages."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import site
import subprocess
import sys
import time
from pathlib import Path

import pytest

from botmilter import config
from botmilter.cli import COMMANDS
from contrib import man
from tests.fakes.programs import find

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "contrib/install"

#: pip finds what botmilter needs in our own environment: nothing comes from the network here.
OFFLINE = {
    **os.environ,
    "PYTHON": sys.executable,
    "PYTHONPATH": site.getsitepackages()[0],
    "PIP_NO_INDEX": "1",
    "PIP_NO_BUILD_ISOLATION": "false",  # pip's own way of saying that there is none
    "PIP_NO_DEPS": "1",
}


#: Here pip cannot: what builds us would have to be fetched.
HELPLESS = {key: value for key, value in OFFLINE.items() if key != "PIP_NO_BUILD_ISOLATION"}


def _install(*arguments: str, env: dict[str, str] = OFFLINE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INSTALL, *arguments], capture_output=True, text=True, env=env, timeout=120, check=False
    )


def _files(folder: Path) -> set[str]:
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if not one.is_dir()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dest")
    done = _install("--destdir", str(folder), "--prefix", "/srv/botmilter")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_everything_is_put_in_place(installed: Path) -> None:
    unit = (installed / "etc/systemd/system/botmilter.service").read_text()
    assert "ExecStart=/srv/botmilter/bin/botmilter run" in unit
    assert "/opt/" not in unit
    assert (installed / "usr/local/bin/botmilter").readlink() == Path(
        "/srv/botmilter/bin/botmilter"
    )
    program = (installed / "srv/botmilter/bin/botmilter").read_text()
    assert program.startswith("#!/srv/botmilter/bin/python")
    config.load(installed / "etc/botmilter/botmilter.toml")
    share = installed / "usr/local/share"
    assert {"man1/botmilter.1", "man5/botmilter.toml.5", "man8/botmilter-milter.8"} == _files(
        share / "man"
    )
    for shell, file in (
        ("bash", "bash-completion/completions/botmilter"),
        ("zsh", "zsh/site-functions/_botmilter"),
        ("fish", "fish/vendor_completions.d/botmilter.fish"),
    ):
        assert f"_BOTMILTER_COMPLETE={shell}_complete" in (share / file).read_text()
    assert (installed / "etc/tmpfiles.d/botmilter.conf").exists()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """click's scripts start the program they complete for, which lies in another folder here."""
    path = tmp_path / "botmilter"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m botmilter "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.slow
def test_bash_completes_commands(installed: Path, program: Path) -> None:
    script = installed / "usr/local/share/bash-completion/completions/botmilter"
    asked = (
        f'. "{script}"; COMP_WORDS=(botmilter rel) COMP_CWORD=1;'
        f" _botmilter_completion {program}; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["reload"], done.stderr


@pytest.mark.slow
def test_fish_completes_commands(installed: Path, program: Path) -> None:
    script = installed / "usr/local/share/fish/vendor_completions.d/botmilter.fish"
    done = subprocess.run(
        [find("fish"), "--no-config", "-c", f'source "{script}"; complete -C "botmilter rel"'],
        capture_output=True,
        text=True,
        env=_with_path_to(program),
        timeout=60,
    )
    assert done.stdout.split("\t")[0] == "reload", done.stderr


@pytest.mark.slow
def test_zsh_completes_commands(installed: Path, program: Path) -> None:
    functions = installed / "usr/local/share/zsh/site-functions"
    (program.parent / ".zshrc").write_text(
        f'fpath=("{functions}" $fpath)\nautoload -Uz compinit\ncompinit -u -D\nPS1=ready\n'
    )
    process, terminal = pty.fork()
    if process == 0:
        zsh = find("zsh")
        os.execve(zsh, [zsh, "-i"], {**_with_path_to(program), "TERM": "dumb"})
    try:
        assert _comes(terminal, "ready")
        os.write(terminal, b"botmilter rel\t")
        assert _comes(terminal, "botmilter reload ")
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)


def _with_path_to(program: Path) -> dict[str, str]:
    path = f"{program.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(program.parent), "ZDOTDIR": str(program.parent)}


def _comes(terminal: int, text: str) -> bool:
    """Whether *text* appears within a minute."""
    shown, until = "", time.monotonic() + 60
    while text not in shown and select.select([terminal], [], [], until - time.monotonic())[0]:
        shown += os.read(terminal, 4096).decode()
    return text in shown


@pytest.mark.slow
def test_all_but_the_configuration_goes_again(tmp_path: Path, installed: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(installed, copy, symlinks=True)
    where = ("--destdir", str(copy), "--prefix", "/srv/botmilter")
    assert _install("--uninstall", *where).returncode == 0
    assert _files(copy) == {"etc/botmilter/botmilter.toml"}
    assert _install("--uninstall", "--purge", *where).returncode == 0
    assert _files(copy) == set()


@pytest.mark.slow
def test_an_upgrade_brings_what_was_chosen_once_or_leaves_the_old_program(
    tmp_path: Path, installed: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(installed, copy, symlinks=True)
    where = ("--destdir", str(copy), "--prefix", "/srv/botmilter")
    old = copy / "srv/botmilter/of-the-old-program"
    old.touch()
    before = _files(copy)
    failed = _install(*where, "--with", "redis,metrics", env=HELPLESS)
    assert failed.returncode != 0
    assert "nothing is changed" in failed.stderr
    assert _files(copy) == before

    assert _install(*where, "--with", "redis,metrics").returncode == 0
    assert _files(copy) >= before - {str(old.relative_to(copy))}
    assert not old.exists()
    assert [path.name for path in (copy / "srv").iterdir()] == ["botmilter"]
    assert "[metrics,milter,redis]" in _install(*where, "--dry-run").stdout
    more = _install(*where, "--dry-run", "--with", "tune")
    assert "[metrics,milter,redis,tune]" in more.stdout


def test_what_does_not_exist_is_not_chosen(tmp_path: Path) -> None:
    done = _install("--destdir", str(tmp_path), "--with", "redis,metric")
    assert done.returncode != 0
    assert "there is no metric, but: milter redis" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "opt/botmilter/bin").mkdir(parents=True)
    (tmp_path / "opt/botmilter/bin/botmilter").touch()
    for what in ((), ("--uninstall",)):
        done = _install(*what, "--destdir", str(tmp_path))
        assert done.returncode != 0
        assert "holds no botmilter" in done.stderr
    assert _files(tmp_path) == {"opt/botmilter/bin/botmilter"}


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = _install("--dry-run", "--destdir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "botmilter.service" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [("--prefx", "/x"), ("--prefix",), ("--prefix", "/"), ("--purge",), ("--with",)],
)
def test_a_typo_does_nothing_and_shows_the_usage(arguments: tuple[str, ...]) -> None:
    done = _install(*arguments)
    assert done.returncode == 64
    assert "contrib/install [--prefix DIR]" in done.stderr


def test_the_man_pages_name_every_command_and_option() -> None:
    pages = man.pages()
    for name in COMMANDS:
        assert f'.SS "botmilter {name} ' in pages["botmilter.1"]
    for option in config.options():
        assert f'.BR "{option.key.replace("-", chr(92) + "-")}"' in pages["botmilter.toml.5"]
    assert "smtpd_milters" in pages["botmilter-milter.8"]


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("name", sorted(man.pages()))
def test_groff_has_nothing_to_say_about_a_page(name: str) -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii"],
        input=man.pages()[name],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 500

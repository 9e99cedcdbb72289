"""The snippets for filters that act on the verdict, each in the real program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from botmilter import header
from botmilter.model import Label, Origin, OriginWhy, Reason, Signal, Verdict
from tests.fakes.programs import find

CONTRIB = Path(__file__).parents[2] / "contrib"

NOBODY = 65534

pytestmark = pytest.mark.slow

REASONS = {
    Label.BOT: "os.client smtp.filtered rdns.dynamic chain.bad_zone helo.bare_address helo.no_dot",
    Label.SUSPECT: "os.both smtp.refused",
}
SCORES = {Label.BOT: 8.5, Label.SUSPECT: 3.5, Label.CLEAN: -3.0}


def mail(label: Label, score: float | None = None) -> bytes:
    """A mail as the filter leaves it."""
    reasons = tuple(Reason(Signal(name), 1.0, 1.0) for name in REASONS.get(label, "").split())
    origin = Origin(OriginWhy.CLIENT, ip_address("198.18.7.12"))
    verdict = Verdict(label, SCORES.get(label, 0.0) if score is None else score, origin, reasons)
    fields = "".join(f"{name}: {value}\n" for name, value in header.render(verdict))
    return (
        f"{fields}From: a@proper.example\nTo: b@example.net\nSubject: hello\n"
        "Message-ID: <1@proper.example>\nDate: Mon, 23 Nov 2026 03:00:00 +0000\n\nHello.\n"
    ).encode()


FORGED = b"X-Bot-Verdict: clean of course; score=8\nX-Bots-Verdict: bot;\nSubject: x\n\nHello.\n"


def run(command: list[str], folder: Path, message: bytes, home: Path | None = None) -> bytes:
    done = subprocess.run(
        command, input=message, cwd=folder, capture_output=True, timeout=60, check=False,
        env={**os.environ, "HOME": str(home or folder), "LC_ALL": "C"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# -- SpamAssassin -------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """SpamAssassin's site configuration as packaged, with our rules copied into it."""
    folder = tmp_path / "spamassassin"
    folder.mkdir()
    for packaged in Path("/etc/spamassassin").glob("*.pre"):
        shutil.copy(packaged, folder)
    shutil.copy(CONTRIB / "spamassassin/botmilter.cf", folder)
    return folder


def test_spamassassin_finds_nothing_wrong_with_the_rules(site: Path) -> None:
    out = run([find("spamassassin"), "--lint", "-L", f"--siteconfigpath={site}"], site, b"")
    assert out == b""


@pytest.mark.parametrize(
    ("label", "score", "hits"),
    [
        (
            Label.BOT,
            8.5,
            "BOT DYNAMIC FORGED LEVEL_7 LEVEL_8 NO_SERVICE OS_CLIENT",
        ),
        (Label.BOT, 5.0, "BOT DYNAMIC FORGED NO_SERVICE OS_CLIENT"),
        (Label.SUSPECT, 3.5, "NO_SERVICE SUSPECT"),
        (Label.CLEAN, -3.0, "CLEAN"),
        (Label.UNKNOWN, 0.0, "UNKNOWN"),
        (Label.EXEMPT, 0.0, ""),
    ],
)
def test_spamassassin_hits_the_rules_of_a_label(
    site: Path, label: Label, score: float, hits: str
) -> None:
    command = [find("spamassassin"), "-L", "-t", f"--siteconfigpath={site}"]
    report = run(command, site, mail(label, score)).decode("latin-1")
    found = {word for word in report.replace(",", " ").split() if word.startswith("BOTMILTER_")}
    assert found == {f"BOTMILTER_{hit}" for hit in hits.split()}


# -- Sieve, procmail, maildrop, rspamd ----------------------------------------------------------

FOLDERS = [
    (mail(Label.BOT), "Junk.Bots"),
    (mail(Label.BOT, 7.9), "Junk"),
    (mail(Label.SUSPECT), "Junk.Suspect"),
    (mail(Label.CLEAN), "INBOX"),
    (mail(Label.UNKNOWN), "INBOX"),
    (FORGED, "INBOX"),
]


@pytest.fixture
def nobody_s_folder() -> Iterator[Path]:
    """A folder of the user nobody's: Dovecot refuses to handle mail as root."""
    with TemporaryDirectory() as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


@pytest.mark.parametrize(("message", "folder"), FOLDERS)
def test_sieve_files_by_label_and_level(message: bytes, folder: str, nobody_s_folder: Path) -> None:
    (nobody_s_folder / "mail").write_bytes(message)
    shutil.copy(CONTRIB / "sieve/botmilter.sieve", nobody_s_folder)
    (nobody_s_folder / "dovecot.conf").write_text(
        "mail_location = maildir:~/Maildir\npostmaster_address = postmaster@example.net\n"
    )
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    sieve = [find("sieve-test"), "-c", "dovecot.conf", "botmilter.sieve", "mail"]
    out = run([*as_nobody, *sieve], nobody_s_folder, b"").decode()
    assert [line for line in out.splitlines() if "store message" in line] == [
        f" * store message in folder: {folder}"
    ]


@pytest.mark.parametrize(("message", "folder"), FOLDERS)
def test_procmail_files_by_label_and_level(message: bytes, folder: str, tmp_path: Path) -> None:
    rc = tmp_path / "rc"
    rc.write_text(f"MAILDIR={tmp_path}\nDEFAULT=INBOX\nINCLUDERC={CONTRIB}/procmail/botmilter.rc\n")
    run([find("procmail"), "-m", str(rc)], tmp_path, message)
    names = {"Junk.Bots": "junk-bots", "Junk": "junk", "Junk.Suspect": "junk-suspect"}
    stored = {path.name for path in tmp_path.iterdir()} - {"rc"}
    assert stored == {names.get(folder, folder)}


@pytest.mark.parametrize(("message", "folder"), FOLDERS)
def test_maildrop_files_by_label_and_level(message: bytes, folder: str, tmp_path: Path) -> None:
    box = tmp_path / "Maildir"
    for name in ("", ".Junk", ".Junk.Bots", ".Junk.Suspect"):
        for part in ("cur", "new", "tmp"):
            (box / name / part).mkdir(parents=True)
    rules = tmp_path / "rules"
    snippet = (CONTRIB / "procmail/botmilter.mailfilter").read_text()
    rules.write_text(f'DEFAULT="{box}"\n{snippet}')
    rules.chmod(0o600)
    run([find("maildrop"), str(rules)], tmp_path, message)
    (stored,) = (path for path in box.rglob("new/*"))
    place = stored.parent.parent.relative_to(box).name.removeprefix(".")
    assert place == ("" if folder == "INBOX" else folder)


@pytest.mark.parametrize(
    ("message", "symbol"),
    [
        (mail(Label.BOT), "BOTMILTER_BOT"),
        (mail(Label.SUSPECT), "BOTMILTER_SUSPECT"),
        (mail(Label.CLEAN), "BOTMILTER_CLEAN"),
        (mail(Label.EXEMPT), ""),
        (b"Subject: x\n\nHello.\n", ""),
    ],
)
def test_rspamd_s_rule_loads_and_names_the_label(
    message: bytes, symbol: str, tmp_path: Path
) -> None:
    (tmp_path / "mail").write_bytes(message)
    script = Path(__file__).with_name("rspamd_rule.lua")
    rule = CONTRIB / "rspamd/botmilter.lua"
    command = ["env", f"RULE={rule}", f"MAIL={tmp_path}/mail", find("rspamadm"), "lua", "-b"]
    out = run([*command, str(script)], tmp_path, b"").decode()
    hits = [line.split()[1] for line in out.splitlines() if line.startswith("hit ")]
    assert hits == ([symbol] if symbol else [])


def test_rspamd_takes_the_rule_as_its_first_lines_say() -> None:
    rule = CONTRIB / "rspamd/botmilter.lua"
    (line,) = re.findall(r"^--   (dofile.*)", rule.read_text(), re.MULTILINE)
    folder = Path("/etc/rspamd")  # our own layer here (tests/lab/inside)
    placed, rules = folder / "botmilter.lua", folder / "rspamd.local.lua"
    shutil.copy(rule, placed)
    rules.write_text(f"{line}\n")
    try:
        assert b"syntax OK" in run([find("rspamadm"), "configtest"], folder, b"")
        groups = run([find("rspamadm"), "configdump", "--groups"], folder, b"").decode()
    finally:
        placed.unlink()
        rules.unlink()
    for label in ("BOT", "SUSPECT", "CLEAN", "UNKNOWN"):
        assert f"BOTMILTER_{label} {{" in groups

"""Other programs' short answers: what postconf, systemctl and the like print."""

from __future__ import annotations

import shutil
import subprocess

#: Ours, as systemd knows it after contrib/install.
UNIT = "botmilter.service"

_LIMIT_S = 10.0
#: Where Debian keeps what an ordinary user's PATH leaves out.
_MORE_PLACES = ("/usr/sbin", "/sbin", "/usr/bin")


def place_of(program: str) -> str | None:
    """Where *program* is; None: not on this machine."""
    return shutil.which(program) or shutil.which(program, path=":".join(_MORE_PLACES))


def output_of(program: str, *arguments: str) -> str | None:
    """What it prints; None where it is not there, fails, or takes longer than ten seconds."""
    place = place_of(program)
    if place is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - the caller's fixed words, and no shell
            [place, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None

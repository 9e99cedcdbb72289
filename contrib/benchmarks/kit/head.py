"""What a figure hangs on: the machine, and the versions of what was measured and compared."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from botmilter import __version__

_NOT_THERE = "not there"
_LIMIT_S = 30.0


def head(given: argparse.Namespace, uses: Iterable[str]) -> dict[str, Any]:
    """*uses* are names of :data:`_VERSION_OF`.

    The load average, of the last minute, tells whom the machine was shared with."""
    return {
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "botmilter": __version__,
        "versions": {name: _VERSION_OF[name]() for name in uses},
        "load": round(os.getloadavg()[0], 1),
        "arguments": {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(given).items()
            if key != "json"
        },
    }


def caption(head: Mapping[str, Any]) -> str:
    """The same in words, above a table."""
    programs = {"Python": head["python"], "botmilter": head["botmilter"], **head["versions"]}
    run = {"load": head["load"], **head["arguments"]}
    named = [", ".join(f"{name} {one}" for name, one in those.items()) for those in (programs, run)]
    return "\n".join([f"{head['cpu']}, {head['cpus']} CPUs, {head['kernel']}", *named])


def _cpu() -> str:
    """Its model, as the kernel has it; on ARM that may be nothing but the architecture."""
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return " ".join(value.split())
    return platform.machine()


def _said_by(*command: str) -> Callable[[], str]:
    """The first thing like a version that *command* says."""

    def version() -> str:
        try:
            done = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)
        except OSError:
            return _NOT_THERE
        said = (done.stdout + done.stderr).decode(errors="replace")
        found = re.search(r"\d+(\.\d+)+[\w.+~-]*", said)
        return found[0] if found else _NOT_THERE

    return version


def _of_package(name: str) -> Callable[[], str]:
    def version() -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return _NOT_THERE

    return version


_VERSION_OF: Mapping[str, Callable[[], str]] = {
    "pymilter": _of_package("pymilter"),
    # pymilter knows the version of the interface only, which has not changed for decades
    "libmilter": _said_by("dpkg-query", "-W", "-f", "${Version}", "libmilter-dev"),
    "opendkim": _said_by("opendkim", "-V"),
    "rspamd": _said_by("rspamd", "--version"),
    "Postfix": _said_by("postconf", "-dh", "mail_version"),
    "Redis": _said_by("redis-server", "--version"),
    "redis-py": _of_package("redis"),
    "SQLite": lambda: sqlite3.sqlite_version,
    "nmap": _said_by("nmap", "-V"),
    "SpamAssassin": _said_by("spamassassin", "--version"),
    "mail-parser": _of_package("mail-parser"),
}

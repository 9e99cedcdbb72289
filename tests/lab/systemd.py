"""systemd itself as process 1 of namespaces of its own, with the units of one folder alone.

The network is the caller's, and so are the files, but for /run, /var/lib and the control groups.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.fakes.programs import children, find

_START_LIMIT_S = 20.0
_END_LIMIT_S = 10.0
_CALL_LIMIT_S = 90.0

#: What systemd's own units would bring up; ours only names them.
_TARGETS = ("sysinit", "basic", "shutdown", "network-online", "nss-lookup", "lab")

#: $0 is the folder of the units, $1 our control group, on which a version 2 file system is at hand.
_BOOT = """\
set -eu
echo $$ >"$1/cgroup.procs"
exec unshare --cgroup --pid --mount --ipc --propagation unchanged --fork --kill-child \
    --mount-proc sh -c '
set -eu
root=$(mktemp -d)
mount --rbind / "$root"  # in a chroot "/" is no mount point, and systemd wants one
mount -t tmpfs -o mode=0755 lab "$root/run"
mount -t tmpfs -o mode=0755 lab "$root/var/lib"
mount -t cgroup2 lab "$root/sys/fs/cgroup"
exec env -i container=lab PATH="$PATH" SYSTEMD_UNIT_PATH="$0" chroot "$root" \
    /lib/systemd/systemd --system --unit=lab.target --log-target=console --show-status=0
' "$0"
"""


class Systemd:
    """*units* are files by name; *folder* must be readable for everybody.  Within ``with``."""

    def __init__(self, folder: Path, units: Mapping[str, str]) -> None:
        self._folder = folder
        self._units = units
        self._groups = folder / "groups"
        self._group = self._groups
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        units = self._folder / "units"
        units.mkdir()
        for name in _TARGETS:
            (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        for name, text in self._units.items():
            (units / name).parent.mkdir(exist_ok=True)
            (units / name).write_text(text)
        self._groups.mkdir()
        subprocess.run(["mount", "-t", "cgroup2", "lab", str(self._groups)], check=True)
        self._group = Path(tempfile.mkdtemp(prefix="botmilter-lab-", dir=self._groups))
        with (self._folder / "systemd.log").open("wb") as output:
            self._process = subprocess.Popen(
                ["sh", "-c", _BOOT, str(units), str(self._group)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def log(self) -> str:
        return (self._folder / "systemd.log").read_text(errors="replace")

    @property
    def root(self) -> Path:
        """Where its files are seen from here."""
        return Path(f"/proc/{self._pid}/root")

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command in its namespaces."""
        target = ["nsenter", "--target", str(self._pid), "--mount", "--pid", "--ipc", "--root"]
        return subprocess.run(
            [*target, *words], capture_output=True, text=True, timeout=_CALL_LIMIT_S, check=False
        )

    def show(self, unit: str, what: str) -> str:
        """A property of a unit's."""
        return self.call("systemctl", "show", "--value", "-p", what, unit).stdout.strip()

    @property
    def _pid(self) -> int:
        """Of process 1, as we see it."""
        assert self._process is not None
        (inner,) = children(self._process.pid)
        return inner

    def _wait(self) -> None:
        assert self._process is not None
        until = time.monotonic() + _START_LIMIT_S
        while True:
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"systemd does not start:\n{self.log}")
            try:
                if self.call(find("systemctl"), "is-system-running").stdout.strip() == "running":
                    return
            except (OSError, ValueError):  # not forked yet
                pass
            time.sleep(0.1)

    def _stop(self) -> None:
        """All that it started dies with process 1."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)
        until = time.monotonic() + _END_LIMIT_S
        while not self._is_empty() and time.monotonic() < until:
            time.sleep(0.05)
        subprocess.run(["umount", str(self._groups)], check=True)

    def _is_empty(self) -> bool:
        """Whether our control groups could be removed: somebody may be dying yet."""
        groups = [path for path in self._group.rglob("*") if path.is_dir()]
        try:
            for group in (*sorted(groups, reverse=True), self._group):
                group.rmdir()
        except OSError:
            return False
        return True

"""``botmilter run`` as a process of its own, as an MTA would find it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.lab import net, untraced
from tests.lab.mta import accepts

_ROOT = Path(__file__).parents[2]
_START_LIMIT_S = 20.0
_STOP_LIMIT_S = 15.0
_PAUSE_S = 0.02


class Filter:
    """The filter on the Unix socket *place*, which user postfix has to be able to reach, or on
    *tcp*, host and port; its files are beside *place*.

    *settings* are dotted keys of botmilter.toml and their values, such as
    ``{"budget.per_mail_s": 2}``; *within* is a command that runs the filter (``setpriv …``).
    """

    def __init__(
        self,
        place: Path,
        settings: Mapping[str, object],
        within: Sequence[str] = (),
        tcp: tuple[str, int] | None = None,
    ) -> None:
        self._socket = place
        self._tcp = tcp
        folder = Path(tempfile.mkdtemp(prefix="filter-", dir=place.parent))
        self._log_file = folder / "log"
        self.config = config = folder / "botmilter.toml"
        config.write_text(_toml({**_here(folder, place), **_listen(tcp), **settings}))
        run = (sys.executable, "-m", "botmilter", "run", "--config", str(config))
        self._command = (*within, *run)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """For ``smtpd_milters``."""
        if self._tcp is None:
            return f"unix:{self._socket}"
        host, port = self._tcp
        return f"inet:[{host}]:{port}"

    @property
    def pid(self) -> int:
        """The daemon's own, the parent of prober and workers."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    def start(self) -> None:
        """Return when it takes connections; RuntimeError with its log if it does not."""
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**untraced.environ(), "PYTHONPATH": str(_ROOT)},
            )
        end = time.monotonic() + _START_LIMIT_S
        while self._process.poll() is None and time.monotonic() < end:
            if self._accepts():
                return
            time.sleep(_PAUSE_S)
        self.stop()
        raise RuntimeError(f"botmilter run takes no connections; its log:\n{self.log}")

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _accepts(self) -> bool:
        if self._tcp is not None:
            return accepts(*self._tcp)
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._socket)) == 0


def _listen(tcp: tuple[str, int] | None) -> dict[str, object]:
    if tcp is None:
        return {}
    host, port = tcp
    return {"milter.socket": f"{'inet6' if ':' in host else 'inet'}:{port}@{host}"}


def _here(folder: Path, place: Path) -> dict[str, object]:
    """What differs from an installed filter: where its files are, and whom it may probe."""
    return {
        "milter.socket": f"unix:{place}",
        "milter.socket_mode": "0660",
        "milter.socket_group": "postfix",
        "store.path": str(folder / "botmilter.sqlite"),
        "probe.allow_networks": [net.NETWORK],
        "probe.nameservers": [net.NAME_SERVER],
    }


def _toml(settings: Mapping[str, object]) -> str:
    """JSON's strings, numbers, booleans and lists are TOML's as well."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())

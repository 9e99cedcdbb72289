"""Every start of nmap, noted: what a filter had it do, whether anything came of it or not.

with Scans() as scans, Filter(…):
    …
    assert not scans.started
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

_NOTING = '#!/bin/sh\necho "$*" >>"{log}"\nexec {nmap} "$@"\n'


class Scans:
    """Those of programs begun within ``with``, which find a script in nmap's place."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="scans-"))
        self._log = self._folder / "log"
        self._path = os.environ["PATH"]

    @property
    def started(self) -> list[str]:
        """The arguments of each OS detection; a filter also asks nmap for its version."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [line for line in lines if " -O " in line]

    def __enter__(self) -> Self:
        self._folder.chmod(0o777)  # for whoever the filter becomes
        script = self._folder / "nmap"
        script.write_text(_NOTING.format(log=self._log, nmap=shutil.which("nmap")))
        script.chmod(0o755)
        os.environ["PATH"] = f"{self._folder}:{self._path}"
        return self

    def __exit__(self, *exception: object) -> None:
        os.environ["PATH"] = self._path
        shutil.rmtree(self._folder)

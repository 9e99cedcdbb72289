"""The study of 2009 in the laboratory, step by step: what contrib/study and the tests run.

Everything is real but the hosts: the commands are those of docs/survey.md, each in a process of its
own.  Runs inside tests/lab/enter only.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.lab import worlds
from tests.lab.dns import NameServer
from tests.lab.lab import Lab
from tests.survey import study

#: What differs from a survey of the Internet: the hosts' addresses are reserved ones, and no
#: stranger is to be spared.
CONFIGURATION = """\
[probe]
allow_networks = ["198.18.0.0/15"]
in_all_per_minute = 100000
per_network_per_minute = 10000

[store]
kind = "memory"
"""


def steps(folder: Path) -> Iterator[tuple[Lab, list[str]]]:
    """The commands to run in *folder*, which is filled on the way; between them time passes."""
    hosts = [host for some in study.hosts().values() for host in some]
    (folder / "botmilter.toml").write_text(CONFIGURATION)
    (folder / "spam.mbox").write_bytes(study.mbox(host.ip for host in hosts))
    by = ["--config", "botmilter.toml"]
    with Lab(hosts) as lab, NameServer(hosts, worlds.RECORDS):
        yield lab, ["survey", *by, "--out", "august", "spam.mbox"]
        lab.remove(*study.left())
        lab.put(*study.changed())
        yield lab, ["survey", *by, "--repeat", "august", "--out", "october"]
        yield lab, ["report", "august", "october", "--html", "report.html", "--csv", "tables"]


def command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "botmilter", *words]


def main(folder: Path) -> int:
    for _, words in steps(folder):
        print(f"\n$ botmilter {shlex.join(words)}", flush=True)
        code = subprocess.run(command(words), cwd=folder).returncode
        if code:
            return code
    print(f"\nThe report is {folder}/report.html, the records and logs lie beside it.")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

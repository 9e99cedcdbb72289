"""The demonstration's hosts and their names, for as long as a command runs.

    unshare --net .venv/bin/python -m tests.lab
    unshare --net .venv/bin/python -m tests.lab nmap -n -Pn -O 198.18.7.12

Without a command it runs until Ctrl-C or the end of standard input; then look around from
another terminal with ``nsenter --net --target PID`` and the printed process number.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys

from tests.lab import net, worlds
from tests.lab.dns import NameServer
from tests.lab.lab import Lab, LabError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--no-dns", action="store_true", help="hosts only, no name server")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run in the laboratory")
    arguments = parser.parse_args()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(Lab(worlds.ALL))
            if not arguments.no_dns:
                stack.enter_context(NameServer(worlds.ALL, worlds.RECORDS))
            if arguments.command:
                return subprocess.run(arguments.command, check=False).returncode
            _wait()
    except LabError as error:
        print(f"tests.lab: {error}", file=sys.stderr)
        return 69
    return 0


def _wait() -> None:
    for host in worlds.ALL:
        print(f"{host.ip!s:15} {host.persona or '-':.50} {' '.join(host.names)}")
    print(f"process {os.getpid()}, names at {net.NAME_SERVER}, MTA's place {net.MTA}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.read()


if __name__ == "__main__":
    sys.exit(main())

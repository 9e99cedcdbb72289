"""``botmilter reload``: the running filter takes the configuration in, or says why not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from botmilter.cli.common import config_options, settings
from botmilter.cli.programs import UNIT, output_of
from botmilter.errors import BotmilterError, SetupError
from botmilter.milter import reloading
from botmilter.net import printable

#: Above what the daemon gives its new workers to start, by the time that reading takes.
_LIMIT_S = 40.0
#: What tells which process is meant.
_SOCKET = "milter.socket"


class RefusedError(BotmilterError):
    """The filter did not take the new configuration."""

    def __init__(self, outcome: reloading.Outcome) -> None:
        super().__init__(f"refused, the old configuration stays:\n{outcome.problem}")
        self.exit_code = outcome.exit_code


@click.command()
@click.option("--pid", type=click.IntRange(min=1), help="The filter's process, if not looked for.")
@config_options
def command(pid: int | None, config_file: Path | None, overrides: tuple[str, ...]) -> None:
    """Have the running filter read its configuration again, and say what became of it.

    No connection is dropped: new workers serve before the old ones finish what they have. All is
    taken over but the sockets and [milter] user, which need a restart. A broken configuration
    changes nothing.

    The filter is found by the Unix socket of [milter]; one on TCP by systemd's service botmilter.
    To find it is all that --config and --set milter.socket=... are for: it reads the file that it
    was started with, and what --set said then goes on to hold.

    Exit code 0: taken over; 2: another setting was given; 78: the new configuration is wrong, the
    old one stays; 69: the new workers do not start and the old ones stay, or no filter is running.

    \b
    Examples:
      $ botmilter reload
      $ botmilter reload --config /etc/botmilter/botmilter.toml
      $ botmilter reload --pid 1234
    """
    _require_socket_alone(overrides)
    daemon = pid or _daemon(settings(config_file, overrides).milter.socket)
    try:
        outcome = reloading.ask(daemon, _LIMIT_S)
    except TimeoutError:
        raise SetupError(
            f"process {daemon} was told to reload but said nothing for {_LIMIT_S:.0f} s:"
            " its log knows"
        ) from None
    if outcome.exit_code:
        raise RefusedError(outcome)
    click.echo(f"reloaded: process {daemon} serves by the new configuration")


def _require_socket_alone(overrides: Sequence[str]) -> None:
    """Raises UsageError."""
    for override in overrides:
        if override.partition("=")[0].strip() != _SOCKET:
            raise click.UsageError(
                f"--set {printable(override)}: the running filter does not hear of it; only"
                f" {_SOCKET}, to find it, can be set here. Put it into the filter's configuration,"
                " then reload"
            )


def _daemon(address: str) -> int:
    kind, _, where = address.partition(":")
    if kind == "unix":
        return reloading.listener_of(Path(where))
    if pid := _main_pid():
        return pid
    raise SetupError(
        f"[milter] socket = {address!r} does not tell which process listens, and systemd knows no"
        " running service botmilter: name the filter's process by --pid"
    )


def _main_pid() -> int:
    """What systemd says; 0: no such service, or no systemd."""
    shown = output_of("systemctl", "show", "--property=MainPID", "--value", UNIT)
    return int((shown or "").strip() or 0)

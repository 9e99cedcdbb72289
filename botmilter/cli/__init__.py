"""The command line: one short file per command, each imported only when it is used.

Errors that a user can act on come out as one message on standard error and the error's exit code
(docs/configuration.md lists them); a broken pipe ends quietly, an output that is full does not
(:mod:`botmilter.cli.output`).
"""

from __future__ import annotations

import importlib

import click

from botmilter import __version__
from botmilter.errors import BotmilterError

#: In the order of ``--help``; each is ``command`` in the module of that name.
COMMANDS = (
    "run",
    "reload",
    "doctor",
    "check",
    "trace",
    "probe",
    "tune",
    "query",
    "verify",
    "survey",
    "worker",
    "report",
    "config",
    "store",
    "optout",
    "abuse",
    "stats",
)

INTERRUPTED = 130


class Commands(click.Group):
    """A group whose commands are imported when asked for, so that ``check`` needs no libmilter."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"botmilter.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BotmilterError as error:
            click.echo(str(error), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def botmilter() -> None:
    """Tells whether the host that sent a mail is a bot."""

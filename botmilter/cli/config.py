"""``botmilter config``: check a file, show what is in force, print the defaults."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click

from botmilter import config
from botmilter.cli import build
from botmilter.cli.common import (
    CONFIG_FILE,
    config_options,
    effective_path,
    json_option,
    print_json,
    settings,
)
from botmilter.errors import ConfigError


@click.group()
def command() -> None:
    """Check, show or write out a configuration."""


@command.command()
@click.argument("file", required=False, type=CONFIG_FILE)
@json_option
def check(file: Path | None, as_json: bool) -> None:
    """Name every problem of FILE, with line, table, key and what was expected.

    Whether this machine has the users, groups and folders it names `botmilter doctor` tells.

    Exit code 0: no problem; 78: problems.

    \b
    Example:
      $ botmilter config check /etc/botmilter/botmilter.toml
    """
    path = effective_path(file)
    try:
        build.key(config.load(path))
    except ConfigError as error:
        if not as_json:
            raise
        print_json({"file": error.path, "problems": error.problems})
        raise SystemExit(error.exit_code) from None
    if as_json:
        print_json({"file": str(path) if path else None, "problems": []})
    else:
        click.echo(f"{path}: no problem" if path else "no file: the defaults hold")


@command.command()
@config_options
@json_option
def show(config_file: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show the settings in force: the file's and, for the rest, the defaults.

    \b
    Example:
      $ botmilter config show --set budget.per_mail_s=3
    """
    _write(config.to_toml(settings(config_file, overrides)), as_json)


@command.command()
@json_option
def defaults(as_json: bool) -> None:
    """Print a whole file with every option at its default.

    \b
    Example:
      $ botmilter config defaults > botmilter.toml
    """
    _write(config.to_toml(), as_json)


def _write(text: str, as_json: bool) -> None:
    if as_json:
        print_json(tomllib.loads(text))
    else:
        click.echo(text, nl=False)

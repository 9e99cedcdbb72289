"""What several commands share: options, settings, output."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Column
from rich.text import Text

from botmilter import config, kinds, mailbox
from botmilter.config import Settings
from botmilter.mailbox import Mail
from botmilter.net import printable

#: Characters; longer than any facts that a probe writes down.
FACTS_AT_MOST = 20_000

Command = TypeVar("Command", bound=Callable[..., Any])
Kept = TypeVar("Kept")

#: That it cannot be read is for the configuration's own error to say.
CONFIG_FILE = click.Path(path_type=Path, readable=False)


def config_options(command: Command) -> Command:
    """``--config FILE`` and ``--set KEY=VALUE``."""
    with_set = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="One setting for this run, as in TOML: weights.os.client=4",
    )(command)
    return click.option(
        "--config",
        "config_file",
        type=CONFIG_FILE,
        help=f"Configuration; {config.DEFAULT_PATH} where that exists, else the defaults.",
    )(with_set)


def each(kind: Callable[[str], Kept]) -> Callable[..., tuple[Kept, ...]]:
    """A callback for an option that may be repeated: each value checked by *kind*."""

    def check(
        ctx: click.Context, param: click.Parameter, given: tuple[str, ...]
    ) -> tuple[Kept, ...]:
        try:
            return tuple(kind(text) for text in given)
        except ValueError as error:
            raise click.BadParameter(f"expected {error}", ctx, param) from None

    return check


trust_option = click.option(
    "--trust",
    multiple=True,
    metavar="NETWORK",
    callback=each(kinds.relays),
    help="Relays to believe, beside the configured ones; may be repeated.",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line, for programs."
)


def mails(files: Sequence[str]) -> Iterator[Mail]:
    """The mails of all *files*; which of these hold none goes to standard error at once.  Raises
    InputError at the end where one cannot be read."""
    return mailbox.of_all(
        files, lambda path: click.echo(f"{printable(path)}: no mail in it", err=True)
    )


def begun(found: Iterator[Mail]) -> Iterator[Mail]:
    """*found*, the first of which has been read.  Raises InputError where nothing can be read: what
    goes on with the rest would have none."""
    first = next(found, None)
    return found if first is None else itertools.chain([first], found)


def settings(config_file: Path | None, overrides: Sequence[str] = ()) -> Settings:
    """The settings in force.  Raises ConfigError."""
    return config.load(effective_path(config_file), overrides)


def effective_path(config_file: Path | None) -> Path | None:
    """The file that is read: the one named, or the machine's own; None: neither is there."""
    if config_file is None and _is_there(config.DEFAULT_PATH):
        return config.DEFAULT_PATH
    return config_file


def _is_there(path: Path) -> bool:
    """Also where its folder is closed to us: who reads it then says so."""
    try:
        path.stat()
    except OSError as error:
        return not isinstance(error, FileNotFoundError | NotADirectoryError)
    return True


def print_json(plain: Mapping[str, Any]) -> None:
    click.echo(json.dumps(plain, ensure_ascii=True, allow_nan=False))


def console() -> Console:
    """Standard output as rich draws it: no markup, so that a host name cannot set colours."""
    return Console(markup=False, highlight=False, emoji=False, soft_wrap=False)


def whole(title: str) -> Column:
    """A column of names and facts: folded where it is too narrow, never cut."""
    return Column(title, overflow="fold")


def shown(text: object, limit: int = 200, style: str = "") -> Text:
    """*text*, which may be hostile, for a cell of a table."""
    return Text(printable(str(text), limit), style)

"""The man pages, made of what the program itself says: ``python -m contrib.man FOLDER``.

botmilter(1) is the commands' own help, botmilter.toml(5) the options with defaults and meanings,
botmilter-milter(8) the filter's help with the lines for MTAs out of ``etc/``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import click

from botmilter import __version__, config, toml
from botmilter.cli import botmilter

_ETC = Path(__file__).parent.parent / "etc"

_EXIT_CODES = (
    ("0", "done"),
    ("1", "something failed that the message names, or botmilter doctor found something"),
    ("2", "the command line is wrong"),
    ("65", "what was given can be read, but is too little for an answer"),
    ("66", "a file, an address or another input cannot be read"),
    ("69", "the machine lacks something: a package, a privilege, a folder"),
    ("74", "standard output cannot be written: a full disk"),
    ("78", "the configuration has problems; all are listed"),
    ("130", "interrupted"),
)
_SIGNALS = (
    ("TERM, INT", "stop: nobody new is let in, open sessions end first"),
    ("USR1", "read the configuration again; what became of it stands in the log"),
    ("HUP", "nothing"),
)
_FILES = (
    ("/etc/botmilter/botmilter.toml", "the configuration, botmilter.toml(5)"),
    ("/var/lib/botmilter", "what is known of hosts"),
    ("/run/botmilter", "the socket, unless [milter] socket says otherwise"),
)


def pages() -> dict[str, str]:
    """Text of each page by its file's name."""
    return {
        "botmilter.1": "\n".join(_commands()) + "\n",
        "botmilter.toml.5": "\n".join(_options()) + "\n",
        "botmilter-milter.8": "\n".join(_daemon()) + "\n",
    }


def main(folder: Path) -> None:
    for name, text in pages().items():
        place = folder / f"man{name[-1]}" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


# -- botmilter(1) -------------------------------------------------------------------------------


def _commands() -> Iterator[str]:
    root = click.Context(botmilter, info_name="botmilter")
    yield from _head("botmilter", 1, "tells whether the host that sent a mail is a bot")
    yield from (".SH SYNOPSIS", ".B botmilter", _text("COMMAND [OPTION...] [ARGUMENT...]"))
    yield ".SH COMMANDS"
    for name in botmilter.list_commands(root):
        command = botmilter.get_command(root, name)
        assert command is not None
        yield from _command(click.Context(command, info_name=f"botmilter {name}"))
    yield from _rows("EXIT STATUS", _EXIT_CODES)
    yield from _see_also("botmilter.toml(5), botmilter-milter(8)")


def _command(context: click.Context) -> Iterator[str]:
    command = context.command
    pieces = " ".join(command.collect_usage_pieces(context))
    yield from (f".SS {_word(f'{context.info_name} {pieces}')}", *_help(command))
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option) and parameter.name != "help":
            record = parameter.get_help_record(context)
            if record is not None:
                yield from (".TP", f".B {_text(record[0])}", _text(record[1]))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(click.Context(inner, info_name=f"{context.info_name} {name}"))


def _help(command: click.Command) -> Iterator[str]:
    """Its paragraphs; those after click's mark keep their lines."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield ".PP"
        lines = paragraph.splitlines()
        if lines and lines[0] == "\b":
            yield from (".nf", *map(_text, lines[1:]), ".fi")
        else:
            yield from map(_text, lines)


# -- botmilter.toml(5) --------------------------------------------------------------------------


def _options() -> Iterator[str]:
    yield from _head("botmilter.toml", 5, "configuration of botmilter")
    yield from (".SH DESCRIPTION", _text("TOML: tables of keys. What is left out has the default."))
    yield _text("An unknown key or a wrong value is named by botmilter config check.")
    for table, options in groupby(config.options(), key=lambda option: option.table):
        yield f'.SH "[{_text(table)}]"'
        for option in options:
            default = toml.value(option.value)
            yield from (".TP", f".BR {_word(option.key)} {_word(f' = {default}')}")
            yield _text(option.meaning or "See docs/configuration.md.")
    yield from _see_also("botmilter(1), botmilter-milter(8)")


# -- botmilter-milter(8) ------------------------------------------------------------------------


def _daemon() -> Iterator[str]:
    run = botmilter.get_command(click.Context(botmilter), "run")
    assert run is not None
    yield from _head("botmilter-milter", 8, "the mail filter of botmilter")
    yield from (".SH SYNOPSIS", ".B botmilter run", _text("[--config FILE] [--set KEY=VALUE]"))
    yield from (".SH DESCRIPTION", *_help(run))
    yield from _rows("SIGNALS", _SIGNALS)
    yield from _rows("FILES", _FILES)
    for title, file in (("POSTFIX", "postfix/main.cf"), ("SENDMAIL", "sendmail/botmilter.mc")):
        lines = (_ETC / file).read_text().splitlines()
        yield from (f".SH {title}", ".nf", *map(_text, lines), ".fi")
    yield from _see_also("botmilter(1), botmilter.toml(5)")


# -- roff ---------------------------------------------------------------------------------------


def _head(name: str, section: int, purpose: str) -> Iterator[str]:
    yield f'.TH "{name.upper()}" {section} "" "botmilter {__version__}"'
    yield from (".SH NAME", f"{_text(name)} \\- {_text(purpose)}")


def _rows(title: str, rows: tuple[tuple[str, str], ...]) -> Iterator[str]:
    yield f'.SH "{title}"'
    for name, meaning in rows:
        yield from (".TP", f".B {_text(name)}", _text(meaning))


def _see_also(text: str) -> Iterator[str]:
    yield from (".SH SEE ALSO", _text(text))


def _text(line: str) -> str:
    """One line that roff shows as it is (groff_char(7)); an empty one stays a blank line."""
    plain = (
        line.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    )
    plain = plain.replace("…", "...").replace("→", "\\(->")
    return f"\\&{plain}" if plain.startswith(".") or not plain else plain


def _word(text: str) -> str:
    """One argument of a macro."""
    return '"' + _text(text).replace('"', "\\(dq") + '"'


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The configuration: a TOML file in, frozen typed :class:`Settings` out.

Every option, its default and its meaning stand in ``tables`` and ``probing`` and nowhere else.
``etc/botmilter.toml`` gives the reasons, ``docs/configuration.md`` is the reference; tests compare
both with the tables.  Without a file the defaults hold.  All problems of a file are reported
together, each with its line, table, key, what was expected, what came, and the likely key where
one is mistyped.  The only package that imports pydantic.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from botmilter import problems, toml
from botmilter.config.probing import Probes
from botmilter.config.tables import Settings, Store
from botmilter.config.values import Table
from botmilter.errors import ConfigError
from botmilter.signals import TABLE

__all__ = ["DEFAULT_PATH", "Option", "Probes", "Settings", "Store", "load", "options", "to_toml"]

#: Read by the commands where no ``--config`` is given and it exists.
DEFAULT_PATH = Path("/etc/botmilter/botmilter.toml")


# -- reading ------------------------------------------------------------------------------------


def load(path: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """The settings of the file *path*, or the defaults.  Raises ConfigError with every problem.

    *overrides* are single lines of TOML such as ``weights.os.client = 4``, as ``--set`` takes
    them; they beat the file.
    """
    where = str(path) if path is not None else "configuration"
    text = _read(path) if path is not None else ""
    given = _parse(text, where)
    for override in overrides:
        _merge(given, _parse(override, f"--set {override}"))
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise ConfigError(where, problems.sentences(found, text, _keys)) from None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"is not UTF-8 text: byte {error.start}"]) from None


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(where, [f"is not TOML: {error}"]) from None
    except RecursionError:
        raise ConfigError(where, ["is not TOML that makes sense: too many brackets"]) from None


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        else:
            into[key] = value


def _keys(names: Sequence[str]) -> list[str] | None:
    """The keys of the table at *names*; None where a plain value or nothing is."""
    table: type[Table] = Settings
    for name in names:
        field = next((f for n, f in table.model_fields.items() if (f.alias or n) == name), None)
        if field is None or not isinstance(field.default, Table):
            return None
        table = type(field.default)
    return [field.alias or name for name, field in table.model_fields.items()]


# -- what there is ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Option:
    """One key of the file with its value in *settings*."""

    table: str
    key: str
    value: Any
    """Plain data, as TOML has it."""
    meaning: str


def options(settings: Settings | None = None) -> Iterator[Option]:
    """Every option there is, in the file's order; with the defaults unless *settings* is given."""
    chosen = settings or Settings()
    yield from _options("", chosen)


def _options(table: str, values: Table) -> Iterator[Option]:
    plain = values.model_dump(mode="json", by_alias=True, exclude_none=True)
    for name, field in type(values).model_fields.items():
        value, key = getattr(values, name), field.alias or name
        if isinstance(value, Table):
            yield from _options(f"{table}.{key}".lstrip("."), value)
        elif name == "weights":
            for row in sorted(TABLE, key=lambda row: row.name.partition(".")[0]):
                topic, _, signal = row.name.partition(".")
                yield Option(f"weights.{topic}", signal, value[row.name], row.meaning)
        else:
            yield Option(table, key, plain[key], field.description or "")


def to_toml(settings: Settings | None = None) -> str:
    """A whole file with *settings*' values, or the defaults, each below its meaning."""
    lines: list[str] = []
    table = ""
    for option in options(settings):
        if option.table != table:
            table = option.table
            lines += ["", f"[{table}]"]
        lines += [f"# {option.meaning}", f"{option.key} = {toml.value(option.value)}"]
    return "\n".join([*lines[1:], ""])

"""What is wrong with a configuration, in sentences: line, table, key, what was expected, what came.

Takes the records that pydantic's ``ValidationError.errors()`` gives; knows no table by name.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from botmilter import toml
from botmilter.kinds import suggest
from botmilter.net import printable

#: The keys of the table at a path; None where no table is.
KeysOf = Callable[[Sequence[str]], list[str] | None]

#: What was expected, by the record's type; filled in from its context.
_EXPECTED: dict[str, str] = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "int_type": "a whole number",
    "less_than_equal": "a number of at most {le:g}",
    "literal_error": "{expected}",
    "mapping_type": "a table",
    "missing": "this key",
    "model_type": "a table",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "text that is not empty",
    "string_type": "text in quotes",
    "tuple_type": "a list, in brackets",
    "value_error": "{error}",
}


def sentences(found: Iterable[Mapping[str, Any]], text: str, keys_of: KeysOf) -> list[str]:
    """One sentence for each record in *found*, in the order of the lines of the file *text*."""
    pairs = [(_line(one, text), _sentence(one, keys_of)) for one in found]
    return [
        f"line {line}: {sentence}" if line else sentence
        for line, sentence in sorted(pairs, key=lambda pair: pair[0])
    ]


def _line(one: Mapping[str, Any], text: str) -> int:
    """0 where the key is not found: set on the command line, or written in an unusual way."""
    return toml.line_of(text, [part for part in one["loc"] if _is_name(part)]) or 0


def _is_name(part: str | int) -> bool:
    return isinstance(part, str) and part != "[key]"


def _sentence(one: Mapping[str, Any], keys_of: KeysOf) -> str:
    names = [part for part in one["loc"] if _is_name(part)]
    place = _place(one["loc"], names, keys_of)
    if one["type"] == "extra_forbidden":
        return f"{place}: unknown key{suggest(names[-1], keys_of(names[:-1]) or [])}"
    expected = _EXPECTED.get(one["type"], "{msg}").format(msg=one["msg"], **one.get("ctx", {}))
    no_value = one["type"] == "missing" or keys_of(names) is not None
    got = "" if no_value else f", got {printable(toml.value(one['input']), 80)}"
    return f"{place}: expected {expected}{got}"


def _place(loc: Sequence[str | int], names: Sequence[str], keys_of: KeysOf) -> str:
    """``("trust", "networks", 1)`` as ``[trust] networks, item 2``."""
    if names[0] == "weights" and len(names) == 2:
        names = ["weights", *names[1].split(".", 1)]
    names = [printable(name) for name in names]
    items = "".join(f", item {part + 1}" for part in loc if isinstance(part, int))
    if len(names) == 1 or keys_of(names) is not None:
        return f"[{'.'.join(names)}]{items}"
    return f"[{'.'.join(names[:-1])}] {names[-1]}{items}"

"""TOML as text: where a key stands, and values written back.  Pure.

The standard library reads TOML but neither says on which line a key was nor writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


def line_of(text: str, path: Sequence[str]) -> int | None:
    """The line, from 1, on which *path* (table names and a key) is set; of a table, its first; of
    a key in braces, that of what they are the value of.

    Reads line by line, so a look-alike inside a multi-line string would be taken for the key;
    None where nothing looks like it.
    """
    wanted = ".".join(path)
    table, around = "", None
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _bare(header[1])
            name = table
        elif key := _KEY.match(line):
            name = f"{table}.{_bare(key[1])}" if table else _bare(key[1])
        else:
            continue
        if name == wanted or name.startswith(f"{wanted}."):
            return number
        if not header and wanted.startswith(f"{name}."):
            around = number
    return around


def _bare(name: str) -> str:
    return re.sub(r"[\s\"']", "", name)


def value(plain: Any) -> str:
    """*plain* (text, number, truth, list or dict of these) as TOML writes it, on one line."""
    if isinstance(plain, dict):
        inside = ", ".join(f"{json.dumps(str(key))} = {value(item)}" for key, item in plain.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(plain, list | tuple):
        return f"[{', '.join(value(item) for item in plain)}]"
    if isinstance(plain, str):  # JSON escapes what TOML wants escaped, but for DEL
        return json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(plain, default=str)  # str: TOML's dates are written as they are read

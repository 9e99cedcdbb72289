"""The layers hold: who may import whom, one importer for each foreign package, no long module."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "botmilter"
LINES_AT_MOST = 400

#: Bottom up; a name stands for the module and, if it is a package, for what is in it.
#: A module may import the layers below its own, and its own.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("model", "errors", "net", "clock", "signals"),
    (
        *("received", "names", "vocabulary", "spelling", "written", "offline"),
        *("score", "action", "abuse", "plan", "counters", "health", "header", "seal"),
        *("config", "profiles", "kinds", "problems", "toml", "tuning", "survey.analyse"),
    ),
    ("lookup", "probes", "store", "mailbox", "interfaces", "geo"),
    (
        *("scheduler", "notices", "holders", "memory", "standing", "summary"),
        *("inquiry", "measuring", "engine"),
    ),
    ("milter", "survey"),
    ("cli", "__main__"),
)

#: Narrower than the layers say: what of botmilter these import at most.
NARROW: dict[str, frozenset[str]] = {
    "scheduler": frozenset({"model", "errors", "net", "clock"}),
    "score": frozenset({"model", "signals"}),
}

#: Wider steps that are not allowed all the same: (importer, imported).
FORBIDDEN: tuple[tuple[str, str], ...] = (
    ("milter", "survey"),
    ("survey", "milter"),
    ("probes", "store"),
    ("store", "probes"),
    ("lookup", "probes"),
    ("lookup", "store"),
)

#: Of these packages the machine knows the protocol only; the command hands it the objects.
ONLY_BASE = {
    "engine": ("probes", "store"),
    "holders": ("store",),
    "inquiry": ("probes",),
    "memory": ("store",),
    "notices": ("store",),
    "measuring": ("probes", "store"),
}

#: The commands that are there for one face alone.
COMMANDS_OF: dict[str, frozenset[str]] = {
    "milter": frozenset(
        {
            *("cli.doctor", "cli.doctor.machine", "cli.reload"),
            *("cli.run", "cli.observing", "cli.answers"),
        }
    ),
    "survey": frozenset({"cli.survey", "cli.surveyor", "cli.worker", "cli.report"}),
}

#: The one module, or package, that imports each foreign package.
FOREIGN: dict[str, str] = {
    "click": "cli",
    "dns": "lookup",
    "dramatiq": "survey.dispatch",
    "maxminddb": "geo",
    "matplotlib": "survey.charts",
    "Milter": "milter.app",
    "milter": "milter.app",
    "prometheus_client": "milter.metrics",
    "nmap": "probes.osdetect",
    "ping3": "probes.ping",
    "publicsuffixlist": "names",
    "pydantic": "config",
    "redis": "store.redis",
    "rich": "cli",
    "sklearn": "tuning",
    "zstandard": "mailbox",
}


@dataclass(frozen=True)
class Import:
    importer: str
    """Module name below botmilter, such as ``store.sqlite``; empty for the package itself."""
    imported: str
    """Full name of a module, such as ``botmilter.model`` or ``dns.resolver``."""
    line: int
    inside_function: bool

    def __str__(self) -> str:
        return f"{self.importer or 'botmilter'}, line {self.line}, imports {self.imported}"


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[Import]:
    tree = ast.parse(MODULES[name].read_text())
    inside = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, node.lineno, node in inside)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}, line {node.lineno}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = full.removeprefix("botmilter.") in MODULES
                yield Import(
                    name, full if is_module else str(node.module), node.lineno, node in inside
                )


ALL = [one for name in MODULES for one in imports(name)]


def own(one: Import) -> str | None:
    """The imported module's name below botmilter; None for a foreign one."""
    head, _, tail = one.imported.partition(".")
    return tail if head == "botmilter" else None


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def layer(name: str) -> int | None:
    """The layer of the longest entry that covers *name*."""
    entries = [
        (len(entry), n) for n, row in enumerate(LAYERS) for entry in row if is_below(name, entry)
    ]
    return max(entries)[1] if entries else None


def complaints(bad: list[Import]) -> str:
    return "; ".join(map(str, bad))


def test_every_module_has_a_layer() -> None:
    assert [name for name in MODULES if name and layer(name) is None] == []


def test_no_module_imports_a_layer_above_its_own() -> None:
    bad = []
    for one in ALL:
        imported, mine = own(one), layer(one.importer)
        if imported and mine is not None:
            theirs = layer(imported)
            if theirs is None or theirs > mine:
                bad.append(one)
    assert not bad, complaints(bad)


@pytest.mark.parametrize(("importer", "imported"), FORBIDDEN)
def test_neighbours_do_not_know_each_other(importer: str, imported: str) -> None:
    bad = [
        one
        for one in ALL
        if is_below(one.importer, importer)
        and layer(one.importer) != layer("survey.analyse")
        and is_below(own(one) or "", imported)
    ]
    assert not bad, complaints(bad)


@pytest.mark.parametrize("importer", NARROW)
def test_a_narrow_module_stays_narrow(importer: str) -> None:
    mine = [one for one in ALL if one.importer == importer and own(one)]
    bad = [one for one in mine if own(one) not in NARROW[importer]]
    assert not bad, complaints(bad)


@pytest.mark.parametrize("importer", ONLY_BASE)
def test_the_machine_knows_protocols_not_their_makers(importer: str) -> None:
    bad = [
        one
        for one in ALL
        if one.importer == importer
        for package in ONLY_BASE[importer]
        if is_below(own(one) or "", package) and own(one) != f"{package}.base"
    ]
    assert not bad, complaints(bad)


def test_what_commands_share_imports_no_face() -> None:
    """A command is imported when it is used, and may then name its own face; the others not."""
    bad = [
        one
        for one in ALL
        if is_below(one.importer, "cli")
        for face in LAYERS[4]
        if is_below(own(one) or "", face)
        and not one.inside_function
        and one.importer not in COMMANDS_OF[face]
    ]
    assert not bad, complaints(bad)


def test_each_foreign_package_has_one_importer() -> None:
    bad = []
    for one in ALL:
        package = one.imported.partition(".")[0]
        if package == "botmilter" or package in sys.stdlib_module_names:
            continue
        if package not in FOREIGN or not is_below(one.importer, FOREIGN[package]):
            bad.append(one)
    assert not bad, complaints(bad)


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_module_has_one_subject(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= LINES_AT_MOST


def test_the_library_loads_without_any_face() -> None:
    """A machine without libmilter or nmap runs ``check``: nothing below the faces needs them."""
    below = {name for name in MODULES if name and (layer(name) or 0) < len(LAYERS) - 2}
    needed = {one.imported.partition(".")[0] for one in ALL if one.importer in below}
    assert needed.isdisjoint({"Milter", "milter", "click", "rich"})

"""What imports what in weevit, whatever the form: at the top, in a function, for a type checker only, by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import weevit

SOURCE = Path(weevit.__file__).parent

MODULES = {
    ".".join(("weevit", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}


@dataclass(frozen=True)
class Import:
    """One module named in another.

    Attributes:
        by: the module that imports.
        module: what is imported.
        name: what is taken from it; empty for the module itself.
        line: where it stands.
    """

    by: str
    module: str
    name: str
    line: int

    def __str__(self) -> str:
        return f"{self.by}:{self.line} imports {self.module}{f' ({self.name})' if self.name else ''}"


def imports(by: str, source: str) -> Iterator[Import]:
    """Every import of a module of weevit in a text."""
    for node in ast.walk(ast.parse(source)):
        for module, name in named(node):
            if module in MODULES:
                yield Import(by, module, name, node.lineno)


def named(node: Any) -> Iterator[tuple[str, str]]:
    """(module, what is taken from it) of a node, whether it is a module of weevit or not."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, ""
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield (inner, "") if inner in MODULES else (str(node.module), alias.name)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
        yield node.value.partition(":")[0], ""  # "weevit.predict" in a table, "weevit.cli.app:entry"
    elif isinstance(node, ast.Call) and ast.unparse(node).startswith(("import_module(f", "importlib.import_module(f")):
        yield ast.literal_eval(node.args[0].values[0]).removesuffix("."), ""  # f"weevit.cli.{verb}"


ALL = [found for module, path in MODULES.items() for found in imports(module, path.read_text())]


def room(module: str) -> str:
    """The room, or the module beside the rooms, that a module is in; empty for `weevit` itself."""
    return module.partition(".")[2].partition(".")[0]


def circles(arrows: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Modules that import each other, over whatever way."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            new = arrows.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found

    reach = {module: reached(module) for module in arrows}
    return {
        frozenset(other for other in reach[module] if module in reach.get(other, set()))
        for module in arrows
        if module in reach[module]
    }

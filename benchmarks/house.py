"""The size and the repetitions of the code, of one checkout or of several side by side.

    python benchmarks/house.py                      # this one
    python benchmarks/house.py ../old .             # two checkouts: before and after

Lines are those of Python in `src/weevit`, without the tables (architectures, weights, class names). A function's length
counts its signature and docstring. `Any` is counted in the annotations of what `weevit.__all__` names: parameters,
results, public methods and attributes. `files passed` are the modules of weevit whose code runs while one image is
classified by a model that is loaded and warm.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("zoo/architectures.py", "zoo/weights.py", "zoo/labels/")

_PASSED = """
import sys, threading
import numpy as np
import weevit
model = weevit.load({model!r}, threads=1)
image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
model.classify(image)
seen = set()
def note(frame, event, argument):
    name = frame.f_code.co_filename.replace("\\\\", "/")
    if "/weevit/" in name:
        seen.add(name.rpartition("/weevit/")[2])
threading.setprofile_all_threads(note) if hasattr(threading, "setprofile_all_threads") else threading.setprofile(note)
sys.setprofile(note)
model.classify(image)
sys.setprofile(None)
print(len(seen), *sorted(seen))
"""


class House:
    """One checkout, read but never imported."""

    def __init__(self, root: Path) -> None:
        self.root, self.source = root, root / "src" / "weevit"
        self.texts = {path: path.read_text(encoding="utf-8") for path in sorted(self.source.rglob("*.py"))}
        self.trees = {path: ast.parse(text) for path, text in self.texts.items()}

    def lines(self) -> int:
        """Of source, without the tables."""
        named = {path.relative_to(self.source).as_posix(): text for path, text in self.texts.items()}
        return sum(text.count("\n") for name, text in named.items() if not name.startswith(TABLES))

    def files(self) -> int:
        """Python files."""
        return len(self.texts)

    def long_functions(self) -> list[str]:
        """Over 70 lines, with their lengths."""
        return [
            f"{path.relative_to(self.source).as_posix()}:{node.name} {length}"
            for path, node in self._functions()
            if (length := (node.end_lineno or 0) - node.lineno + 1) > 70
        ]

    def ignores(self) -> int:
        """`type: ignore` comments."""
        return sum(len(re.findall(r"#\s*type:\s*ignore", text)) for text in self.texts.values())

    def without_reason(self) -> int:
        """Of them those that give no reason after a second `#`."""
        found = (re.findall(r"#\s*type:\s*ignore[^#\n]*(#?)", text) for text in self.texts.values())
        return sum(marks.count("") for marks in found)

    def translations(self) -> int:
        """Places where an operating system's error becomes an `OutputError`."""
        return sum(
            isinstance(node, ast.ExceptHandler) and "OutputError" in ast.dump(node)
            for tree in self.trees.values()
            for node in ast.walk(tree)
        )

    def holders(self) -> list[str]:
        """Modules that take a lock of a folder themselves."""
        return [
            path.relative_to(self.source).as_posix()
            for path, text in self.texts.items()
            if re.search(r"\btake_lock\(", text) and "def take_lock" not in text
        ]

    def any_in_public(self) -> list[str]:
        """Public names with `Any` in an annotation that a caller sees."""
        homes = self._homes()
        return sorted({f"{name}: {where}" for name, module in homes.items() for where in self._any_of(name, module)})

    def passed(self) -> str:
        """Modules that run for one image; `-` where it could not be measured."""
        digits = next(self.source.rglob("digits*/model.safetensors"), None)
        code = _PASSED.format(model="digits" if digits is None else str(digits.parent))
        path = {**os.environ, "PYTHONPATH": str(self.root / "src")}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path, check=False)
        return done.stdout.strip() if done.returncode == 0 else "-"

    def _functions(self) -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for path, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield path, node

    def _homes(self) -> dict[str, str]:
        for node in ast.walk(self.trees[self.source / "__init__.py"]):
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HOMES":
                homes: dict[str, str] = ast.literal_eval(node.value)
                return homes
        return {}

    def _any_of(self, name: str, module: str) -> Iterator[str]:
        path = self.root / "src" / (module.replace(".", "/") + ".py")
        tree = self.trees.get(path)
        if tree is None:
            return
        aliases = {
            node.targets[0].id
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _says_any(node.value, set())
        }
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
                yield from _seen(node, aliases)


def _seen(node: ast.FunctionDef | ast.ClassDef, aliases: set[str]) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        notes = [one.annotation for one in arguments if one is not None] + [node.returns]
        if any(note is not None and _says_any(note, aliases) for note in notes):
            yield node.name
        return
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
            yield from _seen(part, aliases)
        elif isinstance(part, ast.AnnAssign) and _says_any(part.annotation, aliases):
            yield ast.unparse(part.target)


def _says_any(node: ast.AST, aliases: set[str]) -> bool:
    return any(isinstance(one, ast.Name) and one.id in {"Any", *aliases} for one in ast.walk(node))


def _counted(found: list[str]) -> str:
    return str(len(found)) + (f"  ({'; '.join(found)})" if found else "")


ROWS: dict[str, Callable[[House], str]] = {
    "lines of source, without tables": lambda house: f"{house.lines():,}",
    "Python files": lambda house: str(house.files()),
    "functions over 70 lines": lambda house: _counted(house.long_functions()),
    "`Any` in the public API": lambda house: _counted(house.any_in_public()),
    "`type: ignore`, of them without a reason": lambda house: f"{house.ignores()}, {house.without_reason()}",
    "places that translate OSError into OutputError": lambda house: str(house.translations()),
    "modules that take a folder's lock": lambda house: _counted(house.holders()),
    "files passed for one image": lambda house: house.passed(),
}


def main() -> None:
    """Print a block for each figure, a line for each checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="*", type=Path, default=[ROOT], help="checkouts (this one)")
    houses = [House(root.resolve()) for root in parser.parse_args().roots]
    for name, measure in ROWS.items():
        print(name)
        for house in houses:
            print(f"    {house.root.name:<12} {measure(house)}")


if __name__ == "__main__":
    main()

"""What a type checker is told of the public names: no `Any`, and of an answer whether it is one or many."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_args, get_overloads, get_type_hints

import pytest

import weevit

USES = Path(__file__).parent / "support" / "typed_uses.py"
SKIPPED = ["torch", "torchvision", "onnx", "onnxruntime", "pyarrow", "fsspec", "huggingface_hub", "rich", "sklearn"]

NDARRAY = re.compile(r"numpy\.ndarray\[(tuple\[typing\.Any, \.\.\.\]|typing\.Any), ")
"""numpy's own way to say "of any shape": `npt.NDArray[...]`."""


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is for development")
def test_a_type_checker_knows_what_an_answer_is(tmp_path: Path) -> None:
    skipped = ",".join(f"{name}.*" for name in SKIPPED)  # half of the time
    settings = tmp_path / "mypy.ini"
    settings.write_text(
        f"[mypy]\nstrict = true\nfollow_imports = silent\ncache_dir = {tmp_path}\n"
        f"[mypy-{skipped}]\nfollow_imports = skip\n[mypy-*]\nignore_missing_imports = true\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), str(USES)]
    environment = {**os.environ, "MYPYPATH": str(Path(weevit.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    found = set(re.findall(r":(\d+): error: .*\[([\w-]+)\]", done.stdout))
    lines = enumerate(USES.read_text().splitlines(), start=1)
    assert found == {(str(n), code) for n, line in lines for code in re.findall("# error: ([a-z-]+)", line)}, (
        done.stdout
    )


# ---- no Any


def test_no_public_name_has_any() -> None:
    needs_torch = {"create_model", "data", "finetune", "list_models", "resume", "save", "train"}
    without = needs_torch if importlib.util.find_spec("torch") is None else set()
    found, seen = [], set()
    waiting = [(name, getattr(weevit, name)) for name in weevit.__all__ if name not in without]
    while waiting:
        name, thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, str):
            continue
        seen.add(id(thing))
        for where, hint in hints(name, thing):
            parts = list(parts_of(hint))
            found += [f"{where}: {hint}"] if any(part is Any for part in parts) else []
            waiting += [(qualified(part), part) for part in parts if inspect.isclass(part) and is_ours(part)]
    assert found == []
    assert len(seen) > 50  # results and what they hold are reached


def is_ours(thing: object) -> bool:
    return str(getattr(thing, "__module__", "")).startswith("weevit")


def qualified(thing: type) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def hints(name: str, thing: object) -> Iterator[tuple[str, object]]:
    """Name and annotation of all that a module, class or function shows; of our own base classes too."""
    if isinstance(thing, ModuleType):
        for own in thing.__all__:
            yield from hints(f"{name}.{own}", getattr(thing, own))
    elif inspect.isclass(thing):
        for base in filter(is_ours, thing.__mro__):
            module = namespace(base.__module__)
            for own, text in inspect.get_annotations(base).items():
                if not own.startswith("_"):
                    yield f"{name}.{own}", evaluated(text, module)
            for own, value in vars(base).items():
                if not own.startswith("_") or own in ("__init__", "__reduce__", "__enter__", "__iter__"):
                    yield from functions(f"{name}.{own}", value)
    else:
        yield from functions(name, thing)


def functions(name: str, value: object) -> Iterator[tuple[str, object]]:
    value = getattr(value, "fget", None) or getattr(value, "func", None) or getattr(value, "__func__", value)
    if inspect.isfunction(value) and is_ours(value) and not value.__qualname__.startswith("__create_fn__"):
        for own in (value, *get_overloads(value)):
            for argument, hint in get_type_hints(own, namespace(own.__module__)).items():
                yield f"{name}({argument})", hint


def evaluated(text: object, module: dict[str, Any]) -> object:
    def annotated() -> None: ...

    annotated.__annotations__ = {"it": text}
    return get_type_hints(annotated, module)["it"]


@cache
def namespace(name: str) -> dict[str, Any]:
    """The names in a module, with those that only a type checker imports."""
    module = dict(vars(sys.modules[name]))
    for node in ast.parse(inspect.getsource(sys.modules[name])).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                try:
                    exec(compile(ast.Module([statement], []), name, "exec"), module)
                except ModuleNotFoundError:  # an extra that is not installed
                    assert isinstance(statement, ast.ImportFrom)
                    module |= {alias.name: object for alias in statement.names}
    return module


def parts_of(hint: object) -> Iterator[object]:
    """A hint and all that stands in it, but numpy's word for any shape."""
    yield hint
    if isinstance(hint, TypeVar):
        for bound in (*hint.__constraints__, hint.__bound__):
            yield from parts_of(bound)
    inner = get_args(hint)[1:] if NDARRAY.match(str(hint)) else get_args(hint)
    for part in inner:
        for one in part if isinstance(part, list | tuple) else (part,):
            yield from parts_of(one)

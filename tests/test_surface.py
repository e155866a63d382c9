"""What users lean on does not change by accident: names, options, errors, arrows, and how light an import is."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import weevit
from weevit import errors

SOURCE = Path(weevit.__file__).parent
ROOMS = [
    *("errors", "telemetry", "text", "extras", "arguments", "outputs", "locks", "memory", "provenance"),
    *("zoo", "images", "datasets", "graph", "engine", "answers", "reports"),
    *("predict", "reduction", "explain", "jobs", "embeddings", "evaluation", "fitting", "checking", "training", "cli"),
]
"""Imports point to the left only. `nn` and `data` stand beside: they may import zoo, images and graph."""

BESIDE = {
    "training": {*ROOMS[: ROOMS.index("training") + 1], "nn", "_version"},
    "nn": {"errors", "zoo", "images", "graph", "nn", "_version"},
    "data": {"errors", "zoo", "images", "nn", "_version"},
}


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_every_public_name_is_there() -> None:
    assert sorted(weevit.__all__) == weevit.__all__ or set(weevit.__all__) == set(dir(weevit))
    needs_torch = {"create_model", "finetune", "list_models", "resume", "save", "train"}
    without = needs_torch if importlib.util.find_spec("torch") is None else set()
    for name in weevit.__all__:
        if name in without:
            with pytest.raises(weevit.MissingExtraError, match="weevit\\[train\\]"):
                getattr(weevit, name)
        else:
            assert getattr(weevit, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'lood'"):
        _ = weevit.lood


def test_the_error_tree_is_the_one_that_is_drawn() -> None:
    drawn = set(re.findall(r"\b(\w+Error)\b", errors.__doc__ or ""))
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value) and name.endswith("Error")}
    assert drawn == defined
    for name in defined:
        assert issubclass(getattr(errors, name), errors.WeevitError)


def test_images_errors_have_a_status() -> None:
    statuses = {"missing", "unreadable", "decode_error", "unsupported", "too_large", "not_finite"}
    kinds = [
        value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.ImageError)
    ]
    assert {kind.status for kind in kinds if kind is not errors.ImageError} == statuses


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrows_point_one_way(path: Path) -> None:
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    allowed = BESIDE.get(room) or ({*ROOMS[: ROOMS.index(room) + 1], "_version"} if room in ROOMS else None)
    for module in imported_modules(path):
        if allowed is not None and module.startswith("weevit."):
            assert module.split(".")[1] in allowed, f"{room} imports {module}"


def imported_modules(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_torch_is_imported_beside_only(path: Path) -> None:
    if path.relative_to(SOURCE).parts[0] not in ("nn", "training", "data.py"):
        assert not {module.split(".")[0] for module in imported_modules(path)} & {"torch", "torchvision", "timm"}


def test_every_ignored_type_error_has_its_code_and_its_reason() -> None:
    for path in SOURCE.rglob("*.py"):
        lines = path.read_text().splitlines()
        for before, line in zip(["", *lines], lines, strict=False):
            if "type: ignore" in line:
                assert re.search(r"# type: ignore\[[a-z-]+\]  # \w+ \w+", line), f"{path}: {line}"
            if line.startswith("# mypy:"):
                assert before.startswith("# "), f"{path}: {line}"


HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "PIL", "huggingface_hub", "pyarrow")


@pytest.mark.parametrize("statement", ["import weevit", "from weevit.cli.app import _run; _run(['--help'])"])
def test_nothing_heavy_at_start(statement: str) -> None:
    loaded = run_python(f"{statement}\nimport sys; print('LOADED', *sys.modules)").split("LOADED")[1].split()
    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize("arguments", [["-c", "import weevit"], ["-m", "weevit", "--help"]])
def test_start_takes_less_than_three_tenths_of_a_second(arguments: list[str]) -> None:
    def seconds() -> float:
        """Of processor time, which another program on this machine does not add to."""
        with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return used.ru_utime + used.ru_stime

    seconds()  # the first one compiles
    assert min(seconds() for _ in range(7)) < 0.3

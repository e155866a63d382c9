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

import imports
import pytest
from imports import SOURCE, room

import weevit
from weevit import errors


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_every_public_name_is_there() -> None:
    assert set(weevit._HOMES) == set(weevit.__all__) - {"__version__"}
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


@pytest.mark.parametrize(("absent", "error"), [("torch", weevit.MissingExtraError), ("torch._C", ModuleNotFoundError)])
def test_only_the_absence_of_torch_is_an_extra_that_is_missing(
    absent: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {absent!r}", name=absent)

    monkeypatch.setattr(weevit, "import_module", fails)
    monkeypatch.delitem(vars(weevit), "train", raising=False)
    with pytest.raises(error, match=r"weevit\[train\]|torch\._C"):
        _ = weevit.train


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


# ---- rooms and arrows

LAYERS = (
    ("errors", "store"),
    ("zoo", "images", "datasets"),
    ("graph", "engine", "nn"),
    ("answers", "predict", "data", "reports", "explain", "reduction", "recipes", "shipping"),
    (
        *("jobs", "search", "duplicates", "evaluation", "checking", "fitting", "quantization"),
        *("batches", "optim", "runs", "training", "finetuning", "serve", "integrations"),
    ),
    ("cli", ""),
)
"""Rooms, and modules beside them; `weevit` itself has no name. Imports point to a lower layer, and to no sibling."""

OF_THE_STORE = ("_version", "arguments", "memory", "telemetry", "text")
"""Modules beside the rooms that count as `store`: what everything stands on."""

SIBLINGS = {
    ("store", "errors"): "what keeps things says in our words what went wrong",
    ("images", "zoo"): "pixels are prepared as the weights want them",
    ("datasets", "images"): "a data set is images with classes",
    ("engine", "graph"): "a session runs a graph",
    ("engine", "nn"): "on a GPU it runs the module",
    ("nn", "graph"): "the angles of rotary positions are computed once for both",
    ("predict", "answers"): "the facade gives answers",
    ("reduction", "answers"): "it compares answers",
    ("reduction", "predict"): "it compares answers",
    ("shipping", "predict"): "it sends a model that is loaded",
    ("explain", "answers"): "it explains an answer",
    ("explain", "predict"): "it explains an answer",
    ("checking", "duplicates"): "images of a data set that are there twice are found as all others",
    ("checking", "search"): "labels and copies are checked by their nearest neighbours",
    ("checking", "evaluation"): "its folder and its page are made as those of an evaluation",
    ("duplicates", "search"): "copies and moments are found among nearest neighbours",
    ("fitting", "search"): "a head is fitted to embeddings",
    ("fitting", "evaluation"): "a head is evaluated",
    ("fitting", "quantization"): "a head may be fitted to the embeddings of an int8 backbone",
    ("quantization", "evaluation"): "the gate compares answers as an evaluation does",
    ("finetuning", "runs"): "its folder holds that of a run",
    ("runs", "optim"): "a stranger's moments are compared with the optimiser's",
    ("training", "batches"): "a run trains on batches",
    ("training", "optim"): "a step is an update of the weights",
    ("training", "runs"): "a run is kept in its folder",
    ("serve", "duplicates"): "a tool over MCP finds duplicates",
    ("serve", "checking"): "a tool over MCP checks a folder",
    ("serve", "search"): "images of an index are searched",
    ("training", "evaluation"): "what was trained is evaluated",
    ("finetuning", "batches"): "its page shows the images of a batch",
    ("finetuning", "search"): "it begins with a head on embeddings",
    ("finetuning", "evaluation"): "the head and the fine-tuned model are compared",
    ("finetuning", "fitting"): "it begins with a head on embeddings",
    ("finetuning", "training"): "it is a run that starts from a head",
    ("cli", ""): "without PyTorch the public name of a training says what to install",
}
"""(room, its sibling) -> why it may."""

CIRCLES = {
    frozenset({"results", "columns", "notebook"}): "a result gives itself as columns, and draws itself in a notebook",
    frozenset({"index", "handover"}): "an index hands itself over, and is named in the types of that",
    frozenset({"ops", "int8"}): "operations on integers name the builder that they add to in their types",
    frozenset({"vit", "features", "initialise"}): "taps and initialisation name the module in their types",
}
"""Modules of one room that import each other -> why they may."""


def place(module: str) -> str:
    """The room that a module counts to."""
    return "store" if room(module) in OF_THE_STORE else {"__main__": "cli"}.get(room(module), room(module))


def layer(module: str) -> int:
    return next(level for level, rooms in enumerate(LAYERS) if place(module) in rooms)


def test_arrows_point_down_through_five_layers() -> None:
    crossing = [one for one in imports.ALL if place(one.by) != place(one.module)]
    assert [str(one) for one in crossing if layer(one.module) > layer(one.by)] == []
    level = [one for one in crossing if layer(one.module) == layer(one.by)]
    assert [str(one) for one in level if (place(one.by), place(one.module)) not in SIBLINGS] == []
    assert set(SIBLINGS) == {(place(one.by), place(one.module)) for one in level}  # none that is not needed any more


def test_no_modules_of_a_room_import_each_other() -> None:
    arrows: dict[str, set[str]] = {}
    for one in imports.ALL:
        if room(one.by) == room(one.module) and one.by != one.module:
            arrows.setdefault(one.by, set()).add(one.module)
    found = {frozenset(name.rpartition(".")[2] for name in circle) for circle in imports.circles(arrows)}
    assert found == set(CIRCLES)


def public_modules(name: str) -> set[str]:
    """What a room's `__init__.py` lists; read, since imported it must stay light."""
    body = ast.parse((SOURCE / name / "__init__.py").read_text()).body
    assert isinstance(body[0], ast.Expr)  # the docstring says what the room is for
    lists = [node for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
    assert lists, f"weevit/{name}/__init__.py has no __all__"
    assert len(body) == 2, f"weevit/{name}/__init__.py does more than say what is public"
    return {f"weevit.{name}.{module}" for module in ast.literal_eval(lists[0].value)}


def test_what_a_room_does_not_list_is_private_to_it() -> None:
    entered = [one for one in imports.ALL if room(one.by) != room(one.module) and one.module.count(".") > 1]
    root = Path(__file__).parents[1]
    for path in (root / "README.md", *root.glob("docs/*.md"), *root.glob("examples/**/*.md")):
        for block in re.findall("```python\n(.*?)```", path.read_text(), flags=re.DOTALL):
            entered += [one for one in imports.imports(path.name, block) if one.module.count(".") > 1]
    public = {module for folder in SOURCE.glob("*/__init__.py") for module in public_modules(folder.parent.name)}
    assert [str(one) for one in entered if one.module not in public or one.name.startswith("_")] == []
    assert public == {one.module for one in entered}  # as few as there are uses


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("import weevit.cli.app", "weevit.cli.app"),
        ("from weevit.cli import app", "weevit.cli.app"),
        ("from weevit.cli.app import main", "weevit.cli.app"),
        ("def later():\n    from weevit.cli.app import main", "weevit.cli.app"),
        ("if TYPE_CHECKING:\n    from weevit.cli import app as this", "weevit.cli.app"),
        ("HOMES = {'main': 'weevit.cli.app:main'}", "weevit.cli.app"),
        ("import_module('weevit.cli.app')", "weevit.cli.app"),
        ("importlib.import_module(f'weevit.cli.{verb}')", "weevit.cli"),
        ("import_module(f'weevit.{name}')", "weevit"),
    ],
)
def test_every_form_of_import_is_seen(text: str, module: str) -> None:
    assert [one.module for one in imports.imports("weevit.text", text)] == [module]


WITH_TORCH = ("nn", "batches", "optim", "runs", "training", "finetuning", "data")
"""The rooms that need torch; of the others only the engine's module does."""


def test_torch_is_imported_beside_only() -> None:
    for module, path in imports.MODULES.items():
        if room(module) not in WITH_TORCH and module != "weevit.engine.torch":
            nodes = (node for node in ast.walk(ast.parse(path.read_text())) if not isinstance(node, ast.Constant))
            names = {name.partition(".")[0] for node in nodes for name, _ in imports.named(node)}
            assert not names & {"torch", "torchvision", "timm"}, module


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

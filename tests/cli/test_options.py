"""What is typed reaches the function that it is meant for: each option with a value that is nobody's default."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import weevit
from weevit.cli.app import _run
from weevit.datasets.dataset import Dataset

LOADING = (
    "--model some/folder --image-size 64x96 --batch-size 3 --threads 5 --engine openvino --device cuda "
    "--precision bf16 --max-pixels 12345"
)
"""Of every verb that loads a model."""

LOADED = {
    "model": "some/folder",
    "image_size": (64, 96),
    "batch_size": 3,
    "threads": 5,
    "engine": "openvino",
    "precision": "bf16",
    "device": "cuda",
    "reduced_jpeg": False,
}


class ReachedError(weevit.WeevitError):
    """In the place of what the function would do."""


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """`weevit.fit` and its kind are kept once they were asked for, a spy in their place too."""
    for module in ("fitting.fit", "evaluation.evaluate", "evaluation.compare", "evaluation.suite", "checking.check"):
        importlib.import_module(f"weevit.{module}")  # now, or what they import would be a spy
    before = set(vars(weevit))
    yield
    for name in set(vars(weevit)) - before:
        delattr(weevit, name)


class Spy:
    """Stands where a function stood, and says what it was asked."""

    def __init__(self, real: Any, gives: Any = None) -> None:
        self.signature, self.gives = inspect.signature(real), gives
        self.asked: list[dict[str, Any]] = []

    def __call__(self, *words: Any, **more: Any) -> Any:
        bound = self.signature.bind(*words, **more)
        bound.apply_defaults()
        self.asked.append(dict(bound.arguments))
        if self.gives is None:
            raise ReachedError("reached")
        return self.gives


def reached(monkeypatch: pytest.MonkeyPatch, place: str, words: list[str]) -> dict[str, Any]:
    """What a function (`module:name`) is asked when this is typed."""
    module, _, name = place.partition(":")
    home = importlib.import_module(module)
    spy = Spy(getattr(home, name))
    monkeypatch.setattr(home, name, spy)
    assert _run(words) != 0
    (asked,) = spy.asked
    return {key: value.path if isinstance(value, Dataset) else value for key, value in asked.items()}


# ---- a model that is loaded


@pytest.mark.parametrize(
    "words",
    [
        ["classify", "DATA"],
        ["embed", "DATA", "-o", "OUT.npy"],
        ["features", "DATA", "-o", "OUT.npz"],
        ["explain", "DATA/0/0.png", "-o", "OUT.png"],
        ["fit", "DATA", "-o", "OUT"],
        ["data", "check", "DATA"],
        ["classify", "DATA", "-o", "OUT/"],
    ],
    ids=" ".join,
)
def test_every_verb_loads_the_model_as_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    pytest.importorskip("sklearn")
    typed = [*_typed(words, tmp_path), *LOADING.split()]
    asked = reached(monkeypatch, "weevit.predict:load", typed)
    assert {name: asked[name] for name in LOADED} == LOADED
    assert asked["limits"].max_pixels == 12345


@pytest.mark.parametrize("words", [["classify", "DATA"], ["embed", "DATA", "-o", "OUT.npy"]], ids=" ".join)
def test_reduced_jpegs_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]) -> None:
    assert reached(monkeypatch, "weevit.predict:load", [*_typed(words, tmp_path), "--reduced-jpeg"])["reduced_jpeg"]


def _typed(words: list[str], folder: Path) -> list[str]:
    data = _images(folder / "DATA")
    return [word.replace("DATA", str(data)).replace("OUT", str(folder / "out")) for word in words]


def _images(folder: Path) -> Path:
    """Ten images of each of two classes."""
    digits = Path(__file__).resolve().parents[2] / "examples" / "digits" / "train"
    for name in "01":
        (folder / name).mkdir(parents=True)
        for number, path in enumerate(sorted((digits / name).iterdir())[:10]):
            (folder / name / f"{number}.png").write_bytes(path.read_bytes())
    return folder


# ---- what is done with it


@pytest.mark.parametrize(
    ("place", "words", "expected"),
    [
        (
            "weevit.evaluation.evaluate:evaluate",
            "eval digits DATA --split test --allow-missing --table parquet -o OUT",
            {"data": "DATA", "output": Path("OUT"), "split": "test", "allow_missing": True, "table": "parquet"},
        ),
        (
            "weevit.evaluation.suite:evaluate_suite",
            "eval digits --suite DATA --table parquet -o OUT",
            {"output": Path("OUT"), "table": "parquet"},
        ),
        (
            "weevit.evaluation.compare:compare",
            "compare digits digits DATA --split test --allow-missing --seed 17 -o OUT",
            {"data": "DATA", "output": Path("OUT"), "split": "test", "allow_missing": True, "seed": 17},
        ),
        (
            "weevit.fitting.fit:fit",
            "fit DATA -m digits --folds 7 --seed 17 --class-weights balanced --coverage 0.9 --validation-share 0.3 "
            "--calibrate validation --allow-missing -o OUT",
            {"data": "DATA", "folds": 7, "seed": 17, "class_weights": "balanced", "coverage": 0.9}
            | {"validation_share": 0.3, "calibrate": "validation", "allow_missing": True},
        ),
        (
            "weevit.checking.check:check_data",
            "data check DATA -m digits --no-embeddings --threads 5 --fix-list LIST.csv",
            {"data": "DATA", "embeddings": False, "threads": 5, "fix_list": Path("LIST.csv")},
        ),
        (
            "weevit.cli.many:run_job",
            "embed DATA -m digits -o OUT/ --normalize --dtype float16 --shard 2/3 --shard-size 7 --retry-failed",
            {"verb": "embed", "shard": (2, 3), "shard_size": 7, "retry_failed": True}
            | {"options": {"normalize": True, "dtype": "float16"}},
        ),
        (
            "weevit.cli.many:run_job",
            "classify DATA -m digits -o OUT/ --topk 3",
            {"verb": "classify", "shard": (1, 1), "retry_failed": False, "options": {"topk": 3}},
        ),
        (
            "weevit.cli.many:run_job",
            "features DATA -m digits -o OUT/ --layers 1,-1",
            {"verb": "features", "options": {"layers": [1, -1]}},
        ),
    ],
)  # fmt: skip
def test_options_of_a_verb_reach_its_function(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, words: str, expected: dict[str, Any]
) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("filelock")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("weevit.evaluation.imagenet.find_sets", lambda folder: {})  # it is looked at before the model
    _images(tmp_path / "DATA")
    asked = reached(monkeypatch, place, words.split())
    assert {name: asked[name] for name in expected} == expected


# ---- training


@pytest.mark.parametrize(
    ("place", "words", "expected"),
    [
        (
            "weevit:finetune",
            "finetune DATA optim.lr=1e-4 -m some/folder -o OUT --minutes 7 --recipe mine.yaml --seed 17 "
            "--device cuda:3 --threads 5",
            {"data": "DATA", "output": Path("OUT"), "model": "some/folder", "minutes": 7.0, "recipe": "mine.yaml"}
            | {"overrides": ["optim.lr=1e-4", "seed=17"], "device": "cuda:3", "threads": 5},
        ),
        (
            "weevit.finetuning.finetune:plan_finetune",
            "finetune DATA optim.lr=1e-4 -m some/folder --plan --minutes 7 --recipe mine.yaml --device cuda:3 "
            "--threads 5",
            {"data": "DATA", "model": "some/folder", "minutes": 7.0, "recipe": "mine.yaml"}
            | {"overrides": ["optim.lr=1e-4"], "device": "cuda:3", "threads": 5},
        ),
        (
            "weevit:train",
            "train mine.yaml optim.lr=1e-4 --data DATA -o OUT --model vit_micro --minutes 7 --seed 17 --device cuda:3 "
            "--threads 5 --tensorboard --no-report",
            {"recipe": "mine.yaml", "data": "DATA", "output": Path("OUT"), "device": "cuda:3", "threads": 5}
            | {"overrides": ["optim.lr=1e-4", "model.name=vit_micro", "loop.minutes=7.0", "seed=17"]}
            | {"tensorboard": True, "report": False},
        ),
        (
            "weevit:resume",
            "resume RUN --data DATA --minutes 7 --tensorboard --no-report",
            {"output": Path("RUN"), "data": "DATA", "minutes": 7.0, "tensorboard": True, "report": False},
        ),
    ],
)  # fmt: skip
def test_options_of_training_reach_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, words: str, expected: dict[str, Any]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("filelock")
    monkeypatch.chdir(tmp_path)
    _images(tmp_path / "DATA")
    (tmp_path / "RUN").mkdir()
    asked = reached(monkeypatch, place, words.split())
    assert {name: asked[name] for name in expected} == expected


def test_training_from_earlier_weights_is_a_change_of_the_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    words = ["train", "mine.yaml", "--data", str(_images(tmp_path / "DATA")), "-o", "out", "--from", "run"]
    asked = reached(monkeypatch, "weevit:train", words)
    assert asked["overrides"] == [f"model.name={tmp_path / 'run'}", "model.pretrained=true"]

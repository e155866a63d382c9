"""Numbers and words that make no sense: a usage error, before a model is fetched, in every verb and in Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.arguments import MAX_BATCH, MAX_THREADS
from weevit.cli import app, options
from weevit.engine.choice import DEVICES, ENGINES, PRECISIONS
from weevit.errors import UsageError
from weevit.images.decode import Limits
from weevit.jobs.settings import DEFAULT_SHARD_SIZE

IMAGE = np.zeros((20, 20, 3), np.uint8)
VERBS = {
    "classify": "classify a.png",
    "embed": "embed a.png -o v.npy",
    "features": "features a.png -o m.npz",
    "explain": "explain a.png -o x.png",
    "eval": "eval tiny data",
    "compare": "compare tiny wee data",
    "data check": "data check data",
    "fit": "fit data -o mine",
    "train": "train digits_micro --data data -o run",
    "finetune": "finetune data -o run",
}
LOADING = ("--image-size", "--batch-size", "--threads", "--max-pixels", "--engine", "--precision", "--device")
VALUES = {
    "--image-size": (
        "0",
        "-16",
        "100",
        "8",
        "4112",
        "999999999999",
        "64x",
        "x64",
        "64x0",
        "64x64x64",
        "²",
        "nan",
        "1e3",
    ),
    "--batch-size": ("0", "-1", "1000000000", "1.5", "x", "1" * 5000),
    "--threads": ("0", "-1", "1000000", "two"),
    "--max-pixels": ("0", "-1", "1e6"),
    "--engine": ("onnx", "", "OPENVINO", "torch"),  # the last computes on another device
    "--precision": ("fp16", "", "BF16", "fp32,bf16"),
    "--device": ("gpu", "", "CUDA", "cuda:0"),
    "--topk": ("0", "-1", "many"),
    "--shard": ("0/0", "1/0", "3/2", "1", "a/b", "-1/2", "1/2/3", "١/٢", "1" * 5000 + "/1"),
    "--shard-size": ("0", "-1", "1000000000000"),
    "--dtype": ("float64", "int8"),
    "--layers": ("", "a", "1,,2", "1;2", "1.5", "99999999999", "-"),
    "--seed": ("-1", "x", "1.5", "9" * 30),
    "--folds": ("1", "0", "-3"),
    "--coverage": ("0", "-1", "1.5", "nan", "x"),
    "--validation-share": ("0", "1", "-1", "nan", "2"),
    "--class-weights": ("balance",),
    "--calibrate": ("fold",),
    "--min-top1": ("-1", "90", "nan"),
    "--table": ("xlsx",),
}
FIRST = {"train": ("--threads", "--seed"), "finetune": ("--threads", "--seed")}
OWN = {
    "classify": ("--topk", "--shard", "--shard-size"),
    "embed": ("--dtype", "--shard", "--shard-size"),
    "features": ("--layers", "--shard", "--shard-size"),
    "explain": ("--seed",),
    "eval": ("--min-top1", "--table"),
    "compare": ("--seed",),
    "fit": ("--seed", "--folds", "--coverage", "--validation-share", "--class-weights", "--calibrate"),
}
CASES = [(verb, option) for verb in VERBS for option in FIRST.get(verb, (*LOADING, *OWN.get(verb, ())))]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("zero", "one"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.effect_noise((20, 20), 50).convert("RGB").save(tmp_path / "data" / name / "a.png")
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("verb", "option"), CASES, ids=[" ".join(case) for case in CASES])
def test_refused_before_a_model_is_fetched(
    capfd: pytest.CaptureFixture[str], place: Path, verb: str, option: str
) -> None:
    if verb in ("train", "finetune"):
        pytest.importorskip("torch")
    if verb in ("fit", "data check"):
        pytest.importorskip("sklearn")
    before = sorted(place.rglob("*"))
    for value in VALUES[option]:
        words = VERBS[verb].replace("v.npy", "job").replace("m.npz", "job") if "shard" in option else VERBS[verb]
        words += " -o job" if verb == "classify" and "shard" in option else ""
        words = words.replace("-o v.npy", "-o job") if option == "--dtype" else words
        code = app._run([*words.split(), option, value])
        err = capfd.readouterr().err
        assert code == 2, (value, err)
        assert option in err or option.strip("-").replace("-", "_") in err or "coverage" in err or "share" in err, err
        assert "127.0.0.1" not in err, (value, err)  # nor was the hub asked
        assert len(err) < 400, err
        assert sorted(place.rglob("*")) == before


def test_choices_stand_in_the_help(capfd: pytest.CaptureFixture[str]) -> None:
    app._run(["fit", "--help"])
    said = capfd.readouterr().out
    for words in ("[onnxruntime|openvino|torch]", "[fp32|bf16|int8]", "[none|balanced]", "[folds|validation]"):
        assert words in said


def test_what_is_allowed_is_allowed(place: Path) -> None:
    for words in (
        "--topk 1000000000",
        "--batch-size 4096",
        "--threads 1 --max-pixels 1000000000000",
        "--image-size 64x64",
    ):
        assert app._run(["classify", "a.png", "-m", "digits", *words.split()]) == 0
    explain = "explain a.png -m digits -o x.png"
    assert app._run(f"{explain} --heads --layer -1 --deletion --seed 7".split()) == 0
    assert app._run(f"{explain} --heads --layer 99".split()) == 2


@pytest.mark.parametrize(
    ("words", "option", "hint"),
    [
        ("explain a.png -m digits -o x.png --layer 0 --deletion", "--layer", "--heads"),
        ("explain a.png -m digits -o x.png --seed 0 --heads", "--seed", "--deletion"),
        ("index --from v.npy -o v.idx --prune", "--prune", "Leave it out."),
        ("index --from v.npy -o v.idx --image-size 64", "--image-size", "-m MODEL"),
        ("index --from v.npy -o v.idx --threads 1", "--threads", "-m MODEL"),
    ],
)
def test_what_would_be_passed_over_is_refused(
    capfd: pytest.CaptureFixture[str], place: Path, words: str, option: str, hint: str
) -> None:
    before = sorted(place.rglob("*"))
    assert app._run(words.split()) == 2
    first, last = capfd.readouterr().err.splitlines()
    assert first.startswith(f"weevit: {option} is ")
    assert last == hint
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    "call",
    [
        lambda: weevit.load("digits", image_size=0),
        lambda: weevit.load("digits", image_size=-16),
        lambda: weevit.load("digits", image_size=(64, 100)),
        lambda: weevit.load("digits", image_size=10**12),
        lambda: weevit.load("digits", batch_size=0),
        lambda: weevit.load("digits", batch_size=MAX_BATCH + 1),
        lambda: weevit.load("digits", batch_size=2.5),  # type: ignore[arg-type]
        lambda: weevit.load("digits", threads=0),
        lambda: weevit.load("digits", threads=MAX_THREADS + 1),
        lambda: weevit.load("digits", engine="onnx"),  # type: ignore[arg-type]
        lambda: weevit.load("digits").classify(IMAGE, topk=0),
        lambda: weevit.load("digits").classify(IMAGE, topk=True),
        lambda: weevit.compare("digits", "digits", "data", seed=-1),
        lambda: weevit.fit("data", "mine", "digits", seed=-1),
        lambda: Limits(max_pixels=0),
        lambda: Limits(max_bytes=-1),
    ],
)
def test_python_refuses_the_same(place: Path, call: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="was given"):
        call()


def test_values_that_are_written_twice() -> None:
    assert options.ENGINES == ENGINES
    assert (options.PRECISIONS, options.DEVICES) == (PRECISIONS, DEVICES)
    assert options.DEFAULT_SHARD_SIZE == DEFAULT_SHARD_SIZE


def test_no_number_is_left_to_click() -> None:
    """click's own number types have errors of their own, without a next thing to type, and no bounds."""
    for verb, command in walk(app.cli, click.Context(app.cli)):
        for parameter in command.params:
            if parameter.name != "layer":
                assert not isinstance(parameter.type, click.types.IntParamType), (verb, parameter.name)


def walk(group: click.Group, context: click.Context) -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {inner}", each) for inner, each in walk(command, context)]
    return found

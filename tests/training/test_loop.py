"""The loop: it learns, stops where it should, refuses what it should, and leaves a folder that others can use."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("filelock")
pytest.importorskip("sklearn")

import runs  # noqa: E402 - after the skips

import weevit  # noqa: E402
from weevit.errors import DatasetError, RecipeError, TrainingError, UsageError  # noqa: E402
from weevit.optim.optimizer import create_optimizer  # noqa: E402
from weevit.training import (  # noqa: E402
    loop,
    micro_batches,
    results,
    setup,
    sitting,
)
from weevit.training import step as step_module  # noqa: E402
from weevit.training.machine import choose_device, choose_precision  # noqa: E402
from weevit.training.ranks import Ranks  # noqa: E402
from weevit.training.results import Run  # noqa: E402
from weevit.training.run_data import in_order  # noqa: E402
from weevit.training.setup import reopen  # noqa: E402
from weevit.training.state import checkpoints, read_weights  # noqa: E402
from weevit.training.watch import Progress, Watcher  # noqa: E402

Train = Callable[..., Run]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.images(tmp_path_factory.mktemp("data"))


@pytest.fixture
def train(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train on the images into `tmp_path / "run"`; no curves, which take longer than the training."""
    monkeypatch.setattr(results, "draw_curves", lambda *arguments: False)
    path = runs.recipe(tmp_path / "recipe.yaml")

    def run(*words: str, output: str = "run", **more: Any) -> Run:
        plain: dict[str, Any] = {"threads": 1, "report": False}
        return loop.train(path, more.pop("data", data), tmp_path / output, words, **(plain | more))

    return run


def stop_at(step: int) -> Watcher:
    """A watcher that asks to stop when so many updates are done."""
    at = [0]
    return Watcher(moved=lambda progress: at.__setitem__(0, progress.step), should_stop=lambda: at[0] >= step)


# ---- what comes out


def test_a_run_learns_and_leaves_a_model_that_every_verb_loads(train: Train, data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    run = train("schedule.epochs=8", "loop.log_every=5", watcher=Watcher(say=told.append), report=True)
    assert (run.stopped, run.step, run.total) == ("done", 40, 40)
    assert run.best is not None
    assert run.best.weights == "ema"
    assert run.best.value == max(row["ema_top1"] for row in run.metrics if row["kind"] == "eval") > 0.8
    assert run.figures["top1"] > 0.8
    model = weevit.load(run.folder)
    assert [label.id for label in model.checkpoint.labels or ()] == ["class 0", "class 1", "class 2"]
    images = sorted((data / "validation").rglob("*.png"))
    right = [model.classify(path).top[0].id == path.parent.name for path in images]
    assert np.mean(right) == pytest.approx(run.best.value)
    report = json.loads((run.folder / "report.json").read_text())
    assert report["metrics"]["top1"] == pytest.approx(run.best.value)
    assert (run.folder / "report.html").is_file()
    assert any("model/ on the validation split" in text for text in told)
    log = (run.folder / "log.txt").read_text()
    assert all(text in log for text in told)
    recorded = json.loads((run.folder / "run.json").read_text())
    assert recorded["end"]["digest"] == run.digest
    assert recorded["data"]["train"] == 40
    assert recorded["versions"]["torch"]


def test_the_loop_is_the_plain_one(train: Train, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the fewest lines of PyTorch on the same batches."""
    batches: list[Any] = []
    real = sitting.count_bad
    monkeypatch.setattr(sitting, "count_bad", lambda work, batch: batches.append(batch) or real(work, batch))
    words = ("mix.prob=0", "model.drop_path=0", "optim.name=adamw", "optim.layer_decay=0.75", "schedule.epochs=2")
    run = train(*words, "loop.log_every=1", "loop.keep=100")
    work = reopen(run.folder, None, None, print)  # for its module; then as it was at the start
    model = work.model.train()
    model.load_state_dict(read_weights(checkpoints(run.folder / "state")[0], "model"))
    optimizer = create_optimizer(model, work.recipe)
    losses, norms = [], []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = work.schedule.rate(step) * group["lr_scale"]
        value = torch.nn.functional.cross_entropy(model(batch.images), batch.targets, label_smoothing=0.1)
        optimizer.zero_grad()
        value.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)))
        optimizer.step()
        losses.append(float(value.detach()))
    told = [(row["loss"], row["grad_norm"]) for row in run.metrics if row["kind"] == "train"]
    assert [own for own, _ in told] == pytest.approx(losses, rel=1e-5)
    assert [own for _, own in told] == pytest.approx(norms, rel=1e-4)


def test_the_tables_say_the_same(train: Train) -> None:
    run = train()
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(run.metrics)
    with (run.folder / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [{key: str(value) for key, value in row.items()} for row in lines] == [
        {key: value for key, value in row.items() if value} for row in table
    ]
    training = [row for row in lines if row["kind"] == "train"]
    assert [row["step"] for row in training] == [2, 4, 5, 6, 8, 10, 12, 14, 15]
    assert [row["step"] for row in lines if row["kind"] == "eval"] == [5, 10, 15]
    assert all(math.isfinite(value) for row in lines for value in row.values() if not isinstance(value, str))
    assert [row["epoch"] for row in training] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_images_of_a_run(data: Path, tmp_path: Path) -> None:
    from PIL import Image

    path = runs.recipe(tmp_path / "recipe.yaml")
    loop.train(path, data, tmp_path / "run", ["schedule.epochs=1"], threads=1, report=False)
    with Image.open(tmp_path / "run" / "plots" / "samples.png") as sheet:
        assert sheet.size == (8 * 36 + 4, 36 + 4)
        assert np.asarray(sheet.convert("RGB"))[6:34, 6:34].std() > 10  # a image, not a blank
    with Image.open(tmp_path / "run" / "plots" / "curves.png") as curves:
        assert curves.width > 1000


def test_a_run_from_weights_keeps_their_classes_by_name(train: Train, data: Path, tmp_path: Path) -> None:
    first = train("schedule.epochs=1")
    checkpoint = weevit.load(first.folder).checkpoint
    renamed = tmp_path / "renamed"
    names = ["class 2", "class 0", "class 1"]
    weevit.save(weevit.create_model(str(first.folder), pretrained=True), renamed, names)
    words = (f"model.name={renamed}", "model.pretrained=true", "schedule.epochs=1")
    second = train(*words, output="second")
    labels = weevit.load(second.folder).checkpoint.labels or ()
    assert [label.id for label in labels] == names
    recorded = json.loads((second.folder / "run.json").read_text())
    assert recorded["weights"]["sha256"] == checkpoint.sha256
    assert "fresh head" not in (second.folder / "log.txt").read_text()


def test_several_labels_a_image(train: Train, data: Path, tmp_path: Path) -> None:
    rows = ["path,labels,split"]
    for index, path in enumerate(sorted(data.rglob("*.png"))):
        labels = [path.parent.name[-1], *(["even"] if index % 2 == 0 else [])] if index % 7 else []
        rows.append(f"{path},{';'.join(labels)},{path.parent.parent.name}")
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(rows) + "\n")
    words = ("data.multi_label=true", "loss.kind=bce", "mix.cutmix=0", "schedule.epochs=6")
    run = train(*words, data=table, report=True)
    assert run.best is not None
    assert run.best.figure == "ema_map"
    assert run.figures["map"] > 0.6
    checkpoint = weevit.load(run.folder).checkpoint
    assert checkpoint.decision is not None
    assert checkpoint.decision.multi_label
    assert [label.id for label in checkpoint.labels or ()] == ["0", "1", "2", "even"]
    report = json.loads((run.folder / "report.json").read_text())
    assert report["metrics"]["map"] == pytest.approx(run.best.value, abs=1e-3)
    with pytest.raises(DatasetError, match=r"has several labels per image, and .* data\.multi_label=false"):
        train(data=table, output="other")


def test_classes_in_another_order_keep_their_images(data: Path) -> None:
    from weevit.datasets.read import read_dataset

    found = read_dataset(str(data))
    moved = in_order(found, ["class 1", "class 2", "class 0"])
    for before, after in zip(found.splits.values(), moved.splits.values(), strict=True):
        assert [found.classes[target] for target in before.targets] == [moved.classes[t] for t in after.targets]
    several = replace(
        found, multi_label=True, splits={"train": replace(found.split("train"), targets=np.eye(3, dtype=np.uint8))}
    )
    assert in_order(several, ["class 1", "class 2", "class 0"]).split("train").targets.tolist() == [
        [0, 0, 1], [1, 0, 0], [0, 1, 0],
    ]  # fmt: skip


def test_a_module_to_start_from(train: Train) -> None:
    model = weevit.create_model("vit_micro_patch16_reg1_gap_64", num_classes=3, img_size=32, drop_path_rate=0.2)
    with pytest.raises(UsageError, match="has 3 classes and takes 32 x 32 px; the data has 3, and the recipe says"):
        train("model.image_size=64", start=model)
    run = train("schedule.epochs=1", start=model)
    assert json.loads((run.folder / "run.json").read_text())["weights"]["source"] == "a module"
    assert loop.resume(run.folder, report=False).digest == run.digest


REFUSED: dict[str, Callable[[Any], Any]] = {
    "start is a module that": lambda model: torch.compile(model),
    "start is a module that weevit.create_model made: int": lambda model: 5,
    "weights of bfloat16": lambda model: model.bfloat16(),
    "3 channels, and needs a pool": lambda model: setattr(model, "global_pool", "") or model,
    "mlp.act is ReLU": lambda model: setattr(model.blocks[1].mlp, "act", torch.nn.ReLU()) or model,
    "- blocks.2": lambda model: setattr(model, "blocks", model.blocks[:2]) or model,
    "no linear layer with a bias": lambda model: setattr(model, "head", torch.nn.Linear(64, 3, bias=False)) or model,
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_module_that_no_checkpoint_could_hold_is_no_start(message: str, train: Train) -> None:
    model = weevit.create_model("vit_micro_patch16_reg1_gap_64", num_classes=3, img_size=32)
    with pytest.raises(UsageError, match=message):
        train("schedule.epochs=1", start=REFUSED[message](model))


def test_one_class_alone_is_nothing_to_tell_apart(train: Train, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has one class, 'class 0'"):
        train(data=runs.images(tmp_path / "one", 8, 4, classes=1))


def test_data_that_was_moved_is_asked_for(train: Train, tmp_path: Path) -> None:
    data = runs.images(tmp_path / "data")
    run = train("schedule.epochs=1", data=data)
    data.rename(tmp_path / "moved")
    with pytest.raises(DatasetError) as failed:
        loop.resume(run.folder)
    assert failed.value.hint == f"Where it is now: weevit resume {run.folder} --data FOLDER"
    assert loop.resume(run.folder, tmp_path / "moved", report=False).digest == run.digest


@pytest.mark.parametrize(
    "changes", [("schedule.warmup=15 steps",), ("schedule.epochs=100 samples", "schedule.warmup=5 epochs")]
)
def test_a_warmup_that_takes_all_is_refused_in_any_unit(changes: tuple[str, ...], train: Train) -> None:
    with pytest.raises(RecipeError, match=r"warmup takes all of schedule\.epochs.* updates here"):
        train(*changes)


def test_a_batch_of_more_images_than_there_are_is_told(train: Train) -> None:
    run = train("loop.batch_size=64", "schedule.epochs=1", "schedule.warmup=0", "optim.lr=null", "optim.base_lr=1e-3")
    told = "loop.batch_size is 64: each update sees all 40 training images, at the learning rate for 64 (0.00035)"
    assert told in (run.folder / "log.txt").read_text()


# ---- where it stops


def test_early_stop(train: Train) -> None:
    run = train("optim.lr=1e-9", "schedule.min_lr=0", "schedule.warmup_lr=0", "schedule.epochs=20", "loop.early_stop=2")
    assert run.stopped == "early stop"
    evaluations = [row["step"] for row in run.metrics if row["kind"] == "eval"]
    assert run.best is not None
    assert len([step for step in evaluations if step > run.best.step]) == 2


def test_a_time_budget_ends_with_an_evaluation_and_a_checkpoint_and_more_time_goes_on(train: Train) -> None:
    run = train("schedule.epochs=1000", "loop.minutes=0.02", "loop.eval_every=100 epochs")
    assert run.stopped == "time budget"
    assert 0 < run.step < run.total
    assert run.metrics[-1]["kind"] == "eval"
    assert run.model.is_dir()
    assert next(iter(checkpoints(run.folder / "state"))) == run.step
    more = loop.resume(run.folder, minutes=run.minutes + 0.01, report=False)
    assert more.stopped == "time budget"
    assert more.step > run.step


def test_a_run_that_is_done_has_nothing_left(train: Train) -> None:
    run = train("schedule.epochs=1")
    told: list[str] = []
    again = loop.resume(run.folder, watcher=Watcher(say=told.append), report=False)
    assert (again.stopped, again.digest) == ("done", run.digest)
    assert told[0] == "step 5 of 5: nothing is left to train"


def test_the_shortest_run_has_one_update(train: Train) -> None:
    assert train("schedule.epochs=1e-9").total == 1


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf])
def test_a_budget_of_no_time_is_refused_as_in_a_recipe(train: Train, minutes: float) -> None:
    run = train("schedule.epochs=1", "loop.minutes=1e-4")
    with pytest.raises(RecipeError, match=r"loop\.minutes is .*expected a number above 0"):
        loop.resume(run.folder, minutes=minutes, report=False)


# ---- what it refuses


def test_a_folder_that_holds_something_is_refused(train: Train, tmp_path: Path) -> None:
    train("schedule.epochs=1")
    with pytest.raises(UsageError, match="holds a run already"):
        train()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"is not empty and holds no run, but thesis\.tex"):
        train(output="other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.tex"]
    with pytest.raises(UsageError, match="holds no run"):
        loop.resume(tmp_path / "other")


def test_a_beginning_that_fails_leaves_nothing(train: Train, tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        train(data=tmp_path / "nowhere")
    with pytest.raises(UsageError):
        train(device="cuda:77")
    with pytest.raises(RecipeError, match="names no data"):
        train(data=None)
    assert not (tmp_path / "run").exists()


def test_what_was_killed_before_it_began_is_begun_anew(train: Train, tmp_path: Path) -> None:
    (tmp_path / "run" / "state" / "step-000000").mkdir(parents=True)
    (tmp_path / "run" / "recipe.yaml").touch()
    with pytest.raises(UsageError, match=r"holds no run, but recipe\.yaml, state"):  # somebody's, for all we know
        train("schedule.epochs=1")
    assert (tmp_path / "run" / "recipe.yaml").exists()
    (tmp_path / "run" / ".lock").touch()
    assert train("schedule.epochs=1").stopped == "done"


def changed_recipe(folder: Path, data: Path) -> None:
    path = folder / "recipe.yaml"
    path.write_text(path.read_text().replace("lr: 0.001", "lr: 0.002"))


def changed_data(folder: Path, data: Path) -> None:
    first, second = sorted((data / "train").rglob("*.png"))[:2]
    first.write_bytes(second.read_bytes())


def test_data_that_was_unpacked_again_is_the_same(train: Train, tmp_path: Path) -> None:
    """The same bytes under the same names with other times; but not where the run has no record of the bytes."""
    own, told = runs.images(tmp_path / "own"), []
    run = train(data=own, watcher=stop_at(2))
    for number, path in enumerate(sorted(own.rglob("*.png"))):
        os.utime(path, (number, number))
    path = run.folder / "run.json"
    content = json.loads(path.read_text())
    without = json.loads(path.read_text())
    del without["data"]["contents"]
    path.write_text(json.dumps(without))
    with pytest.raises(TrainingError, match=r"data\.fingerprint: [0-9a-f]{64} then, [0-9a-f]{64} now"):
        loop.resume(run.folder, report=False, watcher=Watcher(say=told.append))
    assert "were not recorded then" in told[0]
    path.write_text(json.dumps(content))
    told.clear()
    again = loop.resume(run.folder, report=False, watcher=Watcher(say=told.append))
    assert again.stopped == "done"
    assert any("their contents did not" in text for text in told)
    whole = train("schedule.epochs=3", data=own, output="whole")
    assert (
        whole.model.joinpath("model.safetensors").read_bytes() == again.model.joinpath("model.safetensors").read_bytes()
    )


def another_class(folder: Path, data: Path) -> None:
    for split in ("train", "validation"):
        source = next((data / split).rglob("*.png"))
        (data / split / "class 9").mkdir()
        (data / split / "class 9" / "x.png").write_bytes(source.read_bytes())


def other_weights(folder: Path, data: Path) -> None:
    path = folder / "run.json"
    content = json.loads(path.read_text())
    content["weights"] = {"source": "elsewhere", "sha256": "0" * 64}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed_recipe, r"recipe\.optim\.lr: 0\.001 then, 0\.002 now"),
        (changed_data, r"data\.fingerprint: [0-9a-f]{64} then, [0-9a-f]{64} now"),
        (another_class, "classes: .* then, .*class 9.* now"),
        (other_weights, "is of another run"),
    ],
)
def test_another_recipe_data_or_weights_are_refused(
    train: Train, tmp_path: Path, change: Callable[[Path, Path], None], said: str
) -> None:
    own = runs.images(tmp_path / "own")
    run = train(data=own, watcher=stop_at(2))
    assert run.stopped == "interrupted"
    change(run.folder, own)
    with pytest.raises(TrainingError, match=said):
        loop.resume(run.folder)


def test_other_versions_are_told(train: Train) -> None:
    run = train(watcher=stop_at(2))
    content = json.loads((run.folder / "run.json").read_text())
    content["versions"]["torch"] = "1.0"
    (run.folder / "run.json").write_text(json.dumps(content))
    told: list[str] = []
    loop.resume(run.folder, report=False, watcher=Watcher(say=told.append))
    assert told[1].startswith("started with other versions, so the last bits may differ: torch 1.0 then, 2.")


def test_data_may_move(train: Train, tmp_path: Path) -> None:
    own = runs.images(tmp_path / "own")
    run = train(data=own, watcher=stop_at(2))
    own.rename(tmp_path / "moved")
    with pytest.raises(DatasetError):
        loop.resume(run.folder)
    assert loop.resume(run.folder, tmp_path / "moved", report=False).stopped == "done"


# ---- how it computes


def test_pieces_give_the_same_batch(train: Train) -> None:
    words = ("schedule.epochs=1", "model.drop_path=0", "mix.prob=0")
    whole, four = train(*words), train(*words, "loop.accumulate=4", output="four")
    assert close(whole, four, 2e-4)


def close(one: Run, other: Run, tolerance: float) -> bool:
    """Whether the figures of two runs are that near to each other."""
    pairs = zip(one.metrics, other.metrics, strict=True)
    return all(a == b or a[key] == pytest.approx(b[key], rel=tolerance) for a, b in pairs for key in a if key != "kind")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_trains_and_resumes(train: Train, precision: str) -> None:
    words = f"loop.precision={precision}", "schedule.epochs=2"
    whole, stopped = train(*words), train(*words, output="stopped", watcher=stop_at(7))
    assert loop.resume(stopped.folder, report=False).digest == whole.digest
    losses = [row["loss"] for row in whole.metrics if "loss" in row]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["adamw", "nadamuon"])
def test_every_optimiser_resumes(train: Train, name: str) -> None:
    words = f"optim.name={name}", "optim.layer_decay=0.8", "schedule.epochs=1"
    whole, stopped = train(*words), train(*words, output="stopped", watcher=stop_at(3))
    assert loop.resume(stopped.folder, report=False).digest == whole.digest


def test_float16_leaves_out_updates_and_lowers_the_scale(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.amp.GradScaler
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda device, enabled: real(device, init_scale=2.0**60, enabled=enabled)
    )
    run = train("loop.precision=fp16", "schedule.epochs=2")
    state = json.loads((checkpoints(run.folder / "state")[run.step] / "state.json").read_text())
    assert 0 < state["skipped"] <= 10
    assert state["scaler"]["scale"] < 2.0**60


def test_gradient_checkpointing_changes_nothing(train: Train) -> None:
    words = ("schedule.epochs=1", "loop.grad_checkpointing=true")
    assert close(train("schedule.epochs=1"), train(*words, output="b"), 1e-6)


def test_compile_is_asked_for(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    plain, run = train("schedule.epochs=1"), train("schedule.epochs=1", "loop.compile=true", output="b")
    assert len(compiled) == 1
    assert run.figures == plain.figures


def test_a_compiler_that_does_not_work_is_told(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model: Any) -> Any:
        from torch._dynamo.exc import BackendCompilerFailed

        def call(images: Any) -> Any:
            raise BackendCompilerFailed("inductor", RuntimeError("No working C++ compiler found\nCommand: g++"), None)

        return call

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(
        TrainingError, match=r"torch\.compile does not work here: .*No working C\+\+ compiler found\n"
    ) as told:
        train("loop.compile=true")
    assert "loop.compile=false" in told.value.hint


def test_what_torch_was_set_to_is_as_before(train: Train) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    train("schedule.epochs=1")
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "vit_dpwee_patch16_reg1_gap_256", "vit_medium_patch16_rope_reg1_gap_256"]
)
def test_the_memory_of_a_image_is_estimated_well(name: str) -> None:
    model = weevit.create_model(name, num_classes=10)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Any] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held = model(torch.randn(2, 3, *model.img_size)).sum()
    counted = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 2
    assert held.requires_grad
    assert micro_batches.activation_bytes(model) == pytest.approx(counted, rel=0.1)


@pytest.mark.parametrize(("fits", "expected"), [(8, 1), (7, 2), (3, 4), (1, 8)])
def test_a_gpu_that_is_too_small_gets_smaller_pieces(fits: int, expected: int) -> None:
    tried: list[int] = []

    def attempt(size: int) -> None:
        tried.append(size)
        if size > fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    assert micro_batches._by_trial(8, attempt) == expected
    assert tried[-1] <= fits


def test_a_gpu_that_holds_not_one_image_is_an_error() -> None:
    def attempt(size: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(TrainingError, match="on a single image"):
        micro_batches._by_trial(8, attempt)


def test_pieces_on_a_cpu_fit_into_half_of_what_is_free(train: Train, tmp_path: Path) -> None:
    model = weevit.create_model("vit_tiny_patch16_224")
    each = micro_batches.activation_bytes(model)
    assert micro_batches._by_estimate(64, each, 200 * each) == 1
    assert micro_batches._by_estimate(64, each, 100 * each) == 2
    assert micro_batches._by_estimate(64, each, each) == 64
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    1000 kB\n")
    assert micro_batches.available_memory(meminfo) == 1_024_000
    assert micro_batches.available_memory(tmp_path / "none") > 1e9
    run = train("schedule.epochs=1", "loop.accumulate=auto")
    assert json.loads((run.folder / "run.json").read_text())["pieces"] == 1


def test_devices_and_precisions() -> None:
    cpu = torch.device("cpu")
    assert (choose_precision("auto", cpu), choose_precision("bf16", cpu)) == ("fp32", "bf16")
    with pytest.raises(UsageError, match="--device gpu: there is no such device"):
        choose_device("gpu")
    for other in ("mps", "meta", "cuda:99"):
        with pytest.raises(UsageError, match=f"--device {other}"):
            choose_device(other)
    if not torch.cuda.is_available():
        assert choose_device("auto") == cpu
        with pytest.raises(UsageError, match="PyTorch finds no GPU"):
            choose_device("cuda")


# ---- who watches


def test_progress_is_told(train: Train) -> None:
    seen: list[tuple[int, str]] = []
    lines: list[str] = []

    def moved(progress: Progress) -> None:
        seen.append((progress.step, progress.doing))
        lines.append(progress.line())

    train(watcher=Watcher(moved))
    assert [step for step, doing in seen if doing == "training"] == list(range(1, 16))
    assert [step for step, doing in seen if doing == "evaluating"] == [5, 10, 15]
    assert (2, "saving") in seen
    assert lines[-1].startswith("epoch 3/3 · step 15/15 · loss ")
    for part in ("top-1", "ema top-1", "lr", "img/s", "left"):
        assert part in lines[-1]


def test_checkpoints_by_minutes(train: Train) -> None:
    saved: list[int] = []
    words = ("schedule.epochs=1", "loop.checkpoint_every=1000 steps", "loop.checkpoint_minutes=1e-6")
    train(*words, watcher=Watcher(lambda progress: saved.append(progress.step) if progress.doing == "saving" else None))
    assert saved == [1, 2, 3, 4, 5]


def test_a_gpu_that_runs_out_of_memory_later_is_told(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(step_module, "loss", full)
    with pytest.raises(TrainingError, match=r"does not hold a batch of 8 in 1 micro-batch") as told:
        train()
    assert "loop.accumulate=2" in told.value.hint


def test_tensorboard_has_each_point_once_after_a_resume(train: Train) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tensorboard=True, watcher=stop_at(7))
    whole = loop.resume(run.folder, tensorboard=True, report=False)
    events = EventAccumulator(str(run.folder / "tensorboard"), purge_orphaned_data=False).Reload()
    points = [(event.step, event.value) for event in events.Scalars("train/loss")]
    expected = [(row["step"], row["loss"]) for row in whole.metrics if "loss" in row]
    assert points == [(step, pytest.approx(value)) for step, value in expected]
    assert {"validation/ema_top1", "train/lr", "speed/images_per_second"} <= set(events.Tags()["scalars"])


def test_a_damaged_model_is_written_anew_when_the_run_goes_on(train: Train) -> None:
    run = train(watcher=stop_at(7))
    good = (run.model / "model.safetensors").read_bytes()
    (run.model / "model.safetensors").write_bytes(good[:1000])
    work = reopen(run.folder, None, None, print)
    results.publish_again(work)
    assert (run.model / "model.safetensors").read_bytes() == good


def test_recipe_and_data_are_resolved_once(train: Train, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    run = train("schedule.epochs=1", data=data.name)
    monkeypatch.chdir("/")
    assert loop.resume(run.folder, report=False).stopped == "done"
    assert setup.resolved(run.folder, None, ()).data.path == str(data)


@pytest.mark.parametrize(
    ("value", "norm", "scale", "told"),
    [
        (1.0, 1.0, None, ""),
        (math.nan, 1.0, None, "the loss is nan"),
        (1.0, math.inf, None, "the norm of the gradients is inf"),
        (1.0, math.inf, 1024.0, ""),  # float16: the scaler skips the update and lowers its scale
        (1.0, math.inf, sitting.LOWEST_SCALE, "the norm of the gradients is inf"),
        (math.inf, 1.0, 1024.0, "the loss is inf"),
    ],
)
def test_a_loss_or_gradients_that_are_not_finite(
    value: float, norm: float, scale: float | None, told: str, tmp_path: Path
) -> None:
    scaler = SimpleNamespace(is_enabled=lambda: scale is not None, get_scale=lambda: scale or 1.0)
    work: Any = SimpleNamespace(folder=tmp_path, state=SimpleNamespace(step=7, scaler=scaler), ranks=Ranks())
    batch: Any = SimpleNamespace(ids=("a.png", "b.png"))
    expected = (
        pytest.raises(TrainingError, match=f"In step 8, {told}. The images: a.png, b.png") if told else nullcontext()
    )
    with expected:
        sitting.refuse_not_finite(work, value, norm, batch)

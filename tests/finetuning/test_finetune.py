"""Fine-tuning: what is held out, what it starts from, how it is planned, and which of two models it keeps."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("filelock")
pytest.importorskip("sklearn")
pytest.importorskip("jinja2")

import runs  # noqa: E402 - after the skips
from browsing import DESKTOP, PHONE  # noqa: E402

import weevit  # noqa: E402
from weevit.cli.app import _run as command  # noqa: E402
from weevit.errors import DatasetError, TrainingError, UsageError  # noqa: E402
from weevit.evaluation.metrics import softmax  # noqa: E402
from weevit.finetuning import blending, planning  # noqa: E402
from weevit.finetuning import finetune as finetuning  # noqa: E402
from weevit.finetuning.baseline import FineTuned, better  # noqa: E402
from weevit.finetuning.finetune import finetune, plan_finetune  # noqa: E402
from weevit.finetuning.planning import Speed, make_plan  # noqa: E402
from weevit.finetuning.task import Task  # noqa: E402
from weevit.training import loop, results  # noqa: E402
from weevit.training.machine import Machine  # noqa: E402
from weevit.training.pace import Lookout  # noqa: E402
from weevit.training.state import checkpoints, read_weights  # noqa: E402
from weevit.training.watch import Watcher  # noqa: E402
from weevit.zoo.checkpoint import read_checkpoint  # noqa: E402

MODEL = "digits"
SHORT = ("schedule.epochs=2", "augment.randaugment=null", "loop.workers=0", "data.hold_out=0.25")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.images(tmp_path_factory.mktemp("data"), train=80, validation=30)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No curves, which take longer than the training, and a moment of measuring."""
    monkeypatch.setattr(results, "draw_curves", lambda *arguments: False)
    monkeypatch.setattr(planning, "MEASURED", 0.01)


@pytest.fixture
def tune(data: Path, tmp_path: Path) -> Callable[..., FineTuned]:
    def run(*words: str, output: str = "out", **more: Any) -> FineTuned:
        return finetune(more.pop("data", data), tmp_path / output, MODEL, (*SHORT, *words), threads=1, **more)

    return run


# ---- what comes out


def test_the_better_one_is_kept_with_names_threshold_and_both_figures(tune: Any, data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    done = tune("optim.lr=2e-3", "schedule.epochs=6", watcher=Watcher(say=told.append))
    if done.held_out["tuned"] != done.held_out["probe"]:
        assert done.chosen == max(done.held_out, key=done.held_out.__getitem__)
    there = {path.name for path in done.folder.iterdir()}
    assert {"probe", "tuned", "model", "comparison", "report.html", "finetune.json"} <= there
    model = weevit.load(done.folder)
    assert [label.id for label in model.checkpoint.labels or ()] == ["class 0", "class 1", "class 2"]
    assert model.preprocessing == weevit.load(MODEL).preprocessing
    assert model.checkpoint.decision is not None
    assert model.checkpoint.decision.coverage == 0.95
    record = json.loads((done.folder / "finetune.json").read_text())
    assert record["held_out"] == done.held_out
    assert record["validation"] == done.validation
    assert any(line.startswith("memory") for line in told)
    assert any(line.startswith("validation  fine-tuned") for line in done.lines())
    images = sorted((data / "validation").rglob("*.png"))
    right = np.mean([model.classify(path).top[0].id == path.parent.name for path in images])
    if done.chosen == "tuned":  # a probe would have been fitted again meanwhile
        assert right == pytest.approx(done.validation["tuned"])


def test_where_both_are_as_good_the_log_loss_decides() -> None:
    assert better({"tuned": 0.9, "probe": 0.9}, {"tuned": 0.2, "probe": 0.3}) == "tuned"
    assert better({"tuned": 0.9, "probe": 0.9}, {"tuned": 0.3, "probe": 0.3}) == "probe"
    assert better({"tuned": 0.8, "probe": 0.9}, {"tuned": 0.2, "probe": 0.3}) == "probe"
    assert better({"tuned": 0.9, "probe": 0.8}, {"tuned": 0.3, "probe": 0.2}) == "tuned"


def test_nothing_that_is_held_out_is_learned_from(tune: Any) -> None:
    done = tune()
    run = json.loads((done.folder / "tuned" / "run.json").read_text())
    assert (run["data"]["train"], run["data"]["validation"]) == (60, 20)
    assert done.probe.images == {"train": 60, "validation": 20}
    judged = {Path(row.input).name for row in done.probe.evaluations["validation"].rows}
    assert len(judged) == 20
    shown = {Path(name).name for name in _trained_on(done)}
    assert len(shown) == 60
    assert not shown & judged
    assert done.comparison is not None
    assert len(done.comparison.indices) == 30


def _trained_on(done: FineTuned) -> list[str]:
    from weevit.training.setup import reopen

    return [source.name for source in reopen(done.folder / "tuned", None, None, print).loader.split.sources]


def test_training_starts_from_the_head_of_the_probe(tune: Any) -> None:
    done = tune("loop.keep=9")
    first = read_weights(checkpoints(done.folder / "tuned" / "state")[0], "model")
    head = done.probe.checkpoint.tensors()
    assert np.array_equal(first["head.weight"].numpy(), head["head.weight"])
    assert np.array_equal(first["head.bias"].numpy(), head["head.bias"])


def test_a_head_that_knows_only_what_is_common_is_left_out(data: Path) -> None:
    task = Task.of(data, MODEL, "finetune", SHORT)

    class Useless:
        chosen = type("chosen", (), {"score": 0.3})

    assert task.starting_from(Useless()) is task  # type: ignore[arg-type]


def test_what_training_spoils_is_not_kept(tune: Any, data: Path) -> None:
    done = tune("optim.lr=5", "optim.clip=null", "schedule.warmup=0 steps", "loop.precision=fp32")
    assert done.held_out["tuned"] < done.held_out["probe"]
    assert done.chosen == "probe"
    assert done.validation["tuned"] < done.validation["probe"]
    whole = weevit.load(done.folder / "whole").checkpoint
    kept = weevit.load(done.folder).checkpoint
    assert all(np.array_equal(kept.tensors()[name], tensor) for name, tensor in whole.tensors().items())
    assert kept.decision == whole.decision
    run = json.loads((done.folder / "whole" / "run.json").read_text())
    assert run["images"] == {"train": 80, "validation": 30}  # fitted again to all
    assert "did not beat" in "\n".join(done.lines())


def test_the_fine_tuned_model_is_calibrated_on_what_was_held_out(tune: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from weevit.finetuning import baseline

    monkeypatch.setattr(baseline, "better", lambda scores, losses: "tuned")
    done = tune()
    tuned, kept = read_checkpoint(done.folder / "blend"), read_checkpoint(done.folder)
    assert kept.decision is not None
    heat = kept.decision.temperature
    assert heat != 1
    for name in ("head.weight", "head.bias"):
        assert np.allclose(kept.tensors()[name] * heat, tuned.tensors()[name], rtol=1e-6)
    assert np.array_equal(kept.tensors()["blocks.0.norm1.weight"], tuned.tensors()["blocks.0.norm1.weight"])
    assert done.comparison is not None
    assert done.comparison.second.model["sha256"] == kept.sha256


def test_the_fine_tuned_model_is_the_best_on_the_way_from_the_probe(tune: Any, data: Path) -> None:
    """By the log loss of what was held out, which is reckoned here anew, from files."""
    done = tune("optim.lr=2e-3", "schedule.epochs=6")
    assert list(done.blend) == list(blending.SHARES)
    start, end, found = (read_checkpoint(done.folder / name) for name in ("probe", "tuned", "blend"))
    best = min(done.blend, key=done.blend.__getitem__)
    assert [label.id for label in found.labels or ()] == ["class 0", "class 1", "class 2"]
    for name, tensor in found.tensors().items():
        wanted = (1 - best) * start.tensors()[name] + best * end.tensors()[name]
        assert np.allclose(tensor, wanted, atol=1e-6), name
    split = Task.of(data, MODEL, "finetune", SHORT).held.split("validation")
    answers = weevit.load(done.folder / "blend").run(split.sources, outputs=("logits",))
    chances = softmax([answer.logits for answer in answers])[range(len(split)), split.targets]
    assert -np.log(chances).mean() == pytest.approx(done.blend[best], rel=1e-4)
    assert any(line.startswith(f"blend       {best:g} of the way") for line in done.lines())
    record = json.loads((done.folder / "finetune.json").read_text())
    assert record["blend"] == {str(share): loss for share, loss in done.blend.items()}


def test_stopped_and_gone_on_is_the_same(tune: Any) -> None:
    at = [0]
    stop = Watcher(
        moved=lambda progress: at.__setitem__(0, progress.step if progress.doing == "training" else 0),
        should_stop=lambda: at[0] >= 3,
    )
    stopped = tune(watcher=stop)
    assert stopped.chosen == ""
    assert stopped.validation == {}
    assert "nothing was chosen yet" in stopped.lines()[0]
    assert not (stopped.folder / "finetune.json").exists()
    gone_on, straight = tune(), tune(output="straight")
    first, second = (read_checkpoint(done.folder / "tuned").sha256 for done in (gone_on, straight))
    assert first == second
    assert gone_on.held_out == straight.held_out
    assert gone_on.validation == straight.validation


def test_it_goes_on_as_it_was_begun(data: Path, tmp_path: Path) -> None:
    """What is left out is meant as it was; what is given otherwise is refused before anything is written."""
    folder, at = tmp_path / "out", [0]
    stop = Watcher(
        moved=lambda progress: at.__setitem__(0, progress.step if progress.doing == "training" else 0),
        should_stop=lambda: at[0] >= 3,
    )
    stopped = finetune(data, folder, MODEL, SHORT, threads=1, watcher=stop)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(UsageError, match=r"started with .*data\.hold_out=0\.25; optim\.lr=1 is given now"):
        finetune(data, folder, MODEL, ["optim.lr=1"], threads=1)
    other = weevit.save(
        weevit.create_model("vit_micro_patch16_reg1_gap_64", num_classes=3), tmp_path / "other"
    ).path.parent
    with pytest.raises(UsageError, match="started with the weights of"):
        finetune(data, folder, other, threads=1)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = finetune(data, folder, threads=1)  # neither model nor overrides
    assert done.chosen
    assert (done.run.stopped, done.run.total) == ("done", stopped.run.total)
    assert done.probe.images["validation"] == 20


def test_a_folder_that_is_done_or_of_something_else_is_refused(tune: Any, data: Path, tmp_path: Path) -> None:
    tune()
    with pytest.raises(UsageError, match="holds a fine-tuning already"):
        tune()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letters.txt").write_text("dear")
    with pytest.raises(UsageError, match=r"holds no fine-tuning, but letters\.txt"):
        tune(output="other")


def test_labels(tmp_path: Path, data: Path) -> None:
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels", "split"])
        for path in sorted(data.rglob("*.png")):
            split, name = path.parts[-3], path.parts[-2]
            writer.writerow([path, f"{name};any" if int(path.stem) % 2 else name, split])
    done = finetune(tmp_path / "labels.csv", tmp_path / "out", MODEL, SHORT, threads=1)
    assert done.measure == "map"
    assert set(done.validation) == {"probe", "tuned"}
    decision = weevit.load(done.folder).checkpoint.decision
    assert decision is not None
    assert decision.multi_label
    assert "mean average precision" in "\n".join(done.lines())


# ---- images that cannot be read


@pytest.fixture
def broken(data: Path, tmp_path: Path) -> Path:
    """Two training images and one of validation hold something else; more than 1 % of either."""
    folder = tmp_path / "broken"
    shutil.copytree(data, folder)
    train, validation = (sorted((folder / name).rglob("*.png")) for name in ("train", "validation"))
    for path in (train[3], train[40], validation[5]):
        path.write_bytes(b"<html>")
    return folder


def test_images_that_cannot_be_read_are_left_out_and_listed(tune: Any, broken: Path) -> None:
    told: list[str] = []
    done = tune("schedule.epochs=1", data=broken, watcher=Watcher(say=told.append))
    assert done.chosen
    assert weevit.load(done.folder).checkpoint.labels
    with (done.folder / "failures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["train", "train", "validation"]
    assert {row["status"] for row in rows} == {"decode_error"}
    assert any("3 images cannot be read" in text for text in told)
    assert done.comparison is not None
    assert len(done.comparison.indices) == 29
    page = (done.folder / "report.html").read_text()
    assert all(Path(row["input"]).name in page for row in rows)
    assert json.loads((done.folder / "finetune.json").read_text())["failures"] == 3


def test_a_remedy_works_in_the_folder_that_names_it(tune: Any, broken: Path) -> None:
    """Who bears fewer is told before anything is trained; both remedies go on in that folder."""
    with pytest.raises(TrainingError, match=r"2 of 80 training images cannot be read; loop\.max_bad is 0\.01") as error:
        tune("schedule.epochs=1", "loop.max_bad=0.01", data=broken)
    assert "add loop.max_bad=0.03" in (error.value.hint or "")
    done = tune("schedule.epochs=1", "loop.max_bad=0.03", data=broken)
    assert done.chosen
    with pytest.raises(TrainingError, match="2 of 80"):
        tune("schedule.epochs=1", "loop.max_bad=0.01", data=broken, output="other")
    sorted((broken / "train").rglob("*.png"))[3].unlink()  # one is no share of few: no limit is below it
    assert tune("schedule.epochs=1", "loop.max_bad=0.01", data=broken, output="other").chosen


def test_broken_validation_images_alone_are_told_before_training(tune: Any, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "blind"
    shutil.copytree(data, folder)
    for path in (folder / "validation").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match="None of the 30 validation images can be read"):
        tune(data=folder)
    assert not (tmp_path / "out" / "tuned").exists()


def test_a_class_that_broken_images_leave_with_one_is_named(tune: Any, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "few"
    shutil.copytree(data, folder)
    images = sorted((folder / "train" / "class 1").glob("*.png"))
    for path in images[2:]:
        path.unlink()
    images[0].write_bytes(b"")
    for share in ("0.25", "0.05"):
        with pytest.raises(DatasetError, match=r"class 1 \([01]\)"):
            tune(f"data.hold_out={share}", data=folder)


@pytest.mark.parametrize(("label", "said"), [("label", "has one class, 'hat'"), ("labels", "no image has a label")])
def test_classes_that_cannot_be_told_apart_are_refused_at_once(
    tune: Callable[..., FineTuned], data: Path, tmp_path: Path, label: str, said: str
) -> None:
    """Before a head is fitted, and without a folder."""
    rows = [f"{path},{'hat' if label == 'label' else ''}\n" for path in data.rglob("*.png")]
    (tmp_path / "t.csv").write_text(f"path,{label}\n{''.join(rows)}")
    with pytest.raises(DatasetError, match=said):
        tune(data=tmp_path / "t.csv")
    assert not (tmp_path / "out").exists()


# ---- time


@pytest.mark.parametrize("minutes", [-1, float("nan")])
def test_minutes_that_are_none_are_refused(tune: Any, minutes: float) -> None:
    with pytest.raises(UsageError, match="minutes is a number from 0 to"):
        tune(minutes=minutes)


@pytest.mark.parametrize("minutes", [1e-6, 0.001])
def test_where_no_time_is_left_the_head_is_the_model(tune: Any, minutes: float) -> None:
    done = tune(minutes=minutes)
    assert (done.chosen, done.run, done.comparison) == ("probe", None, None)
    assert done.lines()[0] == "kept        the linear head: no time was left for training"
    assert set(done.validation) == {"probe"}
    whole = weevit.load(done.folder / "whole").checkpoint
    assert weevit.load(done.folder).checkpoint.tensors().keys() == whole.tensors().keys()
    assert json.loads((done.folder / "finetune.json").read_text())["run"] is None
    assert "no time was left" in (done.folder / "report.html").read_text()


def test_where_the_time_is_up_before_an_update_the_head_is_the_model(
    tune: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "time_left", lambda *arguments: 1e-3)
    done = tune(minutes=2)
    assert (done.folder / "tuned" / "run.json").exists()  # it began
    assert (done.chosen, done.run, done.comparison) == ("probe", None, None)
    assert "no time was left" in done.lines()[0]
    assert weevit.load(done.folder).checkpoint.num_classes


def test_where_training_diverges_the_head_is_the_model(tune: Any, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = loop.refuse_not_finite

    def third_is_nan(work: Any, loss: float, norm: float, batch: Any) -> None:
        refuse(work, math.nan if work.state.step == 2 else loss, norm, batch)

    monkeypatch.setattr(loop, "refuse_not_finite", third_is_nan)
    done = tune()
    assert (done.chosen, done.run, done.comparison) == ("probe", None, None)
    assert done.lines()[0] == "kept        the linear head: training diverged"
    assert re.search(r"In step 3, the loss is nan.* A lower optim.lr", done.diverged)
    assert weevit.load(done.folder).classify([next(data.rglob("*.png"))])
    assert json.loads((done.folder / "finetune.json").read_text())["diverged"] == done.diverged
    assert "training diverged" in (done.folder / "report.html").read_text()


def test_a_budget_of_a_fraction_ends_with_a_model(tune: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock says that every update took a quarter of what is left: the schedule ends with the fourth."""
    monkeypatch.setattr(finetuning, "time_left", lambda *arguments: 60.0)
    monkeypatch.setattr(Lookout, "updated", lambda own, step, *_: own.pace.ends.append((step, 4)) if step == 2 else 0)
    done = tune("schedule.epochs=40", minutes=2)
    assert done.run is not None
    assert (done.run.stopped, done.run.step, done.run.total, done.run.ends) == ("done", 4, 4, ((2, 4),))
    assert done.chosen
    assert done.run.metrics[-1]["kind"] == "eval"
    rates = [row["lr"] for row in done.run.metrics if "lr" in row]
    assert rates[-1] < 1e-4  # all of the schedule was gone through
    page = (done.folder / "report.html").read_text()
    assert "The schedule was fitted to the time" in page


# ---- the page and what is printed


@pytest.mark.parametrize(("width", "dark"), [(DESKTOP, False), (PHONE, True), (PHONE, False), (DESKTOP, True)])
def test_the_page_in_a_browser(page_folder: Path, browser: Any, width: int, dark: bool) -> None:
    for page in (page_folder / "report.html", page_folder / "evaluation.html"):
        seen = browser.look(page, width, dark)
        seen.check()
    seen = browser.look(page_folder / "report.html", width, dark)
    assert seen.facts["tiny"] == 0
    assert seen.facts["charts"] >= 4
    assert seen.facts["images"] == 8
    text = seen.facts["text"]
    assert text.index("Kept is the") < text.index("How good it is") < text.index("How it went") < text.index("Settings")
    assert "class 0" in text
    assert "McNemar" in text


@pytest.fixture(scope="module")
def page_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "out"
    finetune(data, folder, MODEL, SHORT, threads=1)
    return folder


def test_what_is_printed_fits_80_columns_and_says_once_what_is_kept(tune: Any) -> None:
    told: list[str] = []
    done = tune("optim.lr=2e-3", watcher=Watcher(say=told.append))
    lines = done.lines()
    assert all(len(line) <= 80 for line in lines if not line.startswith(("model  ", "page  ")))
    assert sum(line.startswith("kept  ") for line in lines) == 1
    unlike = [text.partition(": ")[2].partition(":")[0] for text in told if "unlike the recipe" in text]
    assert sorted(unlike) == ["augment.randaugment", "data.hold_out", "optim.lr", "schedule.epochs"]  # as typed


def test_verdicts_do_not_contradict_the_choice(tune: Any) -> None:
    done = tune()
    tuned = replace(done, chosen="tuned", held_out={"tuned": 0.9, "probe": 0.8})
    head = replace(done, chosen="probe", held_out={"tuned": 0.7, "probe": 0.8})
    assert tuned.verdict() == "the fine-tuned model: 90.0 % right on 20 held-out images, the linear head 80.0 %"
    assert head.verdict().startswith("the linear head: fine-tuning did not beat it on 20 held-out images (70.0 % right")
    assert not any("did not beat" in line for line in tuned.lines())


# ---- the plan


@pytest.fixture
def plan(data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., planning.Plan]:
    """A plan on a machine of known speed: an update takes 2 s at 64 px."""

    def made(minutes: float | None = None, *words: str, images: int = 2000, spent: float | None = 60.0) -> Any:
        def measure(recipe: Any, *_: Any) -> Speed:
            machine = Machine(torch.device("cpu"), 2, "fp32")
            return Speed(machine, 2.0 * (recipe.model.image_size / 64) ** 2, recipe.loop.batch_size, 0.01, 0.01, 10**9)

        monkeypatch.setattr(planning, "measure", measure)
        task = Task.of(data, MODEL, "finetune", words)
        train = task.held.split("train")
        held = replace(task.held, splits={**task.held.splits, "train": train.take(np.arange(images) % len(train))})
        return make_plan(replace(task, held=held), minutes, spent)

    return made


def test_a_recipe_with_planned_epochs_keeps_its_shares(data: Path) -> None:
    """20 of 450 epochs of warmup were half of 40 epochs, and all of 9, so that the rate never reached its peak."""
    part = planning.draft(Task.of(data, MODEL, "sbb_in1k_wee", ())).recipe.schedule
    assert (str(part.epochs), part.warmup.unit, round(part.warmup.value, 2)) == ("40 epochs", "%", 4.44)
    words = ("schedule.warmup=3 epochs", "mix.until=225 epochs")
    recipe = planning.draft(Task.of(data, MODEL, "sbb_in1k_wee", words)).recipe
    assert (str(recipe.schedule.warmup), str(recipe.mix.until)) == ("3 epochs", "225 epochs")


def test_with_time_the_data_says_how_many_epochs(plan: Any) -> None:
    assert plan().recipe.schedule.epochs.value == round(planning.SEEN / 2000)
    assert plan(images=200).recipe.schedule.epochs.value == planning.MOST
    assert plan(images=10**5).recipe.schedule.epochs.value == planning.FEWEST
    assert plan().recipe.loop.minutes is None


def test_with_little_time_as_many_as_fit(plan: Any) -> None:
    found = plan(12)
    assert 2 <= found.recipe.schedule.epochs.value < round(planning.SEEN / 2000)
    assert 0.8 * 12 * 60 < found.total <= 12 * 60 * (1 - planning.SPARE)
    assert found.recipe.loop.minutes * 60 + 60 <= 12 * 60
    assert "do not fit into the time" in found.notes[-1]


def test_with_less_time_fewer_epochs_and_never_smaller_images(plan: Any) -> None:
    """Images of another size than the model knows cost more than the updates that they save."""
    found = plan(3)
    assert found.recipe.model.image_size == 64
    assert 0 < found.recipe.schedule.epochs.value < 2
    assert plan(3, "model.image_size=48").recipe.model.image_size == 48
    assert plan(1.02).recipe.schedule.epochs.value == 0  # the head is the model


def test_what_the_user_says_is_not_planned_otherwise(plan: Any) -> None:
    found = plan(12, "schedule.epochs=30", "loop.batch_size=64", "loop.minutes=5", images=200).recipe
    assert (found.schedule.epochs.value, found.loop.batch_size, found.loop.minutes) == (30, 64, 5)


def test_few_images_have_small_batches_and_a_lower_rate(plan: Any) -> None:
    many, few = plan().recipe, plan(images=200).recipe
    assert few.loop.batch_size == planning.SMALLEST
    assert few.learning_rate == pytest.approx(many.learning_rate * (few.loop.batch_size / many.loop.batch_size) ** 0.5)


def test_what_is_measured(data: Path) -> None:
    plan = plan_finetune(data, MODEL, SHORT, threads=1)
    assert plan.speed.update > 0
    assert plan.speed.asked > 0
    assert plan.speed.memory > 10**7
    assert plan.images == {"to learn from": 60, "held out": 20, "validation": 30}
    assert set(plan.seconds) == {"probe", "evaluation", "training"}  # nothing is measured before a run


# ---- the command line


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(data), *SHORT, "--model", MODEL, "--threads", "1"]
    assert command(["finetune", *words, "--plan"]) == 0
    assert capsys.readouterr().out.startswith("images    60 to learn from, 20 held out, 30 validation · 3 classes")
    assert command(["finetune", *words]) == 2
    assert "--output says which" in capsys.readouterr().err
    assert command(["finetune", *words, "-o", str(tmp_path / "out"), "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "weevit.finetune/1"
    assert told["chosen"] in ("tuned", "probe")

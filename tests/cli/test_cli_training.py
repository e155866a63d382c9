"""`weevit train` and `weevit resume`: what they print, and how they end."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("filelock")
pytest.importorskip("sklearn")

import runs  # noqa: E402 - after the skips

from weevit.cli import progress as bars  # noqa: E402
from weevit.cli import training_view  # noqa: E402
from weevit.cli.app import _run as run  # noqa: E402
from weevit.recipes.recipe import parse_recipe  # noqa: E402
from weevit.runs.saved import Best  # noqa: E402
from weevit.training import results  # noqa: E402
from weevit.training.watch import Progress  # noqa: E402

Cli = Callable[..., tuple[int, str, str]]

QUICK = "--threads", "1", "--no-report"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.images(tmp_path_factory.mktemp("data"))


@pytest.fixture
def cli(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in `tmp_path`, where `my.yaml` lies; gives exit code, stdout and stderr."""
    monkeypatch.setattr(results, "draw_curves", lambda *arguments: False)
    monkeypatch.chdir(tmp_path)
    runs.recipe(tmp_path / "my.yaml", runs.RECIPE.replace("epochs: 3", "epochs: 1"))

    def command(*words: object) -> tuple[int, str, str]:
        code = run([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def test_train_says_what_it_does_and_what_comes_next(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "PLAIN_EVERY", 0.0)
    code, out, said = cli("train", "my.yaml", "--data", data, "-o", "run", *QUICK)
    assert (code, out) == (0, "")
    lines = said.splitlines()
    assert lines[0] == "vit_micro_patch16_reg1_gap_64 · 0.2 M parameters · 32 px · fresh weights"
    assert lines[1] == "40 train, 9 validation · 3 classes: class 0, class 1, class 2 · cpu, 1 threads, fp32"
    assert sum(line.startswith("epoch 1/1 · step ") for line in lines) == 5
    assert lines[-2].startswith("best: ema_top1 ")
    assert lines[-1] == "next: weevit classify IMAGE -m run"
    code, out, said = cli("resume", "run", "--no-report")
    assert code == 0
    assert said.splitlines()[0] == "step 5 of 5: nothing is left to train"
    code, out, said = cli("train", "my.yaml", "--data", data, "-o", "run")
    assert code == 2
    assert "weevit resume run" in said


def test_json_is_one_object(cli: Cli, data: Path) -> None:
    code, out, said = cli("train", "my.yaml", "--data", data, "-o", "run", "--json", "-q", *QUICK, "--seed", 7)
    assert (code, said) == (0, "")
    content = json.loads(out)
    assert (content["schema"], content["stopped"], content["step"], content["total"]) == ("weevit.run/1", "done", 5, 5)
    assert json.loads(Path("run/run.json").read_text())["end"]["digest"] == content["digest"]
    assert "seed: 7" in Path("run/recipe.yaml").read_text()


def test_ctrl_c_saves_and_exits_with_130(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = training_view._plain

    def plain() -> Callable[[Progress], None]:
        moved = real()

        def told(progress: Progress) -> None:
            if progress.step == 3 and progress.doing == "training":
                signal.raise_signal(signal.SIGINT)
            moved(progress)

        return told

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(training_view, "_plain", plain)
    code, _, said = cli("train", "my.yaml", "--data", data, "-o", "run", *QUICK)
    assert code == 130
    assert "Saving where it is, then stopping. Ctrl-C again stops at once." in said
    assert said.splitlines()[-1] == "next: weevit resume run   resumes from step 3 of 5"
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setattr(training_view, "_plain", real)
    code, _, said = cli("resume", "run", "--no-report")
    assert code == 0
    assert said.splitlines()[0] == "epoch 1, step 3: same order, same draws"


def test_from_begins_a_new_run_with_the_weights_of_another(cli: Cli, data: Path) -> None:
    words = ("train", "my.yaml", "--data", data, "-q", *QUICK)
    assert cli(*words, "-o", "first")[0] == 0
    assert cli(*words, "-o", "second", "--from", "first", "--minutes", 5)[0] == 0
    recorded = json.loads(Path("second/run.json").read_text())
    assert recorded["weights"]["source"] == str(Path("first").absolute())
    assert recorded["recipe"]["loop.minutes"] == 5
    code, _, said = cli(*words, "-o", "third", "--from", "first", "--model", "pwee")
    assert code == 2
    assert "both at once is not possible" in said


def test_every_next_step_leads_on(cli: Cli, data: Path) -> None:
    """Done, stopped early, out of time: what is printed can be typed, and is more than what is there."""
    words = ("train", "my.yaml", "--data", data, *QUICK)
    assert cli(*words, "-o", "first")[0] == 0
    code, _, said = cli("resume", "first", "--no-report")
    assert said.splitlines()[-2].startswith("more: weevit train --from first --epochs N -o NEW ")
    assert said.splitlines()[-1] == "next: weevit classify IMAGE -m first"
    code, _, said = cli("train", "--from", "first", "--epochs", 2, "-o", "second", *QUICK)  # as it is printed
    assert code == 0
    assert "10 of 10 steps" in Path("second/log.txt").read_text()
    assert json.loads(Path("second/run.json").read_text())["weights"]["source"] == str(Path("first").absolute())
    code, _, said = cli("train", "--from", "second", "optim.lr=1e-9", "loop.early_stop=1", "--epochs", 9, "-o", "third",
        "schedule.min_lr=0", "schedule.warmup_lr=0", *QUICK)  # fmt: skip
    assert json.loads(Path("third/run.json").read_text())["end"]["stopped"] == "early stop"
    assert "more: weevit train --from third --epochs N -o NEW" in said
    assert "weevit resume" not in said
    code, _, said = cli("train", "--from", "third", "loop.minutes=1e-4", "--epochs", 900, "-o", "fourth", *QUICK)
    assert said.splitlines()[-1].startswith("next: weevit resume fourth --minutes 1   resumes from step ")
    assert cli("train", "--from", "nowhere", "-o", "fifth")[0] == 2
    code, _, said = cli("train", "-o", "fifth")
    assert code == 2
    assert "RECIPE was not given" in said


def test_a_fine_tuning_is_trained_on_by_its_folder(tmp_path: Path, data: Path) -> None:
    from weevit.cli.train import _recipe_of

    (tmp_path / "out" / "tuned").mkdir(parents=True)
    (tmp_path / "out" / "tuned" / "recipe.yaml").write_text("")
    out = str(tmp_path / "out")
    assert _recipe_of(None, ("a.b=1",), out) == (str(tmp_path / "out" / "tuned"), ("a.b=1",))
    assert _recipe_of("a.b=1", ("c.d=2",), out) == (str(tmp_path / "out" / "tuned"), ("a.b=1", "c.d=2"))
    assert _recipe_of("sbb_in1k_pwee", (), out) == ("sbb_in1k_pwee", ())


def test_resume_remembers_tensorboard(cli: Cli, data: Path) -> None:
    pytest.importorskip("tensorboard")
    words = ("train", "my.yaml", "--data", data, "-q", *QUICK)
    assert cli(*words, "-o", "run", "--tensorboard", "loop.minutes=1e-4", "schedule.epochs=3")[0] == 0
    first = {path.name for path in Path("run/tensorboard").iterdir()}
    assert cli("resume", "run", "--no-report", "--minutes", 5)[0] == 0
    assert {path.name for path in Path("run/tensorboard").iterdir()} != first  # written anew, with all rows
    assert cli(*words, "-o", "plain")[0] == 0
    assert cli("resume", "plain", "--no-report")[0] == 0
    assert not Path("plain/tensorboard").exists()


def test_a_dry_run_prints_the_recipe_and_trains_nothing(cli: Cli, data: Path) -> None:
    code, out, _ = cli("train", "my.yaml", "optim.lr=0.5", "--data", data, "--model", "pwee", "--dry-run")
    assert code == 0
    recipe = parse_recipe(out, "printed")
    assert (recipe.optim.lr, recipe.model.name, recipe.data.path) == (0.5, "pwee", str(data))
    assert [path.name for path in Path().iterdir()] == ["my.yaml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "my.yaml", "--data", "."), "--output was not given"),
        (("train", "my.yaml", "-o", "run"), "names no data"),
        (("train", "mine.yaml", "-o", "run"), "No recipe 'mine.yaml'"),
        (("train", "my.yaml", "optim.lrr=1", "-o", "run"), "optim.lr"),
        (("resume", "nowhere"), "holds no run"),
    ],
)
def test_what_cannot_be_meant(cli: Cli, words: tuple[str, ...], said: str) -> None:
    code, _, told = cli(*words)
    assert code in (1, 2)
    assert said in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"thesis.tex": ""}, "holds no run, but thesis.tex.\nweevit train RECIPE"),
        ({"run.json": '{"schema": "weevit.fit/2"}'}, "holds no run, but run.json.\nweevit train RECIPE"),
        ({"begun.json": "{}"}, "holds no run, but begun.json.\nweevit finetune DATA -o mine   resumes"),
    ],
)
def test_what_is_no_run_is_not_resumed(cli: Cli, files: dict[str, str], said: str) -> None:
    """The hint was one for an output: --output mine-2, which resume does not have."""
    Path("mine").mkdir()
    for name, text in files.items():
        (Path("mine") / name).write_text(text)
    code, _, told = cli("resume", "mine")
    assert code == 2
    assert said in told


# ---- the live view


def shown(progress: Progress, width: int = 80) -> str:
    from rich.console import Console

    console = Console(width=width, file=StringIO())
    console.print(training_view.drawn(progress))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_live_table_fits_into_80_columns() -> None:
    figures = {"val_loss": 1.1, "top1": 0.712, "ema_val_loss": 1.0, "ema_top1": 0.7193}
    best = Best(35_400, "ema_top1", 0.7193, "ema")
    progress = Progress(41_200, 118_000, 5_900, 1.2345, 2e-4, 138.2, 0.07, 5400.0, figures, best, "evaluating", 2)
    text = shown(progress)
    assert "…" not in text
    for part in (
        *("35%", "90 min left", "evaluating", "epoch", "7/20", "41,200/118,000", "1.234", "top-1", "71.20 %"),
        *("ema top-1", "71.93 %", "img/s", "138.2", "data wait", "7%", "rate", "2.0e-04", "unreadable"),
        "71.93 % at 35,400",
    ):
        assert part in text


def test_a_terminal_sees_sentences_above_the_table(cli: Cli, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_view, "is_terminal", lambda: True)
    seen: list[Any] = []
    real = training_view.drawn
    monkeypatch.setattr(training_view, "drawn", lambda progress: seen.append(progress.step) or real(progress))
    code, _, said = cli("train", "my.yaml", "--data", data, "-o", "run", *QUICK)
    assert code == 0
    assert {1, 2, 3, 4, 5} <= set(seen)
    assert "40 train, 9 validation" in said

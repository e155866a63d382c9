"""`weevit eval` and `weevit compare` as they are typed: what is said where, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from weevit.cli import app

COMMAND = (sys.executable, "-m", "weevit")
pytest.importorskip("jinja2")


class Said(NamedTuple):
    stdout: str
    stderr: str


Says = Callable[..., Said]


@pytest.fixture
def weevit_says(capsys: pytest.CaptureFixture[str]) -> Says:
    """Run a command in this process, which saves the second that a new one takes to start."""

    def run(*words: object, code: int = 0) -> Said:
        capsys.readouterr()
        found = app._run([str(word) for word in words])
        said = Said(*capsys.readouterr())
        assert found == code, said.stderr
        assert "Traceback" not in said.stderr
        return said

    return run


def test_eval_says_and_writes(weevit_says: Says, colour_model: Path, images: Path, tmp_path: Path) -> None:
    done = weevit_says("eval", colour_model, images, "-o", tmp_path / "out", "--batch-size", 5)
    assert done.stdout.startswith("top-1  ")
    assert "at 95 %" in done.stdout
    assert "red/broken.png: truncated" in done.stderr
    assert "42 of 43 images answered" in done.stderr
    assert "with the other 1 counted as wrong, top-1 is" in done.stderr
    assert f"written: {tmp_path / 'out' / 'report.html'}" in done.stderr
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


def test_json_is_one_object_and_quiet_is_quiet(weevit_says: Says, colour_model: Path, images: Path) -> None:
    done = weevit_says("eval", colour_model, images, "--json", "--quiet")
    (line,) = done.stdout.splitlines()
    values = json.loads(line)
    assert values["schema"] == "weevit.evaluation/2"
    assert (values["images"], values["answered"], values["failed"]) == (43, 42, {"truncated": 1})
    assert len(done.stderr.splitlines()) == 1  # what was loaded


def test_exit_codes(weevit_says: Says, colour_model: Path, images: Path, tmp_path: Path) -> None:
    words = ["eval", colour_model, images]
    assert "below --min-top1 0.95" in weevit_says(*words, "--min-top1", 0.95, code=1).stderr
    weevit_says(*words, "--min-top1", 0.5)
    weevit_says(*words, "--strict", code=3)
    weevit_says(*words, "--strict", "--min-top1", 0.95, code=1)
    assert "share from 0 to 1: 90" in weevit_says(*words, "--min-top1", 90, code=2).stderr
    assert "either DATA or --suite" in weevit_says("eval", colour_model, code=2).stderr
    assert "either DATA or --suite" in weevit_says(*words, "--suite", tmp_path, code=2).stderr
    shutil.copytree(images / "red", tmp_path / "data" / "red")
    refused = weevit_says("eval", colour_model, tmp_path / "data", code=1)
    assert "- green" in refused.stderr
    assert "--allow-missing" in refused.stderr
    weevit_says("eval", colour_model, tmp_path / "data", "--allow-missing")
    # where nothing was answered, there is nothing to say
    for path in (tmp_path / "data" / "red").glob("*.png"):
        path.write_text("no image")
    assert (
        "0 of 7 images answered"
        in weevit_says("eval", colour_model, tmp_path / "data", "--allow-missing", code=1).stderr
    )


def test_suite(weevit_says: Says, fake_tiny: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images / "red", tmp_path / "suite" / "val" / "n01440764")
    words = ["eval", fake_tiny, "--suite", tmp_path / "suite", "--image-size", 32]
    done = weevit_says(*words, "-o", tmp_path / "out")
    head, row, *_ = done.stdout.splitlines()
    assert head.split()[:3] == ["set", "images", "top-1"]
    assert row.startswith("ImageNet validation")
    assert "75.45 %" in row
    assert "not there: ReaL" in done.stdout
    assert (tmp_path / "out" / "imagenet" / "predictions.csv").exists()
    values = json.loads(weevit_says(*words, "--json").stdout)
    assert values["sets"][0]["published_percent"] == {"top1": 75.452, "top5": 92.858}
    assert "imagenet: 6 of 7" in done.stderr
    weevit_says(*words, "--min-top1", 0.99, code=1)
    assert "none of the sets" in weevit_says("eval", fake_tiny, "--suite", images, code=1).stderr


def test_compare(weevit_says: Says, colour_model: Path, other_model: Path, images: Path, tmp_path: Path) -> None:
    done = weevit_says("compare", colour_model, other_model, images, "-o", tmp_path / "out", "--seed", 3)
    assert "McNemar p = " in done.stdout
    assert "of 42 right" in done.stdout
    assert json.loads((tmp_path / "out" / "report.json").read_text())["seed"] == 3
    for name, model in (("a", colour_model), ("b", other_model)):
        weevit_says("eval", model, images, "-o", tmp_path / name, "--quiet")
    saved = json.loads(weevit_says("compare", tmp_path / "a", tmp_path / "b", "--json").stdout)
    live = json.loads(weevit_says("compare", colour_model, other_model, images, "--json").stdout)
    for name in ("both", "only_first", "only_second", "neither", "p_value", "low", "high"):
        assert saved[name] == live[name]
    refused = weevit_says("compare", colour_model, other_model, code=2)
    assert "no saved evaluation" in refused.stderr


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to another process")
def test_ctrl_c(colour_model: Path, images: Path, tmp_path: Path) -> None:
    """The signal comes while images are answered, however slow the machine: the last of them waits for it."""
    listed = tmp_path / "many.csv"
    paths = [path for path in sorted(images.rglob("*.png")) if path.name != "broken.png"]
    listed.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in paths))
    code = (
        "import os, sys, time\n"
        "from weevit.cli import app\n"
        "from weevit.predict import Predictor\n"
        "plain = Predictor.open\n"
        "def opened(self, source):\n"
        "    if source.name.endswith(sys.argv[1]):\n"
        "        print('WAITS', file=sys.stderr, flush=True)\n"
        "        while not os.path.exists(sys.argv[2]):\n"
        "            time.sleep(0.01)\n"
        "    return plain(self, source)\n"
        "Predictor.open = opened\n"
        "app.main(sys.argv[3:])\n"
    )
    last = f"{paths[-1].parent.name}/{paths[-1].name}"
    heard = tmp_path / "heard"
    words = [
        sys.executable,
        "-c",
        code,
        last,
        str(heard),
        "eval",
        str(colour_model),
        str(listed),
        "-o",
        str(tmp_path / "out"),
    ]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "WAITS" in line:
                break
        process.send_signal(signal.SIGINT)
        heard.touch()
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "Interrupted." in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()

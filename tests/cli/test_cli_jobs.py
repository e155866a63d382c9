"""Jobs from the command line: what is said, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pyarrow")

import weevit

COMMAND = (sys.executable, "-m", "weevit")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(24):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    (folder / "9.png").write_text("no image")
    return folder


def weevit_says(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_job_from_beginning_to_end(images: Path, fake_tiny: Path, tmp_path: Path) -> None:
    words = ["classify", images, "-m", fake_tiny, "--image-size", 32, "-o", tmp_path / "out"]
    first = weevit_says(*words, "--shard", "2/2", "--shard-size", 8)
    assert "This share is done; 16 rows of others are not" in first.stderr
    assert "16 left" in weevit_says("jobs", "status", tmp_path / "out").stdout
    assert "not there yet: 2 shards (16 rows)" in weevit_says("jobs", "verify", tmp_path / "out", code=1).stdout
    rest = weevit_says(*words, "--shard", "1/2", "--shard-size", 8)
    assert "failures.csv: 1 not an image" in rest.stderr or "1 not an image" in first.stderr
    again = weevit_says(*words, "--shard-size", 8)
    assert "all of it was there already · 23 done · 1 failed" in again.stderr
    assert f'weevit.read_results("{tmp_path / "out"}")' in again.stderr
    assert weevit_says(*words, "--shard-size", 8, "--strict", code=3)
    status = json.loads(weevit_says("jobs", "status", tmp_path / "out", "--json").stdout)
    assert (status["total"], status["done"], status["left"], status["errors"]) == (24, 24, 0, {"not an image": 1})
    assert "3 files, 24 rows: all as they were written" in weevit_says("jobs", "verify", tmp_path / "out").stdout
    refused = weevit_says(*words, "--topk", 2, "--shard-size", 8, code=2)
    assert "holds another job" in refused.stderr
    assert weevit.read_results(tmp_path / "out").num_rows == 24


def test_stdin_and_wrong_words(images: Path, fake_tiny: Path, tmp_path: Path) -> None:
    listed = "".join(f"{path}\n" for path in sorted(images.iterdir())[:3])
    words = [*COMMAND, "embed", "-", "-m", str(fake_tiny), "--image-size", "32", "-o", str(tmp_path / "out")]
    done = subprocess.run(words, input=listed, capture_output=True, text=True, check=True)
    assert "3 done" in done.stderr
    assert "3/16" in weevit_says("embed", images, "-o", tmp_path / "x", "--shard", "5/4", code=2).stderr
    for verb in ("classify", "embed"):
        assert "both at once" in weevit_says(verb, images, "-o", tmp_path / "x", "--json", code=2).stderr
    assert not (tmp_path / "x").exists()
    for verb, where in (("status", images), ("status", next(images.iterdir())), ("verify", next(images.iterdir()))):
        assert f"{where} holds no job" in weevit_says("jobs", verb, where, code=1).stderr


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to another process")
def test_ctrl_c_finishes_the_shard(images: Path, fake_tiny: Path, tmp_path: Path) -> None:
    words = [*COMMAND, "embed", str(images), "-m", str(fake_tiny), "--shard-size", "8", "-o", str(tmp_path / "out")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "out" / "plan.jsonl").exists():
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    if "rows left" in said:  # unless the machine was so fast that all was done before
        assert process.returncode == 130
        assert "Rerun the command to resume." in said
        assert weevit.read_results(tmp_path / "out", partial=True).num_rows in (8, 16)
    assert "Finishing the shard in work" in said
    weevit_says(*words[3:])
    assert weevit.read_results(tmp_path / "out").num_rows == 24

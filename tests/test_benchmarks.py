"""The benchmarks that nothing else runs, at a small size: they run to their end, and say what they measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[1]


def said(script: str, words: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_throughput_says_which_library_bounds_it_on_which_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")  # the slowest of OpenBLAS: the script starts itself without it
    out = said("throughput.py", "--model tiny --batch 1 --runs 1")
    assert re.match(r"vit_tiny_patch16_224, batch 1, \d+ threads \(.+\), [\w, -]+, \d{4}-\d\d-\d\d\n", out), out
    assert len(re.findall(r"of the best sgemm; [\d.]+ CPU s$", out, re.MULTILINE)) == 2, out
    best = {name: int(found) for name, found in re.findall(r"^  (\w+): +(\d+) GFLOP/s at \w+ \d+ x", out, re.MULTILINE)}
    assert set(best) == {"numpy", "torch", "onnxruntime"}, out
    named = re.search(r"the best sgemm: (\w+)'s, which bounds fp32 at [\d.]+ images/s\n", out)
    assert named, out
    assert best[named[1]] == max(best.values()) > 0, out


@pytest.mark.skipif(sys.platform == "win32", reason="turns are taken by POSIX signals")
def test_both_sides_of_training_take_turns(photos: list[Path]) -> None:
    assert photos
    pytest.importorskip("timm")
    out = said("train_speed.py", "--size 32 --batch 8 --turns 2 --updates 1 --try-workers 0 1")
    for side in ("weevit", "timm"):
        found = re.search(rf"{side} +images/s by workers: ([\d.]+) with 0, ([\d.]+) with 1\n", out)
        assert found, out
        assert min(map(float, found.groups())) > 0
    assert re.search(r"weevit with [01] workers is [\d.]+x \(pairs [\d.]+ to [\d.]+\) as fast as timm with [01]; ", out)


def test_what_bookkeeping_costs(photos: list[Path]) -> None:
    assert photos
    pytest.importorskip("pyarrow")
    out = said("jobs.py", "overhead --images 300 --runs 1")
    assert re.search(r"300 small JPEGs, no engine: bookkeeping is -?[\d.]+ % of the time .*; resumed in [\d.]+ s", out)


def test_what_reduced_jpegs_save(photos: list[Path]) -> None:
    assert photos
    pytest.importorskip("pyarrow")
    out = said("reduced_jpeg.py", "--photos 4 --runs 1 --sides")
    assert re.search(r"4 photos of 12 megapixels .*: [\d.]+x \(pairs [\d.]+ to [\d.]+\) faster", out), out


def test_memory_does_not_grow_with_the_number_of_images(photos: list[Path]) -> None:
    """A short version of 500 against 20,000, with their bound: what grows does so in the first shards."""
    assert photos
    pytest.importorskip("pyarrow")
    out = said("jobs.py", "memory --counts 500 2500 --runs 1")
    found = re.search(r"2,500 against 500 images: ([\d.]+) times the peak memory", out)
    assert found, out
    assert float(found[1]) < 1.1, out


def test_fine_tuning_within_a_budget() -> None:
    """A miniature: a broken image, a busy machine, next to no time; what is kept may be either, and is there."""
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    out = said("finetune_budget.py", "digits --minutes 0.1")
    for name in ("digits, 0.1 min", "digits, 0.1 min, disturbed"):
        found = re.search(rf"{name} +kept (tuned|probe): probe [\d.]+%.* 64 px .* ([\d.]+) of 0\.1 min · good\n", out)
        assert found, out


def test_what_int8_brings_and_costs(photos: list[Path]) -> None:
    assert photos
    out = said("quantization.py", "speed accuracy --models tiny --rounds 1 --photos 32")
    assert re.search(r"^tiny +onnxruntime, int8 +[\d.]+ images/s +CPU [\d.]+ \(", out, re.MULTILINE), out
    found = re.search(r"^ViT-Ti +onnxruntime, int8 +top-1 (\d+) -> (\d+) of 16 .*, size 0\.2\d\d$", out, re.MULTILINE)
    assert found, out
    assert abs(int(found[1]) - int(found[2])) <= 2


def test_the_step_alone_takes_turns_with_timms() -> None:
    pytest.importorskip("timm")
    out = said("train_speed.py", "--still --size 32 --batch 8 --turns 2 --updates 1")
    assert re.search(r"weevit with 0 workers is [\d.]+x .* as fast as timm with 0; .*, the step alone; \w", out), out


def test_archives_in_a_bucket_beside_files(photos: list[Path]) -> None:
    assert photos
    for name in ("torch", "moto.server", "s3fs", "boto3"):
        pytest.importorskip(name)
    out = said("shards.py", "--images 20 --archives 2 --rounds 1")
    assert len(re.findall(r"[\d.]+ images/s a core, [\d.]+ of files$", out, re.MULTILINE)) == 5, out

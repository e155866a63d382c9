"""8-bit weights on a processor that adds products up in 16 bits: other kernels, and the same integers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import integers
import numpy as np
import pytest

import weevit
from weevit import UsageError
from weevit.cli import app
from weevit.engine import session
from weevit.engine.machine import Cpu
from weevit.engine.protocol import Request
from weevit.engine.session import open_session
from weevit.quantization.quantize import quantize

for needed in ("filelock", "jinja2", "sklearn"):
    pytest.importorskip(needed)

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
AVX2 = Cpu("AVX2", known=True, avx2=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = quantize(
        "digits", DIGITS, tmp_path_factory.mktemp("int8") / "q", images=32, held_out=16, bits=8, min_speedup=0
    )
    return found.folder


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)


def near(found: np.ndarray, folder: Path) -> bool:
    """Whether the integers are those of numpy: for the images without a number halfway between two steps."""
    checkpoint = weevit.load(folder).checkpoint
    expected = integers.forward(checkpoint.architecture, checkpoint.tensors(), images())["logits"]
    wrong = np.abs(found - expected).max(axis=1) / np.abs(expected).max()
    return bool(np.sort(wrong)[2] < 1e-4 and wrong.max() < 0.1)


def test_the_exact_graph_computes_the_same_integers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "cpu", lambda: AVX2)
    checkpoint = weevit.load(folder).checkpoint
    assert near(open_session(checkpoint, Request(64, 64), 1, cache=False).run(images())["logits"], folder)


def test_graphs_of_either_kind_are_kept_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = weevit.load(folder).checkpoint
    monkeypatch.setattr(session, "cpu", lambda: Cpu("VNNI", known=True, avx_vnni=True))
    fast = session.graph_key(checkpoint, Request(64, 64))
    monkeypatch.setattr(session, "cpu", lambda: AVX2)
    assert session.graph_key(checkpoint, Request(64, 64)) != fast


def test_openvino_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(session, "cpu", lambda: AVX2)
    checkpoint = weevit.load(folder).checkpoint
    with pytest.raises(UsageError, match="overflow on this processor"):
        open_session(checkpoint, Request(64, 64), 1, "openvino")
    with pytest.raises(UsageError, match="overflow on this processor"):
        weevit.load(folder, engine="openvino")


def test_a_refused_engine_leaves_no_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hint is `--engine onnxruntime`, and a job that was begun with another engine refused it."""
    pytest.importorskip("openvino")
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(session, "cpu", lambda: AVX2)
    words = ["embed", str(DIGITS / "test" / "3"), "-m", str(folder), "-o", str(tmp_path / "job"), "--engine"]
    assert app._run([*words, "openvino"]) == 2
    assert "--engine onnxruntime" in capsys.readouterr().err
    assert not (tmp_path / "job").exists()
    assert app._run([*words, "onnxruntime"]) == 0


def test_a_model_that_openvino_could_not_compute_is_refused_before_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(session, "cpu", lambda: AVX2)
    first, told = weevit.load("digits", engine="openvino", cache=False), []
    with pytest.raises(UsageError, match="overflow on this processor"):
        quantize(first, DIGITS, tmp_path / "q", images=32, held_out=16, bits=8, watch=lambda *stage: told.append(stage))
    assert not told
    assert not (tmp_path / "q").exists()


EMULATED = """
import sys
import numpy as np
import weevit
from weevit.cli import app
from weevit.engine import session
from weevit.engine.machine import Cpu
from weevit.engine.protocol import Request

session.cpu = lambda: Cpu("AVX2", known=True, avx2=True)  # the emulator shows the host's list of instructions
images = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
checkpoint = weevit.load(sys.argv[1]).checkpoint
np.save(sys.argv[2], session.open_session(checkpoint, Request(64, 64), 1, cache=False).run(images)["logits"])
"""


@pytest.mark.parametrize("bits", [7, pytest.param(8, marks=pytest.mark.long)])
def test_on_an_emulated_processor_with_avx2_alone(folder: Path, bits: int, tmp_path: Path) -> None:
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("qemu-user is not installed")
    if bits == 7:
        folder = quantize("digits", DIGITS, tmp_path / "q", images=32, held_out=16, bits=7, min_speedup=0).folder
    path = os.pathsep.join(own for own in sys.path if own)
    words = [emulator, "-cpu", "Haswell", os.path.realpath(sys.executable), "-W", "ignore", "-c", EMULATED]
    subprocess.run(
        [*words, str(folder), str(tmp_path / "logits.npy")], check=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert near(np.load(tmp_path / "logits.npy"), folder)

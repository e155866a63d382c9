"""OpenVINO is told its precision in every case: by itself it takes bf16 where the processor has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")

from weevit.engine import openvino as engine  # noqa: E402
from weevit.engine.session import Request, open_session  # noqa: E402 - after the skip
from weevit.errors import UsageError  # noqa: E402
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint  # noqa: E402

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def checkpoint(fake_tiny: Path) -> Checkpoint:
    return read_checkpoint(fake_tiny)


@pytest.mark.parametrize(("precision", "hint"), [("fp32", "f32"), ("bf16", "bf16")])
def test_the_hint(checkpoint: Checkpoint, precision: Any, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of its two ways: all threads together, and pairs on streams."""
    told: list[dict[str, Any]] = []
    core = openvino.Core()

    class Core:
        """OpenVINO's, beside which nothing of this machine's precision is asked for."""

        def read_model(self, model: Any) -> Any:
            return core.read_model(model)

        def compile_model(self, model: Any, device: str, settings: dict[str, Any]) -> Any:
            told.append(dict(settings))
            return core.compile_model(model, device, {**settings, "INFERENCE_PRECISION_HINT": "f32"})

    monkeypatch.setattr(engine, "_core", Core)
    session = open_session(checkpoint, Request(32, 32), 2, "openvino", cache=False, precision=precision)
    session.run(PIXELS[:1])
    session.run(PIXELS)
    assert told == [
        {"INFERENCE_NUM_THREADS": 2, "NUM_STREAMS": streams, "INFERENCE_PRECISION_HINT": hint} for streams in (1, 2)
    ]


def test_onnxruntime_computes_no_bf16(checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match="onnxruntime does not compute in bf16; it computes fp32 on cpu") as caught:
        open_session(checkpoint, Request(32, 32), 2, precision="bf16")
    assert caught.value.hint == "--precision bf16   without --engine chooses openvino"


def test_ctrl_c_is_pythons_after_streams(checkpoint: Checkpoint) -> None:
    """In a process of its own: where OpenVINO is unloaded with its handler, this is a segmentation fault."""
    code = f"""
import gc, signal, time
import numpy as np
from pathlib import Path
from weevit.engine.session import Request, open_session
from weevit.zoo.checkpoint import read_checkpoint

def ask():
    checkpoint = read_checkpoint(Path({str(checkpoint.path.parent)!r}))
    sessions = [open_session(checkpoint, Request(32, 32), threads, "openvino", cache=False) for threads in (1, 2)]
    for session in sessions:
        session.run(np.zeros((5, 32, 32, 3), np.uint8), steady=True)
        session.run(np.zeros((1, 32, 32, 3), np.uint8))

ask()
gc.collect()
time.sleep(0.5)  # its threads end
try:
    signal.raise_signal(signal.SIGINT)
    time.sleep(0.2)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_numpy_is_looked_up_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the thread that loads OpenVINO, under a lock: two threads that do it with their first arrays may wait for each
    other for ever, and a test that runs into that would run into it one time in 15."""
    steps: list[str] = []

    class Tensor:
        def __init__(self, array: np.ndarray) -> None:
            self._array = array

        @property
        def data(self) -> np.ndarray:
            steps.append("array" if engine._LOADING.locked() else "array without the lock")
            return self._array

    monkeypatch.setattr(engine, "_loaded", engine._loaded.__wrapped__)
    monkeypatch.setattr(openvino, "Tensor", Tensor)
    monkeypatch.setattr(openvino, "Core", lambda: steps.append("core"))
    engine._core()
    assert steps == ["array", "core"]

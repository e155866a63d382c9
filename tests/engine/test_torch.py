"""The engine for GPUs, on the CPU: the arithmetic, the sizes of batches, and what is told where a part of it fails."""

from __future__ import annotations

import importlib.util
import logging
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import fakes
import labelled
import numpy as np
import pytest

if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)

import pretended_gpu
import torch

import weevit
from weevit.engine import torch as engine
from weevit.engine.session import Request, open_session
from weevit.engine.torch import SIZES, STEADY, Answers, TorchSession, cut
from weevit.errors import EngineError, UsageError
from weevit.jobs.settings import read_settings
from weevit.nn.vit import VisionTransformer
from weevit.store.place import Disk
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint
from weevit.zoo.weights import BY_NAME

SIZE = (64, 96)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)
KINDS = {
    "serial": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "parallel": "vit_pwee_patch16_reg1_gap_256.sbb_in1k",
    "differential": "vit_dwee_patch16_reg1_gap_256.sbb_in1k",
    "rope": "vit_medium_patch16_rope_reg1_gap_256.sbb_in1k",
}


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    name = KINDS[request.param]
    assert name in BY_NAME
    return read_checkpoint(fakes.folder(tmp_path_factory.mktemp("models") / name, fakes.config(name)))


@pytest.fixture(scope="module")
def tiny(fake_tiny: Path) -> Checkpoint:
    return read_checkpoint(fake_tiny)


NATIVE = Request(*SIZE)


def opened(checkpoint: Checkpoint, request: Request = NATIVE, precision: str = "fp32") -> TorchSession:
    return TorchSession(checkpoint, request, precision, device="cpu", compiles=False)


def test_fp32_is_the_graphs_answer(checkpoint: Checkpoint) -> None:
    request = Request(*SIZE, features=(1, checkpoint.architecture.depth - 1))
    theirs = open_session(checkpoint, request, 2, cache=False).run(PIXELS)
    ours = opened(checkpoint, request).run(PIXELS)
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        assert ours[name].dtype == np.float32
        assert np.abs(ours[name] - values).max() < 1e-5 * np.abs(values).max(), name


def test_bf16_is_near_and_is_not_fp32(checkpoint: Checkpoint) -> None:
    exact, rounded = (opened(checkpoint, precision=own).run(PIXELS[:2])["embedding"] for own in ("fp32", "bf16"))
    assert rounded.dtype == np.float32
    assert 1e-4 < np.abs(rounded - exact).max() / np.abs(exact).max() < 0.1


def test_compiled_code_is_one_piece(checkpoint: Checkpoint) -> None:
    """What the compiler would have to leave out is refused here; kernels are PyTorch's own. Two blocks: it is slow."""
    size = checkpoint.architecture.img_size
    model = VisionTransformer(replace(checkpoint.architecture, depth=2)).eval()
    module = Answers(model, Request(size, size, features=(0,)), checkpoint)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8))
    with torch.inference_mode():
        for ours, theirs in zip(compiled(pixels), module(pixels), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("steady", [False, True])
def test_a_row_does_not_depend_on_what_fills_the_batch(
    tiny: Checkpoint, steady: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "STEADY", 8)  # as large as the CPU computes in a moment
    session = opened(tiny)
    together = session.run(PIXELS, steady)
    backwards = session.run(PIXELS[::-1], steady)
    for name, values in together.items():
        assert (backwards[name][::-1] == values).all()
        assert len({row.tobytes() for row in values}) == len(PIXELS)
    if steady:
        alone = [session.run(PIXELS[row : row + 1], steady=True)["logits"] for row in range(len(PIXELS))]
        assert (np.concatenate(alone) == together["logits"]).all()


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images of every batch that the device is given; nothing is computed."""
    found: list[int] = []

    def forward(self: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found.append(len(pixels))
        return tuple(pixels[:, 0, :2, 0].float() for _ in self.names)

    monkeypatch.setattr(engine.Answers, "forward", forward)
    return found


@pytest.mark.parametrize("count", [1, 2, 5, 65, 130, 300])
def test_batches_have_a_few_sizes_and_a_steady_one_a_single_size(
    tiny: Checkpoint, computed: list[int], count: int
) -> None:
    session = opened(tiny, Request(16, 16))
    pixels = np.random.default_rng(1).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    for steady in (False, True):
        computed.clear()
        answer = session.run(pixels, steady)["logits"]
        assert (answer == pixels[:, 0, :2, 0]).all()
        assert set(computed) <= ({STEADY} if steady else set(SIZES))
        assert count <= sum(computed) < count + computed[-1]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (1, [1]),
        (2, [8]),
        (8, [8]),
        (9, [8, 1]),
        (20, [8, 8, 8]),
        (44, [64]),
        (100, [64, 64]),
        (128, [256]),
        (600, [256, 256, 64, 8, 8, 8]),
    ],
)
def test_how_a_batch_is_cut(count: int, sizes: list[int]) -> None:
    assert list(cut(count)) == sizes


def test_threads_may_share_a_session(tiny: Checkpoint) -> None:
    session = opened(tiny)
    alone = [session.run(image[None])["logits"] for image in PIXELS]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: session.run(image[None])["logits"], [*PIXELS] * 4))
    assert all((one == other).all() for one, other in zip(alone * 4, together, strict=True))


def test_where_compiling_fails_the_answer_is_there(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler\nand much more")

    monkeypatch.setattr(torch, "compile", fails)
    monkeypatch.setattr(engine, "COMPILED", 8)
    session = TorchSession(tiny, Request(*SIZE), "fp32", device="cpu")
    with caplog.at_level(logging.WARNING, "weevit"):
        answers = [session.run(PIXELS)["logits"] for _ in range(2)]
    assert (answers[0] == opened(tiny).run(PIXELS)["logits"]).all()
    assert [record.getMessage() for record in caplog.records] == [
        "note: the model is not compiled, and is slower: no compiler"
    ]


def test_large_batches_are_compiled_and_small_ones_are_not(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, computed: list[int]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda module, **more: asked.append(more) or module)
    session = TorchSession(tiny, Request(16, 16), "fp32", device="cpu")
    session.run(np.zeros((3, 16, 16, 3), np.uint8))
    assert asked == []
    session.run(np.zeros((64, 16, 16, 3), np.uint8))
    session.run(np.zeros((64, 16, 16, 3), np.uint8))
    assert asked == [{"dynamic": False}]
    assert computed == [8, 64, 64, 64]  # the second for the compiler


class FakeCuda:
    """What `_captured` asks of CUDA, with a note of each call; a replay does nothing, as no graph is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.said: list[str] = []
        self.error = error
        for name in ("Stream", "CUDAGraph", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, lambda: self)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "graph", self.graph)

    def wait_stream(self, other: Any) -> None:
        self.said.append("waits")

    @contextmanager
    def graph(self, graph: Any, capture_error_mode: str) -> Iterator[None]:
        self.said.append(f"captures, {capture_error_mode}")
        if self.error:
            raise self.error
        yield

    def replay(self) -> None:
        self.said.append("replays")


def test_a_captured_program_is_fed_through_one_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of calls, on a CUDA that is none: whether a GPU takes them so is not tested here."""
    cuda, given = FakeCuda(monkeypatch), []

    def program(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given.append(pixels)
        return (pixels.float(),)

    captured = engine._captured(program, torch.zeros(2, 3, dtype=torch.uint8))
    assert cuda.said == ["waits", "waits", "captures, thread_local"]
    assert len(given) == engine._WARM_UP + 1
    captured(torch.full((2, 3), 7, dtype=torch.uint8))
    assert cuda.said[-1] == "replays"
    assert len(given) == engine._WARM_UP + 1  # the graph computes, Python does not
    assert (given[-1] == 7).all()  # in the memory that was captured


def test_what_cannot_be_captured_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    FakeCuda(monkeypatch, RuntimeError("operation not permitted\nwhen stream is capturing"))

    def program(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (pixels.float(),)

    with caplog.at_level(logging.WARNING, "weevit"):
        assert engine._captured(program, torch.zeros(2, 3, dtype=torch.uint8)) is program
    assert caplog.messages == ["note: the model runs without a CUDA graph, and is slower: operation not permitted"]


# ---- as users reach it


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretended_gpu.pretend(monkeypatch)


@pytest.mark.usefixtures("a_gpu")
def test_a_model_on_a_gpu_answers_as_on_the_cpu() -> None:
    images = [labelled.png(number) for number in range(5)]
    theirs = weevit.load("digits", cache=False)
    for precision, atol in (("fp32", 1e-5), ("bf16", 0.1)):
        ours = weevit.load("digits", device="auto", precision=cast(Any, precision))
        assert (ours.engine, ours.precision, ours.device) == ("torch", precision, "cuda")
        np.testing.assert_allclose(
            ours.embed(images), theirs.embed(images), atol=atol * np.abs(theirs.embed(images)).max()
        )
        assert [one.labels for one in ours.classify(images)] == [one.labels for one in theirs.classify(images)]
        copied = pickle.loads(pickle.dumps(ours))
        ours.close()
        np.testing.assert_array_equal(copied.embed(images[:1]), copied.embed(images[:1]))


@pytest.mark.usefixtures("a_gpu")
def test_a_job_says_what_computed_it_and_is_not_mixed(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(labelled.png(number))
    inputs = [tmp_path / f"{number}.png" for number in range(3)]
    weevit.run_job(weevit.load("digits", device="cuda"), inputs, tmp_path / "out", "embed")
    settings = read_settings(Disk(tmp_path / "out"))
    assert (settings.engine, settings.precision, settings.device) == ("torch", "bf16", "cuda")
    with pytest.raises(weevit.UsageError, match="precision: bf16 then, fp32 now"):
        weevit.run_job(weevit.load("digits", device="cuda", precision="fp32"), inputs, tmp_path / "out", "embed")


# ---- what goes wrong


def test_attention_maps_are_refused(tiny: Checkpoint) -> None:
    with pytest.raises(UsageError, match="gives no attention maps") as caught:
        opened(tiny, Request(*SIZE, attention=(0,)))
    assert caught.value.hint.startswith("--device cpu")


def test_a_batch_of_the_wrong_shape(tiny: Checkpoint) -> None:
    with pytest.raises(EngineError, match=r"PyTorch could not run a batch of shape \(5, 32, 96, 3\)"):
        opened(tiny).run(PIXELS[:, :32])


def test_what_the_device_says_is_told(tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    session = opened(tiny)
    monkeypatch.setattr(engine.Answers, "forward", fails)
    with pytest.raises(EngineError, match=r"could not run a batch of shape.*CUDA out of memory"):
        session.run(PIXELS)

"""Sessions: cached graphs answer as built ones do, damaged ones are rebuilt, engines agree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from weevit.engine import session
from weevit.engine.cache import GraphCache
from weevit.engine.choice import Engine
from weevit.engine.session import Request, graph_key, open_session
from weevit.errors import EngineError, UsageError
from weevit.graph.vit import GraphOptions, build_graph
from weevit.zoo import checkpoint as zoo_checkpoint
from weevit.zoo.architectures import PATCH, get_architecture
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint
from weevit.zoo.layout import tensor_shapes
from weevit.zoo.weights import HALF, Preprocessing

EMBEDDED = Path(zoo_checkpoint.__file__).parent / "embedded"
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
REQUEST = Request(64, 96)


@pytest.fixture(scope="module")
def checkpoint(fake_tiny: Path) -> Checkpoint:
    return read_checkpoint(fake_tiny)


def test_from_the_cache_the_same_bits(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    built = open_session(checkpoint, REQUEST, 2).run(PIXELS)
    monkeypatch.setattr(session, "_build", lambda *_: pytest.fail("built again"))
    cached = open_session(checkpoint, REQUEST, 2).run(PIXELS)
    assert all((built[name] == cached[name]).all() for name in built)


def test_without_the_cache_nothing_is_written(checkpoint: Checkpoint) -> None:
    answer = open_session(checkpoint, REQUEST, 2, cache=False).run(PIXELS)
    assert answer["logits"].shape == (2, 1000)
    assert not GraphCache().folder.exists()


def test_a_damaged_graph_is_built_again(checkpoint: Checkpoint) -> None:
    before = open_session(checkpoint, REQUEST, 2).run(PIXELS)
    (path,) = GraphCache().folder.glob("*.onnx")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    after = open_session(checkpoint, REQUEST, 2).run(PIXELS)
    assert all((before[name] == after[name]).all() for name in before)


def test_a_cache_that_cannot_be_written_costs_no_answer(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("WEEVIT_CACHE", str(tmp_path / "file"))
    assert open_session(checkpoint, REQUEST, 2).run(PIXELS)["embedding"].shape == (2, 192)


def test_the_key_holds_all_that_matters(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = checkpoint.preprocessing
    other_file = tmp_path / "model.safetensors"
    other_file.write_bytes(b"other weights")
    other_weights = replace(checkpoint, path=other_file, recorded=None)
    others = [
        (checkpoint, Request(96, 64)),
        (checkpoint, Request(64, 96, features=(1,))),
        (checkpoint, Request(64, 96, attention=(1,))),
        (other_weights, REQUEST),
        (replace(checkpoint, preprocessing=replace(spec, mean=(0.1, 0.5, 0.5))), REQUEST),
        (replace(checkpoint, preprocessing=replace(spec, std=(0.1, 0.5, 0.5))), REQUEST),
        (replace(checkpoint, architecture=replace(checkpoint.architecture, pool="avg")), REQUEST),
        (replace(checkpoint, grid=(7, 28)), REQUEST),
    ]
    keys = {graph_key(checkpoint, REQUEST), *(graph_key(*pair) for pair in others)}
    monkeypatch.setattr(session, "__version__", "another")
    keys.add(graph_key(checkpoint, REQUEST))
    assert len(keys) == len(others) + 2


def test_engines_agree(checkpoint: Checkpoint) -> None:
    pytest.importorskip("openvino")
    ours = open_session(checkpoint, REQUEST, 2).run(PIXELS)
    theirs = open_session(checkpoint, REQUEST, 2, engine="openvino").run(PIXELS)
    assert set(ours) == set(theirs)
    for name in ours:
        assert np.abs(ours[name] - theirs[name]).max() < 1e-4 * np.abs(ours[name]).max()


def test_unknown_engine(checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match="Did you mean 'openvino'"):
        open_session(checkpoint, REQUEST, 2, engine="openvina")  # type: ignore[arg-type]


@pytest.mark.parametrize(("engine", "name"), [("onnxruntime", "onnxruntime"), ("openvino", "OpenVINO")])
def test_a_batch_of_the_wrong_shape(checkpoint: Checkpoint, engine: Engine, name: str) -> None:
    pytest.importorskip(engine)
    opened = open_session(checkpoint, REQUEST, 2, engine=engine)
    with pytest.raises(EngineError, match=rf"{name} could not run a batch of shape \(2, 32, 96, 3\)"):
        opened.run(PIXELS[:, :32])
    assert opened.run(PIXELS)["logits"].shape == (2, 1000)


def test_openvino_answers_several_threads_at_once() -> None:
    """One request for all threads gave 206 of 300 images another image's answer."""
    pytest.importorskip("openvino")
    model = read_checkpoint(EMBEDDED / "digits")
    images = np.random.default_rng(0).integers(0, 256, (200, 1, 64, 64, 3), dtype=np.uint8)
    session = open_session(model, Request(64, 64), 1, engine="openvino")
    alone = [session.run(image)["embedding"] for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: session.run(image)["embedding"], images))
    assert np.abs(np.concatenate(alone) - np.concatenate(together)).max() < 1e-5


KINDS = ("vit_tiny_patch16_224", "vit_dwee_patch16_reg1_gap_256", "vit_pwee_patch16_reg1_gap_256")
ONES_MORE = ("vit_so150m_patch16_reg4_gap_256", "vit_medium_patch16_rope_reg1_gap_256")


@pytest.mark.parametrize("name", [*KINDS, *ONES_MORE])
def test_an_image_alone_has_the_bits_that_it_has_in_company(name: str) -> None:
    """With one thread and with several: the mean over patches is no ReduceMean, which adds a single image's otherwise.

    The server computes an image that comes alone by all threads together, and others in pairs.
    """
    arch = replace(get_architecture(name), depth=2)
    rng = np.random.default_rng(0)
    shapes = tensor_shapes(arch, 50)
    tensors = {key: rng.standard_normal(shape, np.float32) * np.float32(0.05) for key, shape in shapes.items()}
    side, size = arch.img_size // PATCH, GraphOptions(64, 96, spelling="fused")
    graph = build_graph(arch, tensors, Preprocessing(64, 96, 1, "center", "bicubic", *HALF), (side, side), size)
    opened = [session._onnxruntime_session(graph.SerializeToString(), threads) for threads in (1, 2, 3)]
    pair = session._run_onnxruntime(opened[0], PIXELS)
    for own in opened:
        for row in range(2):
            alone = session._run_onnxruntime(own, PIXELS[row : row + 1])
            three = session._run_onnxruntime(own, np.concatenate([PIXELS[row : row + 1], PIXELS]))
            for key, values in pair.items():
                assert (alone[key][0] == values[row]).all()
                assert (three[key][0] == values[row]).all()

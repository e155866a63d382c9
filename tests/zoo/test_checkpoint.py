"""Reading is strict, writing is read back by timm, and no pickle is ever opened."""

from __future__ import annotations

import argparse
import errno
import json
import os
import pickle
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest

from weevit.errors import CheckpointError, ChecksumError, MalformedFileError, TensorMismatchError, UnknownModelError
from weevit.zoo.architectures import ARCHITECTURES, get_architecture
from weevit.zoo.checkpoint import read_checkpoint
from weevit.zoo.labels import Label, imagenet_labels
from weevit.zoo.layout import tensor_shapes, to_timm_name
from weevit.zoo.manifest import MANIFEST
from weevit.zoo.matching import infer_config
from weevit.zoo.safetensors_file import read_header
from weevit.zoo.weights import BY_NAME, Preprocessing
from weevit.zoo.writing import write_checkpoint

TINY = get_architecture(fakes.TINY)
SEEN = Preprocessing(224, 224, 0.9, "squash", "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
LABELS = (Label("cat", "a cat"), Label("dog", "dog"), Label("owl", "an owl"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fakes.folder(tmp_path / fakes.TINY_TAG)


def test_a_published_checkpoint(folder: Path) -> None:
    found = read_checkpoint(folder)
    assert (found.name, found.source) == (fakes.TINY_TAG, str(folder))
    assert (found.num_classes, found.in_chans, found.grid) == (1000, 3, (14, 14))
    assert found.labels == imagenet_labels(1000)
    assert len(found.sha256) == 64
    tensors = found.tensors()
    wanted = fakes.tensors(TINY, 1000)
    assert list(tensors) == list(wanted)
    assert all(np.array_equal(tensors[name], wanted[name]) for name in wanted)


def test_the_real_checkpoint(vit_tiny: Path) -> None:
    found = read_checkpoint(vit_tiny)
    assert found.name == fakes.TINY_TAG
    assert found.notes == ()
    assert sum(tensor.size for tensor in found.tensors().values()) == 5_717_416


def test_a_run_folder_means_its_model(tmp_path: Path) -> None:
    run = tmp_path / "run-7"
    write_checkpoint(run / "model", TINY, fakes.tensors(TINY, 3), SEEN, LABELS)
    found = read_checkpoint(run)
    assert found.path == run / "model" / "model.safetensors"
    assert found.name == "vit_tiny_patch16_224 (run-7)"


def test_the_file_with_its_config_beside_it(folder: Path) -> None:
    assert read_checkpoint(folder / "model.safetensors").config["architecture"] == fakes.TINY


@pytest.mark.parametrize("prefix", ["module.", "timm_model.", "_orig_mod.module."])
def test_wrappers_put_words_in_front(prefix: str, tmp_path: Path) -> None:
    arrays = {f"{prefix}{name}": array for name, array in fakes.tensors(TINY, 3).items()}
    path = fakes.folder(tmp_path, fakes.config(num_classes=3, top={"num_classes": 3}), arrays)
    assert "head.weight" in read_checkpoint(path).tensors()


def test_all_differences_at_once(tmp_path: Path) -> None:
    arrays = fakes.tensors(TINY, 1000)
    del arrays["norm.bias"]
    arrays["blocks.12.norm1.weight"] = np.ones(192, np.float32)
    arrays["head.bias"] = np.ones(999, np.float32)
    arrays["module.cls_token"] = arrays["cls_token"]
    with pytest.raises(TensorMismatchError) as caught:
        read_checkpoint(fakes.folder(tmp_path, arrays=arrays))
    text = str(caught.value)
    for line in (
        "- norm.bias [192]",
        "+ blocks.12.norm1.weight [192]",
        "+ module.cls_token (a second cls_token, beside cls_token)",
        "~ head.bias: [999], expected [1000]",
    ):
        assert line in text
    assert "1 tensors are missing (-), 2 unexpected (+), 1 of another shape" in text


def test_long_lists_are_cut(tmp_path: Path) -> None:
    raw = {**fakes.config(), "architecture": "vit_small_patch16_224"}
    with pytest.raises(TensorMismatchError) as caught:
        read_checkpoint(_with_config(tmp_path, raw, fakes.tensors(TINY, 1000)))
    assert "~ ... and" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 20


def _with_config(path: Path, raw: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    fakes.folder(path, None, arrays)
    (path / "config.json").write_text(json.dumps(raw))
    return path


def test_dtypes_are_checked_in_the_header(tmp_path: Path) -> None:
    path = fakes.folder(tmp_path)
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content.replace(b'"F32"', b'"I32"', 1))
    with pytest.raises(TensorMismatchError, match="I32, expected one of F32"):
        read_checkpoint(path)


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    arrays = fakes.tensors(TINY, 1000)
    arrays["blocks.3.mlp.fc1.bias"][5] = np.nan
    with pytest.raises(MalformedFileError, match=r"blocks\.3\.mlp\.fc1\.bias holds NaN"):
        read_checkpoint(fakes.folder(tmp_path, arrays=arrays)).tensors()


def test_positions_of_another_size(tmp_path: Path) -> None:
    arrays = fakes.tensors(TINY, 1000, (16, 24))
    with pytest.raises(CheckpointError, match="pos_embed has the shape"):
        read_checkpoint(fakes.folder(tmp_path / "a", arrays=arrays))
    raw = {**fakes.config(fixed_input_size=False), "model_args": {"img_size": [256, 384]}}
    found = read_checkpoint(fakes.folder(tmp_path / "b", raw, arrays))
    assert found.grid == (16, 24)
    assert (found.preprocessing.height, found.preprocessing.width) == (224, 224)


def test_mean_pooling_of_a_model_with_a_class_token(tmp_path: Path) -> None:
    arch = replace(TINY, pool="avg", norm="after_pool")
    raw = {**fakes.config(), "model_args": {"global_pool": "avg"}}
    found = read_checkpoint(fakes.folder(tmp_path / "a", raw, fakes.tensors(arch, 1000)))
    assert (found.architecture.pool, found.architecture.norm) == ("avg", "after_pool")
    assert "fc_norm.weight" in found.tensors()
    # an older export of a model whose pooling was changed after it was made: the norm stayed where it was
    found = read_checkpoint(fakes.folder(tmp_path / "b", {**fakes.config(), "global_pool": "avg"}))
    assert (found.architecture.pool, found.architecture.norm) == ("avg", "before_pool")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_bare_file_is_known_by_its_tensors(name: str, tmp_path: Path) -> None:
    arch = get_architecture(name)
    header, end = {}, 0
    for tensor, shape in tensor_shapes(arch, 1000).items():
        begin, end = end, end + 4 * int(np.prod(shape))
        header[to_timm_name(tensor, arch)] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    path = tmp_path / "some.safetensors"
    with path.open("wb") as handle:  # zeros in place of weights, in a file without blocks
        handle.write(fakes.file_bytes(header))
        handle.truncate(handle.tell() + end)
    if name == "vit_base_patch16_reg4_gap_256":  # never published
        with pytest.raises(CheckpointError, match="how its images are prepared"):
            infer_config(read_header(path), path)
        return
    found = infer_config(read_header(path), path)
    assert found.architecture == arch
    assert found.labels is None
    assert "no config.json" in found.notes[0]


def test_a_bare_file_that_is_named_by_its_tag(tmp_path: Path) -> None:
    path = tmp_path / f"{fakes.TINY_TAG}.safetensors"
    path.write_bytes(fakes.dump(fakes.tensors(TINY, 1000)))
    found = read_checkpoint(path)
    assert found.name == fakes.TINY_TAG
    assert found.labels == imagenet_labels(1000)


def test_a_bare_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    arrays = fakes.tensors(TINY, 5)
    del arrays["norm.bias"]
    path.write_bytes(fakes.dump(arrays))
    with pytest.raises(CheckpointError, match="of the same width are vit_tiny_patch16_224"):
        read_checkpoint(path)


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    path = _with_config(tmp_path, {**fakes.config(), "architecture": "resnet50"}, fakes.tensors(TINY, 3))
    with pytest.raises(UnknownModelError, match="resnet50"):
        read_checkpoint(path)


# Pickles: none is opened, wherever a file is accepted.


class Bomb:
    """Leaves a file behind if anybody unpickles it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "name",
    [
        *("model.pth", "model.pt", "pytorch_model.bin", "m.pkl", "m.npz", "m.npy", "m.ckpt", "m.joblib", "notes.txt"),
        *("a/model.safetensors", "weights.safetensors", "b/config.json", "c/pytorch_model.bin", f"d/{MANIFEST}"),
    ],
)
def test_no_pickle_is_opened(name: str, protocol: int, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if path.name in ("config.json", MANIFEST):
        fakes.folder(path.parent)
    path.write_bytes(pickle.dumps(Bomb(trace), protocol=protocol))
    target = path.parent if path.parent != tmp_path else path
    with pytest.raises(CheckpointError):
        read_checkpoint(target).tensors()
    assert not trace.exists()


def test_a_pickle_is_told_how_to_be_converted(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    for path in (tmp_path, tmp_path / "pytorch_model.bin"):
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(path)
        assert "safe_serialization=True" in caught.value.hint


def test_paths_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors"):
        read_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_checkpoint(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_checkpoint(tmp_path)


# Writing.


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    tensors = fakes.tensors(TINY, 3)
    written = write_checkpoint(tmp_path / "m", TINY, tensors, SEEN, LABELS, {"license": "cc0-1.0"})
    found = read_checkpoint(tmp_path / "m")
    assert found == written
    assert (found.preprocessing, found.labels, found.license) == (SEEN, LABELS, "cc0-1.0")
    again = found.tensors()
    assert all(np.array_equal(again[name], tensors[name]) for name in tensors)
    assert len({item.stat().st_mode for item in (tmp_path / "m").iterdir()}) == 1
    assert sorted(item.name for item in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors", MANIFEST]


@pytest.mark.parametrize(
    ("name", "grid", "size", "in_chans"),
    [
        (fakes.TINY, (14, 14), (224, 224), 3),
        (fakes.TINY, (16, 24), (256, 384), 3),
        (fakes.TINY, (14, 14), (256, 256), 3),
        (fakes.TINY, (14, 14), (224, 224), 1),
        ("vit_wee_patch16_reg1_gap_256", (16, 16), (256, 256), 3),
        ("vit_dpwee_patch16_reg1_gap_256", (16, 16), (256, 256), 3),
    ],
)
def test_variants_are_read_back(
    name: str, grid: tuple[int, int], size: tuple[int, int], in_chans: int, tmp_path: Path
) -> None:
    arch = get_architecture(name)
    seen = replace(SEEN, height=size[0], width=size[1])
    found = write_checkpoint(tmp_path, arch, fakes.tensors(arch, 3, grid, in_chans), seen, LABELS)
    assert (found.architecture, found.grid, found.in_chans) == (arch, grid, in_chans)
    assert found.preprocessing == seen


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TINY, fakes.tensors(TINY, 3), SEEN, LABELS)
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    for ask in (lambda found: found.sha256, lambda found: found.tensors()):  # no answer is to be had without either
        with pytest.raises(ChecksumError, match="sha256 differs"):
            ask(read_checkpoint(tmp_path))
    path.unlink()
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("manifest", [True, False])
def test_weights_exchanged_while_they_are_in_use(manifest: bool, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TINY, fakes.tensors(TINY, 3), SEEN, LABELS)
    if not manifest:
        (tmp_path / MANIFEST).unlink()
    found = read_checkpoint(tmp_path)
    assert found.sha256
    others = {name: 2 * tensor for name, tensor in fakes.tensors(TINY, 3).items()}
    write_checkpoint(tmp_path, TINY, others, SEEN, LABELS)
    with pytest.raises(ChecksumError, match="exchanged"):
        found.tensors()


def test_an_edited_config_is_found_and_the_way_out_said(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TINY, fakes.tensors(TINY, 3), SEEN, LABELS)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("0.4", "0.6"))
    with pytest.raises(ChecksumError) as caught:
        read_checkpoint(tmp_path)
    assert f"delete {tmp_path / MANIFEST}" in caught.value.hint
    (tmp_path / MANIFEST).unlink()
    assert read_checkpoint(tmp_path).preprocessing.mean[0] == 0.6


@pytest.mark.parametrize("content", ["{}", '{"schema": "other", "sha256": {}}', "[]", "nonsense"])
def test_a_manifest_that_is_none(content: str, folder: Path) -> None:
    (folder / MANIFEST).write_text(content)
    with pytest.raises(MalformedFileError):
        read_checkpoint(folder)


def test_nothing_is_written_that_could_not_be_read(tmp_path: Path) -> None:
    tensors = fakes.tensors(TINY, 3)
    bad = {**tensors, "norm.bias": np.full(192, np.inf, np.float32)}
    with pytest.raises(CheckpointError, match=r"norm\.bias holds NaN"):
        write_checkpoint(tmp_path, TINY, bad, SEEN)
    with pytest.raises(TensorMismatchError, match=r"- norm\.bias"):
        write_checkpoint(tmp_path, TINY, {k: v for k, v in tensors.items() if k != "norm.bias"}, SEEN)
    with pytest.raises(CheckpointError, match="2 labels for 3 classes"):
        write_checkpoint(tmp_path, TINY, tensors, SEEN, LABELS[:2])
    with pytest.raises(TensorMismatchError, match="fits none of"):
        write_checkpoint(tmp_path, TINY, {**tensors, "pos_embed": np.ones((1, 5, 192), np.float32)}, SEEN)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_checkpoint(tmp_path, TINY, fakes.tensors(TINY, 3), SEEN, LABELS)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(tmp_path, TINY, fakes.tensors(TINY, 2), SEEN)
    assert read_checkpoint(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.oracle
@pytest.mark.parametrize("case", ["plain", "size", "pooling", "grey", "rope", "pwee"])
def test_timm_loads_what_is_written(case: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    arch, grid, seen, in_chans = TINY, (14, 14), SEEN, 3
    if case == "size":
        grid, seen = (16, 24), replace(SEEN, height=256, width=384)
    elif case == "pooling":
        arch = replace(TINY, pool="avg", norm="after_pool")
    elif case == "grey":
        in_chans = 1
    elif case in ("rope", "pwee"):
        name = {"rope": "vit_medium_patch16_rope_reg1_gap_256", "pwee": "vit_pwee_patch16_reg1_gap_256"}[case]
        arch, grid, seen = get_architecture(name), (16, 16), replace(SEEN, height=256, width=256)
    tensors = fakes.tensors(arch, 3, grid, in_chans)
    write_checkpoint(tmp_path, arch, tensors, seen, LABELS)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert state.keys() == {to_timm_name(name, arch) for name in tensors}
    assert all(np.array_equal(state[to_timm_name(name, arch)], tensors[name]) for name in tensors)
    assert model.global_pool == arch.pool
    data = timm.data.resolve_model_data_config(model)
    assert tuple(data["input_size"]) == (in_chans, seen.height, seen.width)
    assert (tuple(data["mean"]), tuple(data["std"])) == (seen.mean, seen.std)
    assert (data["interpolation"], data["crop_pct"], data["crop_mode"]) == ("bilinear", 0.9, "squash")
    assert tuple(model.pretrained_cfg["label_names"]) == ("cat", "dog", "owl")
    assert model.pretrained_cfg["label_descriptions"] == {"cat": "a cat", "owl": "an owl"}


@pytest.mark.oracle
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_what_timm_writes_is_read(pool: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model(fakes.TINY_TAG, num_classes=3, global_pool=pool, img_size=(256, 192))
    timm.models.save_for_hf(model, tmp_path, {"label_names": ["cat", "dog", "owl"]}, safe_serialization=True)
    found = read_checkpoint(tmp_path)
    assert found.grid == (16, 12)
    assert found.architecture.pool == pool
    assert (found.preprocessing.height, found.preprocessing.width) == (256, 192)
    assert found.preprocessing.mean == BY_NAME[fakes.TINY_TAG].preprocessing.mean
    assert [label.name for label in found.labels or ()] == ["cat", "dog", "owl"]
    assert found.name.startswith("vit_tiny_patch16_224 (")  # not the published weight any more
    state = model.state_dict()
    assert all(np.array_equal(tensor, state[name].numpy()) for name, tensor in found.tensors().items())


def test_reading_a_local_folder_imports_neither_the_hub_nor_torch(vit_tiny: Path) -> None:
    code = (
        "import sys; from weevit.zoo.resolve import resolve; resolve(sys.argv[1]); "
        "print([name for name in ('torch', 'timm', 'huggingface_hub', 'pydantic', 'httpx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(vit_tiny)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("file", "options"),
    [('it\'s "one" best.pth.tar', {"num_classes": 7, "img_size": 96}), ("x.pth", {"num_classes": 0})],
)
def test_the_command_that_converts_a_pickle_works_as_it_is_printed(
    tmp_path: Path, file: str, options: dict[str, int]
) -> None:
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    name = "vit_tiny_patch16_224"
    model = timm.create_model(name, **options)
    content = {"arch": name, "state_dict": model.state_dict(), "args": argparse.Namespace(lr=1.0)}
    torch.save(content, tmp_path / file)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / file)
    command = shlex.split(caught.value.hint.splitlines()[1])
    assert command[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *command[1:]], check=True, cwd=tmp_path, capture_output=True)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    found = read_checkpoint(folder)
    assert found.num_classes == options["num_classes"]
    assert found.grid == (options.get("img_size", 224) // 16,) * 2


def test_a_disk_that_does_not_take_the_weights_is_an_error_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors has an error of its own; all callers expect the operating system's."""
    import safetensors.numpy

    def full(*given: Any, **more: Any) -> None:
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match="No space left") as told:
        write_checkpoint(tmp_path / "m", TINY, fakes.tensors(TINY, 3), SEEN, LABELS)
    assert told.value.errno == errno.ENOSPC

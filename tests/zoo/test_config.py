"""What a `config.json` may say, in its three spellings, and what it is refused for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import pytest

from weevit.errors import CheckpointError, MalformedFileError, UnknownModelError, UsageError
from weevit.zoo.architectures import get_architecture
from weevit.zoo.config import MAX_CONFIG_BYTES, parse_config, read_config
from weevit.zoo.decision import Decision
from weevit.zoo.fields import NUMBERS, Fields
from weevit.zoo.labels import Label, imagenet_labels
from weevit.zoo.weights import BY_NAME
from weevit.zoo.writing import write_checkpoint

NAMES = ["cat", "dog", "owl"]


def parse(raw: dict[str, Any]) -> Any:
    return parse_config(json.loads(json.dumps(raw)), "config.json")


def custom(**changes: Any) -> dict[str, Any]:
    """A fine-tuned model of three classes."""
    return fakes.config(tag=None, num_classes=3, top={"num_classes": 3}, **changes)


@pytest.mark.parametrize("name", fakes.PUBLISHED)
def test_every_published_weight(name: str) -> None:
    found, weight = parse(fakes.config(name)), BY_NAME[name]
    assert found.is_published
    assert found.preprocessing == weight.preprocessing
    assert found.labels == imagenet_labels(weight.num_classes)
    assert (found.num_classes, found.license, found.notes) == (weight.num_classes, weight.license, ())
    assert found.architecture == weight.architecture


def test_the_first_spelling_had_everything_in_one_object() -> None:
    raw = fakes.config()
    flat = {**raw, **raw.pop("pretrained_cfg"), "labels": ["a"] * 999 + ["b"]}
    del flat["pretrained_cfg"]
    found = parse(flat)
    assert found.preprocessing == BY_NAME[fakes.TINY_TAG].preprocessing
    assert found.labels[999] == Label("b", "b")


def test_transformers_spelling() -> None:
    labels = imagenet_labels(1000)
    assert labels is not None
    raw = fakes.config(top={"model_type": "timm_wrapper", "do_pooling": True, "label_names": [x.name for x in labels]})
    found = parse(raw)
    assert found.is_published
    assert found.labels == labels
    raw["label_names"] = [f"LABEL_{i}" for i in range(1000)]
    raw["pretrained_cfg"]["tag"] = None
    assert parse(raw).labels is None  # transformers invents these


def test_the_first_place_that_has_a_key_wins() -> None:
    raw = custom(input_size=[3, 224, 224], fixed_input_size=True)
    raw["pretrained_cfg"]["num_classes"] = 7
    raw["model_args"] = {"img_size": 256, "in_chans": 1, "global_pool": "avg", "fc_norm": False}
    raw["global_pool"] = "token"
    found = parse(raw)
    assert (found.num_classes, found.in_chans, found.img_size) == (3, 1, (256, 256))
    assert (found.architecture.pool, found.norm) == ("avg", "before_pool")
    assert (found.preprocessing.height, found.preprocessing.width) == (256, 256)


def test_labels_of_ones_own() -> None:
    found = parse(custom(label_names=NAMES, label_descriptions={"cat": "a small predator"}))
    assert found.labels == (Label("cat", "a small predator"), Label("dog", "dog"), Label("owl", "owl"))
    assert not found.is_published
    assert found.license == "apache-2.0"


def test_labels_by_index_may_have_gaps() -> None:
    found = parse(custom(label_names={"0": "cat", "2": "owl"}))
    assert [label.name for label in found.labels] == ["cat", "1", "owl"]
    assert "1 of 3 classes have no name" in found.notes[0]


def test_equal_names_are_noted() -> None:
    assert "more than one class" in parse(custom(label_names=["crane", "crane", "owl"])).notes[0]


def test_no_names_are_claimed_for_a_head_that_was_trained_anew() -> None:
    raw = fakes.config(num_classes=3, top={"num_classes": 3})  # timm keeps the tag
    found = parse(raw)
    assert found.labels is None
    assert not found.is_published
    raw = fakes.config(tag="mine")
    assert parse(raw).labels is None


@pytest.mark.parametrize("names", [NAMES[:2], [*NAMES, "eel"], {"0": "cat", "3": "eel"}, {"0": "cat", "1": "dog"}])
def test_names_for_another_number_of_classes_are_refused(names: Any) -> None:
    with pytest.raises(CheckpointError, match="label_names for 3 classes"):
        parse(custom(label_names=names))


@pytest.mark.parametrize("key", ["mean", "std", "input_size", "crop_pct", "interpolation"])
def test_preprocessing_is_never_guessed(key: str) -> None:
    raw = custom()
    del raw["pretrained_cfg"][key]
    with pytest.raises(CheckpointError, match=f"Missing: {key}"):
        parse(raw)
    known = fakes.config("vit_betwixt_patch16_rope_reg4_gap_256.sbb_in1k")
    del known["pretrained_cfg"][key]
    found = parse(known)
    published = BY_NAME["vit_betwixt_patch16_rope_reg4_gap_256.sbb_in1k"]
    assert found.preprocessing == published.preprocessing  # its own mean and std, not those of its siblings
    assert key in found.notes[0]


def test_a_missing_crop_mode_is_center_and_said() -> None:
    raw = custom()
    del raw["pretrained_cfg"]["crop_mode"]
    found = parse(raw)
    assert found.preprocessing.crop_mode == "center"
    assert "crop_mode" in found.notes[0]


def test_other_preprocessing_than_published_is_said() -> None:
    assert "differs from the published weight" in parse(fakes.config(mean=[0.485, 0.456, 0.406])).notes[0]


BAD = {
    "mean": ["0.5", [0.5], [0.5, 0.5], [0.5, 0.5, "0.5"], [0.5, 0.5, 1e9], {"r": 1}],
    "std": [[0, 0, 0], [0.5, -0.5, 0.5], [True, True, True], 0.5],
    "input_size": [
        224,
        [224, 224],
        [3, 225, 224],
        [0, 224, 224],
        [2000, 224, 224],
        [3.0, 224, 224],
        [3, 224.0, 224],
        [3, 0, 0],
        [3, 1 << 20, 224],
    ],
    "crop_pct": [0, -1, 1.5, "0.9", True, [0.9]],
    "interpolation": ["random", "cubic", 3, ["bicubic"]],
    "crop_mode": ["corner", 1],
    "num_classes": [-1, 3.0, "3", True, 10**12],
    "global_pool": ["map", "avgmax", "", 1],
    "label_names": ["cat", 3, [1, 2, 3], ["cat", "dog", ""], {"x": "cat"}, {"-1": "cat"}, {"0": "a", "00": "b"}],
    "label_descriptions": [["a", "b", "c"], {"cat": 1}],
    "license": [1, []],
    "tag": [1],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_values_that_cannot_be_meant(key: str, value: Any) -> None:
    raw = custom(label_names=NAMES)
    (raw if key in raw else raw["pretrained_cfg"])[key] = value
    if key == "mean" and value == [0.5]:  # one number counts for all three
        assert parse(raw).preprocessing.mean == (0.5, 0.5, 0.5)
        return
    with pytest.raises(CheckpointError, match=key):
        parse(raw)


@pytest.mark.parametrize("args", [{"qk_norm": True}, {"patch_size": 32}, {"class_token": False}, {"act_layer": "relu"}])
def test_arguments_that_change_the_model_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="model_args"):
        parse({**custom(), "model_args": args})


def test_arguments_that_change_nothing_pass() -> None:
    args = {"drop_path_rate": 0.1, "dynamic_img_size": True, "patch_size": 16, "embed_dim": 192, "act_layer": None}
    assert parse({**custom(), "model_args": args}).num_classes == 3


@pytest.mark.parametrize("key", ["model_args", "pretrained_cfg"])
def test_sections_are_objects(key: str) -> None:
    with pytest.raises(CheckpointError, match=key):
        parse({**custom(), key: [1]})


def test_pooling_by_a_token_that_is_not_there() -> None:
    with pytest.raises(CheckpointError, match="no class token"):
        parse({**fakes.config("vit_pwee_patch16_reg1_gap_256.sbb_in1k"), "global_pool": "token"})


def test_architectures_of_other_families() -> None:
    with pytest.raises(UnknownModelError, match="timm's small vision transformers"):
        parse({**custom(), "architecture": "resnet50"})
    with pytest.raises(UnknownModelError, match="vit_tiny_patch16_224"):
        parse({**custom(), "architecture": "vit_tiny_patch16_242"})
    with pytest.raises(CheckpointError, match="names no architecture"):
        parse({"num_classes": 3})


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"a": 1, "a": 2}', b'{"a": NaN}', b"\x80\x04\x95", b"\xff\xfe{\x00}\x00", b"PK\x03\x04"],
)
def test_files_that_are_not_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(MalformedFileError):
        read_config(path)


def test_a_huge_config_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as handle:
        handle.truncate(MAX_CONFIG_BYTES + 1)
    with pytest.raises(CheckpointError, match="the limit"):
        read_config(path)


# ---- every number of a stranger's config, at and beyond its ends (row P2)

HUGE = (1e308, -1e308, float("inf"), float("-inf"), float("nan"), 10**400, -(10**400), "1", True, ["x"], {}, -1)

ENDS: dict[str, tuple[list[Any], list[Any]]] = {
    "num_classes": ([0, 1_000_000], [1_000_001, 0.0]),
    "in_chans": ([1, 3, 4, 1024], [0, 1025, 3.0]),
    "img_size": ([16, 4096, [16, 32]], [0, 8, 4112, 24, 224.0]),
    "input_size": ([[3, 16, 4096]], [[3, 0, 16], [3, 16, 4112], [3, 16, 17], [0, 16, 16], [3, 16, 10**400]]),
    "mean": ([[-10, 0, 10], [0.5]], [[10.1, 0, 0], [0, -10.1, 0], [0, 0, float("nan")], [0, 0, 10**400]]),
    "std": ([[0.001, 1 / 255, 10]], [[1e-38] * 3, [0.0009, 1, 1], [1, 0, 1], [1, 1, 10.1], [1, 1, -0.5]]),
    "crop_pct": ([0.1, 0.875, 1, 1.0], [0.0999, 0, 1.0001, 1e-300, 2]),
    "threshold": ([1e-9, 1], [0, 1.001]),
    "coverage": ([0.01, 1], [0, 95]),
    "label_thresholds": ([[1e-6, 1], []], [[0, 1], [0.5, 1.5], [0.5, float("nan")], ["0.5"]]),
    "temperature": ([1e-6, 1, 1e6], [0, 1e-7, 1e7]),
}


def test_p2_every_number_has_its_ends_here() -> None:
    assert ENDS.keys() == NUMBERS.keys()


@pytest.mark.parametrize("key", NUMBERS)
def test_p2_every_number_of_a_config_has_a_range(key: str) -> None:
    fine, wrong = ENDS[key]
    for value in fine:
        Fields({key: value}, "config.json").get(key, NUMBERS[key])
    for value in [*wrong, *HUGE]:
        if value not in fine:
            with pytest.raises(CheckpointError, match=rf"config.json: {key} is .*: expected ") as raised:
                Fields({key: value}, "config.json").get(key, NUMBERS[key])
            assert len(str(raised.value)) < 300


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 400, "1" * 5000, "1e-38", "NaN", "Infinity"])
@pytest.mark.parametrize("key", ["mean", "std", "crop_pct"])
def test_p2_numbers_as_json_spells_them(key: str, number: str, tmp_path: Path) -> None:
    value = number if key == "crop_pct" else f"[0.5, {number}, 0.5]"
    text = json.dumps(custom(**{key: "HERE"})).replace('"HERE"', value)
    (tmp_path / "config.json").write_text(text)
    if (key, number) == ("mean", "1e-38"):
        assert parse_config(read_config(tmp_path / "config.json"), "config.json").preprocessing.mean[1] == 1e-38
        return
    with pytest.raises(CheckpointError):
        parse_config(read_config(tmp_path / "config.json"), "config.json")


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("preprocessing", {"crop_pct": 1.25}),
        ("decision", {"temperature": 1e9}),
    ],
)
def test_p2_what_could_not_be_read_is_not_written(part: str, values: dict[str, Any], tmp_path: Path) -> None:
    arch, seen = get_architecture(fakes.TINY), BY_NAME[fakes.TINY_TAG].preprocessing
    preprocessing = replace(seen, **values) if part == "preprocessing" else seen
    decision = Decision(**values) if part == "decision" else None
    with pytest.raises(CheckpointError, match=next(iter(values))):
        write_checkpoint(tmp_path / "m", arch, fakes.tensors(arch, 3), preprocessing, decision=decision)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("values", [{"std": (1e-38,) * 3}, {"crop_pct": 0.0}, {"mean": (11.0, 0.0, 0.0)}])
def test_p2_what_no_transform_can_have_is_refused_when_it_is_made(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        replace(BY_NAME[fakes.TINY_TAG].preprocessing, **values)

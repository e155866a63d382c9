"""Every published weight against timm's own record of it, and against the project's table of facts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import fakes
import pytest

from weevit.zoo.architectures import ARCHITECTURES
from weevit.zoo.labels import imagenet_labels
from weevit.zoo.weights import ALIASES, BY_NAME, DEFAULT_MODEL, TEST_SETS, WEIGHTS, find_weight


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(WEIGHTS) == 41
    assert len(fakes.PUBLISHED) == 40
    aliases = [weight.alias for weight in WEIGHTS if weight.alias]
    assert len(aliases) == len(set(aliases)) == len(ALIASES)
    assert not set(ALIASES) & (set(BY_NAME) | set(ARCHITECTURES))
    assert BY_NAME[DEFAULT_MODEL] is ALIASES["pwee"]


def test_names_are_found() -> None:
    assert find_weight("pwee") is find_weight(DEFAULT_MODEL) is find_weight("vit_pwee_patch16_reg1_gap_256")
    assert find_weight("vit_base_patch16_reg4_gap_256") is None
    assert find_weight("PWEE") is None


@pytest.mark.oracle
@pytest.mark.parametrize("name", fakes.PUBLISHED)
def test_rows_are_what_timm_records(name: str) -> None:
    timm = pytest.importorskip("timm")
    weight, theirs = fakes.PUBLISHED[name], timm.models.get_pretrained_cfg(name)
    seen = weight.preprocessing
    assert (3, seen.height, seen.width) == tuple(theirs.input_size)
    assert (seen.mean, seen.std) == (tuple(theirs.mean), tuple(theirs.std))
    assert (seen.crop_pct, seen.crop_mode, seen.interpolation) == (
        theirs.crop_pct,
        theirs.crop_mode,
        theirs.interpolation,
    )
    assert weight.num_classes == theirs.num_classes
    assert weight.license == (theirs.license or weight.license)
    assert weight.hub_id == f"{theirs.hf_hub_id.rstrip('/')}" or weight.hub_id == f"{theirs.hf_hub_id}{name}"


@pytest.mark.oracle
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_bare_architecture_means_timms_default(name: str) -> None:
    timm = pytest.importorskip("timm")
    import timm_rows  # noqa: F401  (weevit's own row)

    ours = find_weight(name)
    if ours is None:
        assert not timm.models.get_pretrained_cfg(name).has_weights
    elif name != "vit_base_patch16_224":  # timm's default for it is not of this family
        assert ours.name == f"{name}.{timm.models.get_pretrained_cfg(name).tag}"


@pytest.mark.oracle
@pytest.mark.parametrize(("count", "subset"), [(1000, "imagenet-1k"), (11821, "imagenet-12k")])
def test_labels_are_those_of_timm(count: int, subset: str) -> None:
    data = pytest.importorskip("timm.data")
    theirs, ours = data.ImageNetInfo(subset), imagenet_labels(count)
    assert ours is not None
    assert [label.id for label in ours] == list(theirs.label_names())
    assert [label.name for label in ours] == list(theirs.label_descriptions())


def test_labels_of_other_widths_are_unknown() -> None:
    assert imagenet_labels(21843) is None


LATER = {
    "vit_dwee_patch16_reg1_gap_256.sbb_nadamuon_in1k": [81.80],
    "vit_dpwee_patch16_reg1_gap_256.sbb_nadamuon_in1k": [81.67],
    "vit_dlittle_patch16_reg1_gap_256.sbb_nadamuon_in1k": [83.24],
}
"""ImageNet top-1 alone, from the model cards; timm's tables do not have these weights yet."""


def test_rows_are_those_of_the_facts(shared: Path) -> None:
    with (shared / "facts" / "weights.csv").open(encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows.keys() == fakes.PUBLISHED.keys()
    columns = ["imagenet", "imagenet-real", "imagenetv2-matched-frequency", "imagenet-a", "imagenet-r", "sketch"]
    for name, row in rows.items():
        weight = BY_NAME[name]
        seen = weight.preprocessing
        assert (weight.img_size, weight.num_classes) == (int(row["img_size"]), int(row["num_classes"]))
        assert (weight.license, weight.hub_id) == (row["license"], row["hf_hub_id"])
        assert (seen.crop_pct, seen.crop_mode, seen.interpolation) == (
            float(row["crop_pct"]),
            row["crop_mode"],
            row["interpolation"],
        )
        assert [list(seen.mean), list(seen.std)] == [json.loads(row["mean"]), json.loads(row["std"])]
        published = [row[f"{column}_top{k}"] for column in columns for k in (1, 5)]
        assert list(weight.figures) == ([float(value) for value in published if value] or LATER.get(name, []))
        assert len(weight.metrics) in (0, len(TEST_SETS))


def test_a_top1_alone_is_shown_as_that() -> None:
    weight = BY_NAME["vit_dlittle_patch16_reg1_gap_256.sbb_nadamuon_in1k"]
    assert (weight.top1, weight.metrics) == (83.24, {})
    assert BY_NAME["vit_tiny_patch16_224.augreg_in21k_ft_in1k"].top1 == 75.452
    assert BY_NAME["vit_dwee_patch16_reg1_gap_256.sbb_in1k"].top1 is None

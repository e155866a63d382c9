"""What a type checker is told of answers: checked by `tests/test_types.py`, never run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, assert_type
from zipfile import ZipExtFile

import numpy as np
import numpy.typing as npt
from PIL import Image

import weevit
from weevit.images.sources import Inputs, expand
from weevit.nn.features import FeatureExtractor
from weevit.nn.vit import VisionTransformer


def one_image(
    model: weevit.Predictor, file: BinaryIO, image: Image.Image, array: npt.NDArray[np.uint8], member: ZipExtFile
) -> None:
    row = {"bytes": b"", "path": None}
    assert_type(model.classify(b"..."), weevit.Result)
    assert_type(model.classify(file, topk=2), weevit.Result)
    assert_type(model.classify(io.BytesIO()), weevit.Result)
    assert_type(model.classify(member), weevit.Result)
    assert_type(model.features(image, layers=[0]), weevit.Result)
    assert_type(model.run(array, ["logits"]), weevit.Result)
    assert_type(model.run(row), weevit.Result)


def many(model: weevit.Predictor, images: list[Image.Image], paths: list[Path], words: tuple[str, ...]) -> None:
    assert_type(model.classify(images), list[weevit.Result])
    assert_type(model.classify(paths), list[weevit.Result])
    assert_type(model.features(words), list[weevit.Result])
    assert_type(model.run(path for path in paths), list[weevit.Result])
    assert_type(model.run(expand("photos/")), list[weevit.Result])
    assert_type(model.classify([*images, *words]), list[weevit.Result])
    assert_type(model.classify(["cat.jpg"])[0].labels, tuple[str, ...])
    assert_type(model.classify([{"bytes": b"", "path": None}]), list[weevit.Result])


def only_the_disk_knows(model: weevit.Predictor, path: Path, whatever: Inputs) -> None:
    assert_type(model.classify("photos"), weevit.Result | list[weevit.Result])
    assert_type(model.features(path), weevit.Result | list[weevit.Result])
    assert_type(model.run(whatever), weevit.Result | list[weevit.Result])
    model.classify(7)  # error: call-overload
    model.classify("cat.jpg").labels  # error: union-attr  # noqa: B018


def modules() -> None:
    module = weevit.create_model("vit_tiny_patch16_224", num_classes=3, img_size=64)
    assert_type(module, VisionTransformer)
    assert_type(weevit.create_model("pwee", features_only=True, out_indices=[1]), FeatureExtractor)
    weevit.data.create_transform(**weevit.data.resolve_model_data_config(module))
    weevit.create_model("pwee", num_clases=3)  # error: call-overload
    weevit.modle  # error: attr-defined  # noqa: B018

"""Numbers that were typed or passed: the message of each mistake, to the letter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import weevit
from weevit.arguments import MAX_SEED, whole


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("topk", "x", 1), "topk is a whole number, 1 or more: 'x' was given.", ""),
        (("topk", True, 1), "topk is a whole number, 1 or more: True was given.", ""),
        (("topk", 0, 1), "topk is 1 or more: 0 was given.", ""),
        (("--topk", 0, 1), "--topk is 1 or more: 0 was given.", "For instance --topk 1."),
        (("n", -1, 0, None, "none is none"), "n is 0 or more (none is none): -1 was given.", ""),
    ],
)
def test_a_wrong_number_is_told_in_full(arguments: tuple[object, ...], message: str, hint: str) -> None:
    with pytest.raises(weevit.UsageError) as caught:
        whole(*arguments)  # type: ignore[arg-type]
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_seed_is_what_every_generator_takes() -> None:
    assert np.iinfo(np.int64).max == MAX_SEED


@pytest.mark.parametrize(
    "call",
    [
        lambda: weevit.load("digits", batch_size="8"),  # type: ignore[arg-type]
        lambda: weevit.load("digits", threads="2"),  # type: ignore[arg-type]
        lambda: weevit.Limits(max_pixels="9"),  # type: ignore[arg-type]
        lambda: weevit.load("digits").classify("three.png", topk="5"),  # type: ignore[arg-type]
    ],
)
def test_text_is_no_number_in_python(call: Callable[[], object]) -> None:
    """It was parsed for the check and then used as text: `bits="8"` gave weights of 7 bits."""
    with pytest.raises(weevit.UsageError, match=r"is a whole number, .*'[0-9]' was given"):
        call()


def test_bits_are_a_number(tmp_path: Path) -> None:
    with pytest.raises(weevit.UsageError, match="bits is a whole number, 7 or more: '8' was given"):
        weevit.quantize("digits", None, tmp_path / "new", bits="8")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [np.int64(32), (32, np.int32(32)), [32, 32], np.array([32, 32]).tolist()])
def test_an_image_size_is_any_whole_number(size: object) -> None:
    spec = weevit.load("digits", image_size=size).preprocessing  # type: ignore[arg-type]
    assert (spec.height, spec.width) == (32, 32)


@pytest.mark.parametrize(
    ("size", "message", "hint"),
    [
        (0, "image_size is a multiple of 16 from 16 to 4,096: 0 was given.", "The nearest is 16."),
        (39, "image_size is a multiple of 16 from 16 to 4,096: 39 was given.", "The nearest is 32."),
        (10**400, "image_size is a multiple of 16 from 16 to 4,096: 1000", "The nearest is 4096."),
        (64.0, "image_size is a multiple of 16 from 16 to 4,096: 64.0 was given.", "For instance 256."),
        (float("nan"), "image_size is a multiple of 16 from 16 to 4,096: nan was given.", "For instance 256."),
        (True, "image_size is a multiple of 16 from 16 to 4,096: True was given.", "For instance 256."),
        ((64,), "image_size is one side in pixels, or (height, width): (64,) was given.", "For instance 256, or"),
        ((64, 64, 3), "image_size is one side in pixels, or (height, width): (64, 64, 3) was given.", "For instance"),
        ((64, "64"), "image_size is a multiple of 16 from 16 to 4,096: '64' was given.", "For instance 256."),
    ],
)
def test_an_image_size_that_is_none(size: object, message: str, hint: str) -> None:
    """Before anything is fetched: the model's name is not looked at."""
    with pytest.raises(weevit.UsageError) as caught:
        weevit.load("hf-hub:no/such", image_size=size)  # type: ignore[arg-type]
    assert caught.value.message.startswith(message)
    assert caught.value.hint.startswith(hint)


BATCH = np.zeros((2, 64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    "pixels",
    [BATCH[:0], BATCH / 255, BATCH.astype(np.int64), BATCH[0], BATCH.transpose(0, 3, 1, 2), BATCH[:, :32], None, 3],
)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_cropped_images_of_another_type_or_shape(pixels: object, engine: str) -> None:
    """OpenVINO made uint8 of floats: all images were black, and answered."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    model = weevit.load("digits", engine=engine, cache=False)  # type: ignore[arg-type]
    with pytest.raises(weevit.UsageError, match=r"uint8 of shape \(images, 64, 64, 3\), at least one: .* was given"):
        model.forward(pixels)  # type: ignore[arg-type]

"""timm's names for preprocessing: `weevit.data.resolve_model_data_config` and `weevit.data.create_transform`.

The results are timm's: the same settings, and for the same image the same tensor. Needs `weevit[train]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, cast

from weevit.arguments import whole, wholes
from weevit.errors import UsageError, did_you_mean
from weevit.zoo.weights import CLIP, HALF, RGB, CropMode, Interpolation, Preprocessing, as_rgb

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

__all__ = [
    "DEFAULT_CROP_MODE",
    "DEFAULT_CROP_PCT",
    "IMAGENET_DEFAULT_MEAN",
    "IMAGENET_DEFAULT_STD",
    "IMAGENET_INCEPTION_MEAN",
    "IMAGENET_INCEPTION_STD",
    "OPENAI_CLIP_MEAN",
    "OPENAI_CLIP_STD",
    "create_transform",
    "resolve_data_config",
    "resolve_model_data_config",
]

DEFAULT_CROP_PCT = 0.875
DEFAULT_CROP_MODE = "center"
IMAGENET_DEFAULT_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEFAULT_STD = (0.229, 0.224, 0.225)
IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD = HALF
OPENAI_CLIP_MEAN, OPENAI_CLIP_STD = CLIP


class DataConfig(TypedDict):
    """The preprocessing of a model, by timm's names: the arguments of `create_transform`."""

    input_size: tuple[int, int, int]
    interpolation: Interpolation
    mean: RGB
    std: RGB
    crop_pct: float
    crop_mode: CropMode


_KEYS = tuple(DataConfig.__annotations__)


def resolve_model_data_config(
    model: nn.Module,
    args: Mapping[str, object] | None = None,
    pretrained_cfg: Mapping[str, object] | None = None,
    use_test_size: bool = False,
    verbose: bool = False,
) -> DataConfig:
    """The preprocessing of a model: input_size (3, height, width), interpolation, mean, std, crop_pct, crop_mode.

    Args:
        model: made by `create_model`.
        args: settings that override the model's own.
        pretrained_cfg: used in place of the model's own.
        use_test_size: without effect: these weights have one size.
        verbose: without effect.
    """
    return resolve_data_config(args, pretrained_cfg, model, use_test_size, verbose)


def resolve_data_config(
    args: Mapping[str, object] | None = None,
    pretrained_cfg: Mapping[str, object] | None = None,
    model: nn.Module | None = None,
    use_test_size: bool = False,
    verbose: bool = False,
) -> DataConfig:
    """`resolve_model_data_config` with timm's other order of arguments, with or without a model.

    In `args`, `img_size` is the side of a square and `in_chans` the number of channels, as on timm's command lines.

    Raises:
        UsageError: a setting is neither in `args` nor in `pretrained_cfg`: no default is assumed in silence.
    """
    del use_test_size, verbose
    given = {key: value for key, value in (args or {}).items() if value is not None}
    found = {**(pretrained_cfg or getattr(model, "pretrained_cfg", None) or {}), **given}
    if "img_size" in given and "input_size" not in given:
        found["input_size"] = (given.get("in_chans", 3), given["img_size"], given["img_size"])
    missing = [key for key in _KEYS if key not in found]
    if missing:
        raise UsageError(f"Preprocessing is unknown: {', '.join(missing)} are missing.", "Give them in args.")
    chosen = {key: tuple(value) if isinstance(value := found[key], list | tuple) else value for key in _KEYS}
    return cast(DataConfig, chosen)


def create_transform(
    input_size: Sequence[int] | int,
    is_training: bool = False,
    *,
    interpolation: Interpolation,
    mean: Sequence[float],
    std: Sequence[float],
    crop_pct: float,
    crop_mode: CropMode,
    **unknown: object,
) -> Callable[[Image.Image], Tensor]:
    """A function from an image to a normalised (3, height, width) float32 tensor, as timm's evaluation transform.

    Args:
        input_size: (channels, height, width), (height, width), or the side.
        is_training: refused; the training transform is part of training.
        interpolation, mean, std, crop_pct, crop_mode: as from `resolve_model_data_config`; unlike timm's, none has a
            default, since a wrong one costs accuracy in silence.
        unknown: refused, with the nearest name.

    Raises:
        UsageError: an unknown argument, an invalid value, or `is_training`.
    """
    if unknown:
        name = next(iter(unknown))
        raise UsageError(f"create_transform takes no {name!r}.", did_you_mean(name, _KEYS) or f"It takes {_KEYS}.")
    if is_training:
        raise UsageError("The training transform comes with training; this one is for evaluation.", "is_training=False")
    height, width = _sides(input_size)
    spec = Preprocessing(height, width, crop_pct, crop_mode, interpolation, as_rgb("mean", mean), as_rgb("std", std))

    def transform(image: Image.Image) -> Tensor:
        import torch

        from weevit.images.preprocess import normalize, preprocess

        return torch.from_numpy(normalize(preprocess(image.convert("RGB"), spec), spec))

    return transform


def _sides(input_size: Sequence[int] | int) -> tuple[int, int]:
    sides = wholes("input_size", [input_size] * 2 if isinstance(input_size, int) else input_size)
    if len(sides) not in (2, 3):
        raise UsageError(
            f"input_size is (channels, height, width), (height, width) or the side: {input_size!r} was given.",
            "For instance (3, 256, 256).",
        )
    height, width = (whole("input_size", side, 1) for side in sides[-2:])
    return height, width

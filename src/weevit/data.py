"""timm's names for preprocessing: `weevit.data.resolve_model_data_config` and `weevit.data.create_transform`.

The results are timm's: the same settings, and for the same picture the same tensor. Needs `weevit[train]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from weevit.errors import UsageError, did_you_mean
from weevit.zoo.weights import Preprocessing

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["create_transform", "resolve_data_config", "resolve_model_data_config"]

_KEYS = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")


def resolve_model_data_config(
    model: Any, args: dict[str, Any] | None = None, pretrained_cfg: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What a model was made to see: input_size (3, height, width), interpolation, mean, std, crop_pct, crop_mode.

    Args:
        model: made by `create_model`.
        args: settings that win over the model's own.
        pretrained_cfg: instead of the model's own.
    """
    return resolve_data_config(args, pretrained_cfg or model.pretrained_cfg)


def resolve_data_config(
    args: dict[str, Any] | None = None, pretrained_cfg: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The same from a `pretrained_cfg` alone.

    Raises:
        UsageError: a setting is neither in `args` nor in `pretrained_cfg`: there are no defaults to inherit silently.
    """
    found = {**(pretrained_cfg or {}), **{key: value for key, value in (args or {}).items() if value is not None}}
    missing = [key for key in _KEYS if key not in found]
    if missing:
        raise UsageError(f"Preprocessing is not known: {', '.join(missing)} stand nowhere.", "Give them in args.")
    return {key: tuple(found[key]) if isinstance(found[key], list | tuple) else found[key] for key in _KEYS}


def create_transform(
    input_size: Sequence[int] | int,
    is_training: bool = False,
    *,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
    crop_pct: float,
    crop_mode: str,
    **unknown: Any,
) -> Callable[[Image.Image], Tensor]:
    """A function from a picture to a normalised (3, height, width) float32 tensor, as timm's evaluation transform.

    Args:
        input_size: (channels, height, width), (height, width), or the side.
        is_training: the training transform comes with training.
        interpolation, mean, std, crop_pct, crop_mode: as `resolve_model_data_config` gives them; unlike timm's, none
            has a default, since a wrong one costs accuracy without a word.
        unknown: refused, with the nearest name.

    Raises:
        UsageError: an unknown argument, or `is_training`.
    """
    if unknown:
        name = next(iter(unknown))
        raise UsageError(f"create_transform takes no {name!r}.", did_you_mean(name, _KEYS) or f"It takes {_KEYS}.")
    if is_training:
        raise UsageError("The training transform comes with training; this one is for evaluation.", "is_training=False")
    height, width = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)[-2:]
    spec = Preprocessing(height, width, crop_pct, crop_mode, interpolation, tuple(mean), tuple(std))  # type: ignore[arg-type]

    def transform(image: Image.Image) -> Tensor:
        import torch

        from weevit.images.preprocess import normalize, preprocess

        return torch.from_numpy(normalize(preprocess(image.convert("RGB"), spec), spec))

    return transform

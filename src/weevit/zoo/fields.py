"""Look a key up in a `config.json`, with an error for a wrong value.

Each check returns the typed value, or raises a ValueError with the allowed values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import index
from typing import Any, SupportsIndex, TypeVar, cast

from weevit.errors import CheckpointError, UsageError
from weevit.zoo.architectures import PATCH
from weevit.zoo.strict_json import shorten
from weevit.zoo.weights import CROP, MEAN, RGB, STD

MAX_SIDE = 4096
MAX_CHANNELS = 1024

T = TypeVar("T")


class Fields:
    """The levels of a key: `model_args`, the top level, `pretrained_cfg`; the first that has it counts.

    This is timm's order: `model_args` describe the saved weights, and the top level overrides `pretrained_cfg`.
    """

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        self.where = where
        args, pretrained = raw.get("model_args") or {}, raw.get("pretrained_cfg") or {}
        for key, value in (("model_args", args), ("pretrained_cfg", pretrained)):
            if not isinstance(value, Mapping):
                raise self.wrong(key, value, "expected an object {...}")
        self.model_args: Mapping[str, Any] = args
        self._levels = (args, raw, pretrained)

    def get(self, key: str, check: Callable[[Any], T]) -> T | None:
        """The checked value, None where the key is absent or null; CheckpointError for a value that is not allowed."""
        value = next((level[key] for level in self._levels if level.get(key) is not None), None)
        if value is None:
            return None
        try:
            return check(value)
        except ValueError as error:
            raise self.wrong(key, value, f"expected {error}") from None

    def wrong(self, key: str, value: object, why: str) -> CheckpointError:
        """The error for an invalid value."""
        return CheckpointError(f"{self.where}: {key} is {shorten(value)}: {why}.")


def text(value: Any) -> str:
    """A string."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a non-empty string")
    return value


def boolean(value: Any) -> bool:
    """`true` or `false`."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def whole(low: int, high: int) -> Callable[[Any], int]:
    """A whole number from `low` to `high`."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"a whole number from {low:,} to {high:,}")
        return value

    return check


def number(low: float, high: float, above: bool = False) -> Callable[[Any], float]:
    """A number from `low` (excluded if `above`) to `high`."""
    allowed = f"a number above {low:g} and up to {high:g}" if above else f"a number from {low:g} to {high:g}"

    def check(value: Any) -> float:
        if type(value) not in (int, float) or not low <= value <= high or (above and value == low):
            raise ValueError(allowed)
        return float(value)

    return check


def one_of(*allowed: str, shown: str) -> Callable[[Any], str]:
    """One of a few words."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"a {shown} that weevit knows: {', '.join(allowed)}")
        return value

    return check


def shares(value: Any) -> tuple[float, ...]:
    """A list of probabilities, none of them 0."""
    if not isinstance(value, list):
        raise ValueError("a list of numbers above 0 and up to 1")
    return tuple(number(0, 1, above=True)(one) for one in value)


def rgb(low: float, high: float) -> Callable[[Any], RGB]:
    """Three numbers, or one for all three (as timm writes for grey images)."""

    def check(value: Any) -> RGB:
        if not isinstance(value, list) or len(value) not in (1, 3):
            raise ValueError("a list of 3 numbers")
        numbers = [number(low, high)(item) for item in value]
        red, green, blue = numbers * (3 // len(numbers))
        return red, green, blue

    return check


def side(value: Any) -> int:
    """Height or width of the input in pixels."""
    if whole(PATCH, MAX_SIDE)(value) % PATCH:
        raise ValueError(f"a multiple of the patch size, {PATCH}")
    return cast(int, value)


def check_side(value: object, name: str = "image_size") -> int:
    """Refuse an image side that is not allowed; a UsageError names the nearest side."""
    try:
        return side(index(cast(SupportsIndex, value)))
    except (TypeError, ValueError):
        raise UsageError(
            f"{name} is a multiple of {PATCH} from {PATCH} to {MAX_SIDE:,}: {repr(value)[:40]} was given.",
            f"The nearest is {_nearest(value)}." if type(value) is int else "For instance 256.",
        ) from None


def _nearest(value: int) -> int:
    return min(max(PATCH, (value + PATCH // 2) // PATCH * PATCH), MAX_SIDE)


def check_sides(image_size: object) -> tuple[int, int]:
    """(height, width) of an image size: one side in pixels, or both."""
    sides = list(image_size) if isinstance(image_size, list | tuple) else [image_size] * 2
    if len(sides) != 2:
        raise UsageError(
            f"image_size is one side in pixels, or (height, width): {repr(image_size)[:40]} was given.",
            "For instance 256, or (256, 320).",
        )
    return check_side(sides[0]), check_side(sides[1])


def height_width(value: Any) -> tuple[int, int]:
    """`img_size`: one number or two."""
    pair = [value, value] if type(value) is int else value
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError("a number of pixels or [height, width]")
    return side(pair[0]), side(pair[1])


def channels_height_width(value: Any) -> tuple[int, int, int]:
    """`input_size`."""
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("[channels, height, width]")
    return channels(value[0]), side(value[1]), side(value[2])


def channels(value: Any) -> int:
    """Image channels: images have three (or one), satellites' and microscopes' arrays have more."""
    return whole(1, MAX_CHANNELS)(value)


def index_to_name(value: Any) -> dict[int, str]:
    """`label_names`: a list, or an object from index to name, which may skip indices."""
    if not isinstance(value, list | Mapping):
        raise ValueError("a list of names, or an object from index to name")
    pairs = list(value.items() if isinstance(value, Mapping) else enumerate(value))
    if not all(isinstance(name, str) and name.strip() for _, name in pairs):
        raise ValueError("names that are non-empty strings")
    try:
        names = {int(index): name for index, name in pairs}
    except ValueError:
        raise ValueError("names by index, and every index a whole number") from None
    if len(names) < len(pairs) or any(index < 0 for index in names):
        raise ValueError("names by index, and every index once, from 0")
    return names


def name_to_text(value: Any) -> dict[str, str]:
    """`label_descriptions`: an object from name to description."""
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError("an object from label name to description")
    return dict(value)


MAX_CLASSES = 1_000_000

NUMBERS: dict[str, Callable[[Any], Any]] = {
    "num_classes": whole(0, MAX_CLASSES),
    "in_chans": channels,
    "img_size": height_width,
    "input_size": channels_height_width,
    "mean": rgb(*MEAN),
    "std": rgb(*STD),
    "crop_pct": number(*CROP),
    "threshold": number(0, 1, above=True),
    "coverage": number(0, 1, above=True),
    "label_thresholds": shares,
    "temperature": number(1e-6, 1e6),
}
"""Numbers of a `config.json` -> their checks."""

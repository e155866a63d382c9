"""Every published weight of the family is one row: input, licence and published accuracy.

Nothing is inherited: betwixt with RoPE wants another mean and std than its three siblings, and says so in its row.
Figures are timm's published results, in percent, on six test sets; a row without figures has none published.
Within an architecture the first row is timm's default tag, where timm's default is one of this family.
The last row is weevit's own, and comes with it: a model to try everything with where there is no hub.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

from weevit.arguments import one_of, within
from weevit.errors import UsageError
from weevit.zoo.architectures import Architecture, get_architecture

CropMode = Literal["center", "squash", "border"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
RGB = tuple[float, float, float]

HALF: tuple[RGB, RGB] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP: tuple[RGB, RGB] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

MEAN, STD, CROP = (-10.0, 10.0), (1e-3, 10.0), (0.1, 1.0)
"""Bounds, for pixels from 0 to 1. The smallest published std is 1/255; with 1e-38 every answer would be NaN."""

MOST_CROP = 10.0
"""Of a transform: above 1 the image is smaller than the crop and padded, as timm's. No model was trained so, and no
checkpoint may say so."""

TEST_SETS = ("imagenet", "imagenet-real", "imagenetv2", "imagenet-a", "imagenet-r", "imagenet-sketch")
"""Validation set, ReaL labels (arXiv:2006.07159), V2 matched-frequency, A, R, Sketch: the order of a row's figures."""


def as_rgb(name: str, values: object) -> RGB:
    """A mean or a std from a list, an array or a tensor: three numbers, or one for all channels.

    Raises:
        UsageError: something else.
    """
    try:
        numbers = [] if isinstance(values, str) else [float(value) for value in cast(Iterable[float], values)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, 3):
        raise UsageError(
            f"{name} has 3 numbers, or one for all channels: {values!r} was given.",
            "A model of other channels takes those of red, green and blue in turn.",
        )
    red, green, blue = numbers if len(numbers) == 3 else numbers * 3
    return red, green, blue


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of a model; every field has the meaning of timm's evaluation transform.

    Attributes:
        height, width: input size in pixels.
        crop_pct: share of the resized image that the crop keeps, along each side.
        crop_mode: `center` (resize the short side, crop the centre), `squash` (resize both sides, crop the centre) or
            `border` (resize the long side, pad with the mean colour).
        interpolation: resampling filter.
        mean, std: normalisation of pixels in [0, 1], for each of red, green, blue.

    Raises:
        UsageError: an unknown crop or filter, or a number out of bounds.
    """

    height: int
    width: int
    crop_pct: float
    crop_mode: CropMode
    interpolation: Interpolation
    mean: RGB
    std: RGB

    def __post_init__(self) -> None:
        one_of("crop_mode", self.crop_mode, get_args(CropMode))
        one_of("interpolation", self.interpolation, get_args(Interpolation))
        within("crop_pct", self.crop_pct, CROP[0], MOST_CROP)
        for name, values, bounds in (("mean", self.mean, MEAN), ("std", self.std, STD)):
            for value in values:
                within(name, value, *bounds)

    def of_channels(self, count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """`mean` and `std` of a model with `count` channels: for one their average, else red, green, blue in turn.

        Weights of three channels are adapted to others in the same way (timm's `adapt_input_conv`).
        """
        if count == 1:
            return (sum(self.mean) / 3,), (sum(self.std) / 3,)
        indices = [index % 3 for index in range(count)]
        return tuple(self.mean[index] for index in indices), tuple(self.std[index] for index in indices)


@dataclass(frozen=True)
class Weight:
    """One published weight.

    Attributes:
        name: the full tag, `architecture.tag`.
        alias: a short name that means exactly this weight; empty where there is none.
        img_size: side of the input in pixels.
        crop_pct, crop_mode, mean_std: see `Preprocessing`; resampling is bicubic for the whole family.
        num_classes: 1,000 (ImageNet-1k) or 11,821 (ImageNet-12k).
        license: as published with the weight.
        figures: top-1 and top-5 for each of `TEST_SETS`, in turn; the first top-1 alone where only that is published;
            empty where none are.
        about: what a person has to know who uses it.
        embedded: the folder of `weevit/zoo/embedded` that it comes in; empty where it is on the hub.
    """

    name: str
    alias: str
    img_size: int
    crop_pct: float
    crop_mode: CropMode
    mean_std: tuple[RGB, RGB]
    num_classes: int
    license: str
    figures: tuple[float, ...]
    embedded: str = ""
    about: str = ""

    @property
    def architecture(self) -> Architecture:
        """The row of its architecture."""
        return get_architecture(self.name.partition(".")[0])

    @property
    def hub_id(self) -> str:
        """`organisation/name` on the hub; empty for what comes with weevit."""
        return "" if self.embedded else f"timm/{self.name}"

    @property
    def preprocessing(self) -> Preprocessing:
        """What this weight was made to see."""
        size, (mean, std) = self.img_size, self.mean_std
        return Preprocessing(size, size, self.crop_pct, self.crop_mode, "bicubic", mean, std)

    @property
    def top1(self) -> float | None:
        """On ImageNet's validation set, in percent; None where it is not published."""
        return self.figures[0] if self.figures else None

    @property
    def metrics(self) -> dict[str, tuple[float, float]]:
        """Test set -> (top-1, top-5) in percent; empty where these are not published."""
        if len(self.figures) == 1:
            return {}
        return dict(zip(TEST_SETS, zip(self.figures[::2], self.figures[1::2], strict=True), strict=False))


# fmt: off
_DIGITS = "digits reads single handwritten digits, dark on light, and calls whatever else it is shown a digit too"

WEIGHTS: tuple[Weight, ...] = (
    #      name                                                              alias         size  crop  mode      mean/std  classes  licence      top-1, top-5 on: ImageNet, ReaL, V2, A, R, Sketch
    Weight("vit_tiny_patch16_224.augreg_in21k_ft_in1k",                      "tiny",          224, 0.9,  "center", HALF,  1000, "apache-2.0", (75.452, 92.858, 82.061, 95.493, 63.110, 84.900, 9.053, 34.160, 32.150, 49.103, 20.460, 37.574)),
    Weight("vit_wee_patch16_reg1_gap_256.sbb_in1k",                          "wee",           256, 0.95, "center", HALF,  1000, "apache-2.0", (80.262, 95.360, 86.754, 97.246, 69.520, 89.370, 21.413, 54.507, 43.903, 59.383, 31.854, 51.540)),
    Weight("vit_dwee_patch16_reg1_gap_256.sbb_nadamuon_in1k",                "",              256, 0.95, "center", HALF,  1000, "apache-2.0", (81.80,)),
    Weight("vit_dwee_patch16_reg1_gap_256.sbb_in1k",                         "dwee",          256, 0.95, "center", HALF,  1000, "apache-2.0", ()),
    Weight("vit_pwee_patch16_reg1_gap_256.sbb_in1k",                         "pwee",          256, 0.95, "center", HALF,  1000, "apache-2.0", (80.082, 95.138, 86.297, 97.143, 69.440, 89.080, 20.560, 53.173, 43.840, 58.800, 31.219, 51.103)),
    Weight("vit_dpwee_patch16_reg1_gap_256.sbb_nadamuon_in1k",               "",              256, 0.95, "center", HALF,  1000, "apache-2.0", (81.67,)),
    Weight("vit_dpwee_patch16_reg1_gap_256.sbb_in1k",                        "dpwee",         256, 0.95, "center", HALF,  1000, "apache-2.0", ()),
    Weight("vit_small_patch16_224.augreg_in21k_ft_in1k",                     "small",         224, 0.9,  "center", HALF,  1000, "apache-2.0", (81.402, 96.150, 86.854, 97.596, 70.630, 90.080, 26.787, 58.880, 46.033, 61.847, 32.893, 53.941)),
    Weight("vit_little_patch16_reg1_gap_256.sbb_in12k_ft_in1k",              "little",        256, 0.95, "center", HALF,  1000, "apache-2.0", (83.800, 96.972, 88.434, 98.127, 74.160, 91.680, 39.693, 71.133, 50.700, 65.217, 38.462, 59.382)),
    Weight("vit_little_patch16_reg1_gap_256.sbb_in12k",                      "little-in12k",  256, 0.95, "center", HALF, 11821, "apache-2.0", ()),
    Weight("vit_little_patch16_reg4_gap_256.sbb_in1k",                       "",              256, 0.95, "center", HALF,  1000, "apache-2.0", (82.520, 96.258, 87.849, 97.711, 71.870, 90.750, 28.800, 62.400, 47.740, 62.380, 36.375, 56.727)),
    Weight("vit_dlittle_patch16_reg1_gap_256.sbb_nadamuon_in1k",             "dlittle",       256, 0.95, "center", HALF,  1000, "apache-2.0", (83.24,)),
    Weight("vit_medium_patch16_reg1_gap_256.sbb_in1k",                       "",              256, 0.95, "center", HALF,  1000, "apache-2.0", (83.462, 96.548, 88.022, 97.730, 73.050, 91.050, 34.573, 67.653, 48.953, 64.033, 36.318, 56.283)),
    Weight("vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k",              "medium",        256, 0.95, "center", HALF,  1000, "apache-2.0", (84.956, 97.384, 89.062, 98.256, 75.290, 92.440, 46.133, 77.000, 55.963, 70.347, 42.728, 64.012)),
    Weight("vit_medium_patch16_reg4_gap_256.sbb_in12k",                      "medium-in12k",  256, 0.95, "center", HALF, 11821, "apache-2.0", ()),
    Weight("vit_medium_patch16_reg4_gap_256.sbb_in1k",                       "",              256, 0.95, "center", HALF,  1000, "apache-2.0", (83.466, 96.622, 88.157, 97.880, 73.170, 91.210, 34.027, 67.293, 50.057, 64.943, 37.148, 57.305)),
    Weight("vit_mediumd_patch16_reg4_gap_256.sbb2_e200_in12k_ft_in1k",       "mediumd",       256, 0.95, "center", HALF,  1000, "apache-2.0", (86.608, 97.934, 90.001, 98.602, 77.180, 93.760, 60.893, 85.293, 63.290, 76.797, 49.567, 71.542)),
    Weight("vit_mediumd_patch16_reg4_gap_256.sbb2_e200_in12k",               "mediumd-in12k", 256, 0.95, "center", HALF, 11821, "apache-2.0", ()),
    Weight("vit_mediumd_patch16_reg4_gap_256.sbb_in12k",                     "",              256, 0.95, "center", HALF, 11821, "apache-2.0", ()),
    Weight("vit_mediumd_patch16_reg4_gap_256.sbb_in12k_ft_in1k",             "",              256, 0.95, "center", HALF,  1000, "apache-2.0", (86.198, 97.888, 89.796, 98.520, 77.170, 93.600, 58.027, 83.200, 61.473, 74.573, 48.014, 69.671)),
    Weight("vit_mediumd_patch16_reg4_gap_384.sbb2_e200_in12k_ft_in1k",       "mediumd-384",   384, 1.0,  "center", HALF,  1000, "apache-2.0", (87.438, 98.256, 90.435, 98.689, 78.190, 94.230, 70.627, 90.560, 65.247, 78.410, 50.082, 72.552)),
    Weight("vit_betwixt_patch16_reg1_gap_256.sbb_in1k",                      "",              256, 0.95, "center", HALF,  1000, "apache-2.0", (83.652, 96.546, 87.911, 97.594, 73.270, 91.150, 35.640, 67.067, 50.017, 64.617, 37.658, 56.782)),
    Weight("vit_betwixt_patch16_reg4_gap_256.sbb2_e200_in12k_ft_in1k",       "betwixt",       256, 0.95, "center", HALF,  1000, "apache-2.0", (85.734, 97.610, 89.299, 98.313, 76.490, 92.890, 52.027, 80.467, 58.960, 72.720, 44.442, 65.513)),
    Weight("vit_betwixt_patch16_reg4_gap_256.sbb2_e200_in12k",               "betwixt-in12k", 256, 0.95, "center", HALF, 11821, "apache-2.0", ()),
    Weight("vit_betwixt_patch16_reg4_gap_256.sbb_in12k",                     "",              256, 0.95, "center", HALF, 11821, "apache-2.0", ()),
    Weight("vit_betwixt_patch16_reg4_gap_256.sbb_in12k_ft_in1k",             "",              256, 0.95, "center", HALF,  1000, "apache-2.0", (85.426, 97.478, 89.066, 98.170, 75.620, 92.500, 49.680, 78.493, 57.500, 71.597, 43.617, 64.106)),
    Weight("vit_betwixt_patch16_reg4_gap_256.sbb_in1k",                      "",              256, 0.95, "center", HALF,  1000, "apache-2.0", (83.710, 96.616, 88.112, 97.677, 73.430, 91.240, 36.560, 68.040, 50.397, 64.967, 37.476, 57.071)),
    Weight("vit_betwixt_patch16_reg4_gap_384.sbb2_e200_in12k_ft_in1k",       "betwixt-384",   384, 1.0,  "center", HALF,  1000, "apache-2.0", (86.618, 98.010, 89.882, 98.484, 77.380, 93.690, 65.387, 88.333, 61.243, 74.673, 45.727, 67.679)),
    Weight("vit_base_patch16_224.augreg_in21k_ft_in1k",                      "base",          224, 0.9,  "center", HALF,  1000, "apache-2.0", (84.534, 97.300, 88.887, 98.219, 74.100, 92.370, 43.133, 72.547, 56.860, 70.680, 43.261, 65.712)),
    Weight("vit_so150m_patch16_reg4_gap_256.sbb_e250_in12k_ft_in1k",         "so150m",        256, 0.95, "center", HALF,  1000, "apache-2.0", (86.720, 98.024, 89.993, 98.631, 77.500, 93.980, 62.307, 86.560, 66.327, 78.963, 51.652, 73.635)),
    Weight("vit_so150m_patch16_reg4_gap_256.sbb_e250_in12k",                 "so150m-in12k",  256, 0.95, "center", HALF, 11821, "apache-2.0", ()),
    Weight("vit_so150m_patch16_reg4_gap_384.sbb_e250_in12k_ft_in1k",         "so150m-384",    384, 1.0,  "center", HALF,  1000, "apache-2.0", (87.370, 98.314, 90.279, 98.764, 78.180, 94.780, 72.533, 91.360, 67.980, 79.923, 52.760, 74.834)),
    Weight("vit_so150m2_patch16_reg1_gap_256.sbb_e200_in12k_ft_in1k",        "so150m2",       256, 1.0,  "center", HALF,  1000, "apache-2.0", (87.318, 98.328, 90.345, 98.775, 78.480, 94.510, 66.307, 88.680, 68.920, 81.023, 52.990, 74.997)),
    Weight("vit_so150m2_patch16_reg1_gap_256.sbb_e200_in12k",                "so150m2-in12k", 256, 1.0,  "center", HALF, 11821, "apache-2.0", ()),
    Weight("vit_so150m2_patch16_reg1_gap_384.sbb_e200_in12k_ft_in1k",        "so150m2-384",   384, 1.0,  "center", HALF,  1000, "apache-2.0", (87.932, 98.500, 90.614, 98.772, 79.070, 95.170, 77.240, 93.613, 70.830, 82.657, 54.295, 76.506)),
    Weight("vit_so150m2_patch16_reg1_gap_448.sbb_e200_in12k_ft_in1k",        "so150m2-448",   448, 1.0,  "squash", HALF,  1000, "apache-2.0", (88.074, 98.558, 90.717, 98.742, 79.180, 95.190, 77.240, 93.760, 71.170, 83.153, 54.864, 76.726)),
    Weight("vit_medium_patch16_rope_reg1_gap_256.sbb_in1k",                  "medium-rope",   256, 0.95, "center", HALF,  1000, "mit",        (83.810, 96.824, 88.187, 97.871, 73.770, 91.500, 36.960, 68.893, 51.357, 65.727, 38.541, 58.785)),
    Weight("vit_mediumd_patch16_rope_reg1_gap_256.sbb_in1k",                 "mediumd-rope",  256, 0.95, "center", HALF,  1000, "mit",        (84.316, 96.810, 88.338, 97.773, 74.550, 91.590, 41.427, 71.627, 52.330, 66.197, 39.798, 59.807)),
    Weight("vit_betwixt_patch16_rope_reg4_gap_256.sbb_in1k",                 "betwixt-rope",  256, 0.95, "center", CLIP,  1000, "mit",        (83.906, 96.678, 88.255, 97.664, 73.800, 91.160, 37.627, 68.867, 51.013, 64.750, 39.081, 58.822)),
    Weight("vit_base_patch16_rope_reg1_gap_256.sbb_in1k",                    "base-rope",     256, 0.95, "center", HALF,  1000, "mit",        (83.872, 96.676, 88.027, 97.619, 74.110, 91.060, 39.613, 70.467, 51.740, 65.840, 39.022, 58.633)),
    Weight("vit_micro_patch16_reg1_gap_64.digits",                           "digits",         64, 1.0,  "center", HALF,    10, "apache-2.0", (), embedded="digits", about=_DIGITS),
)
# fmt: on

DEFAULT_MODEL = "vit_pwee_patch16_reg1_gap_256.sbb_in1k"

BY_NAME: dict[str, Weight] = {row.name: row for row in WEIGHTS}
ALIASES: dict[str, Weight] = {row.alias: row for row in WEIGHTS if row.alias}


def find_weight(name: str) -> Weight | None:
    """The weight of an alias, a full tag or a bare architecture name; None for an unknown name.

    A bare architecture name selects timm's default tag, the first row of that architecture; for `vit_base_patch16_224`,
    whose default is not in this family, it selects the row here. The loaded name is always printed.
    """
    if name in ALIASES:
        return ALIASES[name]
    if name in BY_NAME:
        return BY_NAME[name]
    return next((row for row in WEIGHTS if row.name.partition(".")[0] == name), None)

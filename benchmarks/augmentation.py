"""From JPEG files to normalised training tensors on one core, with the recipe of wee: weevit's loader and timm's.

    python benchmarks/augmentation.py [--images 256] [--rounds 7] [--size 256]

Prints images per second of CPU time (which other programs disturb less than the clock), both from this one process, in
turn; then, for each treatment, the greatest difference from timm's pixels and both times. Needs timm and the shared
photos.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from common import interleave, photos, ratios
from PIL import Image

from weevit.batches.augment import Box, resized_part
from weevit.batches.loader import Loader
from weevit.batches.pixels import OPS, planes_of
from weevit.datasets.dataset import Split
from weevit.images.decode import decode, read_file
from weevit.images.source import Source
from weevit.recipes.randaugment import Op
from weevit.recipes.recipe import load_recipe
from weevit.zoo.weights import HALF, Preprocessing

RECIPE, BATCH = "sbb_in1k_wee", 32
FILL = (128, 128, 128)


class Photos(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """What timm's ImageDataset does (1.0.31, November 2026), for files without classes."""

    transform: Callable[[Image.Image], Any]

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        with self.paths[index].open("rb") as file:
            return self.transform(Image.open(file).convert("RGB")), 0


def timms_loader(paths: list[Path], size: int) -> Any:
    """With the recipe's augmentation, as timm's train.py makes it; on the CPU, in this process."""
    from timm.data import create_loader

    part = load_recipe(RECIPE).augment
    return create_loader(
        Photos(paths),
        input_size=(3, size, size),
        batch_size=BATCH,
        is_training=True,
        re_prob=part.erase_prob,
        re_mode=part.erase_mode,
        auto_augment=part.randaugment,
        interpolation=part.interpolation,
        mean=HALF[0],
        std=HALF[1],
        num_workers=0,
        device=torch.device("cpu"),
    )


def our_loader(paths: list[Path], size: int) -> Loader:
    words = [f"loop.batch_size={BATCH}", "loop.workers=0", "data.repeats=0"]
    split = Split("train", tuple(Source(path.name, path) for path in paths), np.zeros(len(paths), np.int64))
    return Loader(split, load_recipe(RECIPE, words), Preprocessing(size, size, 0.95, "center", "bicubic", *HALF))


def compare_speed(paths: list[Path], size: int, rounds: int) -> None:
    theirs, ours = timms_loader(paths, size), our_loader(paths, size)
    epochs = iter(range(rounds + 1))

    def cpu(batches: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            start = time.process_time()
            for _ in batches():
                pass
            return time.process_time() - start

        return run

    taken = interleave(rounds, timm=cpu(lambda: theirs), weevit=cpu(lambda: ours.epoch(next(epochs))))
    count = len(paths) // BATCH * BATCH
    for name, seconds in taken.items():
        print(f"{name:8} {count / statistics.median(seconds):7.1f} images per second and core, {size} px")
    print(f"weevit is {ratios(taken['weevit'], taken['timm'])} as fast")


VALUES: dict[str, tuple[float, ...]] = {
    "autocontrast": (0,),
    "equalize": (0,),
    "invert": (0,),
    "rotate": (-18.0, 12.3),
    "posterize": (1, 2, 4),
    "solarize": (0, 103, 256),
    "solarize_add": (66, 110),
    "color": (0.46, 1.54),
    "contrast": (0.46, 1.54),
    "brightness": (0.46, 1.54),
    "sharpness": (0.46, 1.54),
    "shear_x": (-0.18, 0.12),
    "shear_y": (-0.18, 0.12),
    "translate_x": (-0.27, 0.113),
    "translate_y": (-0.27, 0.113),
}
"""Treatment -> values around those of magnitude 6."""

TIMMS = {"autocontrast": "auto_contrast", "translate_x": "translate_x_rel", "translate_y": "translate_y_rel"}


def compare_treatments(images: list[Image.Image]) -> None:
    from timm.data import auto_augment

    print(f"\n{'treatment':24}{'greatest difference':>22}{'of values':>12}{'timm ms':>10}{'weevit ms':>10}")
    for name, values in VALUES.items():
        function = getattr(auto_augment, TIMMS.get(name, name))
        moves = name.startswith(("rotate", "shear", "translate"))
        for interpolation in ("bilinear", "bicubic") if moves else ("",):
            options = {"resample": getattr(Image.Resampling, interpolation.upper())} if moves else {}
            ops = [Op(name, value, interpolation) for value in values]

            def theirs(image: Image.Image, op: Op, function: Any = function, options: Any = options) -> Any:
                value = () if op.name in ("autocontrast", "equalize", "invert") else (op.value,)
                return function(image, *value, fillcolor=FILL, **options)

            report(f"{name} {interpolation}", images, ops, theirs)


def report(title: str, images: list[Image.Image], ops: list[Op], theirs: Callable[[Image.Image, Op], Any]) -> None:
    worst, different, times = 0, 0.0, [0.0, 0.0]
    for image in images:
        planes = planes_of(np.asarray(image))
        for op in ops:
            start = time.process_time()
            wanted = theirs(image, op)
            middle = time.process_time()
            found = OPS[op.name](planes, op, FILL)
            times = [times[0] + middle - start, times[1] + time.process_time() - middle]
            apart = np.abs(planes_of(np.asarray(wanted)).astype(int) - found)
            worst, different = max(worst, int(apart.max())), different + float((apart > 0).mean())
    count = len(images) * len(ops)
    milliseconds = "".join(f"{1000 * taken / count:10.3f}" for taken in times)
    print(f"{title:24}{worst:22}{different / count:12.2e}{milliseconds}")


def crops(paths: list[Path], size: int) -> Iterator[tuple[Image.Image, Box]]:
    """Parts of photos as timm draws them."""
    import random

    from timm.data.transforms import RandomResizedCropAndInterpolation

    random.seed(0)
    for path in paths:
        image = decode(read_file(path))
        top, left, height, width = RandomResizedCropAndInterpolation.get_params(image, (0.08, 1), (3 / 4, 4 / 3))
        yield image, Box(top, left, height, width)


def compare_resize(paths: list[Path], size: int) -> None:
    for interpolation in ("bilinear", "bicubic"):
        resample = getattr(Image.Resampling, interpolation.upper())
        counts, times = np.zeros(256, int), [0.0, 0.0]
        for image, box in crops(paths, size):
            pixels = np.asarray(image)
            start = time.process_time()
            edges = (box.left, box.top, box.left + box.width, box.top + box.height)
            wanted = image.crop(edges).resize((size, size), resample)
            middle = time.process_time()
            found = resized_part(pixels, box, (size, size), interpolation)
            times = [times[0] + middle - start, times[1] + time.process_time() - middle]
            counts += np.bincount(np.abs(np.asarray(wanted).astype(int) - found).ravel(), minlength=256)
        shares = ", ".join(f"{level}: {count / counts.sum():.1e}" for level, count in enumerate(counts) if count)
        milliseconds = " ".join(f"{1000 * taken / len(paths):.3f}" for taken in times)
        print(f"crop and resize, {interpolation:9} differences {shares}; ms {milliseconds}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=256)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # timm tells that it is on the CPU
    paths = photos(args.images)
    compare_speed(paths, args.size, args.rounds)
    images = [decode(read_file(path)).resize((args.size, args.size)) for path in paths[: max(1, args.images // 16)]]
    compare_treatments(images)
    print()
    compare_resize(paths, args.size)


if __name__ == "__main__":
    main()

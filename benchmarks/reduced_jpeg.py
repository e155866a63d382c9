"""JPEGs decoded at a reduced scale (`--reduced-jpeg`): what it saves, and what it changes.

    python benchmarks/reduced_jpeg.py [--runs 3] [--photos 500]

Speed: `weevit embed` into a folder, whole process, with and without, on photos enlarged to 4,000 x 3,000 px (no larger
ones are at hand; their detail is that of a photo out of focus, their bytes and pixels those of a telephone's). Effect:
all 500 photos as they are, at image sizes so small that most of them are reduced, top-1 counted both ways. Needs the
shared data.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import interleave, photos, ratios, run_process, vit_tiny
from PIL import Image

WEEVIT = (sys.executable, "-m", "weevit")

DIFFERENT = 50
"""Enlarged photos; each stands under several names."""


def speed(place: Path, count: int, runs: int) -> None:
    folder = place / "large"
    folder.mkdir()
    large = []
    for path in photos(min(DIFFERENT, count)):
        with Image.open(path) as photo:
            photo.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC).save(
                place / path.name, "JPEG", quality=92
            )
        large.append(place / path.name)
    for index in range(count):
        (folder / f"{index}.jpg").symlink_to(large[index % len(large)])
    size = sum(path.stat().st_size for path in large) / len(large) / 1e6

    def embed(*words: str) -> float:
        shutil.rmtree(place / "out", ignore_errors=True)
        return run_process([*WEEVIT, "embed", folder, "-m", vit_tiny(), "-o", place / "out", *words]).seconds

    taken = interleave(runs, reduced=lambda: embed("--reduced-jpeg"), whole=embed)
    for name, seconds in taken.items():
        print(f"{name:<8}" + " ".join(f"{own:.1f}" for own in seconds) + " s")
    print(
        f"{count} photos of 12 megapixels ({size:.1f} MB), ViT-Ti, whole process with the measuring: "
        f"{ratios(taken['reduced'], taken['whole'])} faster"
    )


def effect(side: int) -> None:
    import weevit
    from weevit.images.decode import is_reduced
    from weevit.images.source import Source

    found = photos()
    both = [weevit.load(vit_tiny(), image_size=side, reduced_jpeg=reduced) for reduced in (False, True)]
    reduced = np.array([is_reduced(both[1].open(Source(path.name, path))) for path in found])
    truth = np.array([path.name.partition("_")[0] for path in found])
    whole, small = (np.array([own.top[0].id for own in model.run(found, topk=1)]) for model in both)
    print(
        f"500 photos at {side} px: {reduced.sum()} of them reduced, top-1 the same for "
        f"{(whole == small)[reduced].sum()}; right {(whole == truth).sum()} whole, {(small == truth).sum()} reduced"
    )
    print(f"  {weevit.measure_reduction(both[1], found)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--sides", type=int, nargs="*", default=[64, 96])
    options = parser.parse_args()
    for side in options.sides:
        effect(side)
    with tempfile.TemporaryDirectory() as place:
        speed(Path(place), options.photos, options.runs)


if __name__ == "__main__":
    main()

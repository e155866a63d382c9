"""Copies planted among photos of clothes, found by `weevit dedup` and by imagededup, with ViT-Ti.

    python benchmarks/dedup.py [--seeds 3] [--every 1] [--each 12] [--peer PYTHON]

For each seed, `--each` photos are altered in each of 14 ways and put beside the others. To reach, over all seeds, for
every way that is called certain: recall and precision of 99 %. Parts cut out with 20 % a side, and photos that were
edited in one place, are told too: the first need not be found, the second must not be.

    recall     share of the planted copies that are in one group with their original
    precision  share of pairs that are planted, copies in the data itself (told first), or both in a row

`--peer` names a Python with imagededup (`pip install imagededup`): its four hashes and its CNN look through the same
folders in turn, with its own default thresholds. The CNN fetches its weights; where it cannot, it has timm's ViT-Ti,
which needs timm beside it.
Needs the shared data.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path

from common import instruction_set, shared, vit_tiny
from PIL import Image, ImageOps

import weevit
from weevit.predict import Predictor

Pair = tuple[str, str]


def encoded(image: Image.Image, kind: str = "JPEG", **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def scaled(image: Image.Image, factor: float, quality: int = 85) -> bytes:
    size = (round(image.width * factor), round(image.height * factor))
    return encoded(image.resize(size, Image.Resampling.BICUBIC), quality=quality)


def cut(image: Image.Image, most: float, draw: random.Random | None = None) -> Image.Image:
    """Without `most` of each side, or a share of that."""
    width, height = image.size
    left, top, right, bottom = (most * (draw.random() if draw else 1) for _ in range(4))
    box = (round(width * left), round(height * top), round(width * (1 - right)), round(height * (1 - bottom)))
    return image.crop(box)


def edited(image: Image.Image, other: Image.Image, draw: random.Random) -> bytes:
    """With a piece of another photo, an eighth of the width and height, somewhere in it."""
    piece, made = other.resize((image.width // 8, image.height // 8)), image.copy()
    made.paste(piece, (draw.randrange(image.width * 7 // 8), draw.randrange(image.height * 7 // 8)))
    return encoded(made, quality=90)


WAYS: dict[str, Callable[[Image.Image, random.Random], bytes]] = {
    "quality 75": lambda image, draw: encoded(image, quality=75),
    "quality 50": lambda image, draw: encoded(image, quality=50),
    "quality 20": lambda image, draw: encoded(image, quality=20),
    "half the size": lambda image, draw: scaled(image, 0.5),
    "30 % of the size": lambda image, draw: scaled(image, 0.3),
    "150 % of the size": lambda image, draw: scaled(image, 1.5),
    "squeezed to a square": lambda image, draw: encoded(image.resize((224, 224)), quality=85),
    "mirrored": lambda image, draw: encoded(ImageOps.mirror(image), quality=85),
    "WebP": lambda image, draw: encoded(image, "WEBP", quality=60),
    "PNG": lambda image, draw: encoded(image, "PNG"),
    "brighter, less contrast": lambda image, draw: encoded(image.point(lambda level: level * 0.7 + 60), quality=85),
    "5 % cut off each side": lambda image, draw: encoded(cut(image, 0.05), quality=85),
    "10 % cut off each side": lambda image, draw: encoded(cut(image, 0.1), quality=85),
    "up to 10 % cut, 80 %, quality 60": lambda image, draw: scaled(cut(image, 0.1, draw), 0.8, 60),
}
"""The ways that are called certain; `same bytes` beside them."""

BEYOND = "20 % cut off each side"
EDITED = "edited in one place"


def plant(folder: Path, each: int, draw: random.Random) -> dict[Pair, str]:
    """Alter photos, each one for one way only; pairs of names -> the way."""
    photos = sorted(folder.glob("*.jpg"))
    ways = {**WAYS, BEYOND: lambda image, draw: encoded(cut(image, 0.2), quality=85)}
    chosen = draw.sample(photos, each * (len(ways) + 2))
    planted: dict[Pair, str] = {}

    def put(path: Path, data: bytes, way: str) -> None:
        copy = folder / f"{draw.getrandbits(60):015x}.jpg"
        copy.write_bytes(data)
        planted[pair(path.name, copy.name)] = way

    for way, alter in ways.items():
        for _ in range(each):
            path = chosen.pop()
            put(path, alter(Image.open(path).convert("RGB"), draw), way)
    for _ in range(each):
        path = chosen.pop()
        put(path, path.read_bytes(), "same bytes")
        path, other = chosen.pop(), draw.choice(photos)
        put(path, edited(Image.open(path).convert("RGB"), Image.open(other).convert("RGB"), draw), EDITED)
    return planted


def pair(one: str, other: str) -> Pair:
    return (one, other) if one < other else (other, one)


def pairs_of(groups: Iterable[Iterable[str]]) -> set[Pair]:
    return {pair(one, other) for group in groups for one, other in combinations(sorted(group), 2)}


def in_a_row(pairs: set[Pair]) -> set[Pair]:
    """With the pairs of images that others connect."""
    groups: list[set[str]] = []
    for one in pairs:
        touched = [group for group in groups if group & set(one)]
        groups = [group for group in groups if group not in touched] + [set(one).union(*touched)]
    return pairs_of(groups)


def by_weevit(folder: Path, model: Predictor) -> tuple[set[Pair], set[Pair]]:
    """Pairs of copies, and pairs to look at."""
    found = weevit.find_duplicates(folder, model)
    return tuple(  # type: ignore[return-value]  # two of them
        pairs_of([Path(image.id).name for image in group.members] for group in groups)
        for groups in (found.copies, found.moments)
    )


PEER = """
import json, sys, time, warnings, logging
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from imagededup import methods
name, folder, weights = sys.argv[1:]

def cnn():
    try:
        return methods.CNN(verbose=False)
    except OSError:
        import timm
        from imagededup.utils.models import CustomModel
        model = timm.create_model("local-dir:" + weights, pretrained=True, num_classes=0).eval()
        seen = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
        return methods.CNN(verbose=False, model_config=CustomModel("ViT-Ti", model, seen))

made = cnn() if name == "CNN" else getattr(methods, name)(verbose=False)
start = time.monotonic()
found = made.find_duplicates(image_dir=folder)
print(json.dumps({"seconds": time.monotonic() - start, "model": getattr(made, "model_config", [""])[0],
                  "pairs": [(one, other) for one, others in found.items() for other in others]}))
"""


def by_peer(folder: Path, python: str, name: str) -> tuple[set[Pair], float] | None:
    words = [python, "-c", PEER, name, str(folder), str(vit_tiny())]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
        return None
    values = json.loads(done.stdout.splitlines()[-1])
    if values["model"]:
        print(f"{name} of imagededup with {values['model']}", flush=True)
    return {pair(*one) for one in values["pairs"]}, values["seconds"]


class Score:
    """What one method found, over all seeds."""

    def __init__(self) -> None:
        self.found, self.total = Counter[str](), Counter[str]()
        self.wrong, self.right = 0, 0
        self.seconds: list[float] = []

    def add(self, pairs: set[Pair], planted: dict[Pair, str], known: set[Pair], seconds: float) -> None:
        """Count one seed."""
        for one, way in planted.items():
            self.total[way] += 1
            self.found[way] += one in pairs
        good = in_a_row({one for one, way in planted.items() if way != EDITED} | known)
        self.right += len(pairs & good)
        self.wrong += len(pairs - good)
        self.seconds.append(seconds)

    def line(self, name: str) -> str:
        """Recall, precision and time."""
        ways = [*WAYS, "same bytes"]
        recall = sum(self.found[way] for way in ways) / sum(self.total[way] for way in ways)
        precision = self.right / max(1, self.right + self.wrong)
        seconds = "  ".join(f"{one:.0f} s" for one in self.seconds)
        return f"{name:12} recall {recall:.2%}   precision {precision:.2%} ({self.wrong} wrong pairs)   {seconds}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="take every n-th photo only")
    parser.add_argument("--each", type=int, default=12, help="photos altered in each way")
    parser.add_argument("--peer", default="", help="a Python with imagededup")
    arguments = parser.parse_args()
    model = weevit.load(vit_tiny())
    print(instruction_set(), time.strftime("%Y-%m-%d"), flush=True)
    with tempfile.TemporaryDirectory() as name:
        clean = Path(name) / "clean"
        clean.mkdir()
        for place, path in enumerate(sorted(shared("clothing").glob("*/*/*.jpg"))):
            if place % arguments.every == 0:
                shutil.copy(path, clean / path.name)
        start = time.monotonic()
        known, unsure = by_weevit(clean, model)
        print(
            f"as it is: {len(list(clean.iterdir())):,} photos, {len(known)} pairs of copies {sorted(known)}, "
            f"{len(unsure)} to look at, {time.monotonic() - start:.0f} s",
            flush=True,
        )
        peers = ("PHash", "DHash", "AHash", "WHash", "CNN") if arguments.peer else ()
        scores = {name: Score() for name in ("weevit", "to look at", *peers)}
        for seed in range(arguments.seeds):
            folder = Path(name) / f"seed{seed}"
            shutil.copytree(clean, folder)
            run(folder, plant(folder, arguments.each, random.Random(seed)), known, scores, (model, arguments.peer))
        tell(scores)


def run(
    folder: Path, planted: dict[Pair, str], known: set[Pair], scores: dict[str, Score], own: tuple[Predictor, str]
) -> None:
    model, python = own
    start = time.monotonic()
    copies, moments = by_weevit(folder, model)
    scores["weevit"].add(copies, planted, known, time.monotonic() - start)
    scores["to look at"].add(moments, planted, known, 0)
    for one in sorted(copies - in_a_row(set(planted) | known)):
        print(f"  {folder.name}: weevit also calls {one} copies")
    for name in sorted(scores.keys() - {"weevit", "to look at"}):
        found = by_peer(folder, python, name)
        if found is None:
            del scores[name]
        else:
            scores[name].add(found[0], planted, known, found[1])
    shutil.rmtree(folder)


def tell(scores: dict[str, Score]) -> None:
    for name, score in scores.items():
        if name != "to look at":
            print(score.line(name))
    print(f"{'recall':34}" + "".join(f"{name:>12}" for name in scores))
    for way in ("same bytes", *WAYS, BEYOND, EDITED):
        cells = (f"{score.found[way]}/{score.total[way]}" for score in scores.values())
        print(f"{way:34}" + "".join(f"{cell:>12}" for cell in cells))


if __name__ == "__main__":
    main()

"""The model that comes with weevit: a micro ViT, trained here on scikit-learn's 1,797 real handwritten digits.

    python benchmarks/digits_micro.py images FOLDER     the digits as PNG files: FOLDER/train and FOLDER/test
    python benchmarks/digits_micro.py train [-o RUN]      the images, `weevit train digits_micro`, the test's figure
    python benchmarks/digits_micro.py check [MODEL]       the figure of the model that comes with weevit, or of another
    python benchmarks/digits_micro.py ship RUN            a run's best weights, recipe and log into the package
    python benchmarks/digits_micro.py examples            the small folder examples/digits

To reach: 97 % of the 360 test images, none of which is ever trained on or chosen by. `check` needs no torch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "src" / "weevit" / "zoo" / "embedded" / "digits"
EXAMPLES = ROOT / "examples" / "digits"
SIDE, TEST, SEED = 64, 36, 0
"""Pixels of an image; test images of each class; what the draw of the test split is keyed by."""


def digits() -> Iterator[tuple[str, int, int, Image.Image]]:
    """(split, class, place in scikit-learn's table, image) of each digit, in the order of the table.

    An image is grey, ink dark on light paper, 8 x 8 measurements scaled up. The test split is drawn by a hash of the
    place in the table, the same on every machine: 36 of each class.
    """
    from sklearn.datasets import load_digits

    table = load_digits()
    test = {place for number in range(10) for place in _drawn(np.flatnonzero(table.target == number))}
    for place, (values, number) in enumerate(zip(table.images, table.target, strict=True)):
        paper = (255 - values * 255 / 16).round().astype(np.uint8)
        image = Image.fromarray(paper).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        yield "test" if place in test else "train", int(number), place, image


def _drawn(places: np.ndarray) -> list[int]:
    return sorted(places.tolist(), key=lambda place: hashlib.sha256(f"{SEED}/{place}".encode()).digest())[:TEST]


def write_images(folder: Path, limits: dict[str, int] | None = None) -> None:
    """Write the digits as `folder/split/class/place.png`; at most so many of a class, where limits are set."""
    written: dict[tuple[str, int], int] = {}
    for split, number, place, image in digits():
        own = written[split, number] = written.get((split, number), 0) + 1
        if limits is None or own <= limits[split]:
            path = folder / split / str(number) / f"{place:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, optimize=True)


def accuracy(model: str | Path, split: str = "test") -> tuple[int, int]:
    """(right, images) of a model on a split of the digits, answered from the PNG files by onnxruntime."""
    import weevit

    with tempfile.TemporaryDirectory() as place:
        write_images(Path(place))
        files = sorted((Path(place) / split).glob("*/*.png"))
        results = list(weevit.load(model).stream(files, outputs=("logits",), topk=1))
    return sum(result.top[0].id == path.parent.name for result, path in zip(results, files, strict=True)), len(files)


def train(options: argparse.Namespace) -> None:
    """Write the images, train as anybody would, and say what came out."""
    with tempfile.TemporaryDirectory() as place:
        write_images(Path(place))
        words = ["train", "digits_micro", *options.changes, "--data", place, "--output", options.output]
        words += ["--threads", "1"]  # a second one has nothing to do in a model of this size
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "weevit", *words], check=True)
    print(f"trained in {time.perf_counter() - start:.0f} s")
    say(options.output)


def say(model: str | Path) -> None:
    """Print the figure of a model."""
    right, total = accuracy(model)
    print(f"{right} of {total} test images right: {100 * right / total:.2f} % (to reach: 97 %)")


def ship(run: Path) -> None:
    """Put a run's best weights, its recipe and its log where `--model digits` finds them; no path of this machine."""
    EMBEDDED.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors", "weevit-manifest.json"):
        shutil.copy(run / "model" / name, EMBEDDED / name)
    facts = json.loads((run / "run.json").read_text())
    here = {facts["recipe"]["data.path"]: "digits", f"{run.absolute()}": "runs/digits", f"{run}": "runs/digits"}
    kept = {key: facts[key] for key in facts if key not in ("machine", "command")}
    texts = {name: (run / name).read_text() for name in ("recipe.yaml", "metrics.csv", "log.txt")}
    for name, text in {**texts, "run.json": json.dumps(kept, indent=2) + "\n"}.items():
        for path, word in here.items():
            text = text.replace(path, word)
        (EMBEDDED / name).write_text(text)
    size = sum(path.stat().st_size for path in EMBEDDED.iterdir())
    print(f"{EMBEDDED}: {size / 1e6:.2f} MB")
    say("digits")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("images").add_argument("folder", type=Path)
    training = verbs.add_parser("train")
    training.add_argument("changes", nargs="*", metavar="KEY=VALUE")
    training.add_argument("-o", "--output", type=Path, default=Path("runs/digits"))
    verbs.add_parser("check").add_argument("model", nargs="?", default="digits")
    verbs.add_parser("ship").add_argument("run", type=Path)
    verbs.add_parser("examples")
    options = parser.parse_args()
    if options.verb == "images":
        write_images(options.folder)
    elif options.verb == "train":
        train(options)
    elif options.verb == "check":
        say(options.model)
    elif options.verb == "ship":
        ship(options.run)
    else:
        write_images(EXAMPLES, {"train": 12, "test": 8})


if __name__ == "__main__":
    main()

"""`weevit fit` on few photos of clothes, ViT-Ti: is what it says of itself true of other photos?

    python benchmarks/fit_small.py [--seeds 5] [--image-size 128] [--held-out 1500] [--shapes 10x5 20,20,3,3]

A shape is classes x photos of each, or the photos of each class. For every shape and seed, classes and photos are drawn
from all of the shared photos, a head is fitted by `weevit.fit`, and judged by photos that had no part in it. Printed:
how many fits were refused and calibrated, accuracy, calibration error (ECE) before and after the temperature, the
greatest rise of it, and the share of photos that keep their class at a coverage of 95 %.

To reach: a model or a refusal that names the classes; ECE after calibration never above that before by more than two
points. Embeddings are computed once. Held-out photos are as common as in the whole, so that a shape with rare classes
is judged by photos of another mixture than it was fitted to.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import shared, vit_tiny

import weevit
from weevit.datasets.dataset import TRAIN, VALIDATION, Dataset, Split
from weevit.datasets.read import read_dataset
from weevit.fitting.fit import fit
from weevit.predict import Predictor

SHAPES = (
    *("2x1", "2x2", "2x3", "2x5", "2x10", "2x20", "2x50", "3x3", "5x1", "5x2", "5x3", "5x5", "5x10", "5x20"),
    *("10x1", "10x2", "10x3", "10x5", "10x10", "10x20", "10x50"),
    *("20,20,1,1,1,1", "20,20,2,2,2,2", "20,20,3,3,3,3", "50,5,5", "100,10", "40,2", "30,10,5,3,2"),
)


@dataclass(frozen=True)
class Outcome:
    """One fit: what is printed, as shares; `refused` has the first line of a refusal."""

    refused: str = ""
    accuracy: float = 0.0
    before: float = 0.0
    after: float = 0.0
    temperature: float = 1.0
    known: float = float("nan")


def counts_of(shape: str) -> list[int]:
    """`5x2` -> [2, 2, 2, 2, 2]; `20,3` -> [20, 3]."""
    classes, times, each = shape.partition("x")
    return [int(each)] * int(classes) if times else [int(one) for one in shape.split(",")]


def drawn(pool: Split, classes: tuple[str, ...], shape: str, seed: int, held_out: int) -> Dataset:
    """Some classes; of each as many photos as the shape says, and of the others at most `held_out` to judge by."""
    counts = counts_of(shape)
    rng = np.random.default_rng([seed, *counts])
    chosen = rng.choice(len(classes), len(counts), replace=False)
    own, others = [], []
    for count, one in zip(counts, chosen, strict=True):
        places = rng.permutation(np.flatnonzero(pool.targets == one))
        own.append(places[:count])
        others.append(places[count:])
    rest = rng.permutation(np.concatenate(others))[:held_out]
    renamed = {int(one): place for place, one in enumerate(chosen)}

    def split(name: str, places: np.ndarray) -> Split:
        taken = pool.take(places, name)
        return Split(name, taken.sources, np.array([renamed[int(one)] for one in taken.targets]))

    names = tuple(classes[one] for one in chosen)
    splits = {TRAIN: split(TRAIN, np.concatenate(own)), VALIDATION: split(VALIDATION, rest)}
    return Dataset("clothing", names, splits)


def outcome(dataset: Dataset, model: Predictor, seed: int, allow_missing: bool) -> Outcome:
    """Fit, and read off what is printed."""
    with tempfile.TemporaryDirectory() as name:
        try:
            done = fit(dataset, Path(name) / "run", model, seed=seed, allow_missing=allow_missing)
        except weevit.DatasetError as error:
            return Outcome(refused=error.message)
    errors, metrics = done.calibration.errors, done.metrics
    known = metrics.get("known", float("nan"))
    return Outcome("", metrics["top1"], errors["before"], errors["after"], done.calibration.temperature, known)


def line(shape: str, found: list[Outcome]) -> str:
    """One line of the table."""
    fitted = [one for one in found if not one.refused]
    head = f"{shape:<16} {len(fitted):>2} of {len(found):>2} fitted"
    if not fitted:
        return f"{head}: {found[0].refused}"
    before, after = np.array([one.before for one in fitted]), np.array([one.after for one in fitted])
    known = [one.known for one in fitted if one.known == one.known]
    accuracy = np.mean([one.accuracy for one in fitted])
    named = f"{np.mean(known):6.1%} of {len(known):>2}" if known else "     - of  0"
    return (
        f"{head}, {sum(one.temperature != 1 for one in fitted):>2} calibrated: accuracy {accuracy:6.1%}, "
        f"ECE {before.mean():6.1%} -> {after.mean():6.1%}, greatest rise {100 * (after - before).max():+5.1f}, "
        f"keep their class {named}"
    )


def main() -> None:
    """Print a line for each shape, and the worst of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--held-out", type=int, default=1500)
    parser.add_argument("--shapes", nargs="*", default=SHAPES)
    parser.add_argument("--allow-missing", action="store_true", help="fit what has too few photos too")
    given = parser.parse_args()
    data = read_dataset(shared("clothing"))
    sources = tuple(source for split in data.splits.values() for source in split.sources)
    pool = Split("all", sources, np.concatenate([split.targets for split in data.splits.values()]))
    model = weevit.load(vit_tiny(), image_size=given.image_size)
    every: list[Outcome] = []
    for shape in given.shapes:
        sets = [drawn(pool, data.classes, shape, seed, given.held_out) for seed in range(given.seeds)]
        found = [outcome(one, model, seed, given.allow_missing) for seed, one in enumerate(sets)]
        print(line(shape, found), flush=True)
        every += [one for one in found if not one.refused]
    rises = np.array([one.after - one.before for one in every])
    worse = int((rises > 0.02).sum())
    print(
        f"{len(every)} fits: ECE {np.mean([one.before for one in every]):.1%} -> "
        f"{np.mean([one.after for one in every]):.1%}; greatest rise {100 * rises.max():+.1f} points, more than two in "
        f"{worse}   {'reached' if not worse else 'NOT reached'}: never more than two"
    )


if __name__ == "__main__":
    main()

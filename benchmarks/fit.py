"""`weevit fit` on the photos of clothes with ViT-Ti: every figure that is claimed for it.

    python benchmarks/fit.py fit [--every 1] [--image-size 224]    accuracy, times, calibration, the same logits thrice
    python benchmarks/fit.py rules [--repeat 5]                    how the strength of a head is best chosen
    python benchmarks/fit.py path                                  what a path of heads costs, warm and cold

To reach: validation accuracy >= 90.5 % (no validation image chooses anything); 120 s from nothing, 15 s with all
embeddings known, both for the whole process; ECE <= 3 % after calibration; logits within 1e-4 in weevit, timm and
transformers. `--every 10` takes every tenth photo, to see whether this script runs. All of it needs the shared data;
the last of the logits need timm and transformers. `rules` and `path` use the training photos alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import photos, run_process, shared, vit_tiny

import weevit
from weevit.datasets.read import read_dataset
from weevit.datasets.splitting import folds
from weevit.evaluation.metrics import softmax, wilson
from weevit.fitting.heads import STRENGTHS, path
from weevit.fitting.search import one_thread_each
from weevit.search.embeddings import embed_split

WEEVIT = (sys.executable, "-m", "weevit")
ASKED = 64
"""Validation photos whose logits are compared."""


def judged(name: str, value: str, reached: bool, wanted: str) -> None:
    print(f"{name:<52} {value:<40} {'reached' if reached else 'NOT reached'}: {wanted}", flush=True)


# ---- the whole command


def figures(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data = shared("clothing") if options.every == 1 else thinned(place, options.every)
        words = [*WEEVIT, "fit", data, "--model", vit_tiny(), "--image-size", options.image_size, "-q"]
        cache = {"WEEVIT_CACHE": str(place / "cache")}
        first = run_process([*words, "-o", place / "first"], **cache)
        second = run_process([*words, "-o", place / "second"], **cache)
        run = json.loads((place / "first" / "run.json").read_text())
        print(f"{run['pictures']} photos, {run['chosen']['name']}: {run['measure']} {run['chosen']['score']:.4f} in "
              f"cross-validation; {run['neighbours']['name']}: {run['neighbours']['score']:.4f}")  # fmt: skip
        quality(run)
        took = ", ".join(f"{name} {value:.1f}" for name, value in run["seconds"].items())
        judged("wall time from nothing", f"{first.seconds:.1f} s ({took})", first.seconds <= 120, "<= 120 s")
        judged("wall time with embeddings known", f"{second.seconds:.1f} s", second.seconds <= 15, "<= 15 s")
        print(f"peak memory {first.peak_mb:.0f} MB, {second.peak_mb:.0f} MB")
        same = [(place / one / "model" / "model.safetensors").read_bytes() for one in ("first", "second")]
        judged("both write the same weights", str(same[0] == same[1]), same[0] == same[1], "the same bytes")
        logits(place / "first", data)
        strangers(place / "first")


def quality(run: dict[str, Any]) -> None:
    found, count = run["metrics"]["validation"], run["images"]["validation"]
    right = round(found["top1"] * count)
    low, high = wilson(right, count)
    text = f"{found['top1']:.2%} ({right} of {count}; {low:.1%} to {high:.1%})"
    judged("validation accuracy, Wilson interval", text, found["top1"] >= 0.905, ">= 90.5 %")
    errors = run["calibration"]["errors"]
    judged("ECE on validation, before -> after", f"{errors['before']:.2%} -> {errors['after']:.2%}",
           errors["after"] <= 0.03, "<= 3 %")  # fmt: skip
    print(f"  with the temperature from the folds {errors['with_folds']:.2%}, from validation itself "
          f"{errors['with_validation']:.2%}; exact probabilities: {errors['by_chance']:.2%} on {count}")  # fmt: skip
    print(f"  on the training photos, each judged by a head that did not see it: {errors['out_of_fold']:.2%} "
          f"(by chance {errors['out_of_fold_by_chance']:.2%})")  # fmt: skip
    print(f"  unknown below {run['decision']['unknown']['threshold']:.3f}: {found['known']:.1%} keep their class, of "
          f"which {found['known_top1']:.1%} are right")  # fmt: skip


def logits(run: Path, data: Path) -> None:
    """The same photos in weevit, timm and transformers, each with its own preprocessing."""
    import timm
    import torch
    import transformers
    from PIL import Image

    every = sorted((data / "validation").glob("*/*"))
    pictures = every[:: max(1, len(every) // ASKED)]
    model = weevit.load(run)
    ours = np.stack([result.logits for result in model.run(pictures, outputs=("logits",))])
    images = [Image.open(picture).convert("RGB") for picture in pictures]
    other = timm.create_model(f"local-dir:{run / 'model'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(other))
    wrapped = transformers.AutoModelForImageClassification.from_pretrained(run / "model").eval()
    processor = transformers.AutoImageProcessor.from_pretrained(run / "model")
    with torch.inference_mode():
        theirs = {
            "timm": other(torch.stack([transform(image) for image in images])).numpy(),
            "transformers": wrapped(**processor(images, return_tensors="pt")).logits.numpy(),
        }
    for name, values in theirs.items():
        apart = float(np.abs(ours - values).max())
        judged(f"logits of {len(pictures)} photos, weevit and {name}", f"{apart:.1e} apart", apart < 1e-4, "< 1e-4")


def strangers(run: Path) -> None:
    """Photos of anything: some do show clothes, most do not."""
    results = weevit.load(run).classify(photos(), topk=1)
    unknown = np.mean([result.unknown for result in results])
    print(f"of {len(results)} photos of ImageNet's classes {unknown:.1%} are called unknown")


def thinned(place: Path, every: int) -> Path:
    """Links to every so manieth photo of each class."""
    for folder in sorted(shared("clothing").glob("*/*")):
        own = place / "clothing" / folder.parent.name / folder.name
        own.mkdir(parents=True)
        for photo in sorted(folder.iterdir())[::every]:
            (own / photo.name).symlink_to(photo)
    return place / "clothing"


# ---- how to choose


def training(options: argparse.Namespace) -> tuple[Any, np.ndarray]:
    split = read_dataset(shared("clothing")).split("train").take(np.arange(0, 3068, options.every))
    return split, embed_split(weevit.load(vit_tiny(), image_size=options.image_size), split).vectors


def rules(options: argparse.Namespace) -> None:
    """Choose by each rule on some of the training photos, and judge the choice on the others."""
    split, vectors = training(options)
    names = ("accuracy", "log-loss", "one standard error", "(best possible)")
    for share in (1 / 30, 1 / 10, 1 / 3, 3 / 4):
        scores = []
        for seed in range(options.repeat):
            order = np.random.default_rng(seed).permutation(len(split))
            own, others = order[: int(share * len(split))], order[int(share * len(split)) :]
            scores.append(choices(vectors, split, own, others, seed))
        told = ", ".join(
            f"{name} {100 * score:.2f}" for name, score in zip(names, np.mean(scores, axis=0), strict=True)
        )
        print(f"{len(own):>5} photos: {told}", flush=True)


def choices(vectors: np.ndarray, split: Any, own: np.ndarray, others: np.ndarray, seed: int) -> list[float]:
    """Accuracy on the others of what each rule chooses."""
    targets, classes, n = split.targets, int(split.targets.max()) + 1, len(own)
    right, loss = np.zeros((len(STRENGTHS), n)), np.zeros((len(STRENGTHS), n))
    with one_thread_each():
        for learn, judge in folds(split.take(own), 5, seed):
            walked = path(vectors[own[learn]], targets[own[learn]], classes)
            for place, strength in enumerate(STRENGTHS):
                scores, truth = walked.fit(strength).logits(vectors[own[judge]]), targets[own[judge]]
                right[place, judge] = scores.argmax(axis=1) == truth
                loss[place, judge] = -np.log(softmax(scores)[np.arange(len(judge)), truth] + 1e-12)
        walked = path(vectors[own], targets[own], classes)
        final = [
            (walked.fit(one).logits(vectors[others]).argmax(axis=1) == targets[others]).mean() for one in STRENGTHS
        ]
    accuracy = right.mean(axis=1)
    best = accuracy.max()
    within = int(np.argmax(accuracy >= best - np.sqrt(best * (1 - best) / n)))
    return [final[int(accuracy.argmax())], final[int(loss.mean(axis=1).argmin())], final[within], max(final)]


def walks(options: argparse.Namespace) -> None:
    """Processor seconds of one thread for all strengths, each from the one before and each from nothing."""
    split, vectors = training(options)
    with one_thread_each():
        for name in ("each from the one before", "each from nothing", "each from the one before"):
            walked, start = path(vectors, split.targets, 10), time.process_time()
            for strength in STRENGTHS[:8]:
                if name == "each from nothing":
                    walked = path(vectors, split.targets, 10)
                walked.fit(strength)
            print(f"{name}: {time.process_time() - start:.2f} s for 8 strengths on {len(split)} photos")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="fit", choices=("fit", "rules", "path"))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    {"fit": figures, "rules": rules, "path": walks}[given.what](given)

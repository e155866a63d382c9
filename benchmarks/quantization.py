"""int8 and bf16 against fp32: speed, and what it costs; every way that this machine has, in turn.

    python benchmarks/quantization.py [variants speed accuracy timm fit] [--models tiny pwee mediumd] [--rounds 8]

speed     each model in fp32, int8 (8-bit weights on VNNI or AMX), 7-bit weights, and a range for each row; with
          onnxruntime, and with OpenVINO where it is installed; bf16 where the processor multiplies it. ViT-Ti is real;
          the others have random tensors, which say nothing of accuracy, and are calibrated on photos
accuracy  ViT-Ti on the shared photos, int8 on those that were not calibrated on: top-1, agreement, logits, size
timm      pwee: timm eager against fp32, bf16 and int8 with every engine, in turn
variants  ViT-Ti's embeddings, where the recipe differs in one thing
fit       clothing with ViT-Ti: `fit` on int8 and bf16 embeddings against fp32, accuracy and wall time from nothing

To reach, on VNNI, by processor time: int8 in onnxruntime 2.1, 2.25 and 2.6 times fp32 (ViT-Ti, pwee, mediumd); top-1
within 0.5 points, agreement 96.5 %, 0.30 of the size; bf16 1.8, 1.9, 1.9 times; int8 and bf16 together 2.4, 2.7, 3.0;
pwee 4 times timm; on AVX2 alone 7 bits 1.25 times. Needs the shared data; timm for its part.
"""

from __future__ import annotations

import argparse
import datetime
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from common import PWEE, instruction_set, photos, random_checkpoint, shared, vit_tiny

from weevit.engine.choice import WAYS, refusal
from weevit.engine.session import needs_exact
from weevit.engine.timing import Ratio, interleaved
from weevit.images.source import Source
from weevit.images.sources import expand
from weevit.predict import Predictor, load
from weevit.quantization import choose
from weevit.quantization.gate import agree
from weevit.quantization.observe import Observed, observe
from weevit.quantization.quantize import quantized_tensors, write_quantized
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.labels import imagenet_labels

MODELS = {"tiny": None, "pwee": PWEE, "mediumd": "vit_mediumd_patch16_reg4_gap_256"}
CALIBRATED = 128
WAYS_OF_INT8 = {"int8": 8, "int8, 7 bits": 7, "int8, a range per row": None}
TIMED = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--photos", type=int, default=500)
    given = parser.parse_args()
    print(f"{instruction_set()} · {os.cpu_count()} cores · {datetime.date.today()} · {given.rounds} rounds", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for part in given.parts:
            PARTS[part](given, Path(folder))


def folder_of(model: str) -> Path:
    name = MODELS[model]
    return vit_tiny() if name is None else random_checkpoint(name)


def shuffled(count: int) -> list[Path]:
    files = photos(count)
    return [files[index] for index in np.random.default_rng(0).permutation(len(files))]


def crops(predictor: Predictor, files: list[Path]) -> list[np.ndarray]:
    return [predictor.crop(source) for source in map(_source, files)]


def _source(path: Path) -> Source:
    return next(iter(expand(path)))


def calibrated(predictor: Predictor, count: int) -> Observed:
    pixels = crops(predictor, shuffled(count)[: min(CALIBRATED, count // 2)])
    return observe(predictor, [np.stack(pixels[start : start + 8]) for start in range(0, len(pixels), 8)])


def quantized(predictor: Predictor, observed: Observed, folder: Path) -> dict[str, Checkpoint]:
    found = {}
    for name, bits in WAYS_OF_INT8.items():
        tensors, how = quantized_tensors(predictor, None if bits is None else observed, bits)
        own = folder / f"{predictor.checkpoint.architecture.name} {name}"
        found[name] = write_quantized(own, predictor, tensors, how)
    return found


def ways(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """(engine, precision) of the CPU that can be had here, for this model."""
    had = [(way.engine, way.precision) for way in WAYS if way.device == "cpu" and refusal(way) is None]
    return [one for one in had if one[0] != "openvino" or not needs_exact(checkpoint)]


def in_words(name: str, precision: str) -> str:
    """What a checkpoint is computed in: `fp32`, `bf16`, `int8`, `int8 and bf16`."""
    if precision == "fp32":
        return name
    return precision if name == "fp32" else f"{name} and {precision}"


def speed(given: argparse.Namespace, folder: Path) -> None:
    for model in given.models:
        first = load(folder_of(model))
        made = quantized(first, calibrated(first, given.photos), folder)
        pixels = np.stack(crops(first, photos(TIMED)))
        asked = {}
        for name, checkpoint in {"fp32": first.checkpoint, **made}.items():
            for engine, precision in ways(checkpoint):
                called = f"{engine}, {in_words(name, precision)}"
                own = Predictor(checkpoint, engine=engine, precision=precision)  # type: ignore[arg-type]
                asked[called] = partial(own.forward, pixels)
        taken = interleaved(asked, given.rounds)
        base = taken["onnxruntime, fp32"]
        for name, own in taken.items():
            cpu, wall = Ratio.of(own.cpu, base.cpu), Ratio.of(own.wall, base.wall)
            print(
                f"{model:<8} {name:<38} {TIMED / median(own.wall):7.1f} images/s   CPU {cpu}   wall {wall}", flush=True
            )


def accuracy(given: argparse.Namespace, folder: Path) -> None:
    first = load(vit_tiny())
    made = quantized(first, calibrated(first, given.photos), folder)
    files, calibrated_on = shuffled(given.photos), min(CALIBRATED, given.photos // 2)
    labels = imagenet_labels(1000)
    assert labels is not None
    index = {label.id: number for number, label in enumerate(labels)}
    truth = [index[path.name.partition("_")[0]] for path in files]
    known = list(zip(crops(first, files), truth, strict=True))
    for name, checkpoint in {"fp32": first.checkpoint, **made}.items():
        for engine, precision in ways(checkpoint):
            second = Predictor(checkpoint, engine=engine, precision=precision)  # type: ignore[arg-type]
            own = agree(first, second, known if name == "fp32" else known[calibrated_on:])
            size = checkpoint.path.stat().st_size / first.checkpoint.path.stat().st_size
            called = f"{engine}, {in_words(name, precision)}"
            told = [
                f"top-1 {own.right[0]} -> {own.right[1]} of {own.labelled} (p = {own.p_value:.2g})",
                f"same class {own.share:.1%} ({own.low:.1%} to {own.high:.1%})",
                f"logits differ by {own.mean_difference:.3f}, at most {own.max_difference:.2f}",
                f"cosine {own.mean_cosine:.4f} (least {own.min_cosine:.4f}), size {size:.3f}",
            ]
            print(f"ViT-Ti   {called:<38} {', '.join(told)}", flush=True)


def timm(given: argparse.Namespace, folder: Path) -> None:
    import timm as library
    import torch

    path = random_checkpoint(PWEE)
    first = load(path)
    made = quantized(first, calibrated(first, given.photos), folder)
    pixels = np.stack(crops(first, photos(TIMED)))
    torch.set_num_threads(first.threads.count)
    module = library.create_model(f"local-dir:{path}", pretrained=True).eval()
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5

    def eager(bf16: bool) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            module(x)

    asked = {"timm eager": partial(eager, False), "timm eager, bf16 by autocast": partial(eager, True)}
    for name in ("fp32", "int8", "int8, 7 bits"):
        checkpoint = made.get(name, first.checkpoint)
        for engine, precision in ways(checkpoint):
            own = Predictor(checkpoint, engine=engine, precision=precision)  # type: ignore[arg-type]
            asked[f"weevit {in_words(name, precision)}, {engine}"] = partial(own.forward, pixels)
    taken = interleaved(asked, given.rounds)
    for name, own in taken.items():
        base = taken["timm eager"]
        cpu, wall = Ratio.of(own.cpu, base.cpu), Ratio.of(own.wall, base.wall)
        print(f"pwee     {name:<38} {TIMED / median(own.wall):7.1f} images/s   CPU {cpu}   wall {wall}", flush=True)


def fit(given: argparse.Namespace, folder: Path) -> None:
    from weevit.fitting.fit import fit as fit_head

    del given
    data = shared("clothing")
    here = ways(load(vit_tiny()).checkpoint)
    asked = {f"{in_words('fp32', precision)}, {engine}": (engine, precision, False) for engine, precision in here}
    asked |= {f"int8, {engine}": (engine, precision, True) for engine, precision in here if precision == "fp32"}
    for name, (engine, precision, int8) in asked.items():
        start, cpu = time.perf_counter(), time.process_time()
        model = load(vit_tiny(), engine=engine, precision=precision)  # type: ignore[arg-type]
        done = fit_head(data, folder / f"fit {name}", model, int8=int8, cache=folder / f"cache {name}")
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in done.seconds.items())
        right = f"validation {done.metrics['top1']:.2%}, cross-validation {done.chosen.score:.2%}"
        print(f"fit, {name}: {right}, {wall:.1f} s, {cpu:.1f} s of processor time; {parts}", flush=True)


def variants(given: argparse.Namespace, folder: Path) -> None:
    """How near ViT-Ti's embeddings are where the recipe differs in one thing."""
    del folder
    first = load(vit_tiny())
    observed, half = calibrated(first, given.photos), min(CALIBRATED, given.photos // 2)
    pixels = np.stack(crops(first, shuffled(given.photos)[half : half + 120]))
    expected = first.forward(pixels)["embedding"]
    made = dict(quantized_tensors(first, observed, 8)[0])

    def without(*ends: str) -> dict:
        return {name: array for name, array in made.items() if not name.endswith(ends)}

    told = {
        "the recipe": made,
        "query and key in float32": without(".scores"),
        **{f"a range per row for {name}": without(f".{name}.range") for name in ("norm1", "norm2", "proj", "fc2")},
        "a range per row for proj and fc2": without(".proj.range", ".fc2.range"),
        "a range per row for all": without(".range"),
    }
    for exponent in (0.4, 0.5, 0.7):
        choose.SMOOTHING = exponent
        told[f"smoothing with exponent {exponent}"] = dict(quantized_tensors(first, observed, 8)[0])
    for name, tensors in told.items():
        found = _embeddings(first, tensors, pixels)
        apart = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        print(f"ViT-Ti   {name:<38} embeddings {apart:.4f} of their length apart", flush=True)


def _embeddings(first: Predictor, tensors: dict, pixels: np.ndarray) -> np.ndarray:
    import onnxruntime

    from weevit.graph.vit import GraphOptions, build_graph

    spec, checkpoint = first.preprocessing, first.checkpoint
    options = GraphOptions(spec.height, spec.width)
    model = build_graph(checkpoint.architecture, tensors, spec, checkpoint.grid, options)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), quiet, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["embedding"], {"pixels": some})[0] for some in np.array_split(pixels, 15)])


PARTS = {"variants": variants, "speed": speed, "accuracy": accuracy, "timm": timm, "fit": fit}

if __name__ == "__main__":
    main()

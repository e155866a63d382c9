"""pwee, fp32, batch size 8, images/s: weevit against timm eager, in turn, and the share of the machine's best sgemm.

    python benchmarks/throughput.py [--model pwee] [--batch 8] [--runs 10]

Random tensors; both from the same folder, with the same number of threads. The best sgemm is the fastest product of
numpy, PyTorch and onnxruntime at the model's own shapes (`sgemm.py`), in turn with the two; for it the script starts
itself again without `OPENBLAS_CORETYPE` and `OPENBLAS_L2_SIZE`. The share counts the model's matrix products, those of
attention included; of these, weevit leaves out the 3 to 7 % that no answer depends on (docs/graph.md).
To reach: 1.2 times timm. Needs timm.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

import numpy as np
from common import PWEE, instruction_set, random_checkpoint
from sgemm import best_product, by_library, has_plain_environment, plain_environment, products

from weevit.engine.bound import model_shapes
from weevit.engine.session import Request, open_session
from weevit.engine.threads import choose_threads
from weevit.engine.timing import Ratio, interleaved
from weevit.zoo.checkpoint import read_checkpoint
from weevit.zoo.counts import count
from weevit.zoo.weights import find_weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pwee")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    threads = choose_threads()
    if not has_plain_environment(threads.count):
        environment = plain_environment(os.environ, threads.count)
        sys.exit(subprocess.run([sys.executable, *sys.orig_argv[1:]], env=environment, check=False).returncode)

    weight = find_weight(arguments.model)
    folder = random_checkpoint(weight.architecture.name if weight else PWEE)
    checkpoint = read_checkpoint(folder)
    spec, batch = checkpoint.preprocessing, arguments.batch
    pixels = np.random.default_rng(0).integers(0, 256, (batch, spec.height, spec.width, 3), dtype=np.uint8)
    session = open_session(checkpoint, Request(spec.height, spec.width), threads.count)
    answer = session.run(pixels)["logits"]

    import timm
    import torch

    torch.set_num_threads(threads.count)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5

    def forward() -> np.ndarray:
        with torch.inference_mode():
            return model(x).numpy()

    difference = np.abs(answer - forward()).max() / np.abs(answer).max()
    matrices = products(model_shapes(checkpoint.architecture, batch, checkpoint.grid), threads.count)
    calls = {"weevit": lambda: session.run(pixels), "timm": forward, **matrices}
    taken = interleaved(calls, arguments.runs, seconds=0)
    seconds = {own: taken[own].wall for own in matrices}
    best, counts = best_product(seconds), count(checkpoint.architecture, checkpoint.num_classes)
    gflop = 2 * (counts.linear_macs + counts.attention_macs) / 1e9
    means = f"{threads.count} threads ({threads.reason}), {instruction_set()}, {time.strftime('%Y-%m-%d')}"
    print(f"{checkpoint.architecture.name}, batch {batch}, {means}")
    for name in ("weevit", "timm"):
        fastest, median = batch / min(taken[name].wall), batch / statistics.median(taken[name].wall)
        share, cpu = fastest * gflop / best.gflops, statistics.median(taken[name].cpu)
        of = f"{share:.0%} of the best sgemm; {cpu:.2f} CPU s"
        print(f"  {name:<7} {median:6.2f} images/s median, {fastest:6.2f} best: {of}")
    for name, own in by_library(seconds).items():
        print(f"  {name + ':':<12} {own.gflops:6.0f} GFLOP/s at {own.shape}")
    print(f"  the best sgemm: {best.library}'s, which bounds fp32 at {best.gflops / gflop:.1f} images/s")
    ours, theirs = taken["weevit"], taken["timm"]
    wall, processor = Ratio.of(ours.wall, theirs.wall), Ratio.of(ours.cpu, theirs.cpu)
    print(f"  weevit is faster {wall} by wall, {processor} by CPU seconds; logits {difference:.0e} apart")


if __name__ == "__main__":
    main()

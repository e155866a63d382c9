"""pwee, fp32, batch 8, images a second: weevit against timm eager, in turn, and the share of the machine's own sgemm.

    python benchmarks/throughput.py [--model pwee] [--batch 8] [--runs 10]

Random tensors; both from the same folder, with the same number of threads. To reach: 1.2 times timm. Needs timm.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
from common import PWEE, interleave, random_checkpoint, ratios, timed

from weevit.engine.session import Request, open_session
from weevit.engine.threads import choose_threads
from weevit.zoo.checkpoint import read_checkpoint
from weevit.zoo.counts import count
from weevit.zoo.weights import find_weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pwee")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    weight = find_weight(arguments.model)
    folder = random_checkpoint(weight.architecture.name if weight else PWEE)
    checkpoint, threads = read_checkpoint(folder), choose_threads()
    spec, batch = checkpoint.preprocessing, arguments.batch
    pixels = np.random.default_rng(0).integers(0, 256, (batch, spec.height, spec.width, 3), dtype=np.uint8)
    session = open_session(checkpoint, Request(spec.height, spec.width), threads.count)
    answer = session.run(pixels)["logits"]

    import timm
    import torch

    torch.set_num_threads(threads.count)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    matrix = torch.randn(3072, 3072)

    def forward() -> np.ndarray:
        with torch.inference_mode():
            return model(x).numpy()

    difference = np.abs(answer - forward()).max() / np.abs(answer).max()
    taken = interleave(
        arguments.runs,
        weevit=timed(lambda: session.run(pixels)),
        timm=timed(forward),
        sgemm=timed(lambda: matrix @ matrix),
    )
    gemm = 2 * 3072**3 / min(taken["sgemm"]) / 1e9
    flops = 2 * count(checkpoint.architecture, checkpoint.num_classes).gmacs
    print(f"{checkpoint.architecture.name}, batch {batch}, {threads.count} threads ({threads.reason})")
    for name in ("weevit", "timm"):
        best, median = batch / min(taken[name]), batch / statistics.median(taken[name])
        print(
            f"  {name:<7} {median:6.2f} images/s median, {best:6.2f} best: {best * flops / gemm:.0%} of the best sgemm"
        )
    print(f"  the machine's best sgemm: {gemm:.0f} GFLOP/s, which bounds fp32 at {gemm / flops:.1f} images/s")
    print(f"  weevit is faster {ratios(taken['weevit'], taken['timm'])}; logits {difference:.0e} apart")


if __name__ == "__main__":
    main()

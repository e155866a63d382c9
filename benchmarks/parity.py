"""Logits, embedding and every block's output against timm: every architecture, native and one other size.

    python benchmarks/parity.py [NAME ...] [--other 256x320]

Random tensors with no zero gammas or biases. To reach: 1e-4 of the greatest magnitude. Needs timm.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
import oracle

from weevit.graph.vit import GraphOptions, build_graph
from weevit.zoo.architectures import ARCHITECTURES, Architecture

LIMIT = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; all by default")
    parser.add_argument("--other", default="256x320", help="the other size, height first")
    arguments = parser.parse_args()
    height, width = map(int, arguments.other.split("x"))
    worst = 0.0
    for name in arguments.names or ARCHITECTURES:
        for size in (None, (height, width)):
            found = compare(ARCHITECTURES[name], size)
            shown = "native" if size is None else arguments.other
            print(
                f"{name:<40} {shown:<8} " + "  ".join(f"{key} {value:.1e}" for key, value in found.items()), flush=True
            )
            worst = max(worst, *found.values())
    print(f"greatest difference: {worst:.1e} of the greatest magnitude (to reach: {LIMIT:.0e})")
    sys.exit(worst > LIMIT)


def compare(arch: Architecture, size: tuple[int, int] | None) -> dict[str, float]:
    theirs = oracle.reference(arch, size)
    height, width = size or (arch.img_size, arch.img_size)
    # Twice: the last block pools early where its output is not asked for.
    answers: dict[str, object] = {}
    side = arch.img_size // 16
    for taps in (tuple(range(arch.depth)), ()):
        options = GraphOptions(height, width, features=taps)
        model = build_graph(arch, theirs.tensors, oracle.spec(height, width), (side, side), options)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        answers.update(zip(names, session.run(names, {"pixels": theirs.pixels}), strict=True))
    return {
        "logits": oracle.difference(answers["logits"], theirs.logits),
        "embedding": oracle.difference(answers["embedding"], theirs.embedding),
        "blocks": max(oracle.difference(answers[f"block_{i}"], theirs.blocks[i]) for i in range(arch.depth)),
    }


if __name__ == "__main__":
    main()

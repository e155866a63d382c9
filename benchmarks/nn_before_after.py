"""A training step and an inference pass: this checkout's modules against those of an older one, in turn.

    python benchmarks/nn_before_after.py OLD_CHECKOUT [--model tiny] [--batch 16] [--runs 12]

Eager, float32, the same seed. Each checkout has a process of its own that waits for its turn, so that both are warm and
both meet the same disturbances. To reach: not slower, and the same logits and gradients to the bit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import ROOT, ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments.model, arguments.batch)
    both = {name: start(root, arguments) for name, root in {"old": arguments.old, "new": ROOT}.items()}
    digests = {name: ask(process, "digest") for name, process in both.items()}
    print(f"logits and gradients {'equal to the bit' if digests['old'] == digests['new'] else 'DIFFER'}")
    for what in ("train", "infer", "infer_one"):
        taken: dict[str, list[float]] = {"old": [], "new": []}
        for run in range(-1, arguments.runs):
            for name in ("old", "new") if run % 2 else ("new", "old"):
                seconds = float(ask(both[name], what))
                taken[name] += [seconds] if run >= 0 else []
        medians = ", ".join(f"{name} {statistics.median(own) * 1e3:.1f} ms" for name, own in taken.items())
        print(f"{what:<9} median {medians}; new is faster {ratios(taken['new'], taken['old'])}")
    for process in both.values():
        process.communicate()


def start(root: Path, arguments: argparse.Namespace) -> subprocess.Popen[str]:
    words = [sys.executable, __file__, str(root), "--worker", "--model", arguments.model, "--batch", arguments.batch]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "src"), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def ask(process: subprocess.Popen[str], what: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(what + "\n")
    process.stdin.flush()
    return str(json.loads(process.stdout.readline()))


def work(name: str, batch: int) -> None:
    tasks = make_tasks(name, batch)
    for line in sys.stdin:
        print(json.dumps(tasks[line.strip()]()), flush=True)


def make_tasks(name: str, batch: int) -> dict[str, Callable[[], Any]]:
    import torch

    import weevit
    from weevit.engine.threads import choose_threads

    torch.set_num_threads(choose_threads().count)
    torch.manual_seed(0)
    model = weevit.create_model(name)
    x = torch.randn(batch, 3, *model.img_size)
    labels = torch.randint(0, model.num_classes, (batch,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def backward() -> Any:
        optimizer.zero_grad()
        logits = model.train()(x)
        torch.nn.functional.cross_entropy(logits, labels).backward()
        return logits

    def digest() -> str:
        import hashlib

        tensors = [backward(), *(own.grad for _, own in sorted(model.named_parameters()))]
        return hashlib.sha256(b"".join(own.detach().numpy().tobytes() for own in tensors)).hexdigest()

    def infer(inputs: Any) -> Any:
        with torch.inference_mode():
            return model.eval()(inputs)

    def timed(function: Callable[[], object]) -> Callable[[], float]:
        def run() -> float:
            begin = time.perf_counter()
            function()
            return time.perf_counter() - begin

        return run

    return {
        "digest": digest,
        "train": timed(lambda: (backward(), optimizer.step())),
        "infer": timed(lambda: infer(x)),
        "infer_one": timed(lambda: [infer(x[:1]) for _ in range(10)]),
    }


if __name__ == "__main__":
    main()

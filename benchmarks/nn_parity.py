"""The module against timm's: logits and the gradients of all parameters, every architecture, whole depth.

    python benchmarks/nn_parity.py [NAME ...]

Shared random tensors, one image at 64 x 96 px (positions resampled). To reach: 1e-5 of the greatest magnitude of each.
Needs timm.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
import oracle

from weevit.nn.vit import Options, VisionTransformer
from weevit.zoo.architectures import ARCHITECTURES, Architecture

SIZE = (64, 96)
LIMIT = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; all by default")
    worst = 0.0
    for name in parser.parse_args().names or ARCHITECTURES:
        forward, gradient = compare(ARCHITECTURES[name])
        print(f"{name:<40} logits {forward:.1e}  gradients {gradient:.1e}", flush=True)
        worst = max(worst, forward, gradient)
    print(f"greatest difference: {worst:.1e} of the greatest magnitude (to reach: {LIMIT:.0e})")
    sys.exit(worst > LIMIT)


def compare(arch: Architecture) -> tuple[float, float]:
    theirs = oracle.timm_model(arch)
    with torch.device("meta"):
        ours = VisionTransformer(arch, Options(num_classes=oracle.NUM_CLASSES)).eval()
    ours.load_state_dict({name: tensor.clone() for name, tensor in theirs.state_dict().items()}, assign=True)
    for model in (ours, theirs):
        model.set_input_size(SIZE)
    x = torch.randn(1, 3, *SIZE)
    mine, other = ours(x), theirs(x)
    weights = torch.randn(mine.shape)
    (mine * weights).sum().backward()
    (other * weights).sum().backward()
    gradients = dict(theirs.named_parameters())
    pairs = [(own.grad, gradients[name].grad) for name, own in ours.named_parameters()]
    return apart(mine.detach(), other.detach()), max(apart(a, b) for a, b in pairs)


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


if __name__ == "__main__":
    main()

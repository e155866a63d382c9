"""From a local checkpoint to a ready module, in process: weevit against timm, in turn.

    python benchmarks/nn_load.py [--runs 10]

pwee with random tensors, without a manifest (then there is nothing to verify, as with timm) and with one (then every
byte is hashed, which timm does not do for local files: 1.0.31, November 2026). To reach: 3 times faster, since nothing
is initialised that is thrown away. Needs timm.
"""

from __future__ import annotations

import argparse
import shutil
import statistics

import timm
import torch
from common import interleave, random_checkpoint, ratios, timed

import weevit
from weevit.zoo.manifest import MANIFEST


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    verified = random_checkpoint()
    plain = verified.with_name(f"{verified.name}-plain")
    shutil.copytree(verified, plain, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)
    name = f"local-dir:{plain}"
    taken = interleave(
        runs,
        weevit=timed(lambda: weevit.create_model(name, pretrained=True)),
        verified=timed(lambda: weevit.create_model(f"local-dir:{verified}", pretrained=True)),
        timm=timed(lambda: timm.create_model(name, pretrained=True)),
    )
    for key, seconds in taken.items():
        print(f"{key:<8} median {1000 * statistics.median(seconds):.0f} ms, best {1000 * min(seconds):.0f} ms")
    x = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        ours, theirs = (make.create_model(name, pretrained=True).eval()(x) for make in (weevit, timm))
    apart = float((ours - theirs).abs().max())
    print(f"weevit is faster {ratios(taken['weevit'], taken['timm'])}; logits {apart:.0e} apart")
    print(f"with every byte verified {ratios(taken['verified'], taken['timm'])}")


if __name__ == "__main__":
    main()

"""Peak memory for 200 photos with pwee: weevit's whole process against timm's loader and model.

    python benchmarks/memory.py [--photos 200]

To reach: 350 MB (timm's `inference.py` of 1.0.31, measured apart in November 2026, takes 970 MB). Needs the shared
data, and timm for its line.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from common import photos, random_checkpoint, run_process

TIMM = """
import sys, timm, torch
from timm.data import create_dataset, create_loader, resolve_model_data_config
model = timm.create_model(f"local-dir:{sys.argv[1]}", pretrained=True).eval()
config = resolve_model_data_config(model)
dataset = create_dataset("", sys.argv[2])
loader = create_loader(dataset, config["input_size"], 8, is_training=False, use_prefetcher=False, num_workers=0,
    interpolation=config["interpolation"], mean=config["mean"], std=config["std"], crop_pct=config["crop_pct"])
done = 0
with torch.inference_mode():
    for images, _ in loader:
        done += len(model(images).softmax(-1).topk(5).indices)
print(done)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=200)
    count = parser.parse_args().photos
    folder = random_checkpoint()
    with tempfile.TemporaryDirectory() as place:
        own = Path(place) / "photos" / "class"
        own.mkdir(parents=True)
        for path in photos(count):
            (own / path.name).symlink_to(path)
        answers = Path(place) / "answers.jsonl"
        command = [sys.executable, "-m", "weevit", "classify", own, "--model", folder, "-o", answers]
        run_process(command)  # builds the graph, which later runs find in the cache
        ours = run_process(command)
        assert len(answers.read_text().splitlines()) == count
        theirs = run_process([sys.executable, "-c", TIMM, folder, own.parent])
        assert int(theirs.out) == count
    print(f"{count} photos, pwee: weevit {ours.peak_mb:.0f} MB in {ours.seconds:.1f} s, "
          f"timm {theirs.peak_mb:.0f} MB in {theirs.seconds:.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()

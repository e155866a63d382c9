"""One photo, process start to printed labels, against the shortest timm script that does the same.

    python benchmarks/startup.py [--runs 5]

Both read the same local ViT-Ti checkpoint; weevit's graph is in its cache. To reach: at least 8 times faster, under
0.6 s; `import weevit` and `weevit --help` under 0.3 s. Needs the shared data, and timm.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from common import interleave, photos, ratios, run_process, vit_tiny

TIMM = """
import sys, timm, torch
from PIL import Image
model = timm.create_model(f"local-dir:{sys.argv[1]}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
with torch.inference_mode():
    probabilities = model(transform(Image.open(sys.argv[2]).convert("RGB"))[None]).softmax(-1)[0]
names = timm.data.ImageNetInfo()
for probability, index in zip(*[values.tolist() for values in probabilities.topk(5)]):
    print(f"{probability:.1%} {names.index_to_description(index)}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    photo, folder = photos(1)[0], vit_tiny()
    commands = {
        "weevit": [sys.executable, "-m", "weevit", "classify", photo, "--model", folder],
        "timm": [sys.executable, "-c", TIMM, folder, photo],
        "import": [sys.executable, "-c", "import weevit"],
        "help": [sys.executable, "-m", "weevit", "--help"],
    }
    peaks = dict.fromkeys(commands, 0.0)

    def seconds(name: str) -> float:
        run = run_process(commands[name])
        peaks[name] = max(peaks[name], run.peak_mb)
        return run.seconds

    taken = interleave(runs, **{name: lambda name=name: seconds(name) for name in commands})
    for name, label in (
        ("weevit", "weevit classify"), ("timm", "timm, shortest script"),
        ("import", "import weevit"), ("help", "weevit --help"),
    ):  # fmt: skip
        own = taken[name]
        print(f"{label:<22} median {statistics.median(own):.2f} s, best {min(own):.2f} s   peak {peaks[name]:.0f} MB")
    print(f"weevit classify is faster {ratios(taken['weevit'], taken['timm'])}")


if __name__ == "__main__":
    main()

"""Decoding against another checkout of weevit: CPU and wall seconds, interleaved, over the shared photos.

    python benchmarks/decoding.py ../main/src [--runs 7] [--photos 500] [--threads 1]

The argument is the folder of the other checkout that holds `weevit/`. Each run is a process that reads the photos into
memory, decodes them once uncounted and once counted, on one thread or several; the pixels of both checkouts are
compared by their sum. A ratio above 1 means that this checkout is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from common import ROOT, photos, ratios, run_process

CODE = """
import hashlib, json, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from weevit.images.decode import decode
files = [Path(path).read_bytes() for path in json.load(open(sys.argv[1]))]
digest = hashlib.sha256()
for data in files:
    digest.update(np.asarray(decode(data)).tobytes())
with ThreadPoolExecutor(int(sys.argv[2])) as pool:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in pool.map(lambda data: decode(data).size, files):
        pass
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps([wall, cpu, digest.hexdigest()]))
"""


def decode_all(source: Path, names: Path, threads: int) -> tuple[float, float, str]:
    """Wall and CPU seconds, and a sum over all pixels, in a process with that checkout."""
    out = run_process([sys.executable, "-c", CODE, names, threads], PYTHONPATH=str(source.resolve())).out
    wall, cpu, digest = json.loads(out)
    return wall, cpu, digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    names = Path(os.environ.get("TMPDIR", "/tmp")) / f"weevit-decoding-{os.getpid()}.json"
    names.write_text(json.dumps([str(path) for path in photos(options.photos)]))
    rows = []
    try:
        for _ in range(options.runs):
            ours = decode_all(ROOT / "src", names, options.threads)
            theirs = decode_all(options.other, names, options.threads)
            rows.append((ours, theirs))
    finally:
        names.unlink()
    for place, kind in enumerate(("wall", "CPU")):
        here, there = [ours[place] for ours, _ in rows], [theirs[place] for _, theirs in rows]
        print(f"{kind:<4} here {sorted(here)[len(here) // 2]:.3f} s, there {sorted(there)[len(there) // 2]:.3f} s: "
              f"{ratios(here, there)}")  # fmt: skip
    print("pixels equal" if len({digest for row in rows for *_, digest in row}) == 1 else "PIXELS DIFFER")


if __name__ == "__main__":
    main()

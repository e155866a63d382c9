"""Rows J9 and M11 of the reliability scorecard in full: folders to which anything happens, and strangers' folders.

    python benchmarks/reliability/folders.py [J9 M11] [--orders 20] [--steps 25] [--edits 100]

J9: random orders of runs under several cuts, kills, full and read-only disks, deleted, cut and flipped files, and
    changed inputs, on one folder of a job; each ends complete, verified, and as a job to which nothing happened.
M11: edits of folders of jobs, runs and fits, hashed anew: typed errors within 5 s, nothing executed, nothing outside of
    the folder touched.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

import fakes
import job_orders
import strangers

import weevit

SECONDS = 5.0


def j9(top: Path, options: argparse.Namespace) -> bool:
    """Random orders."""
    predictor = weevit.load(fakes.folder(top / "model"), image_size=32, cache=False)
    good = 0
    for seed in range(options.seed, options.seed + options.orders):
        try:
            job_orders.play(predictor, top, seed, options.steps)
            good += 1
        except AssertionError as error:
            print(f"J9  order {seed}: {str(error)[:600]}", flush=True)
    print(
        f"J9  {good} of {options.orders} orders of {options.steps} events: complete, verified, the same bytes",
        flush=True,
    )
    return good == options.orders


def m11(top: Path, options: argparse.Namespace) -> bool:
    """Edits by strangers."""
    good = True
    for kind in (strangers.Job, strangers.Run, strangers.Fit):
        name = kind.__name__.lower()
        (top / name).mkdir()
        whole, counts, slowest = kind(top / name), Counter[str](), 0.0
        for seed in range(options.seed, options.seed + options.edits):
            start = time.perf_counter()
            try:
                said = strangers.attack(whole, top / f"{name}-edited", seed, SECONDS)
                counts["accepted, or made good" if said.endswith("accepted") else "a typed error"] += 1
            except AssertionError as error:
                counts["FAILED"] += 1
                print(f"M11 {name}: {str(error)[:600]}", flush=True)
            slowest = max(slowest, time.perf_counter() - start)
        shown = ", ".join(f"{count} {what}" for what, count in counts.most_common())
        print(f"M11 {name}: {options.edits} edits: {shown}; the slowest took {slowest:.1f} s", flush=True)
        good &= not counts["FAILED"]
    return good


ROWS = {"J9": j9, "M11": m11}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"any of {', '.join(ROWS)}; all by default")
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--steps", type=int, default=25, help="events of an order")
    parser.add_argument("--edits", type=int, default=100, help="of each kind of folder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as top:
        os.environ["WEEVIT_CACHE"] = str(Path(top) / "cache")
        for row in options.rows or ROWS:
            (Path(top) / row).mkdir()
            good &= ROWS[row](Path(top) / row, options)
    sys.exit(not good)


if __name__ == "__main__":
    main()

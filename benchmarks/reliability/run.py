"""Rows of the reliability scorecard, one line each.

    python benchmarks/reliability/run.py [J1 J2 M1 ...]

Each row is an experiment that stands in the tests in full; here it is run alone and its outcome is printed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TRAINING, STATE = "tests/training/test_rows.py", "tests/training/test_state.py"
"""In full: `training.py` beside this file, and `decoding.py` for J11 and J12."""

ROWS = {
    "J1": ("every kind of file: right pixels or a typed error", ["tests/images", "-k", "not mutations and not timm"]),
    "J2": ("2,000 mutations of encoded images: typed errors only", ["tests/images", "-k", "mutations"]),
    "J3": ("killed and gone on with (in full: benchmarks/jobs.py kills)", ["tests/jobs", "-k", "killed or crash"]),
    "J5": ("changed inputs: only those are computed", ["tests/jobs", "-k", "change"]),
    "J6": ("tars: good members kept, bad ones listed", ["tests/images/test_archives.py"]),
    "J7": ("another model or preprocessing in the folder: refused", ["tests/jobs", "-k", "another_job"]),
    "J8": ("workers 1, 2, 4 and batches 1, 7, 64: the same bytes", ["tests/jobs", "-k", "batch_and_thread"]),
    "J10": ("containers that unpack to gigabytes (in full: containers.py)", ["tests/images/test_bombs.py"]),
    "J13": ("one odd row of every kind: one failed row (in full: odd_rows.py)", ["tests/images/test_odd_rows.py"]),
    "J11": (
        "image bombs: refused, or within 600 MB on 16 threads (in full: decoding.py bombs)",
        ["tests/images/test_decode_bombs.py"],
    ),
    "J12": (
        "a damaged JPEG is never ok, an odd one never refused (shares by format: decoding.py damage)",
        ["tests/images/test_decode_jpeg.py"],
    ),
    "J9": (
        "cut, killed, full, deleted, flipped in any order: ends complete (in full: folders.py)",
        ["tests/jobs/test_orders.py"],
    ),
    "J14": (
        "a bucket that loses, cuts, refuses and delays: complete versions only (in full: bucket.py faults)",
        ["tests/jobs/test_bucket.py", "-k", "j14_"],
    ),
    "M11": ("strangers' folders: typed errors only (in full: folders.py)", ["tests/test_strangers.py"]),
    "M13": ("planted graphs: bound to their key, or built anew", ["tests/engine/test_cache.py", "-k", "ours or bound"]),
    "T1": ("training killed at steps: the same bytes in the end", [TRAINING, STATE, "-k", "t1_"]),
    "T2": ("killed at points of a save: a whole checkpoint, the same bytes", [TRAINING, STATE, "-k", "t2_ or crash"]),
    "T3": ("resumed inside an epoch: every image once", [TRAINING, "-k", "t3_"]),
    "T4": ("0, 1, 2, 4 workers: the same bytes", [TRAINING, "-k", "t4_"]),
    "T6": ("SIGTERM in a step, in a save, twice: saved, exit 143", [TRAINING, "-k", "t6_"]),
    "T7": ("a full disk: told in bytes, nothing lost", [TRAINING, STATE, "-k", "t7_ or full_disk"]),
    "T8": ("cut, flipped, missing: found, and the one before is used", [TRAINING, STATE, "-k", "t8_ or found"]),
    "T9": ("NaN and infinity: exit 1, named, in no file", [TRAINING, STATE, "-k", "t9_ or not_finite"]),
    "T12": (
        "classes that lack, extra ones, circles of links: listed, never shifted",
        ["tests/datasets/test_read.py", "tests/fitting/test_fit.py", TRAINING, "-k", "test_read or t12_"],
    ),
    "T13": ("corrupt training images: counted, too many end the run", [TRAINING, "-k", "t13_"]),
    "T14": ("two runs in one folder: the second is refused", [TRAINING, "-k", "t14_"]),
    "M1": ("pickles in every place a file is accepted: no code runs", ["tests/zoo/test_checkpoint.py", "-k", "pickle"]),
    "M2": ("bombs: refused by declared size", ["tests/zoo", "-k", "size or zip or gzip or compressed"]),
    "M3": ("malformed safetensors: refused before a tensor is made", ["tests/zoo/test_safetensors_file.py"]),
    "M5": ("a hub that cuts, lies and fails: nothing unverified stays", ["tests/zoo/test_hub.py"]),
    "M12": ("recipes that grow, wait or overflow: refused at once", ["tests/recipes/test_recipe.py", "-k", "m12_"]),
    "M10": (
        "control characters, marks of direction, formulas in names: none on a screen, no table split",
        ["tests/test_text.py", "tests/cli/test_screen.py"],
    ),
    "M6": ("offline: from the cache, or a clear error within 2 s", ["tests/zoo/test_hub.py", "-k", "offline or cache"]),
    "S1": ("a full queue: 503 with Retry-After (in full: serving.py)", ["tests/serve/test_stopping.py", "-k", "s1_"]),
    "S2": ("slow connections closed, normal ones answered", ["tests/serve/test_stopping.py", "-k", "s2_"]),
    "S3": ("requests without end: 413 and no memory", ["tests/serve/test_classify.py", "-k", "large or endless"]),
    "S5": ("addresses from clients: off, or public and on a list", ["tests/serve/test_served_addresses.py"]),
    "S6": ("paths in names: nothing is read", ["tests/serve/test_classify.py", "-k", "s6_"]),
    "S9": ("SIGTERM under load: what was accepted is answered", ["tests/serve/test_stopping.py", "-k", "s9_"]),
    "S10": ("schemathesis: no 5xx, the schema holds", ["tests/serve/test_protocols.py", "-k", "s10_"]),
    "S14": ("no bytes, paths, control characters in answers and logs", ["tests/serve/test_classify.py", "-k", "s14_"]),
    "P2": ("answers that are NaN or infinite: a status, in every way they are had", ["tests", "-k", "p2_"]),
}
"""Row -> what it shows, and the tests that are the experiment."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"any of {', '.join(ROWS)}; all by default")
    failed = False
    for row in parser.parse_args().rows or ROWS:
        title, selection = ROWS[row]
        start = time.perf_counter()
        words = [sys.executable, "-m", "pytest", "-q", *selection]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        last = re.sub(r" in [0-9.]+s.*", "", done.stdout.strip().splitlines()[-1].strip("= "))
        print(f"{row:<3} {title}: {last} ({time.perf_counter() - start:.0f} s)", flush=True)
        failed |= done.returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()

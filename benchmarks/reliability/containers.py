"""Row J10 in full: containers that unpack to gigabytes; each is read to its end in a process of its own.

    python benchmarks/reliability/containers.py [--share 1.0] [WORD ...]

For each: its size, rows and how many of them are images, the peak of the process (with the imports), and seconds of
processor time. Limits: 600 MB, for a file that is as large as what it holds a multiple of its size; 10 s beside 2 ms
for each image that is decoded. WORDs choose those whose names have one of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

MAX_MB, MAX_SECONDS, IMAGE_SECONDS = 600, 10, 0.002


def read(path: Path) -> dict[str, float]:
    """Open every source in the pipeline of a predictor, with its number of threads; no model is asked."""
    from weevit.answers.pipeline import Pipeline
    from weevit.engine.threads import choose_threads
    from weevit.errors import ImageError
    from weevit.images.source import Source, open_image
    from weevit.images.sources import expand

    def opened(source: Source) -> bool:
        try:
            open_image(source)
        except ImageError:
            return False
        return True

    start = time.process_time()
    pipeline = Pipeline(lambda request: None, choose_threads().count, batch_size=8)
    good = [image for batch in pipeline.map(iter(expand(path)), opened, list) for image in batch]
    return {"rows": len(good), "good": sum(good), "mb": _peak(), "seconds": time.process_time() - start}


def _peak() -> float:
    """MB; `ru_maxrss` would be that of the process that started this one, if it was larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        print(json.dumps(read(given.read)))
        return
    import containers

    failed = False
    for name, (ending, make) in containers.BOMBS.items():
        if given.words and not any(word in name for word in given.words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "a.png").write_bytes(containers.png())
            path = make(Path(folder, f"bomb{ending}"), given.share)
            words = [sys.executable, __file__, "--read", str(path)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            size = path.stat().st_size / 1e6
        if done.returncode:
            print(f"{name}: failed: {done.stderr.strip().splitlines()[-1][:200]}", flush=True)
            failed = True
            continue
        found = json.loads(done.stdout)
        limit = max(MAX_MB, containers.OF_THEIR_SIZE.get(name, 0) * size)
        bad = found["mb"] > limit or found["seconds"] > MAX_SECONDS + IMAGE_SECONDS * found["good"]
        failed |= bad
        print(
            f"{name}: {size:.1f} MB, {found['rows']:,} rows, {found['good']:,} images, {found['mb']:.0f} MB, "
            f"{found['seconds']:.1f} s{'   OVER THE LIMIT' if bad else ''}",
            flush=True,
        )
    sys.exit(failed)


if __name__ == "__main__":
    main()

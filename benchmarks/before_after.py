"""Results and times beside those of another version of weevit: `fit`, `data check`, `eval` on the clothing.

    git worktree add ../before COMMIT
    python benchmarks/before_after.py --before ../before/src [--rounds 2]

Each version runs in a process of its own, in turn, with the embeddings of both kept in one folder. Needs the shared
data.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from common import ROOT, instruction_set, shared, vit_tiny

ONE = """
import hashlib, json, shutil, sys, time
from pathlib import Path
import weevit

verb, model, data, out = sys.argv[1], weevit.load(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
LEFT_OUT = {"seconds", "images_per_second", "made", "versions", "machine", "command", "folder", "path", "output"}


def plain(value):
    if isinstance(value, dict):
        return {name: plain(own) for name, own in value.items() if name not in LEFT_OUT}
    return [plain(own) for own in value] if isinstance(value, list) else value


shutil.rmtree(out, ignore_errors=True)
start, cpu = time.perf_counter(), time.process_time()
if verb == "fit":
    weevit.fit(data, out, model)
    files = [out / "model" / "model.safetensors"]
elif verb == "check":
    weevit.check_data(data, model, out)
    files = [out / "fix-list.csv"]
else:  # of what the fit made
    weevit.evaluate(out.parent / "fit", data, out)
    files = [out / "predictions.csv"]
seconds = time.perf_counter() - start, time.process_time() - cpu
digest = hashlib.sha256()
for path in [*files, out / "report.json"]:
    content = path.read_bytes() if path.exists() else b""
    if path.suffix == ".json" and content:
        content = json.dumps(plain(json.loads(content)), sort_keys=True).encode()
    digest.update(content)
print(digest.hexdigest(), *seconds)
"""

VERBS = ("check", "fit", "eval")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the source folder of the other version")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    taken: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    results: dict[str, set[str]] = defaultdict(set)
    sources = {"before": options.before.absolute(), "now": ROOT / "src"}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.rounds + 1):
            for verb in VERBS:
                for name, source in list(sources.items())[:: -1 if turn % 2 else 1]:
                    digest, wall, cpu = run(verb, source, Path(folder))
                    results[verb].add(digest)
                    if turn:  # the first one embeds
                        taken[verb, name].append((float(wall), float(cpu)))
    for verb in VERBS:
        ratio = [b / n for (b, _), (n, _) in zip(taken[verb, "before"], taken[verb, "now"], strict=True)]
        spent = [statistics.median(own[1] for own in taken[verb, name]) for name in sources]
        print(
            f"{verb}: {'the same to the byte' if len(results[verb]) == 1 else 'OTHER RESULTS'}; now "
            f"{statistics.median(ratio):.2f} times as fast (pairs {min(ratio):.2f} to {max(ratio):.2f}); processors "
            f"{spent[0]:.1f} s before, {spent[1]:.1f} s now; {instruction_set()}"
        )
    sys.exit(any(len(own) > 1 for own in results.values()))


def run(verb: str, source: Path, folder: Path) -> list[str]:
    own = {"PYTHONPATH": str(source), "WEEVIT_CACHE": str(folder / "cache")}
    words = [sys.executable, "-c", ONE, verb, str(vit_tiny()), str(shared("clothing")), str(folder / verb)]
    done = subprocess.run(words, env=os.environ | own, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.split()


if __name__ == "__main__":
    main()

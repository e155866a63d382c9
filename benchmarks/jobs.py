"""Jobs at size: speed against timm, memory, what the bookkeeping costs, and kills.

    python benchmarks/jobs.py speed [--runs 3]      500 photos, pwee, whole process, against what timm's inference.py
                                                    does, with its best worker count: with its own batches of 256
                                                    (>= 1.6x), and with smaller ones, which suit a CPU better
    python benchmarks/jobs.py memory [--runs 3]     peak at 500 and at 20,000 images; equal within 10 %
    python benchmarks/jobs.py overhead [--photos]   100,000 images, an engine that costs nothing; < 5 %, < 1 s to resume
    python benchmarks/jobs.py rows [--rows 1000000 10000000]
                                                    lists of so many lines, answers that cost nothing: memory equal
                                                    within 10 %, time per row within 2 %
    python benchmarks/jobs.py names                 what planning costs per name: of the share, and of other shares
    python benchmarks/jobs.py kills [--kills 20]    row J3: 2,000 images, SIGKILL at random times

All but `overhead`, `rows` and `names` need the shared data; `speed` needs timm.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import interleave, photos, random_checkpoint, ratios, run_process, timed, vit_tiny

WEEVIT = (sys.executable, "-m", "weevit")

TIMM = """
import csv, sys, timm, torch
from timm.data import ImageNetInfo, create_dataset, create_loader, resolve_model_data_config
folder, photos, out, workers, batch = sys.argv[1:]
model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
dataset = create_dataset("", photos)
loader = create_loader(dataset, batch_size=int(batch), num_workers=int(workers), device=torch.device("cpu"),
    **resolve_model_data_config(model))
label, names, rows = ImageNetInfo().index_to_description, dataset.filenames(basename=True), []
with torch.inference_mode():
    for images, _ in loader:
        probabilities, indices = model(images).softmax(-1).topk(5)
        rows += zip(indices.tolist(), probabilities.tolist())
with open(out, "w") as file:
    csv.writer(file).writerows([name, *map(label, own[0]), *own[1]] for name, own in zip(names, rows))
"""
"""What timm's inference.py does on a CPU, but for pandas, which it imports too (timm 1.0.31, November 2026)."""

DEFAULT_BATCH = 256
"""Batch size of inference.py (timm 1.0.31, November 2026)."""


def linked(place: Path, count: int) -> Path:
    """A folder of that many images: links to the photos, each under many names."""
    folder = place / f"photos-{count}" / "class"
    folder.mkdir(parents=True)
    found = photos()
    for index in range(count):
        own = found[index % len(found)]
        (folder / f"{index:06d}_{own.name}").symlink_to(own)
    return folder


def speed(place: Path, options: argparse.Namespace) -> None:
    model, folder = random_checkpoint(), linked(place, 500)
    out = place / "answers"

    def ours() -> float:
        shutil.rmtree(out, ignore_errors=True)
        return run_process([*WEEVIT, "classify", folder, "-m", model, "-o", out]).seconds

    def timm(batch: int, workers: int) -> float:
        words = [sys.executable, "-W", "ignore", "-c", TIMM, model, folder.parent, place / "timm.csv", workers, batch]
        return run_process(words).seconds

    peers = {}
    for batch in options.batches:
        tried = {workers: timm(batch, workers) for workers in options.workers}
        print(f"timm, batches of {batch}: " + ", ".join(f"{n} workers {own:.1f} s" for n, own in tried.items()))
        peers[f"timm, batches of {batch}"] = partial(timm, batch, min(tried, key=tried.__getitem__))
    taken = interleave(options.runs, weevit=ours, **peers)
    for name, seconds in taken.items():
        print(f"{name:<23} " + " ".join(f"{own:.1f}" for own in seconds) + " s")
    for name in peers:
        print(f"500 photos, pwee, whole process: weevit is faster {ratios(taken['weevit'], taken[name])} than {name}")


def memory(place: Path, options: argparse.Namespace) -> None:
    command = [*WEEVIT, "embed", "-m", vit_tiny(), "--image-size", "32"]
    folders = {count: linked(place, count) for count in (2, *options.counts)}
    run_process([*command, folders[2], "-o", place / "warm"])  # builds the graph, which later runs find in the cache
    peaks: list[list[float]] = [[], []]
    for _ in range(options.runs):
        for count, found in zip(options.counts, peaks, strict=True):
            shutil.rmtree(place / "out", ignore_errors=True)
            done = run_process([*command, folders[count], "-o", place / "out"])
            found.append(done.peak_mb)
            print(f"{count:,} images: peak {done.peak_mb:.0f} MB, {done.seconds:.0f} s", flush=True)
    pairs = sorted(many / few for few, many in zip(*peaks, strict=True))
    print(
        f"{options.counts[1]:,} against {options.counts[0]:,} images: {statistics.median(pairs):.3f} times the peak "
        f"memory (pairs {pairs[0]:.3f} to {pairs[-1]:.3f})"
    )


class NoEngine:
    """Answers at once, with a vector that depends on the image."""

    def run(self, pixels: Any, steady: bool = False) -> dict[str, Any]:
        """(B, height, width, 3) uint8 -> (B, 192)."""
        del steady
        rows = pixels.reshape(len(pixels), -1)[:, :192].astype(np.float32)
        return {"embedding": rows, "logits": rows}


def overhead(place: Path, options: argparse.Namespace) -> None:
    import weevit

    folder = linked(place, options.images) if options.photos else small(place, options.images)
    predictor = weevit.load(vit_tiny(), image_size=224)
    predictor._pipeline.session = lambda request: NoEngine()  # type: ignore[method-assign]

    def plain() -> None:
        for _ in predictor.stream(folder, outputs=("embedding",)):
            pass

    def job() -> None:
        shutil.rmtree(place / "out", ignore_errors=True)
        weevit.run_job(predictor, folder, place / "out")

    seconds: dict[str, list[float]] = {"plain": [], "job": []}
    for _ in range(options.runs):
        seconds["plain"].append(timed(plain)())
        seconds["job"].append(timed(job)())
    start = time.perf_counter()
    assert weevit.run_job(predictor, folder, place / "out").answered == 0
    again = time.perf_counter() - start
    pairs = sorted(job / plain - 1 for plain, job in zip(*seconds.values(), strict=True))
    kind = "photos" if options.photos else "small JPEGs"
    for name, taken in seconds.items():
        print(f"{name:5} " + " ".join(f"{own:.1f}" for own in taken) + " s")
    print(
        f"{options.images:,} {kind}, no engine: bookkeeping is {100 * statistics.median(pairs):.1f} % of the time "
        f"(pairs {100 * pairs[0]:.1f} to {100 * pairs[-1]:.1f}); resumed in {again:.2f} s"
    )


def small(place: Path, count: int) -> Path:
    """Images of 96 x 96 px of noise: little to decode, so that the rest weighs most."""
    from PIL import Image

    folder = place / "small"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        if index < 200:
            Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(folder / f"{index}.jpg")
        else:
            shutil.copy(folder / f"{index % 200}.jpg", folder / f"{index}.jpg")
    return folder


MANY = """
import resource, sys, time
import weevit
predictor = weevit.load("digits")
top = (weevit.Prediction(3, "3", "three", 0.5),)
def stream(sources, *rest, **more):
    for source in sources:
        yield weevit.Result(source.name, width=32, height=32, top=top)
predictor.stream = stream
began, used = time.perf_counter(), time.process_time()
done = weevit.run_job(predictor, sys.argv[1], sys.argv[2], "classify", topk=1, shard_size=int(sys.argv[3]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(done.finished, time.perf_counter() - began, time.process_time() - used, peak)
"""
"""A job whose answers cost nothing: what is left is the listing, the plan, the rows and their shards."""


def names(place: Path, options: argparse.Namespace) -> None:
    from weevit.images.sources import expand
    from weevit.jobs.plan import make_plan

    count, listed = options.images, place / "list.txt"
    with listed.open("w") as file:
        file.writelines(f"photos/{number // 1000:06d}/{number:09d}.jpg\n" for number in range(count))
    for share in ((1, 1), (1, 200)):
        start = time.process_time()
        plan, _ = make_plan(expand(listed), 512, share)
        used = time.process_time() - start
        print(
            f"share {share[0]}/{share[1]} of {plan.rows:,} names: {1e6 * used / count:.1f} us of a processor per name"
        )


def rows(place: Path, options: argparse.Namespace) -> None:
    found: dict[int, list[tuple[float, float, float]]] = {}
    for count in (options.rows[0] // 10, *options.rows):
        listed = place / "list.txt"
        with listed.open("w") as file:
            file.writelines(f"photos/{number // 1000:06d}/{number:09d}.jpg\n" for number in range(count))
        shutil.rmtree(place / "out", ignore_errors=True)
        out = run_process([sys.executable, "-c", MANY, listed, place / "out", options.shard_size]).out.split()
        assert int(out[0]) == count
        seconds, used, peak = map(float, out[1:])
        plan = (place / "out" / "plan.jsonl").stat().st_size
        manifest = (place / "out" / "manifest-1-of-1.jsonl").stat().st_size
        print(
            f"{count:,} rows: {seconds:.0f} s, {1e6 * seconds / count:.1f} us a row ({1e6 * used / count:.1f} us of a "
            f"processor), peak {peak:.0f} MB; plan {plan / count:.3f}, manifest {manifest / count:.3f} bytes a row",
            flush=True,
        )
        found.setdefault(count, []).append((seconds / count, used / count, peak))
    few, many = (found[count][0] for count in options.rows)
    print(
        f"{options.rows[1]:,} against {options.rows[0]:,} rows: {many[2] / few[2]:.3f} times the memory, "
        f"{many[0] / few[0]:.3f} times the time per row ({many[1] / few[1]:.3f} of a processor)"
    )


CHILD = """
import sys, weevit
predictor = weevit.load(sys.argv[1], image_size=64)
weevit.run_job(predictor, *sys.argv[2:], shard_size=100, watch=lambda progress: print(progress.answered, flush=True))
"""
"""A job that says after each answer how many it has had."""


def kills(place: Path, options: argparse.Namespace) -> None:
    command = [sys.executable, "-c", CHILD, str(vit_tiny()), str(linked(place, 2000))]
    seconds = run_process([*command, place / "whole"]).seconds
    dice, anew, redone, out = random.Random(options.seed), 0, 0, place / "killed"
    for _ in range(options.kills):
        started = done_rows(out)
        with subprocess.Popen([*command, str(out)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            time.sleep(dice.uniform(0.4, seconds / 5))
            process.kill()
            answered = int((process.stdout.read().split() or ["0"])[-1])
        assert done_rows(out) >= started, "rows were lost"
        redone = max(redone, answered - (done_rows(out) - started))
        if done_rows(out) == 2000:
            anew += 1
            shutil.rmtree(out)
    run_process([*command, out])
    same = digest(out) == digest(place / "whole")
    lines = [line for path in out.glob("manifest-*") for line in path.read_text().splitlines()]
    shards = [json.loads(line)["shard"] for line in lines]
    print(f"J3 2,000 images, {options.kills} kills (the job was begun anew {anew} times when it had finished between "
          f"two): byte-identical {same}; {2000 - done_rows(out)} rows lost, {len(shards) - len(set(shards))} shards "
          f"recorded twice, at most {redone} answers of a shard of 100 redone after a kill")  # fmt: skip
    sys.exit(not same or redone > 100)


def done_rows(out: Path) -> int:
    lines = [line for path in out.glob("manifest-*") for line in path.read_text().splitlines() if line.endswith("}")]
    return sum(json.loads(line)["rows"] for line in lines)


def digest(out: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        if not path.name.startswith((".", "manifest")):
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


EXPERIMENTS = {"speed": speed, "memory": memory, "overhead": overhead, "rows": rows, "names": names, "kills": kills}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of timm's loader")
    parser.add_argument("--batches", type=int, nargs="+", default=[DEFAULT_BATCH, 16], help="of timm's")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--counts", type=int, nargs=2, default=[500, 20_000], help="images, for memory")
    parser.add_argument("--rows", type=int, nargs=2, default=[1_000_000, 10_000_000], help="lines of a list, for rows")
    parser.add_argument("--shard-size", type=int, default=512, help="rows of a file, for rows")
    parser.add_argument("--photos", action="store_true", help="for overhead: the shared photos in place of small JPEGs")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        EXPERIMENTS[options.experiment](Path(place), options)


if __name__ == "__main__":
    main()

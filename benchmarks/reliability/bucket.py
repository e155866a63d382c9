"""Row J14 of the reliability scorecard in full, and the cost of a bucket: against an S3 server on loopback (moto).

    python benchmarks/reliability/bucket.py faults     every change of a job fails in turn, in five ways, and from every
                                                       change on the store is gone: 0 lost, 0 doubled, a reader sees
                                                       whole versions only
    python benchmarks/reliability/bucket.py speed      1,000 photos in and out through the bucket against a disk:
                                                       <= 10 % slower

`speed` needs the shared data.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bucket_faults
import buckets
import labelled
from common import interleave, photos, random_checkpoint, ratios, run_process

import weevit

WEEVIT = (sys.executable, "-m", "weevit")


def faults(place: Path, options: argparse.Namespace) -> bool:
    del options
    images = labelled.noise(place / "images", 14)
    (images / "5.png").write_bytes(b"no image")
    good, start = True, time.perf_counter()
    with buckets.serving() as proxy, bucket_faults.impatient():
        sweep = bucket_faults.Sweep(proxy, weevit.load("digits", cache=False), images, 4)
        count = len(sweep.mutations)
        for fault in buckets.FAULTS:
            for ways, last in (("alone", lambda number: number + 1), ("and all after it", lambda number: 100_000)):
                if fault == "slow" and ways != "alone":
                    continue
                runs, failed = 0, 0
                for number in range(count):
                    try:
                        runs += sweep.once(fault, range(number, last(number)))
                    except AssertionError as error:
                        failed += 1
                        print(f"J14 {fault} {number}: {str(error)[:400]}", flush=True)
                good &= not failed
                print(
                    f"J14 {fault}: each of {count} changes {ways}: {count - failed} jobs complete, verified, no row "
                    f"lost or doubled, after {runs} runs",
                    flush=True,
                )
        print(f"J14 {sweep.read} readings meanwhile, all of whole shards ({time.perf_counter() - start:.0f} s)")
    return good


def speed(place: Path, options: argparse.Namespace) -> bool:
    found, folder = photos(), place / "photos"
    folder.mkdir()
    for number in range(options.photos):
        shutil.copy(found[number % len(found)], folder / f"{number:05d}.jpg")
    model = random_checkpoint()
    command = [*WEEVIT, "embed", "-m", str(model), "--shard-size", "256"]
    with buckets.serving() as proxy:
        import s3fs

        system = s3fs.S3FileSystem()
        system.put(str(folder), "weevit-test/photos", recursive=True)

        def here() -> float:
            shutil.rmtree(place / "out", ignore_errors=True)
            return run_process([*command, str(folder), "-o", str(place / "out")]).seconds

        def there() -> float:
            system.invalidate_cache()
            if system.exists("weevit-test/out"):
                system.rm("weevit-test/out", recursive=True)
            proxy.begin()
            seconds = run_process([*command, "s3://weevit-test/photos", "-o", "s3://weevit-test/out"]).seconds
            print(f"requests: {dict(sorted(proxy.requests.items()))}", flush=True)
            return seconds

        taken = interleave(options.runs, here=here, there=there)
        assert weevit.read_results("s3://weevit-test/out").num_rows == options.photos
    for name, seconds in taken.items():
        print(f"{name:<6}" + " ".join(f"{own:.1f}" for own in seconds) + " s")
    ratio = ratios(taken["here"], taken["there"])
    print(f"{options.photos:,} photos in and out, pwee: a disk is faster than the bucket {ratio}")
    return True


EXPERIMENTS = {"faults": faults, "speed": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        os.environ["WEEVIT_CACHE"] = str(Path(top) / "cache")
        good = EXPERIMENTS[options.experiment](Path(top), options)
    sys.exit(not good)


if __name__ == "__main__":
    main()

"""Jobs on Ray, with two actors of one CPU each on this machine, against one process with two threads.

    python benchmarks/ray_jobs.py speed [--photos 2000]     the whole job in each: >= 0.9 of the process's speed
    python benchmarks/ray_jobs.py kills [--kills 10]        SIGKILL of an actor ten times: 0 rows lost, 0 doubled, the
                                                            same bytes

Both need the shared data and `pip install "weevit[ray]"`. The cluster is begun once, outside the time; loading the
model in the actors is inside it, as it is in the process.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from common import interleave, random_checkpoint, ratios, timed, vit_tiny
from job_orders import job_contents
from ray_actors import actors

import weevit
from jobs import linked
from weevit.jobs.manifest import read_lines
from weevit.jobs.on_ray import Ray
from weevit.jobs.run import Progress
from weevit.store.place import Disk


def cluster() -> Ray:
    import ray

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    return Ray(threads=1)


def speed(place: Path, options: argparse.Namespace) -> bool:
    folder, model, on = linked(place, options.photos), random_checkpoint(), cluster()

    def job(where: Ray | None) -> None:
        shutil.rmtree(place / "out", ignore_errors=True)
        done = weevit.run_job(
            weevit.load(model, threads=2), folder, place / "out", on=where, shard_size=options.shard_size
        )
        assert done.computed == options.photos

    taken = interleave(options.runs, process=timed(lambda: job(None)), actors=timed(lambda: job(on)))
    for name, seconds in taken.items():
        print(f"{name:<8}" + " ".join(f"{own:.1f}" for own in seconds) + " s")
    ratio = ratios(taken["actors"], taken["process"])
    print(f"{options.photos:,} photos, pwee: two actors of one CPU have {ratio} the speed of a process of two")
    return True


def kills(place: Path, options: argparse.Namespace) -> bool:
    folder, on = linked(place, options.photos), cluster()
    predictor = weevit.load(vit_tiny(), image_size=64)
    weevit.run_job(predictor, folder, place / "whole", shard_size=32)
    dice, killed = random.Random(0), list[int]()
    moments = sorted(dice.sample(range(1, options.photos // 32 - 2), options.kills))

    def watch(progress: Progress) -> None:
        if len(killed) < options.kills and progress.computed >= 32 * moments[len(killed)]:
            there = actors()
            if there:
                killed.append(dice.choice(there))
                os.kill(killed[-1], signal.SIGKILL)

    start = time.perf_counter()
    done = weevit.run_job(predictor, folder, place / "out", on=on, shard_size=32, watch=watch)
    shards = [line.shard for line in read_lines(Disk(place / "out"))]
    same = job_contents(place / "out") == job_contents(place / "whole")
    print(
        f"{options.photos:,} photos, {len(killed)} actors killed ({len(set(killed))} processes): "
        f"{options.photos - done.finished} rows lost, {len(shards) - len(set(shards))} shards recorded twice, "
        f"the same bytes: {same} ({time.perf_counter() - start:.0f} s)"
    )
    return same and len(killed) == options.kills and len(shards) == len(set(shards))


EXPERIMENTS = {"speed": speed, "kills": kills}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--shard-size", type=int, default=64, help="for speed")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        good = EXPERIMENTS[options.experiment](Path(place), options)
    sys.exit(not good)


if __name__ == "__main__":
    main()

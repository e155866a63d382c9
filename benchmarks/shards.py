"""Training images from WebDataset archives in a bucket, against the same images as local files.

    python benchmarks/shards.py [--images 500] [--archives 5] [--rounds 3]

A real S3 client reads from a server on loopback (moto, a process of its own). Images per second of processor time,
listed, decoded and augmented as in training (wee's recipe): files; archives on the disk; archives in the bucket, in the
first epoch, which fetches them, and in a later one, which reads the local copies; and read in place, without copies.
Needs the shared photos, moto and s3fs.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import instruction_set, photos


def archive(paths: list[Path], first: int) -> bytes:
    """Photos with classes, as WebDataset has them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for index, path in enumerate(paths, first):
            for ending, content in (("jpg", path.read_bytes()), ("cls", f"class{index % 10}".encode())):
                member = tarfile.TarInfo(f"{index:06d}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def place(top: Path, options: argparse.Namespace, client: Any) -> dict[str, str]:
    """The same photos as files, as archives, and as archives in a bucket."""
    found = photos(options.images)
    for index, path in enumerate(found):
        folder = top / "files" / f"class{index % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{index:06d}.jpg")
    (top / "tars").mkdir()
    client.create_bucket(Bucket="bucket")
    size = -(-len(found) // options.archives)
    for number in range(options.archives):
        content = archive(found[number * size : (number + 1) * size], number * size)
        (top / "tars" / f"{number}.tar").write_bytes(content)
        client.put_object(Bucket="bucket", Key=f"{number}.tar", Body=content)
    braces = f"{{0..{options.archives - 1}}}.tar"
    return {"files": str(top / "files"), "archives": str(top / "tars" / braces), "bucket": f"s3://bucket/{braces}"}


def epoch(data: str, number: int) -> tuple[float, int]:
    """Processor seconds of an epoch, the listing included, and its images."""
    from weevit.batches.loader import Loader
    from weevit.datasets.read import read_dataset
    from weevit.recipes.recipe import load_recipe
    from weevit.zoo.weights import HALF, Preprocessing

    start = time.process_time()
    words = ["loop.workers=0", "loop.batch_size=32", "data.repeats=0", "model.image_size=224"]
    dataset = read_dataset(data)
    (split,) = dataset.splits.values()
    loader = Loader(
        split, load_recipe("sbb_in1k_wee", words), Preprocessing(224, 224, 0.95, "center", "bicubic", *HALF)
    )
    seen = 0
    for batch in loader.epoch(number):
        assert not batch.bad
        seen += len(batch.images)
    return time.process_time() - start, seen


def measure(top: Path, options: argparse.Namespace, client: Any) -> None:
    data = place(top, options, client)
    sides: dict[str, Callable[[int], tuple[float, int]]] = {
        "files": lambda number: epoch(data["files"], number),
        "archives on the disk": lambda number: epoch(data["archives"], number),
        "bucket, first epoch": lambda number: first(data["bucket"], number),
        "bucket, later epoch": lambda number: epoch(data["bucket"], number),
        "bucket, in place": lambda number: in_place(data["bucket"], number),
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name, run in sides.items():
            seconds, seen = run(number)
            taken[name].append(seen / seconds)
    files = taken["files"]
    for name, speeds in taken.items():
        ratio = statistics.median(own / other for own, other in zip(speeds, files, strict=True))
        print(f"{name:22} {statistics.median(speeds):6.1f} images/s a core, {ratio:.2f} of files")
    print(f"{options.images} photos in {options.archives} archives; {instruction_set()}, {time.strftime('%Y-%m-%d')}")


def first(data: str, number: int) -> tuple[float, int]:
    from weevit.images import shards

    shutil.rmtree(Path(os.environ["WEEVIT_CACHE"]) / "shards", ignore_errors=True)
    shards._opened.clear()
    return epoch(data, number)


def in_place(data: str, number: int) -> tuple[float, int]:
    os.environ["WEEVIT_SHARDS_GB"] = "0"
    try:
        return epoch(data, number)
    finally:
        del os.environ["WEEVIT_SHARDS_GB"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--archives", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with tempfile.TemporaryDirectory() as top:
            own = {"ENDPOINT_URL": f"http://127.0.0.1:{port}", "ACCESS_KEY_ID": "nobody", "SECRET_ACCESS_KEY": "no"}
            os.environ |= {f"AWS_{key}": value for key, value in own.items()}
            os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1", "WEEVIT_CACHE": f"{top}/cache"}
            measure(Path(top), options, connected())
    finally:
        server.terminate()


def connected() -> Any:
    """A client of the server, once that answers."""
    import boto3
    from botocore.exceptions import EndpointConnectionError

    client = boto3.client("s3")
    for _ in range(100):
        try:
            client.list_buckets()
            return client
        except EndpointConnectionError:
            time.sleep(0.3)
    sys.exit("the server does not answer")


if __name__ == "__main__":
    main()

"""Rows J11 and J12 of the scorecard: what hostile images cost, and which damage to an image is found.

    python benchmarks/reliability/decoding.py bombs [--threads 16]
    python benchmarks/reliability/decoding.py damage [--photos 40]

J11 decodes every bomb of `tests/support/bombs.py`: one after another, which tells how long the slowest takes, and on 16
threads of one process, which tells the peak memory beside the files themselves. J12 damages photos in three ways in
each format. Needs the shared data.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "tests/support")]

from PIL import Image  # noqa: E402

from weevit.errors import ImageError  # noqa: E402
from weevit.images.decode import decode  # noqa: E402


def peak_mb() -> float:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]


def outcome(data: bytes) -> tuple[str, float]:
    """The error's kind, or `ok`, and wall seconds."""
    start = time.perf_counter()
    try:
        decode(data)
        kind = "ok"
    except ImageError as error:
        kind = error.kind
    return kind, time.perf_counter() - start


def make_bombs(folder: Path) -> dict[str, Path]:
    """Made in a process of their own: making them takes more memory than decoding may."""
    subprocess.run([sys.executable, __file__, "make", "--folder", str(folder)], check=True)
    names = (folder / "names.txt").read_text().splitlines()
    return {name: folder / str(number) for number, name in enumerate(names)}


def write_bombs(folder: Path) -> None:
    from importlib.util import find_spec

    from bombs import BOMBS, HEIC_BOMBS

    made = BOMBS | (HEIC_BOMBS if find_spec("pillow_heif") else {})
    for number, make in enumerate(made.values()):
        (folder / str(number)).write_bytes(make())
    (folder / "names.txt").write_text("\n".join(made))


def bombs(threads: int) -> bool:
    with tempfile.TemporaryDirectory() as place:
        paths = make_bombs(Path(place))
        words = [sys.executable, __file__, "all", "--folder", place, "--threads"]
        alone, together = (
            json.loads(subprocess.run([*words, str(count)], capture_output=True, text=True, check=True).stdout)
            for count in (1, threads)
        )
    for name, (kind, seconds) in alone["found"].items():
        print(f"    {name:<48} {kind:<12} {seconds:5.2f} s")
    slowest, (_, seconds) = max(alone["found"].items(), key=lambda row: row[1][1])
    print(
        f"J11 {len(paths)} bombs: slowest alone {seconds:.1f} s ({slowest}), to reach < 10 s; on {threads} threads "
        f"{together['peak']:.0f} MB besides the files, to reach < 600 MB, all of them in {together['seconds']:.0f} s; "
        f"{dict(Counter(kind for kind, _ in together['found'].values()))}"
    )
    return together["peak"] < 600 and seconds < 10


def decode_all(folder: Path, threads: int) -> None:
    """Peak memory above that of the files, and what each gave."""
    names = (folder / "names.txt").read_text().splitlines()
    files = {name: (folder / str(number)).read_bytes() for number, name in enumerate(names)}
    for warm in EVERY:
        outcome(warm)
    before, start = peak_mb(), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        found = dict(zip(files, pool.map(outcome, files.values()), strict=True))
    print(json.dumps({"found": found, "peak": peak_mb() - before, "seconds": time.perf_counter() - start}))


EVERY = [b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a", b"BM"]
"""So that Pillow's readers are there before anything is measured."""


END = {"JPEG": b"\xff\xd9", "PNG": bytes.fromhex("0000000049454e44ae426082"), "GIF": b";", "JPEG2000": b"\xff\xd9"}

DAMAGE: dict[str, Callable[[bytes, bytes], bytes]] = {
    "a third, with an end": lambda data, end: data[: len(data) // 3] + end,
    "4 KB of zeros": lambda data, end: data[: len(data) // 2] + bytes(4096) + data[len(data) // 2 + 4096 :],
    "a tenth missing": lambda data, end: data[: len(data) // 2] + data[len(data) // 2 + len(data) // 10 :],
}

KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "JPEG as it is": ("JPEG", {"as is": True}),
    "JPEG, progressive": ("JPEG", {"progressive": True, "quality": 90}),
    "JPEG, optimised": ("JPEG", {"optimize": True, "quality": 90}),
    "PNG": ("PNG", {}),
    "GIF": ("GIF", {}),
    "WebP": ("WEBP", {"quality": 95}),
    "WebP, lossless": ("WEBP", {"lossless": True}),
    "TIFF, LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF, Deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "TIFF, JPEG": ("TIFF", {"compression": "jpeg"}),
    "TIFF, PackBits": ("TIFF", {"compression": "packbits"}),
    "TIFF, not packed": ("TIFF", {}),
    "BMP": ("BMP", {}),
    "PPM": ("PPM", {}),
    "AVIF": ("AVIF", {"quality": 90}),
    "JPEG 2000": ("JPEG2000", {"irreversible": True, "quality_mode": "rates", "quality_layers": [10]}),
    "HEIC": ("HEIC", {}),
}


def written(path: Path, kind: str, options: dict[str, object]) -> bytes:
    if "as is" in options:
        return path.read_bytes()
    stream = io.BytesIO()
    image = Image.open(path).convert("RGB")
    if kind == "HEIC":
        import pillow_heif

        pillow_heif.from_pillow(image).save(stream, quality=80)
    else:
        image.save(stream, kind, **options)
    return stream.getvalue()


def damage(count: int) -> bool:
    from common import photos

    paths, right = photos()[:: max(1, 500 // count)][:count], True
    for name, (kind, options) in KINDS.items():
        found: Counter[str] = Counter()
        files = [data for data in (written(path, kind, options) for path in paths) if len(data) > 12_000]
        for data in files:
            decode(data)
            for way, change in DAMAGE.items():
                found[way] += _is_refused(change(data, END.get(kind, b"")))
        shares = ", ".join(f"{way} {found[way]}" for way in DAMAGE)
        print(f"J12 {name:<18} found, of {len(files)}: {shares}", flush=True)
        right &= kind != "JPEG" or all(found[way] == len(files) for way in DAMAGE)
    return right


def _is_refused(data: bytes) -> bool:
    try:
        decode(data)
    except ImageError:
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["bombs", "damage", "make", "all"])
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    match options.what:
        case "bombs":
            sys.exit(not bombs(options.threads))
        case "damage":
            sys.exit(not damage(options.photos))
        case "make":
            write_bombs(options.folder)
        case "all":
            decode_all(options.folder, options.threads)


if __name__ == "__main__":
    main()

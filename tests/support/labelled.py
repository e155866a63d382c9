"""Small labelled data sets for tests: folders of tiny images."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def png(number: int = 0, size: tuple[int, int] = (4, 3)) -> bytes:
    """A image that no other number gives."""
    stream = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256 % 256, 7)).save(stream, "PNG")
    return stream.getvalue()


def put(path: Path, content: bytes | str) -> Path:
    """A file, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def noise(top: Path, count: int, size: tuple[int, int] = (40, 36)) -> Path:
    """0.png, 1.png, ... of random pixels, each by its number."""
    top.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(top / f"{number}.png")
    return top


def folder(top: Path, counts: Mapping[str, int], start: int = 0) -> Path:
    """`{"train/dress": 3}` -> train/dress/0.png to 2.png, all different; 0 makes an empty folder."""
    number = start
    for name, count in counts.items():
        (top / name).mkdir(parents=True, exist_ok=True)
        for place in range(count):
            put(top / name / f"{place}.png", png(number))
            number += 1
    return top


def tar(path: Path, classes: Mapping[str, str]) -> Path:
    """`{"train": "ab"}` -> train/0.png of class a, train/1.png of class b."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        for folder, names in classes.items():
            for number, name in enumerate(names):
                for ending, content in (("png", png(number)), ("cls", name.encode())):
                    member = tarfile.TarInfo(f"{folder}/{number}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return path

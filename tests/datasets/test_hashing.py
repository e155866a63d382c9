"""Files are known by their bytes, wherever they lie; what cannot be read has no hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import labelled
import numpy as np

from weevit.datasets.hashing import content_hashes
from weevit.errors import MissingImageError
from weevit.images.source import Source
from weevit.images.sources import expand


def test_hashes_are_those_of_the_bytes_in_order(tmp_path: Path) -> None:
    labelled.folder(tmp_path, {"a": 40})
    labelled.put(tmp_path / "a/empty.png", b"")
    (tmp_path / "a/gone.png").symlink_to(tmp_path / "nowhere")
    labelled.put(tmp_path / "b/text.png", "no image, but bytes")
    found = list(expand(tmp_path))
    hashes = content_hashes(found)
    for source, digest in zip(found, hashes, strict=True):
        path = Path(str(source.value))
        known = path.exists() and path.stat().st_size > 0
        assert digest == (hashlib.sha256(path.read_bytes()).hexdigest() if known else None)
    assert hashes.count(None) == 2


def test_bytes_have_a_hash_and_pixels_have_none() -> None:
    data = labelled.png()
    sources = [
        Source("bytes[0]", data),
        Source("array[1]", np.zeros((2, 2, 3), np.uint8)),
        Source("x", MissingImageError("gone")),
    ]
    assert content_hashes(sources) == [hashlib.sha256(data).hexdigest(), None, None]

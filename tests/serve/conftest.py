"""One server for the tests of a module, with the model that comes with weevit."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from served import Running, serving


def png(seed: int, height: int = 40, width: int = 48) -> bytes:
    """An image of its own."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def data_uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


EXTRA = ("starlette", "uvicorn", "httptools", "python_multipart", "prometheus_client")


@pytest.fixture(scope="session")
def serve_extra() -> None:
    """Tests of the server skip where its extra is not installed."""
    for module in EXTRA:
        pytest.importorskip(module)


@pytest.fixture(scope="module")
def server(serve_extra: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    cache = str(tmp_path_factory.mktemp("cache"))
    with serving("digits", "--metrics", WEEVIT_CACHE=cache, PYTHONPATH=os.environ.get("PYTHONPATH", "")) as running:
        yield running

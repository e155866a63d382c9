"""Other servers with the same model, for `benchmarks/serving.py peers`: LitServe, with timm or ONNX, and Ray Serve.

    python benchmarks/peers/servers.py litserve-timm|litserve-onnx|ray-onnx CHECKPOINT_FOLDER

Each as its own documentation writes it: a request is a JPEG (in a form for LitServe), the answer the five best classes;
batches of up to 8, with 5 ms to fill; timm's transform; two threads. ONNX is the graph that weevit's own server runs.
"""

from __future__ import annotations

import asyncio
import io
import socket
import sys
from typing import Any

import numpy as np

THREADS, BATCH, WAIT_S = 2, 8, 0.005


class Timm:
    """The model as timm has it, on torch."""

    def __init__(self, folder: str) -> None:
        import timm
        import torch

        torch.set_num_threads(THREADS)
        self.model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        config = timm.data.resolve_model_data_config(self.model)
        self.transform = timm.data.create_transform(**config, is_training=False)

    def decode(self, data: bytes) -> Any:
        """From a file's bytes to the model's input."""
        from PIL import Image

        return self.transform(Image.open(io.BytesIO(data)).convert("RGB"))

    def compute(self, batch: list[Any]) -> list[dict[str, Any]]:
        """The answers to a batch."""
        import torch

        with torch.inference_mode():
            return answers(self.model(torch.stack(batch)).numpy())


class Onnx:
    """weevit's graph in a plain onnxruntime session, with weevit's decoding."""

    def __init__(self, folder: str) -> None:
        import weevit
        from weevit.engine.session import Request, _cached, _onnxruntime_session

        self.weevit = weevit.load(folder)
        spec = self.weevit.preprocessing
        self.session = _onnxruntime_session(_cached(self.weevit.checkpoint, Request(spec.height, spec.width)), THREADS)

    def decode(self, data: bytes) -> Any:
        """From a file's bytes to the model's input."""
        from weevit.images.source import Source

        return self.weevit.crop(Source("", data))

    def compute(self, batch: list[Any]) -> list[dict[str, Any]]:
        """The answers to a batch."""
        (logits,) = self.session.run(["logits"], {"pixels": np.stack(batch)})
        return answers(logits)


try:
    import litserve
except ImportError:  # Ray Serve is measured without it
    pass
else:

    class LitApi(litserve.LitAPI):  # type: ignore[misc]  # has no types
        """A form with a file, as in LitServe's documentation; images are decoded in the worker that computes."""

        kind: type[Any]
        folder: str

        def setup(self, device: str) -> None:
            """Load the model."""
            self.model = self.kind(self.folder)

        def decode_request(self, request):  # type: ignore[no-untyped-def]  # FastAPI reads its type
            """The file of the form, decoded."""
            return self.model.decode(request["image"].file.read())

        def batch(self, inputs: list[Any]) -> list[Any]:
            """As they are."""
            return inputs

        def predict(self, batch: list[Any]) -> list[dict[str, Any]]:
            """The answers."""
            return self.model.compute(batch)

        def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
            """As they are."""
            return output

        def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
            """As it is."""
            return output


def answers(logits: np.ndarray) -> list[dict[str, Any]]:
    """The five most probable classes of each row."""
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    best = np.argsort(-shares, axis=1)[:, :5]
    return [
        {"index": own.tolist(), "probability": shares[row, own].astype(float).tolist()} for row, own in enumerate(best)
    ]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def litserve_server(kind: type[Any], folder: str, port: int) -> None:
    api = LitApi(max_batch_size=BATCH, batch_timeout=WAIT_S)
    api.kind, api.folder = kind, folder
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


def ray_serve(folder: str, port: int) -> None:
    import time

    from ray import serve
    from starlette.requests import Request

    @serve.deployment(max_ongoing_requests=100, ray_actor_options={"num_cpus": THREADS})
    class Deployment:
        def __init__(self) -> None:
            self.model = Onnx(folder)

        @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_S)
        async def compute(self, batch: list[bytes]) -> list[dict[str, Any]]:
            return await asyncio.to_thread(lambda: self.model.compute([self.model.decode(one) for one in batch]))

        async def __call__(self, request: Request) -> dict[str, Any]:
            return await self.compute(await request.body())

    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Deployment.bind(), route_prefix="/predict")
    print(f"ready: http://127.0.0.1:{port}", flush=True)
    while True:
        time.sleep(3600)


def main() -> None:
    name, folder = sys.argv[1:]
    port = free_port()
    if name == "ray-onnx":
        ray_serve(folder, port)
        return
    import threading
    import time

    def tell() -> None:
        while True:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        time.sleep(3)  # its workers load the model after it listens
        print(f"ready: http://127.0.0.1:{port}", flush=True)

    threading.Thread(target=tell, daemon=True).start()
    litserve_server(Timm if name == "litserve-timm" else Onnx, folder, port)


if __name__ == "__main__":
    main()

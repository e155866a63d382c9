"""Section 5: from JPEG files to answers with the engine `torch`: `weevit.load(..., device="cuda")` as anybody uses it.

The files are made as for feeding. `session` is the engine alone, uint8 pixels on the host to answers on the host.
`files` is all of it: every core decodes, resizes and crops, and the GPU answers. `decoding` is what the cores do of it.
`gpu decoder` is nvjpeg through torchvision, which weevit does not use: its pixels are others (`apart`, in grey levels).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from made import folder, our_model, row
from record import Section
from timing import synchronize

import weevit
from weevit.engine import choice
from weevit.engine import torch as engine
from weevit.engine.protocol import Request
from weevit.engine.torch import TorchSession
from weevit.images.source import Source
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.layout import from_timm_name
from weevit.zoo.weights import ALIASES
from weevit.zoo.writing import write_checkpoint

SIDES = (500, 375)
EQUAL = 1e-4
"""Of the greatest magnitude: what fp32 on the GPU may differ from fp32 on the CPU by."""


def run(section: Section) -> None:
    short = section.short
    with tempfile.TemporaryDirectory() as scratch, a_device(section.device):
        checkpoint = weevit.load("digits").checkpoint if short else random_checkpoint(Path(scratch) / "model")
        width, height = SIDES
        data, _ = folder(Path(scratch) / "data", 16 if short else 4000, 4, height, width, validation=0)
        files = sorted(data.rglob("*.jpg"))
        section.attempt("rows", 60, lambda: rows(section, checkpoint))
        section.attempt("fp32", 40, lambda: fp32(section, checkpoint))
        for batch in (256, 64, 1):
            section.attempt(f"session {batch}", 15, lambda batch=batch: session(section, checkpoint, batch))
        section.attempt("files", 30, lambda: answers(section, checkpoint, files))
        section.attempt("decoding", 15, lambda: decoding(section, checkpoint, files))
        if section.device == "cuda":
            section.attempt("gpu decoder", 15, lambda: gpu_decoder(section, files[:512]))


@contextmanager
def a_device(device: str) -> Iterator[None]:
    """Where there is no GPU, the CPU in its place: a short run comes to its end on any machine."""
    if device == "cuda":
        yield
        return
    on_cpu = partial(TorchSession, device="cpu")
    with mock.patch.object(choice, "_no_cuda", return_value=""), mock.patch.object(engine, "TorchSession", on_cpu):
        yield


def random_checkpoint(place: Path) -> Checkpoint:
    """pwee with random weights in which every parameter matters."""
    weight = ALIASES["pwee"]
    arch, state = weight.architecture, our_model(row("pwee")).state_dict()
    tensors = {from_timm_name(name, arch): own.numpy() for name, own in state.items()}
    return write_checkpoint(place, arch, tensors, weight.preprocessing)


def pixels_for(checkpoint: Checkpoint, count: int) -> np.ndarray:
    spec = checkpoint.preprocessing
    shape = (count, spec.height, spec.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def opened(section: Section, checkpoint: Checkpoint, precision: str = "bf16") -> TorchSession:
    spec = checkpoint.preprocessing
    return TorchSession(checkpoint, Request(spec.height, spec.width), precision, section.device)


def rows(section: Section, checkpoint: Checkpoint) -> None:
    """A steady answer alone, among others and in another order: the same bytes."""
    own, pixels = opened(section, checkpoint), pixels_for(checkpoint, 8 if section.short else 100)
    together = own.run(pixels, steady=True)["embedding"]
    backwards = own.run(pixels[::-1], steady=True)["embedding"][::-1]
    alone = np.concatenate([own.run(pixels[i : i + 1], steady=True)["embedding"] for i in range(8)])
    same = {"backwards": bool((backwards == together).all()), "alone": bool((alone == together[:8]).all())}
    hurried = float(np.abs(own.run(pixels)["embedding"] - together).max() / np.abs(together).max())
    section.figure("rows", **same, hurried=hurried, within=all(same.values()))


def fp32(section: Section, checkpoint: Checkpoint) -> None:
    """Against the CPU, and bf16 against it."""
    pixels, spec = pixels_for(checkpoint, 8), checkpoint.preprocessing
    on_cpu = TorchSession(checkpoint, Request(spec.height, spec.width), "fp32", "cpu", compiles=False)
    expected = on_cpu.run(pixels)["logits"]
    apart = {
        precision: float(np.abs(opened(section, checkpoint, precision).run(pixels)["logits"] - expected).max())
        / float(np.abs(expected).max())
        for precision in ("fp32", "bf16")
    }
    section.figure("fp32", apart=apart["fp32"], bf16_apart=apart["bf16"], within=apart["fp32"] < EQUAL)


def session(section: Section, checkpoint: Checkpoint, batch: int) -> None:
    own, pixels = opened(section, checkpoint), pixels_for(checkpoint, batch)
    began = time.perf_counter()
    own.run(pixels)
    first = time.perf_counter() - began
    calls = 2 if section.short else 50
    taken = [seconds(lambda: own.run(pixels), calls) for _ in range(2 if section.short else 7)]
    rates = sorted(batch / one for one in taken)
    figure = {"images_per_s": statistics.median(rates), "least": rates[0], "most": rates[-1], "first_call_s": first}
    section.figure(f"session {batch}", **figure)


def seconds(call: Callable[[], Any], calls: int) -> float:
    synchronize()
    began = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize()
    return (time.perf_counter() - began) / calls


def answers(section: Section, checkpoint: Checkpoint, files: list[Path]) -> None:
    """Every file answered: as a user streams them, and steady, as jobs keep them."""
    with weevit.Predictor(checkpoint, device="cuda") as model:
        for name, steady in (("files", False), ("files, steady", True)):
            list(model.stream(files[:8], ("embedding",), steady=steady))  # loads and compiles
            began = time.perf_counter()
            ok = sum(result.ok for result in model.stream(files, ("embedding",), steady=steady))
            rate = len(files) / (time.perf_counter() - began)
            section.figure(name, images_per_s=rate, cores=model.threads.count, within=ok == len(files))


def decoding(section: Section, checkpoint: Checkpoint, files: list[Path]) -> None:
    """What the cores make of the files, with nobody who wants it."""
    from concurrent.futures import ThreadPoolExecutor

    with weevit.Predictor(checkpoint) as model, ThreadPoolExecutor(model.threads.count) as pool:
        began = time.perf_counter()
        made = sum(len(pixels) > 0 for pixels in pool.map(lambda path: model.crop(Source(str(path), path)), files))
        rate = made / (time.perf_counter() - began)
        section.figure("decoding", images_per_s=rate, cores=model.threads.count)


def gpu_decoder(section: Section, files: list[Path]) -> None:
    from PIL import Image
    from torchvision.io import ImageReadMode, decode_jpeg

    encoded = [torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) for path in files]
    decode = partial(decode_jpeg, encoded, mode=ImageReadMode.RGB, device="cuda")
    found = decode()
    rate = len(files) / seconds(decode, 5)
    theirs = [np.asarray(image).transpose(2, 0, 1) for image in map(Image.open, files[:32])]
    apart = [np.abs(ours.cpu().numpy().astype(int) - own) for ours, own in zip(found, theirs, strict=False)]
    greatest, mean = max(int(one.max()) for one in apart), statistics.mean(float(one.mean()) for one in apart)
    section.figure("gpu decoder", images_per_s=rate, apart={"greatest": greatest, "mean": mean})

"""From images to typed results: one input, one result, one status.

sources ── decode, resize, crop (threads) ── batches ── one pass through the graph ── results, in the order given
"""

# Text and files can be iterated over too, so that overloads overlap: the first one counts, and is meant to.
# mypy: disable-error-code="overload-overlap"

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from weevit.answers.desk import Desk, Observer, Turns
from weevit.answers.pipeline import Pipeline
from weevit.answers.results import Array, Result, assemble, rows_not_finite, unit_length
from weevit.arguments import MAX_BATCH, flag, one_of, whole
from weevit.engine.choice import Engine, Precision, choose
from weevit.engine.session import Request, bits_of, block_indices, open_session, refuse_overflow
from weevit.engine.threads import choose_threads
from weevit.errors import ImageError, InputsFailedError, UsageError
from weevit.images.budget import until_cropped
from weevit.images.decode import DEFAULT_LIMITS, Limits, full_size
from weevit.images.preprocess import enough_pixels, preprocess, preprocess_channels
from weevit.images.source import Source, channels_of, open_image
from weevit.images.sources import Inputs, Many, Named, OneImage, expand, names_one_image, was_one_image
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.fields import check_sides
from weevit.zoo.hub import Progress
from weevit.zoo.resolve import resolve
from weevit.zoo.weights import DEFAULT_MODEL

Output = Literal["logits", "embedding", "features", "attention"]
OUTPUTS: tuple[Output, ...] = get_args(Output)
_ALWAYS = ("logits", "embedding")  # of a graph, whether asked for or not


@dataclass(frozen=True)
class _Decoded:
    """One input, decoded and cropped; `pixels` is None where there is no answer to be had."""

    result: Result
    pixels: npt.NDArray[np.uint8] | None


class Predictor:
    """A loaded model. Make one with `weevit.load`.

    Attributes:
        checkpoint: what was loaded.
        threads: how many compute, and why.
        engine, precision, device: what computes, in what, where: one of `weevit.engine.choice.WAYS`.
        way: the three, and why.
        preprocessing: of this predictor: the checkpoint's, with the image size that was asked for.
        limits: the largest file and image that it decodes.
        reduced_jpeg: whether large JPEGs are decoded at a reduced scale.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        image_size: int | tuple[int, int] | None = None,
        batch_size: int | None = None,
        threads: int | None = None,
        engine: Engine | None = None,
        precision: Precision | None = None,
        device: Literal["cpu", "cuda", "auto"] = "cpu",
        limits: Limits = DEFAULT_LIMITS,
        reduced_jpeg: bool = False,
        cache: bool = True,
    ) -> None:
        self.way = way = choose(engine, precision, device)
        self.engine, self.precision, self.device = way.engine, way.precision, way.device
        batch_size = way.batch_size if batch_size is None else batch_size
        batch_size = whole("batch_size", batch_size, 1, MAX_BATCH, "a batch has at least one image")
        refuse_overflow(checkpoint.name, bits_of(checkpoint), way.engine)  # before a folder is made for its answers
        self.checkpoint, self.threads = checkpoint, choose_threads(threads)
        self.preprocessing = checkpoint.preprocessing
        if image_size is not None:
            height, width = check_sides(image_size)
            self.preprocessing = replace(checkpoint.preprocessing, height=height, width=width)
        self._batch_size, self.limits, self.reduced_jpeg = batch_size, limits, reduced_jpeg
        opened = partial(open_session, checkpoint, threads=self.threads.count, engine=way.engine, cache=cache)
        self._pipeline = Pipeline(partial(opened, precision=way.precision), self.threads.count, batch_size)

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End its threads and free its memory, which happens by itself where nobody holds it any more."""
        self._pipeline.close()

    # ---- what one asks

    @overload
    def classify(self, inputs: Named, topk: int = ...) -> Result | list[Result]: ...
    @overload
    def classify(self, inputs: OneImage, topk: int = ...) -> Result: ...
    @overload
    def classify(self, inputs: Many, topk: int = ...) -> list[Result]: ...
    def classify(self, inputs: Inputs, topk: int = 5) -> Result | list[Result]:
        """The most probable classes.

        Args:
            inputs: an image: a path, an address, a data URI, the bytes of a file, an open file, a PIL image, an
                (H, W, 3) uint8 array, the hub's `{"bytes", "path"}`; of a model with another number of channels an
                array with as many. Many: a folder, a pattern, a list, a table, an
                archive, or any iterable of those and of images.
            topk: how many classes; at most as many as there are.

        Returns:
            A `Result` for an image, a list of them for many, however many those are.

        Raises:
            UsageError: the checkpoint has no classifier, or topk is less than 1.
        """
        return self._one_or_all(inputs, self.stream(inputs, outputs=("logits",), topk=topk))

    def embed(self, inputs: Inputs, normalize: bool = False) -> Array:
        """Embeddings as one array.

        Args:
            inputs: as for `classify`.
            normalize: scale each to length 1.

        Returns:
            (number of inputs, embed_dim) float32; one row for each input, in order.

        Raises:
            InputsFailedError: some inputs have no answer; `run` gives the others one by one.
        """
        normalize = flag("normalize", normalize)
        results = list(self.stream(inputs, outputs=("embedding",)))
        failed = [(result.input, result.error or result.status) for result in results if not result.ok]
        if failed:
            raise InputsFailedError(failed, len(results))
        rows = [result.embedding for result in results if result.embedding is not None]
        array = np.stack(rows) if rows else np.zeros((0, self.checkpoint.architecture.embed_dim), dtype=np.float32)
        return unit_length(array) if normalize else array

    @overload
    def features(self, inputs: Named, layers: Sequence[int] | None = ...) -> Result | list[Result]: ...
    @overload
    def features(self, inputs: OneImage, layers: Sequence[int] | None = ...) -> Result: ...
    @overload
    def features(self, inputs: Many, layers: Sequence[int] | None = ...) -> list[Result]: ...
    def features(self, inputs: Inputs, layers: Sequence[int] | None = None) -> Result | list[Result]:
        """Feature maps of the blocks in `layers` (from 0; negative from the end), by default the last one.

        Returns:
            One `Result` with `features` and `prefix`, or a list of them, as for `classify`.
        """
        return self._one_or_all(inputs, self.stream(inputs, outputs=("features",), layers=layers))

    @overload
    def run(
        self, inputs: Named, outputs: Sequence[Output] = ..., layers: Sequence[int] | None = ..., topk: int = ...
    ) -> Result | list[Result]: ...
    @overload
    def run(
        self, inputs: OneImage, outputs: Sequence[Output] = ..., layers: Sequence[int] | None = ..., topk: int = ...
    ) -> Result: ...
    @overload
    def run(
        self, inputs: Many, outputs: Sequence[Output] = ..., layers: Sequence[int] | None = ..., topk: int = ...
    ) -> list[Result]: ...
    def run(
        self,
        inputs: Inputs,
        outputs: Sequence[Output] = ("logits", "embedding"),
        layers: Sequence[int] | None = None,
        topk: int = 5,
    ) -> Result | list[Result]:
        """Everything that is asked for, in one pass through the model.

        Args:
            inputs: as for `classify`.
            outputs: any of `logits`, `embedding`, `features`, `attention`.
            layers: blocks for the last two, from 0, negative from the end; by default the last one.
            topk: how many classes to name where logits are asked for and the checkpoint has a classifier.

        Returns:
            A `Result` for an image, a list of them for many, as for `classify`.
        """
        return self._one_or_all(inputs, self.stream(inputs, outputs=outputs, layers=layers, topk=topk))

    def stream(
        self,
        inputs: Inputs,
        outputs: Sequence[Output] = ("logits", "embedding"),
        layers: Sequence[int] | None = None,
        topk: int = 5,
        steady: bool = False,
    ) -> Generator[Result, None, None]:
        """Answer one input after another, as `run` does: memory does not grow with the number of inputs.

        With `steady`, the answer to an image is the same to the last bit whatever stands beside it (with onnxruntime).
        """
        request = self._request(outputs, layers)
        topk = self._checked_topk("logits" in outputs, topk)
        return self._stream(iter(expand(inputs)), request, tuple(outputs), topk, steady)

    def desk(
        self, turns: Turns, observe: Observer = lambda stage, value: None
    ) -> Desk[tuple[Source, int], tuple[_Decoded, int], Result]:
        """A desk for (source, topk): classes, logits and embedding of an image each, or an ImageError.

        Args:
            turns: shared by all models that compute on the same processors.
            observe: told how long each stage took.
        """
        request, kept = self._request((), None), (self.checkpoint, self.preprocessing)
        self._pipeline.session(request)  # loaded now, and not for the first image

        def decode(asked: tuple[Source, int]) -> tuple[_Decoded, int]:
            return self._see(asked[0]), asked[1]

        def compute(batch: list[tuple[_Decoded, int]]) -> list[Result]:
            session = self._pipeline.session(request)  # a forked process has one of its own
            answers = session.run(np.stack([image.pixels for image, _ in batch if image.pixels is not None]))
            rows = ({name: values[row] for name, values in answers.items()} for row in range(len(batch)))
            return [assemble(image.result, next(rows), topk, *kept) for image, topk in batch]

        return self._pipeline.desk(decode, compute, turns, observe)

    def open(self, source: Source) -> Image.Image:
        """One input's image, upright RGB, before it is resized.

        Raises:
            ImageError: there is none.
        """
        enough = partial(enough_pixels, spec=self.preprocessing) if self.reduced_jpeg else None
        return open_image(source, self.limits, enough)

    def crop(self, source: Source) -> npt.NDArray[np.uint8]:
        """What the model sees of one input: (height, width, 3) uint8, upright, resized and cropped.

        Raises:
            ImageError: there is no image to see.
        """
        with until_cropped():
            return preprocess(self.open(source), self.preprocessing)

    def pixels_depend_on(self) -> dict[str, object]:
        """All that the model's input depends on beside the file, by name: what keeps answers must know it."""
        own = {"max_pixels": self.limits.max_pixels, "reduced_jpeg": self.reduced_jpeg}
        return {**asdict(self.preprocessing), **own}

    def forward(self, pixels: npt.NDArray[np.uint8]) -> dict[str, Array]:
        """Answers for images that are cropped already.

        Args:
            pixels: (B, height, width, 3) uint8, or as many channels as the model has.

        Returns:
            `embedding`, (B, embed_dim) float32, and `logits`, (B, num_classes) float32, where there is a classifier.

        Raises:
            UsageError: no image, or pixels of another type or shape.
            InputsFailedError: an answer is NaN or infinite; the message names the rows.
        """
        request = self._request((), None)
        pixels = request.checked(pixels, self.checkpoint.in_chans)
        session = self._pipeline.session(request)
        rows = [session.run(batch) for batch in np.array_split(pixels, -(-len(pixels) // self._batch_size))]
        answers = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        failed = [(f"row {row}", reason) for row, reason in rows_not_finite(answers)]
        if failed:
            raise InputsFailedError(failed, len(pixels))
        return answers

    # ---- how it is answered

    def _request(self, outputs: Sequence[Output], layers: Sequence[int] | None) -> Request:
        if isinstance(outputs, str):
            raise UsageError(f"outputs is a list of names: {outputs!r} was given.", f"outputs=({outputs!r},)")
        for name in outputs:
            one_of("an output", name, OUTPUTS)
        blocks = block_indices(layers, self.checkpoint.architecture.depth)
        return Request(
            self.preprocessing.height,
            self.preprocessing.width,
            features=blocks if "features" in outputs else (),
            attention=blocks if "attention" in outputs else (),
        )

    def _checked_topk(self, wanted: bool, topk: int) -> int:
        """The number, where there is a classifier or none is wanted."""
        if wanted and not self.checkpoint.num_classes:
            raise UsageError(
                f"{self.checkpoint.name} has no classifier (num_classes is 0), so there are no logits.",
                "weevit embed   answers with embeddings",
            )
        return whole("topk", topk, 1)

    def _stream(
        self, sources: Iterator[Source], request: Request, outputs: tuple[Output, ...], topk: int, steady: bool
    ) -> Generator[Result, None, None]:
        def compute(batch: list[_Decoded]) -> tuple[list[_Decoded], dict[str, Array]]:
            pixels = [image.pixels for image in batch if image.pixels is not None]
            # The session is loaded for the first image that can be seen, and not before.
            return batch, self._pipeline.session(request).run(np.stack(pixels), steady) if pixels else {}

        for batch, answers in self._pipeline.map(sources, self._decode, compute):
            row = 0
            for image in batch:
                if image.pixels is None:
                    yield image.result
                    continue
                own = {name: values[row] for name, values in answers.items() if name in outputs or name not in _ALWAYS}
                yield assemble(image.result, own, topk, self.checkpoint, self.preprocessing)
                row += 1

    def _decode(self, source: Source) -> _Decoded:
        try:
            with until_cropped():
                return self._see(source)
        except ImageError as error:
            return _Decoded(Result(source.name, error.status, f"{error.kind}: {error.message}"), None)

    def _see(self, source: Source) -> _Decoded:
        if self.checkpoint.in_chans != 3:
            array = channels_of(source.value, self.checkpoint.in_chans, self.limits)
            (height, width), pixels = array.shape[:2], preprocess_channels(array, self.preprocessing)
        else:
            image = self.open(source)
            (height, width), pixels = full_size(image), preprocess(image, self.preprocessing)
        return _Decoded(Result(source.name, width=width, height=height), pixels)

    def _one_or_all(self, inputs: Inputs, results: Iterator[Result]) -> Result | list[Result]:
        if names_one_image(inputs):
            return next(results)
        found = list(results)
        return found[0] if was_one_image(inputs, [one.input for one in found]) else found


def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    engine: Engine | None = None,
    precision: Precision | None = None,
    device: Literal["cpu", "cuda", "auto"] = "cpu",
    revision: str | None = None,
    refresh: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    reduced_jpeg: bool = False,
    cache: bool = True,
    progress: Progress | None = None,
) -> Predictor:
    """Load a model for inference, without PyTorch.

    Args:
        model: an alias (`pwee`), a full timm tag, a bare architecture name, `hf-hub:org/name`, a folder in the hub's
            format, a run folder, or a `.safetensors` file.
        image_size: side of the input in pixels, or (height, width), multiples of 16; the checkpoint's own by default.
            Learned positions are resampled as timm does.
        batch_size: images in one pass; 8 on a CPU and 256 on a GPU by default.
        threads: to compute with; chosen from the CPU quota and affinity by default.
        engine: `onnxruntime`, `openvino` or `torch`; chosen by precision and device by default.
        precision: `fp32`, timm's numbers, or `bf16`; by default fp32 on a CPU and bf16 on a GPU.
        device: `cpu`, `cuda`, or `auto`: CUDA where PyTorch finds some, else the CPU.
        revision: of the hub's repository.
        refresh: ask the hub again even if the cache has an answer.
        limits: the largest file and image to decode.
        reduced_jpeg: decode JPEGs at 1/2, 1/4 or 1/8 of their size where twice the resized size is left: large ones
            faster, but not to timm's pixels. `weevit.measure_reduction` tells what it changes.
        cache: keep the built graph on disk.
        progress: called while downloading.

    Raises:
        ModelError: there is no such model, or it cannot be trusted or reached.
        UsageError: a size, count or name that does not fit, or a precision or device that this machine does not have.
        MissingExtraError: the engine is not installed.
    """
    choose(engine, precision, device)  # before anything is fetched
    if image_size is not None:
        check_sides(image_size)
    checkpoint = resolve(model, revision=revision, refresh=refresh, progress=progress)
    return Predictor(
        checkpoint,
        image_size=image_size,
        batch_size=batch_size,
        threads=threads,
        engine=engine,
        precision=precision,
        device=device,
        limits=limits,
        reduced_jpeg=reduced_jpeg,
        cache=cache,
    )

"""Training batches: the same for any number of threads and after any interruption.

The order of an epoch follows from (seed, epoch), the draws of an image from (seed, epoch, sample, repeat). Threads
prepare images, for a GPU a batch ahead; their number changes only the time. They are threads and not processes: most
of the work runs outside of Python's lock, and nothing has to be sent between them.

An unreadable image is left out of its batch, which lists it; no other image takes its place.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weevit.batches.augment import Hole, Params, apply, cropped, draw, fill_of, filling, finish
from weevit.batches.decoding import read_pixels
from weevit.batches.mixing import Share
from weevit.batches.seeding import permutation
from weevit.batches.together import treated_together
from weevit.datasets.dataset import Split
from weevit.engine.threads import choose_threads
from weevit.errors import ImageError, TrainingError
from weevit.images.source import Source
from weevit.recipes.randaugment import Op
from weevit.recipes.schema import Recipe
from weevit.zoo.weights import Preprocessing

ROUND = 256
"""With repeated augmentation, an epoch has a multiple of this number of images, as in timm."""

GROUP = 4
"""Images that a thread prepares together, step by step: warm code saves a fifteenth of the time."""


class SampleKey(NamedTuple):
    """One image of an epoch: the sample, and its repeat in this epoch, from 0."""

    sample: int
    repeat: int


class Bad(NamedTuple):
    """An unreadable image; `kind` is one of `ImageError.kind`."""

    name: str
    kind: str
    error: str


@dataclass(frozen=True)
class Batch:
    """Images for one update of the weights.

    Attributes:
        images: (B, 3, height, width) float32, normalised, on the loader's device. B is the recipe's batch size less the
            unreadable images; 0 if all are.
        targets: (B,) int64, or (B, K) labels of 0 and 1, on the loader's device.
        keys: keys of these images.
        ids: their names.
        bad: the unreadable images, of all ranks.
        share: which images of the batch they are, if several ranks train.
    """

    images: Tensor
    targets: Tensor
    keys: tuple[SampleKey, ...]
    ids: tuple[str, ...]
    bad: tuple[Bad, ...]
    share: Share

    def part(self, share: Share) -> Batch:
        """Some of its images."""
        rows = torch.tensor(share.rows, dtype=torch.int64, device=self.images.device)
        return Batch(
            images=self.images[rows],
            targets=self.targets[rows],
            keys=tuple(self.keys[row] for row in share.rows),
            ids=tuple(self.ids[row] for row in share.rows),
            bad=self.bad,
            share=share,
        )


class Peers(Protocol):
    """The ranks that share the batches."""

    @property
    def rank(self) -> int:
        """The number of this one, from 0."""

    @property
    def world(self) -> int:
        """How many there are."""

    def any(self, flag: bool) -> bool:
        """Whether one of them says so; all ask."""


class Alone:
    """One process."""

    rank, world = 0, 1

    def any(self, flag: bool) -> bool:
        """The flag."""
        return flag


class Loader:
    """The training split as batches, or as a rank's share of them.

    Attributes:
        split: the images and their classes.
        spec: size of the training images, their mean and standard deviation.
        device: device of the batches. For a GPU, uint8 pixels are sent from pinned memory and normalised there.
        workers: threads that prepare images; 0 for the caller's only.
        steps_per_epoch: batches of an epoch. Images that do not fill a batch are left out of that epoch, unless there
            is only one batch.
    """

    def __init__(
        self,
        split: Split,
        recipe: Recipe,
        spec: Preprocessing,
        device: torch.device | None = None,
        peers: Peers | None = None,
    ) -> None:
        """Uses `augment`, `data.repeats`, `loop.batch_size`, `loop.workers` and `seed` of the recipe."""
        if not len(split):
            raise TrainingError(f"The split {split.name} has no images to train on.", "weevit data check")
        self.split, self.spec, self.device = split, spec, device or torch.device("cpu")
        workers = recipe.loop.workers
        self.workers = choose_workers() if workers is None else workers
        self._part, self._seed, self._repeats = recipe.augment, recipe.seed, max(1, recipe.data.repeats)
        repeated = self._repeats > 1 and len(split) >= ROUND
        shown = len(split) // ROUND * ROUND if repeated else len(split)  # as timm's samplers count
        self._batch = min(recipe.loop.batch_size, shown)
        self.steps_per_epoch = shown // self._batch
        self._peers: Peers = peers or Alone()
        self._share = Share.of(self._batch, self._peers.rank, self._peers.world)
        self._on_device = self._part.treated_by == "device"
        shape = (len(self._share.rows), 3, spec.height, spec.width)
        self._memory = _Memory(shape, self.device, self._on_device or self.device.type == "cuda")
        # On the device once: a copy from pageable memory waits for the device's whole queue.
        self._mean, self._std = (torch.tensor(of).view(3, 1, 1).to(self.device) for of in (spec.mean, spec.std))

    def order(self, epoch: int) -> list[SampleKey]:
        """The images of an epoch, batch by batch, of all ranks; the repeats of one are consecutive."""
        samples = self._samples(epoch)
        return [key for step in range(self.steps_per_epoch) for key in self._keys(samples, step)]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from 0, starting at step `start`."""
        samples = self._samples(epoch)
        drafts: deque[tuple[int, _Pending]] = deque()
        # A model on the CPU uses all cores; preparing batches beside it would slow down every step.
        ahead = 1 if self.workers and self.device.type == "cuda" else 0
        with _helpers(self.workers) as hand_out:
            for step in range(start, self.steps_per_epoch):
                keys = self._keys(samples, step)
                own = keys if self._share.whole else [keys[row] for row in self._share.rows]
                drafts.append((step, self._submit(own, epoch, hand_out, self._memory)))
                if len(drafts) > ahead:
                    yield self._checked(*drafts.popleft(), epoch)
            while drafts:
                yield self._checked(*drafts.popleft(), epoch)

    def _checked(self, step: int, pending: _Pending, epoch: int) -> Batch:
        """The prepared batch; where a rank cannot read an image, this rank's share of those that are left."""
        batch, peers = self._batch_of(pending, self._share), self._peers
        if peers.world == 1 or not peers.any(bool(batch.bad)):
            return batch
        # Without that image others are partners: each rank prepares the whole batch, as one process does.
        keys = self._keys(self._samples(epoch), step)
        memory = _Memory((len(keys), *self._memory.shape[1:]), self.device, self._memory.as_pixels)
        with _helpers(self.workers) as hand_out:
            whole = self._batch_of(self._submit(keys, epoch, hand_out, memory))
        return whole.part(Share.of(len(whole.images), peers.rank, peers.world))

    def _samples(self, epoch: int) -> npt.NDArray[np.int64]:
        return permutation(len(self.split), "order", self._seed, epoch)

    def _keys(self, samples: npt.NDArray[np.int64], step: int) -> list[SampleKey]:
        indices = range(step * self._batch, (step + 1) * self._batch)
        return [SampleKey(int(samples[index // self._repeats]), index % self._repeats) for index in indices]

    def _submit(
        self, keys: list[SampleKey], epoch: int, hand_out: Callable[[_Task], _Task], memory: _Memory
    ) -> _Pending:
        images = memory.take()
        rows = images.numpy()
        groups = [slice(at, at + GROUP) for at in range(0, len(keys), GROUP)]
        tasks = [partial(self._prepare, keys[group], epoch, rows[group]) for group in groups]
        return _Pending(images, keys, [hand_out(task) for task in tasks])

    def _prepare(self, keys: list[SampleKey], epoch: int, rows: npt.NDArray[Any]) -> list[_Done]:
        """Put a few images into their rows."""
        sources, wanted = [self.split.sources[key.sample] for key in keys], (self.spec.height, self.spec.width)
        read = [_tried(source, read_pixels, source) for source in sources]
        drawn = [
            None if isinstance(image, Bad) else draw(self._part, image.shape[:2], wanted, self._seed, epoch, *key)
            for image, key in zip(read, keys, strict=True)
        ]
        planes = [
            image if params is None else _tried(source, cropped if self._on_device else apply, image, params, self.spec)
            for source, image, params in zip(sources, read, drawn, strict=True)
        ]
        return [
            done if params is None or isinstance(done, Bad) else self._stored(done, params, row)
            for done, params, row in zip(planes, drawn, rows, strict=True)
        ]

    def _stored(self, planes: npt.NDArray[np.uint8], params: Params, row: npt.NDArray[Any]) -> _Done:
        if row.dtype == np.uint8:
            row[:] = planes
            return Left(params.ops if self._on_device else (), params.holes)
        finish(planes, params.holes, self.spec, row)
        return Left((), ())

    def _batch_of(self, pending: _Pending, share: Share | None = None) -> Batch:
        results = [result for wait in pending.waits for result in wait()]
        good = [index for index, result in enumerate(results) if not isinstance(result, Bad)]
        keys = tuple(pending.keys[index] for index in good)
        images = pending.images if len(good) == len(results) else pending.images[good]
        if images.dtype == torch.uint8:
            images = self._finished([result for result in results if not isinstance(result, Bad)], images)
        return Batch(
            images=images,
            targets=torch.from_numpy(self.split.targets[[key.sample for key in keys]]).to(self.device),
            keys=keys,
            ids=tuple(self.split.sources[key.sample].name for key in keys),
            bad=tuple(result for result in results if isinstance(result, Bad)),
            share=share if share is not None and len(good) == len(results) else Share.of(len(good)),
        )

    def _finished(self, left: list[Left], images: Tensor) -> Tensor:
        """Treatments and `augment.finish` on a GPU. No GPU has run this yet: the tests run it on the CPU."""
        there = treated_together(
            images.to(self.device, non_blocking=True), [one.ops for one in left], fill_of(self.spec)
        )
        sent = there.to(torch.float32)
        sent.div_(255).sub_(self._mean).div_(self._std)
        for row, hole in ((row, hole) for row, one in zip(sent, left, strict=True) for hole in one.holes):
            box = hole.box
            fill = torch.tensor(filling(hole)).to(self.device, non_blocking=True)
            row[:, box.top : box.top + box.height, box.left : box.left + box.width] = fill
        return sent


class Left(NamedTuple):
    """What the device still has to do with an image; nothing where the CPU did all of it."""

    ops: tuple[Op, ...]
    holes: tuple[Hole, ...]


_Done = Left | Bad

_Task = Callable[[], list[_Done]]


def _tried(source: Source, function: Callable[..., Any], *args: Any) -> Any:
    """The result of the function, or a `Bad` for an ImageError."""
    try:
        return function(*args)
    except ImageError as error:
        return Bad(source.name, error.kind, error.message)


@dataclass(frozen=True)
class _Pending:
    """A batch that threads are preparing; each of `waits` returns when its images are done."""

    images: Tensor
    keys: list[SampleKey]
    waits: list[_Task]


@contextmanager
def _helpers(count: int) -> Iterator[Callable[[_Task], _Task]]:
    """A function that hands a task to a thread and returns the wait for its result; without threads, the task."""
    if not count:
        yield lambda task: task
        return
    # Each thread that uses PyTorch would start one OpenMP thread per core. With more threads than cores, OpenMP
    # suspends the model's threads between operations, which costs a tenth of the time.
    pool = ThreadPoolExecutor(count, "weevit-training", torch.set_num_threads, (1,))
    try:
        yield lambda task: pool.submit(task).result
    finally:
        pool.shutdown(cancel_futures=True)


class _Memory:
    """Memory of batches, reused as soon as nothing refers to it.

    The system maps memory page by page on the first write, which took a tenth of an image's time here. For a GPU,
    PyTorch itself keeps pinned memory.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device, as_pixels: bool) -> None:
        self.shape, self.as_pixels, self._pinned = shape, as_pixels, device.type == "cuda"
        self._free: list[npt.NDArray[np.float32]] = []
        # The same for temporary arrays: glibc keeps freed blocks up to the size of the largest one freed so far, but at
        # most 32 MB. This block is never written to.
        np.empty(31 << 20, np.uint8)

    def take(self) -> Tensor:
        """Memory for a batch of images: float32; uint8 where the device finishes them, for a GPU pinned."""
        if self.as_pixels:
            return torch.empty(self.shape, dtype=torch.uint8, pin_memory=self._pinned)
        memory = self._free.pop() if self._free else np.empty(self.shape, np.float32)
        lent = memory.view()  # a new array, which lives as long as the tensor's storage
        weakref.finalize(lent, self._free.append, memory).atexit = False
        return torch.from_numpy(lent)


def choose_workers() -> int:
    """Threads that prepare images: all cores, up to 16."""
    return min(16, choose_threads().count)

"""The ranks of a run: one process, or those that `torchrun` starts. All decide alike, and rank 0 alone writes.

Every rank holds the whole model, which has at most 137 million parameters, and computes its share of each batch; the
gradients are averaged by DistributedDataParallel. Flags and answers go through gloo, also where gradients go through
NCCL.
"""

from __future__ import annotations

import os
import secrets
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from weevit.errors import TrainingError, UsageError, WeevitError

Value = TypeVar("Value")

NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables that `torchrun` sets for each process."""

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others, which may read a large data set, or write a checkpoint to a slow disk."""


def speaks() -> bool:
    """Whether this process tells people what happens: rank 0 does."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


class Ranks:
    """One process; `_Group` is many.

    Attributes:
        rank: the number of this one, from 0.
        world: how many there are.
        local: ranks on this machine, which share its cores.
        restarted: whether this is not the first start of the ranks, because one of them had ended.
    """

    rank, world, local, restarted = 0, 1, 1, False

    @property
    def first(self) -> bool:
        """Whether this rank writes and speaks."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether a rank says so; all of them ask."""
        return flag

    def from_first(self, value: Value) -> Value:
        """The value of rank 0."""
        return value

    def to_first(self, value: Value) -> list[Value]:
        """The values of all ranks, in order, at rank 0; elsewhere an empty list."""
        return [value]

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all ranks."""
        return value

    def averaging(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The module, whose backward pass averages the gradients over all ranks."""
        return model

    def apart(self, model: nn.Module) -> AbstractContextManager[None]:
        """A block in which the gradients of a module from `averaging` only add up on this rank."""
        return nullcontext()

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that fails on all ranks if it fails on one, with that one's error."""
        yield


class LostRankError(TrainingError):
    """Another rank ended, and says why; this one has nothing to add."""


class _Group(Ranks):
    def __init__(self, environment: Mapping[str, str]) -> None:
        numbers = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        self.rank, self.world, self.local = (int(environment[name]) for name in numbers)
        self.restarted = int(environment.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0

    def any(self, flag: bool) -> bool:
        said = torch.tensor([int(flag)])
        with others():
            dist.all_reduce(said, dist.ReduceOp.MAX)
        return bool(said)

    def from_first(self, value: Value) -> Value:
        box: list[Any] = [value]
        with others():
            dist.broadcast_object_list(box, device=torch.device("cpu"))
        found: Value = box[0]
        return found

    def to_first(self, value: Value) -> list[Value]:
        box: list[Any] | None = [None] * self.world if self.first else None
        with others():
            dist.gather_object(value, box)
        return box or []

    def sum(self, value: Tensor) -> Tensor:
        with others():
            dist.all_reduce(value)
        return value

    def averaging(self, model: nn.Module, device: torch.device) -> nn.Module:
        with others():
            # Without `find_unused_parameters` gradients are packed anew after the first update, and a resumed run would
            # add them up in another order.
            ids = [torch.cuda.current_device()] if device.type == "cuda" else None
            return DistributedDataParallel(_Marked(model, device), ids, find_unused_parameters=True)

    def apart(self, model: nn.Module) -> AbstractContextManager[None]:
        assert isinstance(model, DistributedDataParallel)
        return model.no_sync()

    @contextmanager
    def together(self) -> Iterator[None]:
        own: WeevitError | None = None
        try:
            yield
        except LostRankError:
            raise
        except WeevitError as error:
            own = error
        said = self.from_first(self.to_first(None if own is None else (own.message, own.hint)))
        if own is not None and self.first:
            raise own
        for rank, words in enumerate(said):
            if words is not None:
                raise TrainingError(f"Rank {rank}: {words[0]}", words[1]) if self.first else LostRankError(words[0])


class _Marked(nn.Module):
    """The module beside a parameter that is never used, without which PyTorch warns that none is unused."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.model, self.mark = model, nn.Parameter(torch.zeros((), device=device))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, height, width] -> [B, K]."""
        logits: Tensor = self.model(x)
        return logits


@contextmanager
def others() -> Iterator[None]:
    """A block that waits for other ranks: a LostRankError if one of them does not answer."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise LostRankError(
            f"Another rank ended or does not answer: {str(error).splitlines()[0][:200]}.",
            "Its own message, or log.txt in the run, says why. torchrun --max-restarts N   starts all again",
        ) from error


def _of_this_start(store: Store, rank: int, world: int) -> Store:
    """The part of torchrun's store that only the ranks of this start know.

    The store outlives a restart (PyTorch 2.14), with the addresses of processes that are gone: a rank that reads one
    before it is overwritten waits for ever. Rank 0 therefore makes up a name, and tells it to each process that asks:
    one of an earlier start asks with another number.
    """
    own, stop = secrets.token_hex(8), time.monotonic() + PATIENCE.total_seconds()
    if rank:
        store.set(f"weevit/asks/{rank}", own)
        name = store.get(f"weevit/told/{own}").decode()
        store.set(f"weevit/heard/{name}/{rank}", "")
        return PrefixStore(name, store)
    waiting = set(range(1, world))
    while waiting:
        for other in [one for one in waiting if store.check([f"weevit/asks/{one}"])]:
            store.set(f"weevit/told/{store.get(f'weevit/asks/{other}').decode()}", own)
        waiting = {other for other in waiting if not store.check([f"weevit/heard/{own}/{other}"])}
        if waiting and time.monotonic() > stop:
            raise RuntimeError(f"ranks {sorted(waiting)} have not started")
        time.sleep(0.02)
    return PrefixStore(own, store)


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that this process is one of; `cuda` is then the GPU of this rank.

    Raises:
        UsageError: one of several ranks, without the address at which they meet.
    """
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1" or dist.is_initialized():  # a process that has a group of its own trains alone
        yield Ranks()
        return
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing or not all(os.environ[name].isdigit() for name in NEEDED if name != "MASTER_ADDR"):
        raise UsageError(
            f"This process is one of WORLD_SIZE={world[:20]}, and cannot find the others: "
            f"{', '.join(missing) or 'a variable'} is not set to a value. torchrun sets {', '.join(NEEDED)}.",
            "torchrun --standalone --nproc-per-node N -m weevit train ...   (or --nnodes M --rdzv-endpoint HOST:PORT)",
        )
    ranks = _Group(os.environ)
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    with others():
        store, rank, size = next(iter(rendezvous("env://", timeout=PATIENCE)))
        store = _of_this_start(store, rank, size)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
        ranks.restarted = ranks.any(ranks.restarted)  # each machine counts its own restarts
    try:
        with warnings.catch_warnings():
            # Of the tokens, whose gradients are slices; they are copied, as small as they are.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield ranks
    finally:
        dist.destroy_process_group()

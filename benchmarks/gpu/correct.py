"""Section 1: are the GPU's numbers right, and the same ones twice.

The reference of each architecture is its module on the CPU in float32, with random weights in which every parameter
matters. Distances are of whole results, divided by the length of the reference; NaN is never within bounds.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference import distance
from made import folder, our_model
from record import Section
from timing import clear
from torch import Tensor, nn

import weevit
from weevit.nn.vit import VisionTransformer
from weevit.training.determinism import draw_from, settled
from weevit.training.results import Run
from weevit.training.watch import Progress, Watcher
from weevit.zoo.architectures import get_architecture

KINDS = {
    "serial": "vit_wee_patch16_reg1_gap_256",
    "parallel": "vit_pwee_patch16_reg1_gap_256",
    "differential": "vit_dwee_patch16_reg1_gap_256",
    "rope": "vit_medium_patch16_rope_reg1_gap_256",
}

MICRO = "vit_micro_patch16_reg1_gap_64"

FP32, BF16, BF16_GRADIENTS, LOSSES = 1e-4, 2e-2, 3e-2, 3e-2
"""Bounds: float32 in another order of sums; bf16's 8 bits, forward and backward; losses of 30 steps in bf16."""

STEPS = 30
RECIPE = "sbb_in1k_wee"


def run(section: Section) -> None:
    section.figure("set", **switches())
    with tempfile.TemporaryDirectory() as scratch:
        runs = Runs(section, Path(scratch))
        section.attempt("made images", 1, runs.make)
        section.attempt("resume", 10, lambda: runs.resumed("resume", compile=False))
        section.attempt("30 steps", 15, runs.thirty_steps)
        for kind in KINDS:
            section.attempt(kind, 6, lambda kind=kind: numbers(section, kind))
            section.attempt(f"{kind} twice", 4, lambda kind=kind: twice(section, kind))
        section.attempt("resume compiled", 30, lambda: runs.resumed("resume compiled", compile=True))
        for kind in KINDS:
            section.attempt(f"{kind} compiled", 12, lambda kind=kind: compiled(section, kind))


# ---- one module, forward and backward


@dataclass(frozen=True)
class Answers:
    """What a forward and a backward pass give, on the CPU: of the gradients, all parameters' in one row."""

    logits: Tensor
    gradients: Tensor
    embedding: Tensor | None = None

    def apart(self, other: Answers) -> dict[str, float]:
        """How far from the other, which is the reference."""
        found = {"logits": distance(self.logits, other.logits), "gradients": distance(self.gradients, other.gradients)}
        if self.embedding is not None and other.embedding is not None:
            found["embedding"] = distance(self.embedding, other.embedding)
        return found


def answers(
    model: nn.Module, images: Tensor, forward: Callable[..., Tensor] | None = None, bf16: bool = False
) -> Answers:
    """Ask a module, or what was compiled of it; gradients of a random weighting of the logits."""
    device = next(model.parameters()).device
    model.zero_grad(set_to_none=True)
    embedding = None
    with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
        if forward is None:
            assert isinstance(model, VisionTransformer)
            embedding = model.forward_head(model.forward_features(images.to(device)), pre_logits=True)
            logits = model.head(embedding)
        else:
            logits = forward(images.to(device))
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3)).to(device)
    (logits.float() * weights).sum().backward()
    gradients = [own.grad.flatten() for own in model.parameters() if own.grad is not None]
    return Answers(
        logits.detach().float().cpu(),
        torch.cat(gradients).float().cpu(),
        None if embedding is None else embedding.detach().float().cpu(),
    )


def images_of(section: Section, size: int) -> Tensor:
    return torch.randn(2 if section.short else 8, 3, size, size, generator=torch.Generator().manual_seed(2))


def model_of(section: Section, kind: str, depth: int | None = None, **options: float) -> VisionTransformer:
    arch = get_architecture(KINDS[kind])
    depth = 1 if section.short else depth
    arch = arch if depth is None else replace(arch, depth=depth)
    return our_model(arch, 100, 32 if section.short else arch.img_size, **options)


def numbers(section: Section, kind: str) -> None:
    """float32 on the GPU against the CPU, bf16 against float32 on the GPU."""
    model = model_of(section, kind)
    images = images_of(section, model.img_size[0])
    wanted = answers(model, images)
    there = deepcopy(model).to(section.device)
    with no_tf32():
        found = answers(there, images)
    half = answers(there, images, bf16=True)
    fp32, bf16 = found.apart(wanted), half.apart(found)
    bounds = {"logits": BF16, "embedding": BF16, "gradients": BF16_GRADIENTS}
    within = all(far <= FP32 for far in fp32.values()) and all(far <= bounds[name] for name, far in bf16.items())
    section.figure(kind, fp32_against_cpu=fp32, bf16_against_fp32=bf16, within=within)


def compiled(section: Section, kind: str) -> None:
    """Two blocks of it, compiled against eager, in float32."""
    clear()
    model = model_of(section, kind, depth=2).to(section.device)
    images = images_of(section, model.img_size[0])
    with no_tf32():
        wanted, found = answers(model, images, model), answers(model, images, torch.compile(model))
    apart = found.apart(wanted)
    section.figure(f"{kind} compiled", against_eager=apart, within=all(far <= FP32 for far in apart.values()))


def twice(section: Section, kind: str) -> None:
    """A training pass in bf16 with drop path and patch dropout, under weevit's settings, twice: the same bytes."""
    model = model_of(section, kind, drop_path_rate=0.2, patch_drop_rate=0.5).to(section.device).train()
    images = images_of(section, model.img_size[0])
    found = []
    with settled(torch.get_num_threads()):
        for _ in range(3):
            draw_from(0, 1, 2)
            found.append(answers(model, images, model, bf16=True))
    same = all(torch.equal(found[0].gradients, other.gradients) for other in found[1:])
    finite = bool(found[0].gradients.isfinite().all())
    section.figure(f"{kind} twice", identical=same, within=same and finite)


@contextmanager
def no_tf32() -> Iterator[None]:
    """float32 that is float32: PyTorch lets convolutions round to TF32's 10 bits unless it is told not to."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


# ---- whole runs


@dataclass
class Runs:
    """Short runs of `weevit.train` on made JPEGs."""

    section: Section
    scratch: Path
    data: Path = Path()

    def make(self) -> None:
        """The images of all runs: four classes, each with a tint of its own."""
        number = 48 if self.section.short else 512
        self.data, kilobytes = folder(self.scratch / "data", number, 4, 96, 128, validation=16)
        self.section.figure("made images", number=number, kilobytes=kilobytes)

    @property
    def steps(self) -> int:
        """Of every run."""
        return 8 if self.section.short else STEPS

    def train(self, name: str, *words: str, device: str | None = None, watcher: Watcher | None = None) -> Run:
        """A run of wee's recipe in bf16, into a folder of that name; `words` come on top."""
        short = self.section.short
        plain = [
            f"model.name={MICRO if short else KINDS['serial']}",
            f"model.image_size={64 if short else 96}",
            f"loop.batch_size={8 if short else 32}",
            f"schedule.epochs={self.steps} steps",
            *("schedule.warmup=2 steps", "schedule.cooldown=0 steps", "data.repeats=0", "optim.lr=1e-3"),
            *("loop.log_every=1", "loop.eval_every=100 %", "loop.checkpoint_every=5 steps", "loop.compile=false"),
        ]
        return weevit.train(
            *(RECIPE, self.data, self.scratch / name, [*plain, "loop.precision=bf16", *words]),
            device=device or self.section.device,
            threads=1 if short else None,
            report=False,
            watcher=watcher,
        )

    def thirty_steps(self) -> None:
        """In bf16 on the GPU against float32 on the CPU: same images, same draws, so that the losses go together.

        Without drop path, whose draws differ between a GPU and a CPU.
        """
        words = ["model.drop_path=0", "model.head_init_scale=null"]
        found = self.train("steps-gpu", *words)
        wanted = self.train("steps-cpu", *words, "loop.precision=fp32", device="cpu")
        pairs = np.array([losses(found), losses(wanted)])
        apart = float(np.max(np.abs(pairs[0] - pairs[1]) / pairs[1]))
        finite = bool(np.isfinite(pairs).all())
        self.section.figure(
            "30 steps",
            steps=pairs.shape[1],
            first_loss=float(pairs[0, 0]),
            last_loss=float(pairs[0, -3:].mean()),
            against_cpu=apart,
            within=finite and pairs.shape[1] == self.steps and apart <= LOSSES,
        )

    def resumed(self, name: str, compile: bool) -> None:
        """A run that is stopped at a step drawn by a seed and resumed, against an undisturbed one: every byte."""
        words = ["loop.compile=true", f"model.name={MICRO}"] if compile else ["loop.compile=false"]
        clear()
        settings: dict[str, Any] = {}
        whole = self.train(f"{name}-whole", *words, watcher=Watcher(moved=lambda progress: settings.update(switches())))
        at = int(np.random.default_rng([5, compile]).integers(2, self.steps - 1))
        clear()
        stopped = self.train(f"{name}-parts", *words, watcher=stop_at(at))
        clear()
        parts = weevit.resume(stopped.folder, report=False)
        same = whole.digest == parts.digest and files(whole.folder) == files(parts.folder)
        self.section.figure(
            name,
            identical=same,
            stopped_at=stopped.step,
            steps=parts.step,
            digest=whole.digest,
            set=settings,
            within=same and stopped.step == at and parts.step == self.steps,
        )


def losses(run: Run) -> list[float]:
    return [row["loss"] for row in run.metrics if row["kind"] == "train"]


def stop_at(step: int) -> Watcher:
    """Asks to stop once so many updates are done."""
    done = [0]

    def moved(progress: Progress) -> None:
        done[0] = progress.step

    return Watcher(moved=moved, should_stop=lambda: done[0] >= step)


def files(run: Path) -> dict[str, str]:
    """sha256 of what a run leaves to others: the model and the metrics."""
    names = ["metrics.jsonl", "model/config.json", "model/model.safetensors"]
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in names}


def switches() -> dict[str, Any]:
    """What of PyTorch decides whether two runs have the same bytes, and how float32 is computed, at this moment."""
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "CUBLAS_WORKSPACE_CONFIG": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
        "threads": torch.get_num_threads(),
    }

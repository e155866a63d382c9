"""What a quantisation is told, what the gate measures, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from weevit.arguments import MAX_SEED, whole, within
from weevit.engine.timing import Ratio
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.quantized import Quantization

MIN_COSINE = 0.98
"""Mean cosine of the embeddings that a model without a classifier has to keep: it has no classes to agree on."""


@dataclass(frozen=True)
class Gate:
    """What a quantised model has to reach to be written.

    Attributes:
        max_drop: percentage points of top-1 accuracy that it may lose on the held-out images with known classes.
        min_agreement: percentage of the held-out images to which both models give the same class.
        min_speedup: how many times less processor time it takes than the model it was made of.
    """

    max_drop: float = 0.5
    min_agreement: float = 96.0
    min_speedup: float = 1.2


@dataclass(frozen=True)
class Settings:
    """The settings of a quantisation; see `weevit.quantize`."""

    images: int = 128
    held_out: int = 1000
    bits: int | None = None
    seed: int = 0
    gate: Gate = field(default_factory=Gate)

    def check(self) -> None:
        """Refuse invalid settings.

        Raises:
            UsageError: a number that is not allowed.
        """
        whole("images", self.images, 8, 100_000, "ranges need some images")
        whole("held_out", self.held_out, 16, 1_000_000, "the gate needs some images")
        whole("seed", self.seed, 0, MAX_SEED)
        if self.bits is not None:
            whole("bits", self.bits, 7, 8)
        within("max_drop", self.gate.max_drop, 0, 100)
        within("min_agreement", self.gate.min_agreement, 0, 100)
        within("min_speedup", self.gate.min_speedup, 0, 1000)


@dataclass(frozen=True)
class Speed:
    """Seconds per image of both models, measured in turns: medians over the rounds.

    Attributes:
        rounds: how many; the order is turned in every second one.
        cpu, wall: seconds of processor time, and by the clock: (original, quantised).
        ratio: how many times less processor time the quantised model takes, over the rounds; others on the machine
            hardly change it.
    """

    rounds: int
    cpu: tuple[float, float]
    wall: tuple[float, float]
    ratio: Ratio


@dataclass(frozen=True)
class Agreement:
    """Both models' answers to the same held-out images.

    Attributes:
        images: how many both answered.
        same: of them, those with the same class; None where there is no classifier.
        low, high: 95 % interval of that share.
        mean_difference, max_difference: of a logit; NaN where there is no classifier.
        mean_cosine, min_cosine: between the two embeddings of an image.
        labelled: images whose class is known and one of the model's.
        right: of those, rightly classified: (original, quantised).
        p_value: McNemar's exact test of that difference, 1 where nothing tells the two apart.
    """

    images: int
    same: int | None
    low: float
    high: float
    mean_difference: float
    max_difference: float
    mean_cosine: float
    min_cosine: float
    labelled: int = 0
    right: tuple[int, int] = (0, 0)
    p_value: float = 1.0

    @property
    def share(self) -> float:
        """Images with the same class, of all; NaN where there is no classifier."""
        return float("nan") if self.same is None or not self.images else self.same / self.images

    @property
    def drop(self) -> float:
        """Share of right answers that is lost; NaN where no class is known."""
        return (self.right[0] - self.right[1]) / self.labelled if self.labelled else float("nan")


@dataclass(frozen=True)
class Quantized:
    """What `weevit.quantize` did.

    Attributes:
        folder: what was asked for; it has a model only if the gate was passed.
        checkpoint: the quantised model; None where nothing was written.
        original: name of the model it was made of.
        quantization: how.
        settings: as given.
        agreement: on held-out images; None where no data was given.
        speed: of both, on this machine.
        size: bytes of the weights: (original, quantised).
        processor: instruction sets that this was measured with.
        engine: what computed.
        left_out: images that could not be read.
        failed: which conditions of the gate were not met, a sentence each.
        notes: for the user.
        seconds: that it all took.
    """

    folder: Path
    checkpoint: Checkpoint | None
    original: str
    quantization: Quantization
    settings: Settings
    agreement: Agreement | None
    speed: Speed
    size: tuple[int, int]
    processor: str
    engine: str
    left_out: int
    failed: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether it was written."""
        return not self.failed

    def as_json(self) -> dict[str, object]:
        """Everything as plain data."""
        plain: dict[str, Any] = {
            name: value for name, value in vars(self).items() if name not in ("folder", "checkpoint")
        }
        for name in ("quantization", "settings", "agreement", "speed"):
            plain[name] = None if plain[name] is None else asdict(plain[name])
        sha256 = None if self.checkpoint is None else self.checkpoint.sha256
        return {"passed": self.passed, "sha256": sha256, **plain}


def misses(gate: Gate, agreement: Agreement | None, speed: Speed) -> Iterator[str]:
    """The conditions of a gate that are not met, a sentence each."""
    if agreement is not None and agreement.same is None and not agreement.mean_cosine >= MIN_COSINE:
        yield f"The embeddings' mean cosine is {agreement.mean_cosine:.4f}; {MIN_COSINE} or more is allowed."
    if agreement is not None and agreement.same is not None and not 100 * agreement.share >= gate.min_agreement:
        yield f"Both models give the same class to {agreement.share:.1%}; {gate.min_agreement:g} % or more is allowed."
    if agreement is not None and agreement.labelled and not 100 * agreement.drop <= gate.max_drop:
        yield f"Top-1 accuracy drops by {100 * agreement.drop:.2f} points; {gate.max_drop:g} or less is allowed."
    if not speed.ratio.median >= gate.min_speedup:
        yield f"It is {speed.ratio.median:.2f} times as fast here; {gate.min_speedup:g} or more is allowed."

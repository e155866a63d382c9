"""Typed answers, and the step from logits to named classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from weevit.errors import NotFiniteError
from weevit.images.source import shortened
from weevit.text import one_line
from weevit.zoo.architectures import PATCH
from weevit.zoo.decision import Decision
from weevit.zoo.labels import Label

if TYPE_CHECKING:
    from weevit.zoo.checkpoint import Checkpoint
    from weevit.zoo.weights import Preprocessing

Array = npt.NDArray[np.float32]

SHOWN = 3
"""Classes in a `repr`."""

MAX_SHOWN = 120
"""Characters of an input, and of its answer, in a `repr`."""


@dataclass(frozen=True)
class Prediction:
    """One class and its probability.

    Attributes:
        index: index of the class in the head.
        id: its unique name: a synset such as `n07860988` for ImageNet, the folder's name for your classes;
            None where the checkpoint names no classes.
        name: name for people; the id without another, `class 7` without any.
        probability: softmax over all classes, in [0, 1]; the label's own for a model with any number of labels.
    """

    index: int
    id: str | None
    name: str
    probability: float


@dataclass(frozen=True, repr=False)
class Result:
    """The answer to one input.

    Attributes:
        input: its name: the path, or `bytes[0]`, `image[1]`, `array[2]` by its index in the call.
        status: `ok`, or one word that says why there is no answer (`weevit.ImageError` lists them).
        error: the reason in full; None where the status is `ok`.
        width, height: of the image, upright, in pixels; None where it was never decoded.
        top: the most probable classes, best first (`classify`).
        unknown: whether the best probability is below the model's threshold (as of models of `weevit fit`).
        present: labels that the model answers, best first, for a model with any number of labels; otherwise None.
        logits: (num_classes) float32.
        embedding: (embed_dim) float32: pooled and normalised, the input of the head; timm's `pre_logits`.
        features: block index -> (embed_dim, rows, columns) float32, the block's patch tokens as a map.
        prefix: block index -> (prefix tokens, embed_dim) float32: class token and registers of the same blocks.
        attention: block index -> (heads, tokens, tokens) float32; row i is the attention of token i.
    """

    input: str
    status: str = "ok"
    error: str | None = None
    width: int | None = None
    height: int | None = None
    top: tuple[Prediction, ...] = ()
    unknown: bool = False
    present: tuple[Prediction, ...] | None = None
    logits: Array | None = None
    embedding: Array | None = None
    features: dict[int, Array] = field(default_factory=dict)
    prefix: dict[int, Array] = field(default_factory=dict)
    attention: dict[int, Array] = field(default_factory=dict)

    def __repr__(self) -> str:
        """One line: the input, and its best classes or the error."""
        if not self.ok:
            said = self.status
        else:
            named = [f"{one.name} {one.probability:.1%}" for one in self.top[:SHOWN]]
            more = [f"{len(self.top) - SHOWN} more"] if len(self.top) > SHOWN else []
            said = "; ".join([*(["unknown"] if self.unknown else []), *named, *more, *self.arrays()]) or "ok"
        name, said = (shortened(one_line(text), MAX_SHOWN) for text in (self.input, said))
        return f"<Result {name}: {said}>"

    def _repr_html_(self) -> str:
        """For notebooks: the image with bars."""
        from weevit.answers.notebook import html

        return html(self)

    def to_dict(self) -> dict[str, object]:
        """A row for a table, with the columns of `weevit classify -o` and `weevit embed -o`; None for an absent value.

        Lists of numbers are arrays (int32, float32), so that data frames have the types of those files. Every result
        has all keys. Logits, feature maps and attention are no columns: they stay attributes.

            pandas.DataFrame([result.to_dict() for result in model.classify("photos")])
        """
        from weevit.answers.columns import as_dict

        return as_dict(self)

    def arrays(self) -> list[str]:
        """The arrays of the result, each with its shape: `embedding (192)`."""
        held = {"logits": self.logits, "embedding": self.embedding}
        for name in ("features", "attention"):
            held |= {f"{name}[{index}]": value for index, value in getattr(self, name).items()}
        shapes = {name: " x ".join(map(str, value.shape)) for name, value in held.items() if value is not None}
        return [f"{name} ({shape})" for name, shape in shapes.items()]

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.status == "ok"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the most probable classes, best first."""
        return tuple(prediction.name for prediction in self.top)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Their probabilities, in the same order."""
        return tuple(prediction.probability for prediction in self.top)


@dataclass(frozen=True)
class Answer:
    """The decision on one image's logits; the fields are those of `Result`."""

    top: tuple[Prediction, ...] = ()
    unknown: bool = False
    present: tuple[Prediction, ...] | None = None


def decide(logits: Array, topk: int, labels: Sequence[Label] | None, decision: Decision | None = None) -> Answer:
    """From (num_classes) logits of one image to named classes.

    Args:
        logits: the logits.
        topk: number of classes to name.
        labels: names of all classes, or None.
        decision: the model's rule; None for plain softmax.
    """
    if decision is None or not decision.multi_label:
        top = top_classes(logits, topk, labels)
        threshold = decision.threshold if decision else None
        return Answer(top, threshold is not None and top[0].probability < threshold)
    probabilities = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -700, 700)))
    ranked = _ranked(probabilities, labels)
    least = decision.label_thresholds or (0.5,) * len(ranked)
    return Answer(ranked[:topk], present=tuple(one for one in ranked if one.probability >= least[one.index]))


def top_classes(logits: Array, topk: int, labels: Sequence[Label] | None) -> tuple[Prediction, ...]:
    """The `topk` most probable classes, best first; equal ones in the order of the head."""
    shifted = logits.astype(np.float64) - logits.max()
    probabilities = np.exp(shifted) / np.exp(shifted).sum()
    return _ranked(probabilities, labels, topk)


def _ranked(
    probabilities: npt.NDArray[np.float64], labels: Sequence[Label] | None, topk: int | None = None
) -> tuple[Prediction, ...]:
    order = np.argsort(-probabilities, kind="stable")[:topk]
    return tuple(_prediction(int(index), float(probabilities[index]), labels) for index in order)


def _prediction(index: int, probability: float, labels: Sequence[Label] | None) -> Prediction:
    if labels is None:
        return Prediction(index, None, f"class {index}", probability)
    return Prediction(index, labels[index].id, labels[index].name, probability)


def assemble(empty: Result, own: Mapping[str, Array], topk: int, checkpoint: Checkpoint, seen: Preprocessing) -> Result:
    """The answer to one image from its rows of the graph's outputs.

    Args:
        empty: the result without an answer: input and size.
        own: output name -> the image's row: `logits`, `embedding`, `block_i`, `attention_i`.
        topk: number of classes to name.
        checkpoint: what was asked.
        seen: size of the input, for the maps.
    """
    try:
        refuse_not_finite(own)
    except NotFiniteError as error:
        return replace(empty, status=error.status, error=f"{error.kind}: {error.message}")
    tokens = {int(name.removeprefix("block_")): value for name, value in own.items() if name.startswith("block_")}
    maps = {name.removeprefix("attention_"): value for name, value in own.items() if name.startswith("attention_")}
    features, prefix = _parted(tokens, checkpoint.architecture.num_prefix, seen) if tokens else ({}, {})
    logits, embedding = own.get("logits"), own.get("embedding")
    answer = Answer() if logits is None else decide(logits, topk, checkpoint.labels, checkpoint.decision)
    return replace(
        empty,
        **vars(answer),
        logits=None if logits is None else logits.copy(),
        embedding=None if embedding is None else embedding.copy(),
        features=features,
        prefix=prefix,
        attention={int(i): value.copy() for i, value in maps.items()},
    )


def _parted(tokens: Mapping[int, Array], prefix: int, seen: Preprocessing) -> tuple[dict[int, Array], dict[int, Array]]:
    """The [N, D] tokens of blocks as maps of patches, [D, R, C], and the tokens in front of them, [prefix, D]."""
    grid = (-1, seen.height // PATCH, seen.width // PATCH)
    maps = {i: np.ascontiguousarray(value[prefix:].T.reshape(grid)) for i, value in tokens.items()}
    return maps, {i: value[:prefix].copy() for i, value in tokens.items()}


def refuse_not_finite(answers: Mapping[str, npt.NDArray[np.floating]]) -> None:
    """Raise a NotFiniteError that names all arrays with NaN or infinity: such an answer means nothing."""
    bad = [name for name, values in answers.items() if not np.isfinite(values).all()]
    if bad:
        raise NotFiniteError(f"NaN or infinity in {', '.join(bad)}: the model's weights or its mean and std overflow")


def rows_not_finite(answers: Mapping[str, Array]) -> Iterator[tuple[int, str]]:
    """(row, reason) of each row of a batch that means nothing."""
    finite = np.all([np.isfinite(values).all(axis=1) for values in answers.values()], axis=0)
    for row in np.flatnonzero(~finite):
        try:
            refuse_not_finite({name: values[row] for name, values in answers.items()})
        except NotFiniteError as error:
            yield int(row), f"{error.kind}: {error.message}"


def unit_length(rows: Array) -> Array:
    """Each row divided by its L2 norm; a row of zeros stays as it is."""
    # In float64, in which no square of a float32 overflows or vanishes, and without a copy of the rows.
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))[:, None]
    units = np.empty(rows.shape, np.float32)
    return np.divide(rows, np.where(norms == 0, 1, norms), out=units, dtype=np.float64, casting="same_kind")

"""What each verb writes for an image, as columns: a name, a shape, a type, and how to get it out of a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from weevit.answers.results import Result, refuse_not_finite, unit_length
from weevit.engine.session import block_indices
from weevit.errors import UsageError, did_you_mean
from weevit.predict import Output, Predictor
from weevit.zoo.architectures import PATCH

if TYPE_CHECKING:
    import numpy.typing as npt

Kind = Literal["float32", "float16", "int32", "string", "bool"]

DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Column:
    """One column of answers; in a row without an answer it is null.

    Attributes:
        name: of the column.
        kind: of a value.
        shape: of a row's values; they lie flat in a list of fixed size. Empty for one value, and for strings of which
            there may be any number.
        value: the values of one answered result: an array of that shape, strings, or one truth value; a
            `NotFiniteError` where the column's type is too narrow for them.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    value: Callable[[Result], npt.NDArray[Any] | list[str] | bool]

    @property
    def width(self) -> int:
        """Values in a row."""
        return prod(self.shape)


@dataclass(frozen=True)
class Verb:
    """What a job of this kind asks the model for.

    Attributes:
        outputs: as for `Predictor.stream`.
        defaults: its options and their usual values.
        check: options -> the same, complete and sound.
        columns: options, predictor -> what is written.
    """

    outputs: tuple[Output, ...]
    defaults: dict[str, Any]
    check: Callable[[dict[str, Any], Predictor], dict[str, Any]]
    columns: Callable[[dict[str, Any], Predictor], list[Column]]

    def checked(self, options: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
        """The options with what was left out.

        Raises:
            UsageError: an unknown one, or a value that cannot be meant.
        """
        unknown = [name for name in options if name not in self.defaults]
        if unknown:
            raise UsageError(
                f"No option {unknown[0]!r} here; there are {', '.join(self.defaults)}.",
                did_you_mean(unknown[0], self.defaults),
            )
        return self.check({**self.defaults, **options}, predictor)


def _check_embed(options: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
    del predictor
    if options["dtype"] not in DTYPES:
        raise UsageError(f"dtype is {' or '.join(DTYPES)}: {options['dtype']!r} was given.")
    return options


def _embed_columns(options: dict[str, Any], predictor: Predictor) -> list[Column]:
    def vector(result: Result) -> npt.NDArray[Any]:
        assert result.embedding is not None
        own = unit_length(result.embedding[None])[0] if options["normalize"] else result.embedding
        with np.errstate(over="ignore"):  # of float16, above 65,504
            narrow = own.astype(options["dtype"], copy=False)
        refuse_not_finite({f"the embedding as {options['dtype']}": narrow})
        return narrow

    width = predictor.checkpoint.architecture.embed_dim
    return [Column("embedding", options["dtype"], (width,), vector)]


def _check_classify(options: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
    classes = predictor.checkpoint.num_classes
    if not classes:
        raise UsageError(f"{predictor.checkpoint.name} has no classifier.", "weevit embed   answers with embeddings")
    if options["topk"] < 1:
        raise UsageError(f"topk is 1 or more: {options['topk']} was given.")
    return {"topk": min(options["topk"], classes)}


def _classify_columns(options: dict[str, Any], predictor: Predictor) -> list[Column]:
    shape = (options["topk"],)
    return [
        Column("indices", "int32", shape, lambda result: np.array([p.index for p in result.top], np.int32)),
        Column("probabilities", "float32", shape, lambda result: np.array(result.probabilities, np.float32)),
        Column("labels", "string", shape, lambda result: list(result.labels)),
        Column("label_ids", "string", shape, lambda result: [p.id or p.name for p in result.top]),
        *_decision_columns(predictor),
    ]


def _decision_columns(predictor: Predictor) -> list[Column]:
    """What a model says beside its classes, if it is one that does."""
    decision = predictor.checkpoint.decision
    if decision and decision.multi_label:
        return [Column("present", "string", (), lambda result: [p.id or p.name for p in result.present or ()])]
    if decision and decision.threshold is not None:
        return [Column("unknown", "bool", (), lambda result: result.unknown)]
    return []


def _check_features(options: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
    return {"layers": list(block_indices(options["layers"], predictor.checkpoint.architecture.depth))}


def _features_columns(options: dict[str, Any], predictor: Predictor) -> list[Column]:
    seen = predictor.preprocessing
    shape = (predictor.checkpoint.architecture.embed_dim, seen.height // PATCH, seen.width // PATCH)

    def block(index: int) -> Column:
        return Column(f"block_{index}", "float32", shape, lambda result: result.features[index])

    return [block(index) for index in options["layers"]]


VERBS: dict[str, Verb] = {
    "classify": Verb(("logits",), {"topk": 5}, _check_classify, _classify_columns),
    "embed": Verb(("embedding",), {"normalize": False, "dtype": "float32"}, _check_embed, _embed_columns),
    "features": Verb(("features",), {"layers": None}, _check_features, _features_columns),
}
"""Verb -> what a job of it does."""

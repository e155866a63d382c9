"""What a job of each verb asks the model for, and the columns that it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weevit.answers.columns import Column, block_columns, class_columns, embedding_column
from weevit.arguments import flag, one_of, whole
from weevit.engine.session import block_indices
from weevit.errors import UsageError, did_you_mean
from weevit.predict import Output, Predictor

DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Verb:
    """What a job of this kind asks the model for.

    Attributes:
        outputs: as for `Predictor.stream`.
        defaults: its options and their usual values.
        check: options -> the same, complete and sound.
        columns: options, predictor -> the columns beside those of every verb.
    """

    outputs: tuple[Output, ...]
    defaults: dict[str, Any]
    check: Callable[[dict[str, Any], Predictor], dict[str, Any]]
    columns: Callable[[dict[str, Any], Predictor], tuple[Column, ...]]

    def checked(self, options: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
        """The options with the defaults filled in; UsageError for an unknown option or an invalid value."""
        unknown = [name for name in options if name not in self.defaults]
        if unknown:
            raise UsageError(
                f"No option {unknown[0]!r} here; there are {', '.join(self.defaults)}.",
                did_you_mean(unknown[0], self.defaults),
            )
        return self.check({**self.defaults, **options}, predictor)


def _check_embed(options: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
    del predictor
    return {"normalize": flag("normalize", options["normalize"]), "dtype": one_of("dtype", options["dtype"], DTYPES)}


def _check_classify(options: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
    classes = predictor.checkpoint.num_classes
    if not classes:
        raise UsageError(f"{predictor.checkpoint.name} has no classifier.", "weevit embed   answers with embeddings")
    return {"topk": min(whole("topk", options["topk"], 1), classes)}


def _check_features(options: dict[str, Any], predictor: Predictor) -> dict[str, Any]:
    return {"layers": list(block_indices(options["layers"], predictor.checkpoint.architecture.depth))}


VERBS: dict[str, Verb] = {
    "classify": Verb(
        ("logits",), {"topk": 5}, _check_classify,
        lambda own, predictor: class_columns(predictor.checkpoint, own["topk"]),
    ),
    "embed": Verb(
        ("embedding",), {"normalize": False, "dtype": "float32"}, _check_embed,
        lambda own, predictor: (embedding_column(predictor.checkpoint, own["normalize"], own["dtype"]),),
    ),
    "features": Verb(
        ("features",), {"layers": None}, _check_features,
        lambda own, predictor: block_columns(predictor.checkpoint, predictor.preprocessing, own["layers"]),
    ),
}  # fmt: skip
"""Verb -> its job."""

"""A classifier on embeddings that are there already: probabilities of one class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from weevit.answers.results import Array
from weevit.errors import UsageError, did_you_mean
from weevit.zoo.checkpoint import Checkpoint

_LONGEST = 20
"""Digits of an index; Python refuses to read thousands of them."""


def class_index(checkpoint: Checkpoint, name: str | int) -> int:
    """The index of a class by its id, its name, one of its names (`cat` of `cat, house cat`) or its index.

    Raises:
        UsageError: there is no classifier, or no such class; a name of several classes.
    """
    count = checkpoint.num_classes
    if not count:
        raise UsageError(
            f"{checkpoint.name} has no classifier (num_classes is 0).", "Give one that was fitted: --like RUN"
        )
    labels = checkpoint.labels or ()
    word = str(name).strip()
    if word.isdecimal() and len(word) < _LONGEST and int(word) < count and not any(word in label for label in labels):
        return int(word)
    for same in (
        [index for index, label in enumerate(labels) if word == label.id],
        [index for index, label in enumerate(labels) if word.casefold() == label.name.casefold()],
        [index for index, label in enumerate(labels) if word.casefold() in _names(label.name)],
    ):
        if len(same) == 1:
            return same[0]
        if same:
            several = ", ".join(f"{labels[index].id} ({labels[index].name})" for index in same)
            raise UsageError(f"{word!r} is the name of several classes.", f"Give the id of one: {several}.")
    every = [one for label in labels for one in (label.id, label.name)]
    raise UsageError(
        f"No class {word!r} among the {count:,} of {checkpoint.name}.", did_you_mean(word, every) or "weevit info MODEL"
    )


def _names(name: str) -> set[str]:
    return {one.strip().casefold() for one in name.split(",")}


def scores_of(checkpoint: Checkpoint, index: int) -> Callable[[Array], Array]:
    """A function from (n, D) float32 embeddings to (n) probabilities of a class: softmax, or sigmoid of labels."""
    tensors = checkpoint.tensors()
    weight = tensors["head.weight"].astype(np.float32)
    bias = tensors["head.bias"].astype(np.float32)
    multi_label = checkpoint.decision is not None and checkpoint.decision.multi_label

    def sigmoid(vectors: Array) -> Array:
        logits = vectors @ weight[index] + bias[index]
        return np.asarray(1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -700, 700))), np.float32)

    def softmax(vectors: Array) -> Array:
        logits = vectors @ weight.T + bias
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        return np.asarray(logits[:, index] / logits.sum(axis=1), np.float32)

    return sigmoid if multi_label else softmax

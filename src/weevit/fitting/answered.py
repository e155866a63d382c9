"""A model whose answers to some images are known already: to be evaluated like any other, without asking it again."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from weevit.answers.results import Result
from weevit.datasets.dataset import Split
from weevit.embeddings import Embedded
from weevit.fitting.heads import Floats
from weevit.images.sources import Inputs
from weevit.predict import Output, Predictor


class Answered(Predictor):
    """A predictor for one split, from logits at hand.

    Args:
        predictor: of the checkpoint whose logits they are.
        split: the only inputs that it answers.
        embedded: which of them have no answer, and why.
        logits: (n, K) of all of them; the rows of those without an answer mean nothing.
    """

    def __init__(self, predictor: Predictor, split: Split, embedded: Embedded, logits: Floats) -> None:
        self.__dict__.update(vars(predictor))
        self._split, self._embedded = split, embedded
        self._logits = logits.astype("float32")

    def stream(
        self,
        inputs: Inputs,
        outputs: Sequence[Output] = ("logits",),
        layers: Sequence[int] | None = None,
        topk: int = 5,
        steady: bool = False,
    ) -> Generator[Result, None, None]:
        """Status and logits of every image of the split, in its order."""
        del inputs, outputs, layers, topk, steady
        failures = iter(self._embedded.failures)
        for source, ok, logits in zip(self._split.sources, self._embedded.ok, self._logits, strict=True):
            if ok:
                yield Result(source.name, logits=logits)
            else:
                _, status, error = next(failures)
                yield Result(source.name, status, error)

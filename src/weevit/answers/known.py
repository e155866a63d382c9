"""Known answers are not computed again: a model is asked only for inputs without an answer.

inputs ── known? ── yes: the answer is at hand
             └── no: (key, source) ── one stream through the model ── (key, result)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TypeVar

from weevit.answers.results import Result
from weevit.images.source import Source

Whom = TypeVar("Whom")


def ask_for(
    unknown: Generator[tuple[Whom, Source], None, None],
    stream: Callable[[Iterator[Source]], Generator[Result, None, None]],
) -> Generator[tuple[Whom, Result], None, None]:
    """The model's answers with their keys, in order.

    Args:
        unknown: the key of an answer, and its source; taken a little ahead of the answers, and closed at the end.
        stream: asks the model, as `Predictor.stream` does.
    """
    awaited: deque[Whom] = deque()

    def sources() -> Iterator[Source]:
        for whom, source in unknown:
            awaited.append(whom)
            yield source

    with closing(unknown), closing(stream(sources())) as results:
        for result in results:
            yield awaited.popleft(), result

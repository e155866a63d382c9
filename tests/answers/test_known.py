"""What is known is not asked again: each answer reaches the one it is for, however far ahead the model reads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import pytest

from weevit.answers.known import ask_for
from weevit.answers.results import Result
from weevit.images.source import Source

Stream = Callable[[Iterator[Source]], Generator[Result, None, None]]


def ahead(count: int, closed: list[str]) -> Stream:
    """A model that reads `count` sources before it answers the first."""

    def stream(sources: Iterator[Source]) -> Generator[Result, None, None]:
        waiting: list[Source] = []
        try:
            for source in sources:
                waiting.append(source)
                if len(waiting) == count:
                    yield Result(waiting.pop(0).name)
            while waiting:
                yield Result(waiting.pop(0).name)
        finally:
            closed.append("stream")

    return stream


def unknown(closed: list[str], count: int = 9) -> Generator[tuple[int, Source], None, None]:
    try:
        for number in range(count):
            if number % 3:  # the others are known
                yield number, Source(f"{number}.png", b"")
    finally:
        closed.append("unknown")


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_each_answer_reaches_whom_it_is_for(count: int) -> None:
    closed: list[str] = []
    found = [(whom, result.input) for whom, result in ask_for(unknown(closed), ahead(count, closed))]
    assert found == [(number, f"{number}.png") for number in (1, 2, 4, 5, 7, 8)]
    assert closed == ["unknown", "stream"]


def test_who_has_seen_enough_closes_both() -> None:
    closed: list[str] = []
    answers = ask_for(unknown(closed), ahead(2, closed))
    assert next(answers)[0] == 1
    answers.close()
    assert closed == ["stream", "unknown"]


def test_nothing_to_ask() -> None:
    assert not list(ask_for(unknown([], 1), ahead(2, [])))

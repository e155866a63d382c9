"""Who answers the shards of a job: this process (`Here`), or the actors of a cluster (`weevit.jobs.on_ray`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from weevit.jobs.manifest import Line
from weevit.jobs.settings import Settings
from weevit.jobs.tasks import Task, answer_shards
from weevit.predict import Predictor


@dataclass(frozen=True)
class Step:
    """Some answers.

    Attributes:
        rows: their number.
        errors: kind -> rows without an answer, among them.
        line: of the shard that is whole with them; None before.
    """

    rows: int
    errors: Counter[str] = field(default_factory=Counter)
    line: Line | None = None


class Runner(Protocol):
    """Answers shards."""

    @property
    def ends_begun(self) -> bool:
        """Whether shards that were begun are finished when no more tasks come, rather than given up."""
        ...

    def answer(self, tasks: Iterator[Task]) -> Generator[Step, None, None]:
        """Answer shards and write their files; a line is given when its file is whole.

        It asks for a task when it can begin it. Closed before its end, it gives up what was begun.
        """
        ...


class Here:
    """This process, with a model."""

    ends_begun = False

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        self._predictor, self._settings = predictor, settings

    def answer(self, tasks: Iterator[Task]) -> Generator[Step, None, None]:
        """One step per image."""
        with closing(answer_shards(tasks, self._predictor, self._settings)) as answers:
            for row, line in answers:
                yield Step(1, Counter() if row.status == "ok" else Counter([row.failure]), line)

"""Keys that come more than once, found on disk."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing

import pytest

pytest.importorskip("pyarrow")

from weevit.jobs.repeated import Repeated


@pytest.mark.parametrize("run", [1, 7, 1000, 1 << 19])
def test_the_keys_that_repeat_are_found_in_any_number_of_runs(run: int) -> None:
    dice = random.Random(run)
    given = [dice.choice((dice.getrandbits(64), dice.randrange(50) << 57, dice.randrange(9))) for _ in range(900)]
    with closing(Repeated(run)) as keys:
        for key in given:
            keys.add(key)
        assert keys.found() == {key for key, count in Counter(given).items() if count > 1}
        strange = {1 << 63 | 12345, 77}
        assert keys.among([*given[::50], *strange]) == set(given[::50])


def test_of_no_key_none_repeats() -> None:
    with closing(Repeated()) as keys:
        assert keys.found() == set()
        assert keys.among({3}) == set()

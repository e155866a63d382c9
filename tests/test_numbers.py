"""Numbers that were typed or passed: the message of each mistake, to the letter."""

from __future__ import annotations

import numpy as np
import pytest

import weevit
from weevit.arguments import MAX_SEED, whole


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("topk", "x", 1), "topk is a whole number, 1 or more: 'x' was given.", ""),
        (("topk", 0, 1), "topk is 1 or more: 0 was given.", ""),
        (("--topk", 0, 1), "--topk is 1 or more: 0 was given.", "For instance --topk 1."),
        (("n", -1, 0, None, "none is none"), "n is 0 or more (none is none): -1 was given.", ""),
    ],
)
def test_a_wrong_number_is_told_in_full(arguments: tuple[object, ...], message: str, hint: str) -> None:
    with pytest.raises(weevit.UsageError) as caught:
        whole(*arguments)  # type: ignore[arg-type]
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_seed_is_what_every_generator_takes() -> None:
    assert np.iinfo(np.int64).max == MAX_SEED

"""Turns: their order, what counts, and ratios round by round."""

from __future__ import annotations

import time

import pytest

from weevit.engine.timing import Ratio, interleaved


def test_turns_are_reversed_in_every_second_round() -> None:
    said: list[str] = []
    calls = {name: lambda name=name: said.append(name) for name in "AB"}  # type: ignore[misc]  # a lambda's default
    taken = interleaved(calls, 3, seconds=0)
    assert "".join(said) == "AABB" + "AB" + "BA" + "AB"  # the first two of each do not count
    assert {len(values) for own in taken.values() for values in (own.wall, own.cpu)} == {3}


def test_what_is_short_is_called_several_times_in_a_turn() -> None:
    called = 0

    def call() -> None:
        nonlocal called
        called += 1
        time.sleep(0.001)

    taken = interleaved({"call": call}, 1, seconds=0.02)
    assert 5 <= called - 2 <= 20
    assert 0.001 <= taken["call"].wall[0] < 0.02
    assert taken["call"].cpu[0] < taken["call"].wall[0]  # it slept


def test_ratios_are_of_the_same_round() -> None:
    ratio = Ratio.of([1.0, 2.0, 1.0], [2.0, 2.0, 3.0])
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 1.0, 3.0)
    assert ratio.won == pytest.approx(2 / 3)
    assert str(ratio) == "2.00 (1.00 to 3.00)"

"""A model opens its graph once for a stream, when the first image is there, and not at all where none is."""

from __future__ import annotations

from typing import Any

import labelled
import pytest

import weevit
from weevit import predict


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    real = predict.open_session

    def session(checkpoint: Any, request: Any, **options: Any) -> Any:
        found.append(request)
        return real(checkpoint, request, **options)

    monkeypatch.setattr(predict, "open_session", session)
    return found


def test_once_for_many_batches(opened: list[Any]) -> None:
    model = weevit.load("digits", cache=False, batch_size=2)
    results = list(model.stream([labelled.png(number) for number in range(7)]))
    assert [result.status for result in results] == ["ok"] * 7
    assert len(opened) == 1


def test_not_before_an_image_is_there(opened: list[Any]) -> None:
    model = weevit.load("digits", cache=False, batch_size=2)
    broken = [b"no image"] * 5
    assert {result.status for result in model.stream(broken)} == {"decode_error"}
    assert opened == []
    results = list(model.stream([*broken, labelled.png(), b"none", labelled.png(1)]))
    assert [result.ok for result in results] == [False] * 5 + [True, False, True]
    assert len(opened) == 1


def test_each_answer_is_that_of_its_own_image() -> None:
    """Among broken ones: rows of a batch are counted over the images that were decoded."""
    model = weevit.load("digits", cache=False, batch_size=4)
    good = [labelled.png(number * 40, (64, 64)) for number in range(4)]
    mixed = [good[0], b"none", good[1], good[2], b"none", b"none", good[3]]
    alone = [model.run(image, outputs=("logits",)).logits for image in good]
    together = [result.logits for result in model.stream(mixed, outputs=("logits",)) if result.ok]
    for one, other in zip(alone, together, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert len({one.tobytes() for one in together}) == 4

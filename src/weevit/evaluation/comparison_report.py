"""The page of a comparison: the verdict in a sentence, then the evidence."""

from __future__ import annotations

from typing import Any

from weevit.evaluation.report import coverage_chart, gallery_item, model_line, named, short_name, short_path, sure, tile
from weevit.evaluation.results import Comparison, Evaluation
from weevit.reports.page import number, percent, points, render
from weevit.text import counted

_SHOWN = 12
_CLASSES = 30


def comparison_page(comparison: Comparison) -> str:
    """The page as one HTML text; images are read again for their thumbnails."""
    first, second = comparison.first, comparison.second
    names = names_of(comparison)
    classes = [_class(first, row) for row in comparison.wins()]
    told = [row for row in classes if row[2] != row[3]]
    return render(
        "comparison.html",
        title=f"{names[1]} against {names[0]}",
        models=[(name, model_line(one.model)) for name, one in zip(names, (first, second), strict=True)],
        tiles=_tiles(comparison, names),
        verdict=verdict(comparison),
        kind="good" if comparison.indices and comparison.mid_p < 0.05 else "note",
        notices=_notices(comparison),
        square=_square(comparison, names),
        coverage=None if first.multi_label else coverage_chart(dict(zip(names, (first, second), strict=True))),
        class_columns=("class", "images", f"right: {names[0]}", f"right: {names[1]}", "difference"),
        classes=told[: _CLASSES // 2] + told[max(_CLASSES // 2, len(told) - _CLASSES // 2) :],
        all_classes=classes if len(told) > _CLASSES else [],
        galleries=[
            (f"Only {names[0]} is right", comparison.only_first, _gallery(comparison, False)),
            (f"Only {names[1]} is right", comparison.only_second, _gallery(comparison, True)),
        ],
        path=short_path(first.data["path"]),
        split=first.data["split"],
        seed=comparison.seed,
    )


def names_of(comparison: Comparison) -> tuple[str, str]:
    """Names of the two models, always different."""
    first, second = short_name(comparison.first.model), short_name(comparison.second.model)
    if first != second:
        return first, second
    longer = str(comparison.first.model["name"]), str(comparison.second.model["name"])
    return longer if longer[0] != longer[1] else (f"{first} (first)", f"{second} (second)")


def verdict(comparison: Comparison) -> str:
    """The verdict in words."""
    first, second = names_of(comparison)
    if not comparison.indices:
        return "There is no image that both answered, so nothing can be said."
    told = comparison.only_first + comparison.only_second
    if not told:
        return f"{first} and {second} are right and wrong on the same images."
    if comparison.only_first == comparison.only_second:
        return f"Both are right on as many images; on {told:,} of them only one of the two is."
    better = second if comparison.difference > 0 else first
    lead = abs(comparison.only_second - comparison.only_first)
    images = f"{counted(lead, 'more image')} of {len(comparison.indices):,}"
    chance = _chance(comparison.mid_p)
    if comparison.mid_p < 0.05:
        return f"{better} is better: right on {images}. {chance}"
    return f"No clear difference: {better} is right on {images}, which may be luck. {chance}"


def _chance(p: float) -> str:
    share = "less than 0.1\u00a0%" if p < 0.001 else percent(p, 1)
    return f"Between two equally good models a difference at least so large comes about in {share} of such tests."


def _tiles(comparison: Comparison, names: tuple[str, str]) -> list[dict[str, str]]:
    total = len(comparison.indices)
    rights = comparison.both + comparison.only_first, comparison.both + comparison.only_second
    tiles = [
        tile(name, percent(right / total if total else None), f"{right:,} of {total:,} right")
        for name, right in zip(names, rights, strict=True)
    ]
    bounds = f"{points(comparison.low)} to {points(comparison.high)} at 95 %"
    tiles.append(tile("difference, points", points(comparison.difference), bounds))
    tiles.append(tile("McNemar, mid-p", f"{comparison.mid_p:.3g}", f"exact {comparison.p_value:.3g}"))
    speeds = [one.images_per_second for one in (comparison.first, comparison.second)]
    note = "one after the other, in one run" if comparison.same_run else "from two runs: not comparable"
    tiles.append(tile("images per second", " / ".join(number(speed) for speed in speeds), note))
    return tiles


def _notices(comparison: Comparison) -> list[str]:
    left = len(comparison.first.rows) - len(comparison.indices)
    return [f"Left out: {counted(left, 'image')} that at least one of the two could not answer."] if left else []


def _square(comparison: Comparison, names: tuple[str, str]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    columns = ("", f"{names[1]} right", f"{names[1]} wrong")
    rows: list[tuple[str, ...]] = [
        (f"{names[0]} right", number(comparison.both), number(comparison.only_first)),
        (f"{names[0]} wrong", number(comparison.only_second), number(comparison.neither)),
    ]
    return columns, rows


def _class(evaluation: Evaluation, row: tuple[str, int, int, int]) -> tuple[Any, ...]:
    name, images, first, second = row
    return (named(evaluation, name), images, first, second, f"{second - first:+d}" if second != first else "0")


def _gallery(comparison: Comparison, second: bool) -> list[dict[str, Any]]:
    wrong = comparison.first if second else comparison.second
    return [_disagreement(comparison, index, wrong) for index in comparison.only(second)[:_SHOWN]]


def _disagreement(comparison: Comparison, index: int, wrong: Evaluation) -> dict[str, Any]:
    row, shown = wrong.rows[index], comparison.first if comparison.first.sources else comparison.second
    target, answer = named(comparison.first, row.target), named(wrong, row.answer)
    lines = [f"taken for {answer}{sure(row.probability)}"]
    return gallery_item(shown, index, target, lines, f"{target}, taken for {answer}")

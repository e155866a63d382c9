"""The page of a check: faults first, then the contents of the data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from weevit.checking.results import CheckedImage, Copies, DataCheck
from weevit.duplicates.copies import EXACT, MIRRORED, NEAR
from weevit.evaluation.report import short_path, tile
from weevit.images.source import Source
from weevit.reports import charts
from weevit.reports.axes import Axis, Svg
from weevit.reports.page import number, render
from weevit.reports.thumbnails import thumbnail
from weevit.text import counted

_GROUPS, _SUSPECTS, _PAIRS = 18, 36, 12
"""Findings that are shown as images; the list of fixes has all of them."""

_ROWS = 200
_CLASSES = 40
_THUMB = 144

_SAME = 0.9
"""Share of images of one size above which a chart of sizes is left out."""

_KINDS = {
    EXACT: "the same bytes",
    NEAR: "the same image, compressed or scaled again",
    MIRRORED: "the same image, mirrored",
}


def check_page(check: DataCheck) -> str:
    """The page as one HTML text; images are read again for their thumbnails."""
    shown = _Shown(check)
    return render(
        "check.html",
        title=short_path(check.path),
        lede=_lede(check),
        tiles=_tiles(check),
        notices=_notices(check),
        sections=_sections(check),
        leaks=[shown.group(copies) for copies in check.leaks[:_GROUPS]],
        leak_count=len(check.leaks),
        copies=[shown.group(copies) for copies in _inside(check)[:_GROUPS]],
        copy_count=len(_inside(check)),
        suspects=[shown.suspect(suspect) for suspect in check.suspects[:_SUSPECTS]],
        suspect_count=len(check.suspects),
        alike=[shown.pair(pair) for pair in check.alike[:_PAIRS]],
        alike_count=len(check.alike),
        broken=[(one.image.id, one.kind, one.error) for one in check.broken[:_ROWS]],
        broken_count=len(check.broken),
        unusual=[(one.image.id, one.kind, one.detail) for one in check.unusual[:_ROWS]],
        unusual_count=len(check.unusual),
        classes=_class_chart(check),
        class_columns=("class", *check.counts, "together"),
        class_rows=_class_rows(check),
        sizes=_size_chart(check),
        kinds=_kinds(check),
        notes=list(check.notes),
    )


def _lede(check: DataCheck) -> str:
    images = counted(len(check.images), "image")
    return (
        f"{images} of {counted(len(check.classes), 'class', 'classes')}"
        if check.classes
        else f"{images} without labels"
    )


def _tiles(check: DataCheck) -> list[dict[str, str]]:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in check.broken_kinds.most_common(3))
    own = Counter(image.split for image in check.images)
    splits = ", ".join(f"{own[name]:,} {name}" for name in check.counts if not check.multi_label)
    one = "one class each" if check.classes else "no labels"
    leaks = f"{counted(len(check.conflicts), 'group')} of different classes" if check.conflicts else one
    tiles = [
        tile("images", number(len(check.images)), splits),
        tile("in two splits", number(len(check.leaks)), "groups of copies"),
        tile("copies", number(len(check.copies)), f"groups; {leaks}" if check.copies else "groups"),
        tile("broken", number(len(check.broken)), kinds),
    ]
    if not check.classes:
        return tiles
    if check.model and not check.multi_label:
        tiles.append(tile("labels to look at", number(len(check.suspects)), "denied by images like theirs"))
    return [*tiles, tile("largest class", f"{number(check.imbalance, 1)} ×", "of the smallest")]


def _notices(check: DataCheck) -> list[tuple[str, str]]:
    notices = []
    for difference in check.differences:
        parts = [f"lacks {', '.join(difference.missing)}"] * bool(difference.missing)
        parts += [f"has {', '.join(difference.extra)} besides"] * bool(difference.extra)
        notices.append(
            (f"The classes of {difference.split} are not those of the first split: it {' and '.join(parts)}.", "bad")
        )
    if check.leaks:
        text = f"{counted(len(check.leaks), 'image')} in two splits: a model is evaluated on its training images."
        notices.append((text, "bad"))
    notices += [(f"Not checked: {text}.", "note") for text in check.unchecked]
    clean = not (check.leaks or check.broken or check.copies or check.suspects or check.differences)
    return notices + ([("Nothing was found that would have to be put right.", "good")] if clean else [])


def _sections(check: DataCheck) -> list[tuple[str, str]]:
    """The sections that the page links to."""
    sections = [
        ("leaks", "Leaks", bool(check.leaks)),
        ("labels", "Labels", bool(check.suspects)),
        ("broken", "Broken files", bool(check.broken)),
        ("copies", "Copies", bool(_inside(check))),
        ("alike", "Hardly told apart", bool(check.alike)),
        ("unusual", "Unusual images", bool(check.unusual)),
        ("classes", "Classes", bool(check.classes)),
        ("files", "Files", True),
    ]
    return [(name, title) for name, title, there in sections if there]


def _inside(check: DataCheck) -> list[Copies]:
    """Copies in one split."""
    return [copies for copies in check.copies if not copies.leak]


class _Shown:
    """Findings as images."""

    def __init__(self, check: DataCheck) -> None:
        self._sources: dict[str, Source] = {
            image.id: source for image, source in zip(check.images, check.sources, strict=True)
        }
        self._several = len(check.counts) > 1

    def group(self, copies: Copies) -> dict[str, Any]:
        """A group of copies, at most four of them."""
        items = [self._image(image, image.label) for image in copies.members[:4]]
        more = f"; {len(copies.members) - 4:,} more" if len(copies.members) > 4 else ""
        return {"title": _KINDS[copies.kind] + more, "conflict": copies.conflict, "images": items}

    def suspect(self, suspect: Any) -> dict[str, Any]:
        """A contradicted label."""
        shares = f"{suspect.suggested:.0%} against {suspect.own:.1%}"
        return self._image(suspect.image, f"{suspect.suggestion}?", f"labelled {suspect.image.label}", shares)

    def pair(self, pair: Any) -> dict[str, Any]:
        """Two similar images."""
        items = [self._image(image, image.label) for image in (pair.first, pair.second)]
        return {"title": "", "conflict": pair.first.labels != pair.second.labels, "images": items}

    def _image(self, image: CheckedImage, title: str, *lines: str) -> dict[str, Any]:
        source = self._sources.get(image.id)
        return {
            "image": None if source is None else thumbnail(source, _THUMB),
            "alt": image.id,
            "title": title or "no label",
            "lines": [*([image.split] if self._several else []), *lines],
            "name": image.id,
        }


def _class_chart(check: DataCheck) -> Svg | None:
    """The largest classes; of several splits all together."""
    totals = _totals(check)
    order = np.argsort(-totals, kind="stable")[:_CLASSES]
    rows = [charts.Bar(check.classes[index], float(totals[index])) for index in order]
    return charts.bars(rows, Axis("images"), "Images of each class") if rows else None


def _totals(check: DataCheck) -> Any:
    return np.sum([*check.counts.values(), (0,) * len(check.classes)], axis=0)


def _class_rows(check: DataCheck) -> list[tuple[str, ...]]:
    columns = [check.classes, *(map(number, counts) for counts in (*check.counts.values(), _totals(check).tolist()))]
    return list(zip(*columns, strict=True))


def _size_chart(check: DataCheck) -> Svg | None:
    """A histogram of the shorter side; None where most images have the same."""
    short = check.sizes.min(axis=1, initial=np.iinfo(np.int64).max)
    short = short[short > 0]
    if not len(short) or np.unique(short, return_counts=True)[1].max() > _SAME * len(short):
        return None
    edges = np.unique(np.geomspace(short.min(), short.max() + 1, 13).astype(int))
    heights, _ = np.histogram(short, edges)
    x, y = Axis("shorter side, pixels"), Axis("images")
    return charts.columns(edges.tolist(), heights.tolist(), x, y, "Images by their shorter side")


def _kinds(check: DataCheck) -> list[tuple[str, str]]:
    """Facts about the files."""
    turned = sum(count for value, count in check.orientations.items() if value != 1)
    known = check.sizes[check.sizes[:, 0] > 0]
    return [
        ("shorter side", _range(known.min(axis=1))),
        ("longer side", _range(known.max(axis=1))),
        ("formats", _listed(check.formats.most_common())),
        ("pixels", _listed(check.modes.most_common())),
        ("turned by EXIF", number(turned)),
        ("size on disk", f"{check.bytes / 1e6:,.1f} MB"),
        ("embeddings", check.model or "none were made"),
        ("time", f"{check.seconds:,.0f} s"),
    ]


def _range(sides: Any) -> str:
    """Smallest, median and largest."""
    if not len(sides):
        return "–"
    low, middle, high = (number(float(value)) for value in np.quantile(sides, (0, 0.5, 1)))
    return f"{low} px" if low == high else f"{low} to {high} px, half of them up to {middle}"


def _listed(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts) or "–"

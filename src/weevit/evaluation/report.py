"""The page of an evaluation, the most important first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weevit.answers.tables import BETWEEN
from weevit.engine.choice import named as named_engine
from weevit.evaluation.metrics import NO_ANSWER, wilson
from weevit.evaluation.results import Evaluation, ModelFacts
from weevit.reports import charts
from weevit.reports.axes import Axis, Svg
from weevit.reports.page import interval, number, percent, render
from weevit.reports.thumbnails import thumbnail
from weevit.text import counted, kinds
from weevit.zoo.weights import BY_NAME

_SMALL = 30
"""Classes that fit into a matrix and a table; of more, the worst are shown."""

_MANY = 20
_WORST = 24


def evaluation_page(evaluation: Evaluation) -> str:
    """The page as one HTML text; images are read again for their thumbnails."""
    several = evaluation.multi_label
    return render(
        "evaluation.html",
        title=f"{short_name(evaluation.model)} on {short_path(evaluation.data['path'])}",
        model=model_line(evaluation.model),
        tiles=_label_tiles(evaluation) if several else _tiles(evaluation),
        notices=_notices(evaluation),
        several=several,
        confusion=None if several else _confusion(evaluation),
        confused=_confused(evaluation),
        reliability=None if several else reliability_chart(evaluation, "Reliability diagram"),
        coverage=None if several else coverage_chart({"": evaluation}),
        worst=[_mistake(evaluation, index) for index in evaluation.worst(_WORST)],
        columns=_columns(evaluation),
        classes=_classes(evaluation, _SMALL),
        all_classes=_classes(evaluation) if len(evaluation.classes) > _SMALL else [],
        failures=[(row.input, row.error) for row in evaluation.failures],
        figures=[(name, f"{value:.6g}") for name, value in evaluation.metrics.items()],
        facts=facts_of(evaluation),
    )


def short_name(model: ModelFacts) -> str:
    """The alias of a published weight, else its architecture; for other models the name of the folder."""
    name = str(model["name"])
    weight = BY_NAME.get(name)
    if weight is not None:
        return weight.alias or weight.architecture.name
    return name.rpartition("(")[2].rstrip(")") if name.endswith(")") else name


def short_path(path: str) -> str:
    """The last two parts of a path."""
    return "/".join(part for part in path.replace("\\", "/").split("/")[-2:] if part) or path


def model_line(model: ModelFacts) -> str:
    """Full name, parameters, size, int8 where it is, engine, threads."""
    seen = model["preprocessing"]
    size = f"{seen['height']}" if seen["height"] == seen["width"] else f"{seen['height']} x {seen['width']}"
    threads = f"{model['threads']} thread{'' if model['threads'] == 1 else 's'}"
    engine = named_engine(model["engine"], model.get("precision", "fp32"), model.get("device", "cpu"))
    numbers = f"{model['quantization']} · " if "quantization" in model else ""
    return f"{model['name']} · {model['parameters'] / 1e6:.1f} M · {size} px · {numbers}{engine}, {threads}"


def tile(name: str, value: str, note: str = "") -> dict[str, str]:
    """A figure at a glance."""
    return {"name": name, "value": value, "note": note}


def _tiles(evaluation: Evaluation) -> list[dict[str, str]]:
    found = evaluation.metrics
    tiles = [
        tile(f"top-{k}", percent(found[f"top{k}"]), f"{interval(bounds)} (95\u00a0%\u00a0interval)")
        for k in (1, 5)
        if f"top{k}" in found and (bounds := (found[f"top{k}_low"], found[f"top{k}_high"]))
    ]
    tiles.append(tile("balanced accuracy", percent(found["balanced_accuracy"]), "mean over the classes"))
    if "known" in found:
        note = f"of {percent(found['known'])} of the images; the others are “unknown”"
        tiles.append(tile("right where it names a class", percent(found["known_top1"]), note))
    tiles.append(tile("calibration error", percent(found["ece"]), "ECE, 15 bins"))
    return [*tiles, *_counted(evaluation)]


def _label_tiles(evaluation: Evaluation) -> list[dict[str, str]]:
    found = evaluation.metrics
    return [
        tile("mean average precision", percent(found["map"]), "of the labels that occur"),
        tile("F1", percent(found["micro_f1"]), "all decisions together"),
        tile("F1 of the labels", percent(found["macro_f1"]), "mean"),
        tile("every label right", percent(found["exact"]), "of the images"),
        *_counted(evaluation),
    ]


def _counted(evaluation: Evaluation) -> list[dict[str, str]]:
    failed = len(evaluation.failures)
    return [
        tile(
            "images",
            number(len(evaluation.rows)),
            f"{number(failed)} without an answer" if failed else "all answered",
        ),
        tile("images per second", number(evaluation.images_per_second, 1), "from the file to the answer"),
    ]


def _notices(evaluation: Evaluation) -> list[tuple[str, str]]:
    notices = [(str(note), "note") for note in evaluation.data.get("notes", ())]
    if evaluation.failures:
        images = counted(len(evaluation.rows), "image")
        text = f"No answer for {len(evaluation.failures):,} of {images}: {kinds(evaluation.failed)}."
        if "top1_worst" in evaluation.metrics:
            text += f" Counted as wrong, they would make top-1 {percent(evaluation.metrics['top1_worst'])}."
        notices.append((text, "bad"))
    absent = int((evaluation.per_class.support == 0).sum())
    if absent:
        text = f"No image of {absent:,} of the model's {len(evaluation.classes):,} classes is here."
        notices.append((text, "note"))
    return notices


# ---- confusions


def _confusion(evaluation: Evaluation) -> Svg | None:
    matrix, names = evaluation.confusion, list(evaluation.names.values())
    shown = np.arange(len(names)) if len(names) <= _SMALL else _mixed_up(evaluation)
    if not len(shown) or not matrix.any():
        return None
    own = [names[index] for index in shown]
    return charts.heatmap(charts.Grid(matrix[np.ix_(shown, shown)], own, own), "Confusion matrix")


def _mixed_up(evaluation: Evaluation) -> Any:
    """Indices of the classes in the most frequent mistakes, in the order of the head."""
    indices = {label.id: index for index, label in enumerate(evaluation.classes)}
    chosen: list[int] = []
    for target, answer, _ in evaluation.confused(10 * _MANY):
        pair = [indices[name] for name in (target, answer) if name in indices and indices[name] not in chosen]
        if len(chosen) + len(pair) > _MANY:
            break
        chosen += pair
    return np.array(sorted(chosen), dtype=np.int64)


def _confused(evaluation: Evaluation) -> list[tuple[Any, ...]]:
    support = Counter(row.target for row in evaluation.answered)
    return [
        (named(evaluation, target), named(evaluation, answer), number(times), percent(times / support[target]))
        for target, answer, times in evaluation.confused(15)
    ]


def named(evaluation: Evaluation, text: str | None) -> str:
    """Names of the classes in a row's target or answer."""
    if text is None:
        return "no answer"
    names = evaluation.names
    return names.get(text) or ", ".join(names.get(one, one) for one in text.split(BETWEEN) if one) or "nothing"


# ---- calibration


def reliability_chart(evaluation: Evaluation, title: str) -> Svg | None:
    """Accuracy over confidence, in bins; None without an answer."""
    found = evaluation.calibration
    if not found.counts.any():
        return None
    bins = charts.Bins(*(getattr(found, name).tolist() for name in ("edges", "confidence", "accuracy", "counts")))
    return charts.reliability(bins, f"{title}; calibration error {percent(found.error)}")


def coverage_chart(evaluations: Mapping[str, Evaluation]) -> Svg | None:
    """Accuracy over the share of answered images, of one or several evaluations by name."""
    series = [_coverage(name, evaluation, band=len(evaluations) == 1) for name, evaluation in evaluations.items()]
    if not all(len(one.x) for one in series):
        return None
    # An interval from few answers is wide and may leave the chart; otherwise the curve would lie flat at the top.
    lowest = min(min(one.y) for one in series) - (0.1 if len(series) == 1 else 0.0)
    y = Axis("right, of the images that are answered", max(0.0, np.floor(lowest * 20) / 20), 1.0, percent=True)
    x = Axis("images that are answered, the surest first", 0.0, 1.0, percent=True)
    return charts.line(series, x, y, "Accuracy against coverage")


def _coverage(name: str, evaluation: Evaluation, band: bool) -> charts.Series:
    curve, total = evaluation.coverage, len(evaluation.answered)
    wanted = np.linspace(0.02, 1.0, 99)
    some = np.unique(np.searchsorted(curve.coverage, wanted).clip(max=max(len(curve.coverage) - 1, 0)))
    some = some[: len(curve.coverage)]
    x, y = curve.coverage[some], curve.accuracy[some]
    bounds = [wilson(round(right * count), round(count)) for right, count in zip(y, x * total, strict=True)]
    low, high = ([one[0] for one in bounds], [one[1] for one in bounds]) if band else ([], [])
    return charts.Series(name, x.tolist(), y.tolist(), low, high)


# ---- images, classes, facts


def gallery_item(evaluation: Evaluation, index: int, title: str, lines: Sequence[str], alt: str) -> dict[str, Any]:
    """An entry of a gallery; the image is read again."""
    source = evaluation.sources[index] if index < len(evaluation.sources) else None
    name = evaluation.rows[index].input
    image = thumbnail(source) if source else None
    return {"image": image, "title": title, "lines": list(lines), "name": name, "alt": f"{name}: {alt}"}


def _mistake(evaluation: Evaluation, index: int) -> dict[str, Any]:
    row = evaluation.rows[index]
    answer, target = named(evaluation, row.answer), named(evaluation, row.target)
    lines = [f"is {target}{sure(row.target_probability)}", *(["told as unknown"] if row.unknown else [])]
    return gallery_item(evaluation, index, f"{answer}{sure(row.probability)}", lines, f"{target}, answered {answer}")


def sure(probability: float | None) -> str:
    """` (96.4 %)`, for the text after a class."""
    return "" if probability is None else f" ({percent(probability)})"


def _columns(evaluation: Evaluation) -> list[str]:
    last = ["average precision"] if evaluation.average_precision else []
    return ["class", "precision", "recall", "F1", *last, "images", "answered so"]


def _classes(evaluation: Evaluation, at_most: int = NO_ANSWER) -> list[tuple[Any, ...]]:
    """The rows of the table of classes; of more than `at_most`, those of the lowest F1 that have images."""
    found, names = evaluation.per_class, list(evaluation.names.values())
    shown = np.arange(len(names))
    if 0 <= at_most < len(names):
        there = np.flatnonzero(found.present)
        shown = there[np.lexsort((-found.support[there], found.f1[there]))][:at_most]
    return [_class(evaluation, int(index), names[index]) for index in shown]


def _class(evaluation: Evaluation, index: int, name: str) -> tuple[Any, ...]:
    found = evaluation.per_class
    own = [percent(found.precision[index]), percent(found.recall[index]), percent(found.f1[index])]
    own += [percent(evaluation.average_precision[index])] if evaluation.average_precision else []
    return (name, *own, number(found.support[index]), number(found.answered[index]))


def facts_of(evaluation: Evaluation) -> list[tuple[str, str]]:
    """The facts of the measurement."""
    model, data = evaluation.model, evaluation.data
    seen = model["preprocessing"]
    pairs = [
        ("model", f"{model['name']} from {model['source']}"),
        ("sha256 of its weights", model["sha256"]),
        ("preprocessing", f"{seen['interpolation']}, {seen['crop_mode']} crop of {seen['crop_pct']:g}, "
         f"{seen['height']} x {seen['width']} px"),
        ("data", f"{data['path']}, split “{data['split']}”"),
        ("fingerprint of the data", data["fingerprint"] or "none: images in memory"),
        ("images", f"{len(evaluation.rows):,} in {evaluation.seconds:.1f} s"),
    ]  # fmt: skip
    if model.get("unknown_below") is not None:
        pairs.append(("unknown", f"below a probability of {model['unknown_below']:.3f}"))
    return [*pairs, ("weevit", str(model["weevit"]))]

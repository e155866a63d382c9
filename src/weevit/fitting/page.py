"""The page of a fit: the candidates, the chosen head, its accuracy and calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite, log10
from typing import Any

from weevit.evaluation.report import model_line, reliability_chart, short_name, tile
from weevit.evaluation.results import Evaluation
from weevit.fitting.results import Fit
from weevit.reports import charts
from weevit.reports.axes import Axis, Svg
from weevit.reports.page import interval, number, percent, render

_MANY = 30
"""Classes that fit into a matrix."""


def fit_page(fit: Fit, facts: Mapping[str, Any]) -> str:
    """The page as one HTML text.

    Args:
        fit: what came of it.
        facts: the other facts of `run.json`.
    """
    validation = fit.evaluations["validation"]
    several = validation.multi_label
    return render(
        "fit.html",
        title=f"{short_name(validation.model)}: {number(len(fit.classes))} classes",
        lede=f"{model_line(validation.model)} · a linear head on {fit.base}",
        tiles=list(_tiles(fit)),
        notices=_notices(fit),
        measure=fit.measure,
        tried=_tried(fit),
        candidates=[(one.name, percent(one.score)) for one in sorted(fit.candidates, key=lambda one: -one.score)],
        chosen=fit.chosen.name,
        calibration=_calibration(fit),
        by=fit.calibration.by,
        reliability=None if several else reliability_chart(validation, "Reliability on validation"),
        confusion=None if several else _confusion(validation),
        splits=list(fit.evaluations),
        columns=("class", "precision", "recall", "F1", "images"),
        classes=_classes(validation),
        failures=[one[1:] for one in fit.failures],
        facts=_facts(fit, facts),
    )


def _tiles(fit: Fit) -> Iterator[dict[str, str]]:
    for name, evaluation in fit.evaluations.items():
        found = evaluation.metrics
        if evaluation.multi_label:
            yield tile(f"{name}: mean average precision", percent(found["map"]), f"{len(evaluation.rows):,} images")
            yield tile(f"{name}: F1 of all decisions", percent(found["micro_f1"]))
        else:
            bounds = interval((found["top1_low"], found["top1_high"]))
            yield tile(f"{name}: right", percent(found["top1"]), f"{bounds} at 95 %, {len(evaluation.rows):,} images")
            yield tile(f"{name}: calibration error", percent(found["ece"]), "ECE, 15 bins")
            if "known" in found:
                note = f"of {percent(found['known'])}; the others are “unknown”"
                yield tile(f"{name}: right where a class is named", percent(found["known_top1"]), note)
    note = f"{number(fit.computed)} images looked at, {number(fit.cached)} known from before"
    yield tile("time", f"{fit.seconds['total']:.1f} s", note)


def _notices(fit: Fit) -> list[tuple[str, str]]:
    notices = [(note, "note") for note in fit.notes]
    if fit.neighbours_better and fit.neighbours:
        text = (
            f"{fit.neighbours.name} would be clearly better: {percent(fit.neighbours.score)} in cross-validation, the "
            f"best linear head {percent(fit.chosen.score)}. A checkpoint has a linear head, so that one was written."
        )
        notices.insert(0, (text, "bad"))
    if fit.failures:
        notices.append((f"{number(len(fit.failures))} images have no answer and were left out.", "bad"))
    return notices


def _tried(fit: Fit) -> Svg | None:
    """The score over the strength of the regularisation, and the best of nearest neighbours as a level."""
    linear = [one for one in fit.candidates if one.kind == "linear" and isfinite(one.score)]
    if not linear:
        return None
    x = [log10(one.settings["strength"]) for one in linear]
    series = [charts.Series("logistic regression", x, [one.score for one in linear], marks=True)]
    if fit.neighbours:
        series.append(charts.Series(fit.neighbours.name, [x[0], x[-1]], [fit.neighbours.score] * 2))
    across = Axis("log10 of C: strong regularisation on the left", x[0], x[-1])
    return charts.line(series, across, Axis(fit.measure, percent=True), "Cross-validation of everything that was tried")


def _calibration(fit: Fit) -> list[tuple[str, str]]:
    errors, temperatures = fit.calibration.errors, fit.calibration.temperatures
    return [
        ("validation, logits as fitted", percent(errors["before"])),
        ("validation, as written", percent(errors["after"])),
        ("by chance, if every probability were exactly right", percent(errors["by_chance"])),
        (f"validation, temperature {temperatures['folds']:.3f} from the folds", percent(errors["with_folds"])),
        (
            f"validation, temperature {temperatures['validation']:.3f} from these very images",
            percent(errors["with_validation"]),
        ),
        ("training, each image by a head that did not see it", percent(errors["out_of_fold"])),
        ("the same by chance", percent(errors["out_of_fold_by_chance"])),
    ]


def _confusion(evaluation: Evaluation) -> Svg | None:
    names = list(evaluation.names.values())
    if len(names) > _MANY or not evaluation.confusion.any():
        return None
    return charts.heatmap(charts.Grid(evaluation.confusion, names, names), "Confusion matrix of the validation images")


def _classes(evaluation: Evaluation) -> list[tuple[str, ...]]:
    found = evaluation.per_class
    return [
        (name, percent(found.precision[k]), percent(found.recall[k]), percent(found.f1[k]), number(found.support[k]))
        for k, name in enumerate(evaluation.names.values())
    ]


def _facts(fit: Fit, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    decision, data = fit.checkpoint.decision, facts["data"]
    pairs = [
        ("backbone", f"{fit.base}, sha256 {facts['model']['sha256']}"),
        ("written", f"{fit.checkpoint.path}, sha256 {fit.checkpoint.sha256}"),
        ("data", str(data["path"])),
        ("fingerprint of the data", str(data["fingerprint"])),
        ("images", ", ".join(f"{count:,} {name}" for name, count in fit.images.items())),
        ("settings", ", ".join(f"{name} {value}" for name, value in vars(fit.settings).items())),
        ("temperature", f"{fit.calibration.temperature:.4f}, folded into the head"),
    ]
    if decision and decision.threshold is not None:
        pairs.append(("unknown", f"below a probability of {decision.threshold:.4f} (coverage {decision.coverage:g})"))
    took = ", ".join(f"{name} {value:.1f} s" for name, value in fit.seconds.items())
    checked = f"logits within {fit.difference:.1e} of those of the head as fitted"
    return [*pairs, ("read back and run", checked), ("seconds", took)]

"""The page and the record of a quantised model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from weevit.evaluation.report import tile
from weevit.evaluation.saved import write_report
from weevit.quantization.results import Agreement, Quantized
from weevit.reports.page import interval, number, percent, points, render
from weevit.store.files import finite
from weevit.store.provenance import provenance
from weevit.zoo.checkpoint import Checkpoint

SCHEMA = "weevit.quantization/1"


def write_quantization(found: Quantized, original: Checkpoint) -> None:
    """Write `report.html` and `report.json` beside a model that is there.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    machine = provenance(("numpy", "onnxruntime", "openvino"))
    record = {"schema": SCHEMA, **finite(found.as_json()), **machine}
    write_report(found.folder, quantization_page(found, original, machine), record)


def quantization_page(found: Quantized, original: Checkpoint, machine: dict[str, Any]) -> str:
    """The page as one HTML text."""
    return render(
        "quantization.html",
        title=f"{original.name} in int8",
        lede=f"{found.quantization}; {_judged(found)}.",
        tiles=list(_tiles(found)),
        notices=found.notes,
        columns=("", "original", "int8"),
        rows=list(_rows(found)),
        agreement=list(_agreement(found.agreement)) if found.agreement else [],
        gate=[(name.replace("_", " "), f"{value:g}") for name, value in vars(found.settings.gate).items()],
        facts=_facts(found, original, machine),
    )


def _judged(found: Quantized) -> str:
    if found.agreement is None:
        return "without images, so that only its speed was measured"
    return "measured against the original on images that it was not calibrated on"


def _tiles(found: Quantized) -> Iterator[dict[str, str]]:
    agreement, speed = found.agreement, found.speed
    spread = f"{speed.ratio.low:.2f} to {speed.ratio.high:.2f}, {found.processor}"
    yield tile("faster, by processor time", f"{speed.ratio.median:.2f} ×", spread)
    if agreement and agreement.same is not None:
        bounds = interval((agreement.low, agreement.high))
        yield tile("same class", percent(agreement.share), f"{bounds} at 95 %, {agreement.images:,} images")
    if agreement and agreement.labelled:
        note = f"p = {agreement.p_value:.3g}, {agreement.labelled:,} images"
        yield tile("top-1, points", points(-agreement.drop), note)
    yield tile("size", percent(found.size[1] / found.size[0]), f"{found.size[1] / 1e6:.1f} MB")


def _rows(found: Quantized) -> Iterator[tuple[str, ...]]:
    agreement, speed = found.agreement, found.speed
    if agreement and agreement.labelled:
        yield ("top-1 accuracy", *(percent(right / agreement.labelled, 2) for right in agreement.right))
    yield ("images per second, by the clock", *(number(1 / seconds, 1) for seconds in speed.wall))
    yield ("milliseconds of processor time per image", *(number(1000 * seconds, 1) for seconds in speed.cpu))
    yield ("megabytes of weights", *(number(size / 1e6, 1) for size in found.size))


def _agreement(agreement: Agreement) -> Iterator[tuple[str, str]]:
    yield "images", number(agreement.images)
    if agreement.same is not None:
        yield "same class", f"{agreement.same:,} ({percent(agreement.share, 2)})"
        yield (
            "difference of a logit, mean and largest",
            f"{agreement.mean_difference:.3f}, {agreement.max_difference:.3f}",
        )
    yield "cosine of the embeddings, mean and least", f"{agreement.mean_cosine:.4f}, {agreement.min_cosine:.4f}"


def _facts(found: Quantized, original: Checkpoint, machine: dict[str, Any]) -> list[tuple[str, str]]:
    assert found.checkpoint is not None
    return [
        ("original", f"{original.name}, sha256 {found.quantization.original}"),
        ("written", f"{found.checkpoint.path}, sha256 {found.checkpoint.sha256}"),
        ("quantisation", str(found.quantization)),
        ("images that could not be read", number(found.left_out)),
        ("engine", f"{found.engine} on {machine['machine']['processor']} ({found.processor})"),
        ("rounds", f"{found.speed.rounds}, in turns"),
        ("seconds", f"{found.seconds:.1f}"),
    ]

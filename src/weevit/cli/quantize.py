"""`weevit quantize`: an int8 model that keeps its promise, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from weevit.cli import options
from weevit.cli.console import EXIT_NOTHING, say, say_json, tell
from weevit.errors import UsageError
from weevit.text import typed

if TYPE_CHECKING:
    from weevit.quantization.results import Agreement, Quantized


@click.command()
@options.loading_argument
@options.allow_urls
@click.option("--data", help="Images of the kind that the model will see, with classes or without.")
@click.option("--no-data", is_flag=True, help="No calibration: each row of activations has its own range; slower.")
@click.option(
    "--images", type=options.Whole(8), default=128, show_default=True, help="Images to calibrate on.",
)  # fmt: skip
@click.option(
    "--held-out", type=options.Whole(16), default=1000, show_default=True, help="Images for the gate, at most.",
)  # fmt: skip
@click.option("--bits", type=options.Whole(7, 8), help="Bits of the weights; by default 8 with VNNI or AMX, else 7.")
@click.option(
    "--max-drop", type=float, default=0.5, show_default=True, help="Points of top-1 accuracy that may be lost.",
)  # fmt: skip
@click.option(
    "--min-agreement", type=float, default=96.0, show_default=True,
    help="Percentage of images to which both models have to give the same class.",
)  # fmt: skip
@click.option(
    "--min-speedup", type=float, default=1.2, show_default=True, help="How many times faster it has to be here.",
)  # fmt: skip
@options.seed(help="Seed of the draw of images.")
@options.output
@options.json_lines
@options.quiet
@options.verbose
def quantize(
    loading: options.Loading,
    data: str | None,
    no_data: bool,
    images: int,
    held_out: int,
    bits: int | None,
    max_drop: float,
    min_agreement: float,
    min_speedup: float,
    seed: int,
    output: Path | None,
    json_lines: bool,
    quiet: bool,
) -> int:
    """Make an int8 model of MODEL, and write it if it passes.

    It is measured against MODEL.

    --data calibrates on some images and judges on others: the share with the same class, top-1 accuracy where classes
    are known, and speed. A model that misses a limit, or is not faster on this machine, is not written (exit code 1).
    """
    from weevit.cli import answers
    from weevit.cli.progress import counted_progress
    from weevit.datasets.read import check_there
    from weevit.quantization.quantize import QUANTIZATION
    from weevit.quantization.quantize import quantize as run
    from weevit.quantization.results import Gate, Settings
    from weevit.reports.page import require_jinja
    from weevit.store.folder import check_folder

    if output is None or (data is None) != no_data:
        what = "It is written into a folder" if output is None else "It takes either --data or --no-data"
        command = f"weevit quantize {typed(loading.model)} -o {typed(output or 'mine-int8')}"
        given = " --no-data" if no_data else f" --data {typed(data or 'photos/')}"
        raise UsageError(f"A model is quantised by one command. {what}.", command + given)
    Settings(images, held_out, bits, seed, Gate(max_drop, min_agreement, min_speedup)).check()
    require_jinja()
    if data is not None:
        check_there(data)
    check_folder(output, QUANTIZATION, (loading.model, data))  # all of it before the model is loaded
    predictor = answers.load_model(loading, quiet)
    with counted_progress(quiet) as moved:
        found = run(
            predictor, data, output,
            images=images, held_out=held_out, bits=bits, seed=seed, watch=moved,
            max_drop=max_drop, min_agreement=min_agreement, min_speedup=min_speedup,
        )  # fmt: skip
    say_json({"folder": str(found.folder), **_plain(found)}) if json_lines else say(*_lines(found))
    for line in (*found.notes, *([f"{found.left_out:,} images could not be read"] if found.left_out else [])):
        tell(f"note: {line}")
    if not found.passed:
        tell("Not written:", *(f"  {line}" for line in found.failed))
        return EXIT_NOTHING
    if not quiet:
        tell(f"{found.seconds:.1f} s · report: {found.folder / 'report.html'}")
        tell(f"next: weevit classify new.jpg --model {typed(found.folder)}")
    return 0


def _plain(found: Quantized) -> dict[str, object]:
    from weevit.store.files import finite

    plain: dict[str, object] = finite(found.as_json())
    return plain


def _lines(found: Quantized) -> list[str]:
    """What was measured, a line each."""
    rows = {"quantised": str(found.quantization), **_agreement(found.agreement)}
    speed, size = found.speed, found.size
    where = f"{found.engine}, {found.processor}"
    rows["speed"] = f"{speed.ratio} times by processor time, {speed.wall[0] / speed.wall[1]:.2f} by the clock: {where}"
    rows["size"] = f"{size[1] / 1e6:.1f} MB, {size[1] / size[0]:.0%} of the original"
    width = max(map(len, rows))
    return [f"{title:<{width}}  {text}" for title, text in rows.items()]


def _agreement(own: Agreement | None) -> dict[str, str]:
    rows: dict[str, str] = {}
    if own is None:
        return rows
    if own.same is not None:
        rows["same class"] = f"{own.share:.1%} of {own.images:,} ({own.low:.1%} to {own.high:.1%} at 95 %)"
        rows["logits"] = f"differ by {own.mean_difference:.3f}, at most {own.max_difference:.3f}"
    if own.labelled:
        first, second = (right / own.labelled for right in own.right)
        test = f"{own.labelled:,} images, McNemar p = {own.p_value:.3g}"
        rows["top-1"] = f"{first:.2%} before, {second:.2%} now ({test})"
    return {**rows, "embeddings": f"cosine {own.mean_cosine:.4f}, at least {own.min_cosine:.4f}"}

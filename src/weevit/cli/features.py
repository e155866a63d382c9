"""`weevit features`: what the blocks see, as maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from weevit.cli import options
from weevit.errors import UsageError

if TYPE_CHECKING:
    from weevit.results import Result


@click.command()
@options.inputs
@options.loading
@click.option("--layers", help="Blocks, from 0, as in 5,10,-1; the last by default.")
@options.output
@options.strict
@options.quiet
@options.verbose
def features(
    inputs: tuple[str, ...],
    loading: options.Loading,
    layers: str | None,
    output: Path | None,
    strict: bool,
    quiet: bool,
) -> int:
    """Write feature maps of some blocks: (embed_dim, rows, columns) float32 each.

    --output maps.npz holds block_5, block_10, ... for one picture; for several, each is stacked with a first axis over
    the answered pictures, whose names are in `inputs`.
    """
    from weevit.cli import answers
    from weevit.cli.console import Tally, tell
    from weevit.cli.progress import images_progress
    from weevit.cli.writers import write_features_npz

    if output is None:
        raise UsageError("Where should the maps go? --output was not given.", "-o maps.npz")
    answers.check_output(output, (".npz",))
    sources = answers.read_inputs(inputs)
    predictor = answers.load_model(loading, quiet)
    tally = Tally()
    stream = predictor.stream(sources, outputs=("features",), layers=options.parse_layers(layers))
    results: list[Result] = [
        answers.told(result) for result in answers.count_all(stream, tally, images_progress(quiet))
    ]
    if tally.done:
        shapes = write_features_npz(output, results)
        if not quiet:
            tell(f"{output}: " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
    answers.finish(tally, sources, quiet)
    return tally.exit_code(strict)

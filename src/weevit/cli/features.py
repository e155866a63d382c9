"""`weevit features`: what the blocks see, as maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from weevit.cli import options
from weevit.errors import UsageError

if TYPE_CHECKING:
    from weevit.predict import Result


def features(
    inputs: options.Inputs,
    model: options.Model = options.DEFAULT_MODEL,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Blocks, from 0; the last by default.", show_default=False)
    ] = None,
    output: options.Output = None,
    image_size: options.ImageSize = None,
    batch_size: options.BatchSize = 8,
    threads: options.Threads = None,
    engine: options.Engine = "onnxruntime",
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Write feature maps of some blocks: (embed_dim, rows, columns) float32 each.

    --output maps.npz holds block_5, block_10, ... for one picture; for several, each is stacked with a first axis over
    the answered pictures, whose names are in `inputs`.
    """
    from weevit.cli import answers
    from weevit.cli.progress import images_progress
    from weevit.cli.writers import write_features_npz
    from weevit.images.decode import Limits

    if output is None:
        raise UsageError("Where should the maps go? --output was not given.", "-o maps.npz")
    answers.check_output(output, (".npz",))
    sources = answers.read_inputs(inputs)
    predictor = answers.load_model(
        model,
        quiet,
        image_size=options.parse_image_size(image_size),
        batch_size=batch_size,
        threads=threads,
        engine=engine,
        limits=Limits(max_pixels=max_pixels),
    )
    tally = answers.Tally()
    stream = predictor.stream(sources, outputs=("features",), layers=options.parse_layers(layers))
    results: list[Result] = [
        answers.told(result) for result in answers.count_all(stream, tally, images_progress(quiet))
    ]
    if tally.done:
        shapes = write_features_npz(output, results)
        if not quiet:
            answers.tell(f"{output}: " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
    answers.finish(tally, sources, quiet)
    return tally.exit_code(strict)

"""`weevit features`: the features of the blocks, as maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
from weevit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from weevit.answers.results import Result
    from weevit.images.source import Source
    from weevit.predict import Predictor


@click.command()
@options.inputs
@options.loading_to_answer
@click.option("--layers", help="Indices of blocks, as in 5,10,-1; the last by default.")
@options.answers
@options.job
@click.option("--pca", type=options.Output(), help="A .png: patch features as colours, for one image.")
@options.strict
@options.quiet
@options.verbose
def features(
    inputs: tuple[str, ...],
    loading: options.Loading,
    layers: str | None,
    output: Path | str | None,
    job: options.Job,
    pca: Path | None,
    strict: bool,
    quiet: bool,
) -> int:
    """Write feature maps of some blocks.

    Each is (embed_dim, rows, columns) float32.

    --output maps.npz holds block_5, block_10, ... for one image; for several, each is stacked with a first axis over
    the answered images, whose names are in `inputs`. --pca out.png shows the first three principal components of the
    patch features as red, green and blue.

    --output maps/ is a folder of Parquet files for any number of images; rerun the command to resume.
    """
    from weevit.cli import answers, signs
    from weevit.cli.console import Tally, tell
    from weevit.cli.progress import images_progress
    from weevit.cli.writers import write_features_npz
    from weevit.images.source import PAUSE

    if output is None and pca is None:
        raise UsageError("Where should the maps go? Neither --output nor --pca was given.", "-o maps.npz")
    if answers.is_folder(output) and pca is None:
        from weevit.cli.many import answer_many

        own: dict[str, Any] = {"layers": options.parse_layers(layers)}
        return answer_many("features", inputs, loading, output, job, quiet=quiet, strict=strict, **own)
    blocks = options.parse_layers(layers)
    if isinstance(output, str):
        raise UsageError(
            "--pca draws a file, and --output is a folder in a bucket: one of them at a time.", "--pca maps.png"
        )
    answers.check_output(output, signs.FEATURES, inputs)
    options.refuse_job(job, output)
    answers.check_output(pca, signs.PCA, inputs, "--pca")
    sources, predictor = answers.begin(inputs, loading, quiet)
    given: Iterable[Source] = sources if pca is None else [one for one in sources if one is not PAUSE]
    tally = Tally()
    stream = predictor.stream(given, outputs=("features",), layers=blocks)
    with answers.whole_or_nothing(output):
        counted = answers.count_all(stream, tally, images_progress(quiet))
        results: list[Result] = [answers.told(result) for result in counted]
    if tally.done and output is not None:
        shapes = write_features_npz(output, results)
        if not quiet:
            tell(f"{output}: " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))
    if tally.done and pca is not None:
        draw_colours(pca, predictor, zip(given, results, strict=True))
    answers.finish(tally, sources, quiet)
    return tally.exit_code(strict)


def draw_colours(path: Path, predictor: Predictor, results: Iterable[tuple[Source, Result]]) -> None:
    """Write `--pca` for the one answered image, whose name may be one in an archive or a list."""
    from weevit.cli.signs import save_image
    from weevit.explain.draw import draw_principal
    from weevit.store.files import write_whole

    answered = [(source, result) for source, result in results if result.ok]
    if len(answered) != 1:
        raise UsageError(f"--pca draws one image; {len(answered)} were answered.", "Name one image.")
    source, result = answered[0]
    sheet = draw_principal(predictor.crop(source), result.features)
    write_whole(path, lambda file: save_image(sheet, file, "features"))

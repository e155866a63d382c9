"""`weevit embed`: images as vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
from weevit.errors import UsageError

if TYPE_CHECKING:
    from weevit.answers.results import Result


@click.command()
@options.inputs
@options.loading_to_answer
@click.option("--normalize", is_flag=True, help="Scale each vector to length 1.")
@click.option(
    "--dtype", type=options.OneOf(("float32", "float16")), default="float32", show_default=True,
    help="Type of the numbers, with a folder as --output.",
)  # fmt: skip
@options.answers
@options.job
@options.json_lines
@options.strict
@options.quiet
@options.verbose
def embed(
    inputs: tuple[str, ...],
    loading: options.Loading,
    normalize: bool,
    dtype: str,
    output: Path | str | None,
    job: options.Job,
    json_lines: bool,
    strict: bool,
    quiet: bool,
) -> int:
    """Embed images: one vector each.

    For search, clustering and your own classifiers.

    --output vectors.npy writes an array and, beside it, vectors.ids.txt with the name of each row; inputs that failed
    have no row there and are told on stderr. --output vectors.parquet has a row, a status and an error for every
    input. --json prints one object per line.

    --output vectors/ is a folder of Parquet files for any number of images: killed or stopped, rerun the command
    to resume. Where images were added or changed, only those are computed.
    """
    from weevit.answers.columns import COMMON, embedding_column, json_object
    from weevit.cli import answers, signs
    from weevit.cli.console import Tally, say_json
    from weevit.cli.progress import images_progress
    from weevit.cli.writers import WRITERS

    if output is None and not json_lines:
        raise UsageError("Where should the vectors go? Neither --output nor --json was given.", "-o vectors.npy")
    if answers.is_folder(output):
        from weevit.cli.many import answer_many

        own: dict[str, Any] = {"normalize": normalize, "dtype": dtype, "json_lines": json_lines}
        return answer_many("embed", inputs, loading, output, job, quiet=quiet, strict=strict, **own)
    assert not isinstance(output, str)  # an address is a folder
    answers.check_output(output, signs.EMBED, inputs)
    options.refuse_job(job, output, {"--dtype float16": dtype == "float16"})
    sources, predictor = answers.begin(inputs, loading, quiet)
    columns = (*COMMON, embedding_column(predictor.checkpoint, normalize))
    tally = Tally()
    results: list[Result] = []
    stream = predictor.stream(sources, outputs=("embedding",))
    with answers.whole_or_nothing(output):
        for result in answers.count_all(stream, tally, images_progress(quiet)):
            answers.told(result)
            if json_lines:
                say_json(json_object(result, columns))
            if output is not None:
                results.append(result)
    written: list[Path] = []
    if output is not None and (tally.done or output.suffix.lower() != ".npy"):  # an array has no row for a failure
        written = WRITERS[output.suffix.lower()](output, results, columns)
    answers.finish(tally, sources, quiet, " and ".join(map(str, written)))
    return tally.exit_code(strict)

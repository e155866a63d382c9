"""`weevit index`: an index of images, made or brought up to date."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
from weevit.errors import UsageError

if TYPE_CHECKING:
    from weevit.search.building import Progress
    from weevit.search.index import Index


@click.command()
@click.argument("inputs", nargs=-1, metavar="INPUTS...")
@options.allow_urls
@options.loading_to_index
@click.option("--from", "vectors", type=click.Path(path_type=Path), help="Vectors that exist: FILE.npy or .parquet.")
@click.option("--ids", type=click.Path(path_type=Path), help="With --from FILE.npy: a file with an id per line.")
@click.option("--prune", is_flag=True, help="Also where more than half of the index's images are gone.")
@options.output
@options.json_lines
@options.strict
@options.quiet
@options.verbose
def index(
    inputs: tuple[str, ...],
    loading: options.Loading,
    vectors: Path | None,
    ids: Path | None,
    prune: bool,
    output: Path | None,
    json_lines: bool,
    strict: bool,
    quiet: bool,
) -> int:
    """Index images for weevit search.

    Rerun the command to add what is new or changed, and to drop what is gone.

    INPUTS are all images of the index, each time. Only new and changed ones are embedded; a moved or copied file is
    known by its bytes. Killed or stopped, rerun the command to resume. Searches see a complete version meanwhile.

    --from takes vectors that exist already, as weevit embed writes them; -m then names the model that made them.
    """
    from weevit.search.manifest import INDEX
    from weevit.store.folder import check_folder

    if output is None:
        raise UsageError("Where should the index go? No --output was given.", "-o photos.idx")
    if (vectors is None) == (not inputs):
        given = "both were given" if inputs else "neither was given"
        raise UsageError(
            f"An index is made of INPUTS or of --from VECTORS: {given}.", "weevit index photos/ -o photos.idx"
        )
    if vectors is None and ids is not None:
        raise UsageError("--ids is for --from FILE.npy.", "Leave --ids out.")
    if vectors is not None:
        options.refuse_typed(["prune"], "is for INPUTS: --from makes a new index", "Leave it out.")
        if not loading.model:
            asked = [field.name for field in fields(options.Loading)]
            options.refuse_typed(asked, "is about the model, and --from without -m asks none", "-m MODEL")
    check_folder(output, INDEX, [*inputs, *([vectors] if vectors else [])])
    if vectors is None:
        made = _made(inputs, loading, prune, output, quiet)
    else:
        made = _brought(vectors, ids, loading, output, quiet)
    return _ended(*made, json_lines, strict, quiet)


def _made(
    inputs: tuple[str, ...], loading: options.Loading, prune: bool, output: Path, quiet: bool
) -> tuple[Index, Progress]:
    from weevit.cli.answers import check_there, read_inputs
    from weevit.cli.console import tell
    from weevit.cli.progress import watching
    from weevit.search.building import Progress, index

    progress = Progress()

    def keep(now: Progress) -> None:
        nonlocal progress
        progress = now
        moved(now)

    if loading.model or not _is_there(output):
        check_there(inputs, loading.model or options.DEFAULT_MODEL)
    sources = read_inputs(inputs)
    predictor = _model(loading, output, quiet)
    try:
        with watching(quiet, _words) as moved:
            return index(sources, output, predictor, prune=prune, watch=keep), progress
    except KeyboardInterrupt:
        tell(f"{_words(progress)} so far; they are kept. Rerun the command to resume.")
        raise


def _brought(
    vectors: Path, ids: Path | None, loading: options.Loading, output: Path, quiet: bool
) -> tuple[Index, Progress]:
    from weevit.cli.answers import load_model
    from weevit.search.bringing import index_vectors
    from weevit.search.building import Progress

    progress = Progress()
    predictor = load_model(loading, quiet) if loading.model else None

    def keep(now: Progress) -> None:
        nonlocal progress
        progress = now

    return index_vectors(vectors, output, predictor, ids=ids, watch=keep), progress


def _model(loading: options.Loading, output: Path, quiet: bool) -> Any:
    """The model that is named, or that of the index that is there, as the other options want it."""
    from dataclasses import replace

    from weevit.cli.answers import load_model, loading_of_index
    from weevit.search.manifest import read_manifest  # alone: shards may be damaged, and are made again

    if loading.model or not _is_there(output):
        return load_model(replace(loading, model=loading.model or options.DEFAULT_MODEL), quiet)
    return load_model(loading_of_index(read_manifest(output).space.recorded(), loading), quiet)


def _is_there(output: Path) -> bool:
    from weevit.search.manifest import MANIFEST

    return (output / MANIFEST).is_file()


def _words(progress: Progress) -> str:
    from weevit.text import kinds

    parts = [f"{progress.embedded:,} embedded", f"{progress.same + progress.copied:,} known"]
    if progress.errors:
        parts.append(f"{progress.errors.total():,} failed ({kinds(progress.errors)})")
    return " · ".join(parts)


def _ended(made: Index, progress: Progress, json_lines: bool, strict: bool, quiet: bool) -> int:
    from weevit.cli.app import EXIT_FAILED
    from weevit.cli.console import EXIT_SOME_FAILED, say_json, tell
    from weevit.text import typed

    if json_lines:
        counts = {name: getattr(progress, name) for name in ("total", "same", "copied", "embedded", "gone", "lost")}
        say_json({"schema": "weevit.index/1", "index": str(made.folder), "images": len(made), "version": made.version,
                  **counts, "failed": progress.errors.total()})  # fmt: skip
    for name, _, error in progress.failures[:5]:
        tell(f"{name}: {error}")
    if not quiet:
        gone = f" · {progress.gone:,} gone" if progress.gone else ""
        lost = f" · {progress.lost:,} were damaged and are made again" if progress.lost else ""
        tell(f"{len(made):,} images in {made.folder} · {_words(progress)}{gone}{lost}")
        if len(made) and made.space.maker is not None:
            tell(f"next: weevit search {typed(made.folder)} QUERY.jpg")
    if not len(made):
        return EXIT_FAILED
    return EXIT_SOME_FAILED if strict and progress.errors else 0

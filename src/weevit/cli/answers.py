"""Common steps of `classify`, `embed` and `features`: loading, messages, counts, exit codes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weevit.cli.console import Tally, tell
from weevit.cli.options import Loading, parse_image_size
from weevit.cli.progress import download_progress
from weevit.cli.signs import Signs, names_of
from weevit.errors import MissingImageError, UsageError, did_you_mean
from weevit.images.decode import Limits
from weevit.images.parquet import pyarrow
from weevit.images.sources import Expansion, expand
from weevit.store.outputs import check_file
from weevit.text import typed

if TYPE_CHECKING:
    from weevit.answers.results import Result
    from weevit.predict import Predictor


def load_model(loading: Loading, quiet: bool) -> Predictor:
    """`weevit.load`, with a progress bar for downloads and the line that names the model."""
    from weevit.predict import load

    with download_progress(quiet) as progress:
        predictor = load(
            loading.model,
            image_size=parse_image_size(loading.image_size),
            batch_size=loading.batch_size,
            threads=loading.threads,
            engine=loading.engine,  # type: ignore[arg-type]  # load checks the name
            precision=loading.precision,  # type: ignore[arg-type]  # the same
            device=loading.device,  # type: ignore[arg-type]  # the same
            limits=Limits(max_pixels=loading.max_pixels),
            reduced_jpeg=loading.reduced_jpeg,
            progress=progress,
        )
    tell(model_line(predictor))  # also with --quiet: an answer needs its model's name
    for note in predictor.checkpoint.notes:
        tell(f"note: {note}")
    return predictor


def loading_of_index(recorded: tuple[str, tuple[int, int], str], loading: Loading) -> Loading:
    """The options of loading with the model of an index, as it was then; a size or precision that was typed wins.

    Args:
        recorded: of the index's space.
        loading: what was typed.
    """
    source, (height, width), precision = recorded
    size = loading.image_size or f"{height}x{width}"
    return replace(loading, model=source, image_size=size, precision=loading.precision or precision)


def model_line(predictor: Predictor) -> str:
    """Full tag, parameters, size, int8 where it is, engine and, where it is not the default, why; threads and why."""
    from weevit.engine.choice import DEFAULT
    from weevit.zoo.counts import count

    checkpoint, spec = predictor.checkpoint, predictor.preprocessing
    params = count(checkpoint.architecture, checkpoint.num_classes, checkpoint.grid).params / 1e6
    size = f"{spec.height}" if spec.height == spec.width else f"{spec.height} x {spec.width}"
    threads, way = predictor.threads, predictor.way
    plural = "" if threads.count == 1 else "s"
    # A reason for an engine is about its numbers, and those of a quantised model are neither timm's nor bf16's.
    numbers = [] if checkpoint.quantization is None else [str(checkpoint.quantization)]
    engine = str(way) if way == DEFAULT or numbers else f"{way} ({way.why})"
    own = [checkpoint.name, f"{params:.1f} M", f"{size} px", *numbers, engine]
    return f"{' · '.join(own)}, {threads.count} thread{plural} ({threads.reason})"


def read_inputs(words: Iterable[str], streamed: bool = False) -> Expansion:
    """The command line's inputs; `-` alone means stdin: a list of paths, one per line, or an image.

    Args:
        words: the words as typed.
        streamed: for a single `Predictor.stream`: lines on stdin are answered as they come.

    Raises:
        UsageError: an empty word, `-` beside others, or nothing on stdin.
    """
    words = list(words)
    empty = next((word for word in words if not word.strip()), None)
    if empty is not None:
        raise UsageError(f"An input is a path or an address: {empty!r} was given.", "The current folder is called `.`")
    if words == ["-"]:
        from weevit.cli.stdin import stdin_inputs
        from weevit.images.source import PAUSE

        given = stdin_inputs()
        return expand(given if streamed else [one for one in given if one is not PAUSE])
    if "-" in words:
        raise UsageError("`-` reads stdin, and stands alone: further inputs were given.", "A file called so is ./-")
    return expand(words)


def begin(words: Iterable[str], loading: Loading, quiet: bool) -> tuple[Expansion, Predictor]:
    """The inputs and the model of a verb that answers."""
    words = list(words)
    check_there(words, loading.model)
    sources = read_inputs(words, streamed=not loading.reduced_jpeg)  # measuring reads some images first
    predictor = load_model(loading, quiet)
    tell_reduction(predictor, sources)
    return sources, predictor


def check_there(words: Sequence[str], model: str) -> None:
    """Raise a MissingImageError that names the nearest file if no input exists, before a model is fetched.

    With a model at hand every input gets its row instead.
    """
    from weevit.zoo.resolve import needs_fetching

    if any("://" in word or set(word) & set("*?[{") or word in ("-", "") or os.path.lexists(word) for word in words):
        return
    if words and needs_fetching(model):
        path = Path(words[0])
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise MissingImageError(
            f"{words[0]}: no such file, and nothing else to answer; the model was not fetched for it.",
            did_you_mean(path.name, names),
        )


def tell_reduction(predictor: Predictor, sources: Expansion) -> None:
    """With --reduced-jpeg: measure its effect on some of the inputs, and print it, also with --quiet."""
    if predictor.reduced_jpeg:
        from weevit.reduction import measure_reduction

        tell(str(measure_reduction(predictor, sources)))


def told(result: Result) -> Result:
    """The result; its error is printed to stderr."""
    if not result.ok:
        tell(f"{result.input}: {result.error}")
    return result


def count_all(
    results: Iterable[Result], tally: Tally, bar: AbstractContextManager[Any] | None = None
) -> Iterator[Result]:
    """The results; each is counted, and moves the bar."""
    with bar or nullcontext() as moved:
        for result in results:
            tally.add(result)
            if moved is not None:
                moved(tally)
            yield result


def finish(tally: Tally, sources: Expansion, quiet: bool, written: str = "") -> None:
    """Print the summary, the written file, and the number of files left out."""
    if quiet:
        return
    if tally.done + tally.failed.total() > 1 or tally.failed or written:
        tell(tally.line() + (f" · written: {written}" if written else ""))
    tell_left_out(sources.left_out)


def tell_left_out(left_out: Counter[str]) -> None:
    """Print the number of files in folders and archives that are no images by their endings."""
    if left_out:
        endings = ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in left_out.most_common(5))
        files = "1 file" if left_out.total() == 1 else f"{left_out.total():,} files"
        tell(f"left out {files} not named like images: {endings}")


def is_folder(output: Path | str | None) -> bool:
    """Whether --output names a folder of results: an address, an existing one, or a name without an ending."""
    if isinstance(output, str):
        return True
    return output is not None and (os.path.isdir(output) or not output.suffix)  # noqa: PTH112 - a name may be too long


def check_output(
    output: Path | None, signs: Signs, inputs: Iterable[str | Path], option: str = "--output", made: bool = False
) -> None:
    """Refuse an output that could not be written, or would destroy something, before anything is computed.

    Args:
        output: a file.
        signs: the allowed endings, and the recognition of the verb's own files.
        inputs: the inputs as typed.
        option: the output's option.
        made: whether its folder is made.

    Raises:
        UsageError: another ending; or as `weevit.store.outputs.check_file`.
        OutputError: its folder may not be written.
        MissingExtraError: the library that writes it is not installed.
    """
    if output is None:
        return
    ending = output.suffix.lower()
    if ending not in signs:
        other = ", or is a folder, with no ending" if option == "--output" else ""
        raise UsageError(
            f"{option} ends in {', '.join(signs)}{other}: {str(output)!r} was given.",
            f"{option} out{next(iter(signs))}",
        )
    if ending == ".parquet":
        pyarrow()
    for written in (output, names_of(output)) if ending == ".npy" else (output,):
        check_file(written, signs[ending], "file that this verb wrote", inputs, option, made)


@contextmanager
def whole_or_nothing(output: Path | None) -> Iterator[None]:
    """Where Ctrl-C ends a verb that writes a file, say that nothing was written, and how to keep results."""
    try:
        yield
    except KeyboardInterrupt:
        if output is not None:
            tell(
                "",
                f"Nothing was written: {output} appears when it is whole. A folder keeps what is done, and the same "
                f"command resumes it: -o {typed(output.with_suffix(''))}",
            )
        raise

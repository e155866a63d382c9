"""`weevit compare`: which of two models is better on the same images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
from weevit.text import one_line

if TYPE_CHECKING:
    from weevit.evaluation.results import Comparison


@click.command()
@options.loading_argument
@click.argument("other")
@click.argument("data", required=False)
@options.allow_urls
@click.option("--split", help="Split of the data; by default test, else validation, else all of it.")
@click.option("--allow-missing", is_flag=True, help="The data may lack some of the models' classes.")
@options.seed(help="Seed of the bootstrap.")
@options.output
@options.json_lines
@options.quiet
@options.verbose
def compare(
    loading: options.Loading,
    other: str,
    data: str | None,
    split: str | None,
    allow_missing: bool,
    seed: int,
    output: Path | None,
    json_lines: bool,
    quiet: bool,
) -> int:
    """Compare MODEL and OTHER on the same images in DATA.

    Without DATA: two folders that `weevit eval -o` wrote.

    A paired test (McNemar) says whether the difference may be luck, a bootstrap how large it may be. --output
    report/ writes a page for people (report.html), with the images on which they disagree, and report.json.
    """
    from weevit.cli import answers
    from weevit.cli.console import EXIT_NOTHING, say, say_json, tell
    from weevit.cli.dataset import read_told
    from weevit.cli.progress import watching
    from weevit.evaluation.ask import Progress
    from weevit.evaluation.compare import COMPARISON, comparison_json
    from weevit.evaluation.compare import compare as run
    from weevit.evaluation.saved import check_report

    check_report(output, COMPARISON, (loading.model, other, data))
    first: Any = loading.model
    second: Any = other
    dataset = None if data is None else read_told(data, quiet, allow_missing)
    if data is not None:
        first, second = (answers.load_model(replace(loading, model=name), quiet) for name in (first, second))
    own: dict[str, Any] = {"split": split, "allow_missing": allow_missing, "seed": seed}
    with watching(quiet, Progress.line) as watch:
        comparison = run(first, second, dataset, output, watch=watch, **own)
    say_json(comparison_json(comparison)) if json_lines else say(*_lines(comparison))
    if output is not None and not quiet:
        tell(f"written: {output / 'report.html'} and report.json")
    return 0 if comparison.indices else EXIT_NOTHING


def _lines(comparison: Comparison) -> list[str]:
    from weevit.evaluation.comparison_report import names_of, verdict

    names, total = [one_line(name) for name in names_of(comparison)], len(comparison.indices)
    rights = comparison.both + comparison.only_first, comparison.both + comparison.only_second
    width = max(map(len, names))
    lines = [
        f"{name:<{width}}  {right:,} of {total:,} right ({right / max(total, 1):.1%})"
        for name, right in zip(names, rights, strict=True)
    ]
    lines.append(f"both right {comparison.both:,}, only the first {comparison.only_first:,}, only the second "
                 f"{comparison.only_second:,}, neither {comparison.neither:,}")  # fmt: skip
    lines.append(
        f"difference {100 * comparison.difference:+.1f} points ({100 * comparison.low:+.1f} to "
        f"{100 * comparison.high:+.1f} at 95 %), McNemar p = {comparison.p_value:.3g}, mid-p = {comparison.mid_p:.3g}"
    )
    return [*lines, verdict(comparison).replace("\u00a0", " ")]

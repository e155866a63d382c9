"""`weevit explain`: the parts of an image that an answer rests on."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
from weevit.errors import ImageError, UsageError

if TYPE_CHECKING:
    from weevit.explain.relevance import Deletion, Explanation
    from weevit.images.source import Source

_STEM = 100
"""Bytes of an input's name in the name of its map: file systems take 255 for the whole."""


@click.command()
@options.inputs
@options.loading
@click.option("--heads", is_flag=True, help="Draw each head of a block too, and what prefix tokens look at.")
@click.option("--layer", type=int, default=-1, show_default=True, help="Index of the block for --heads.")
@click.option("--deletion", is_flag=True, help="Score the map: remove patches in its order and watch the class.")
@options.seed(help="Seed of the random order that --deletion compares with.")
@options.output
@options.json_lines
@options.strict
@options.quiet
@options.verbose
def explain(
    inputs: tuple[str, ...],
    loading: options.Loading,
    heads: bool,
    layer: int,
    deletion: bool,
    seed: int,
    output: Path | None,
    json_lines: bool,
    strict: bool,
    quiet: bool,
) -> int:
    """Draw what an answer rests on.

    The image stands beside its attention rollout, weighted by what attention carries.

    --output is a .png for one image, a folder for any number. The share of attention that class token and
    registers take is printed for each block; --json prints it as one object per line.
    """
    from weevit.answers.columns import COMMON, class_columns, json_object
    from weevit.answers.results import Result
    from weevit.cli import answers
    from weevit.cli.console import Tally, say_json, tell
    from weevit.cli.signs import save_image
    from weevit.explain.draw import draw_explanation
    from weevit.explain.relevance import deletion as score
    from weevit.explain.relevance import explain_source
    from weevit.store.files import write_whole, writing

    if not heads:
        options.refuse_typed(["layer"], "is the block that --heads draws, and --heads was not given", "--heads")
    if not deletion:
        options.refuse_typed(["seed"], "is of the order that --deletion draws, and it was not given", "--deletion")
    expansion = answers.read_inputs(inputs)
    sources = list(expansion)
    paths = _outputs(inputs, sources, output)
    answers.check_there(inputs, loading.model)
    model = answers.load_model(loading, quiet)
    columns = (*COMMON, *class_columns(model.checkpoint))
    tally = Tally()
    for source, path in zip(sources, paths, strict=True):
        try:
            explanation = explain_source(model, source, layer)
            scored = score(model, explanation, seed=seed) if deletion else None
        except ImageError as error:
            failed = Result(source.name, error.status, f"{error.kind}: {error.message}")
            tally.add(answers.told(failed))
            if json_lines:
                say_json(json_object(failed, columns))
            continue
        tally.add(explanation.result)
        sheet = draw_explanation(explanation, heads)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, partial(save_image, sheet, verb="explain"))
        if json_lines:
            say_json(json_object(explanation.result, columns) | _facts(explanation, scored, path))
        else:
            _tell(explanation, scored, path)
    if not quiet and len(sources) > 1:
        tell(tally.line())
    return tally.exit_code(strict)


def _outputs(inputs: tuple[str, ...], sources: list[Source], output: Path | None) -> list[Path]:
    """Where each image's drawing goes, checked before a model is loaded."""
    from weevit.cli import answers, signs
    from weevit.store.outputs import refuse_inputs

    if output is None:
        raise UsageError("Where should the image go? --output was not given.", "-o out.png")
    into_folder = answers.is_folder(output)
    if len(sources) > 1 and not into_folder:
        raise UsageError(f"{len(sources)} images do not go into one {output}.", "-o maps   a folder of maps")
    if into_folder:
        refuse_inputs(output, inputs)
    paths = [_path(output, source.name, number) if into_folder else output for number, source in enumerate(sources)]
    files = [*inputs, *(source.value for source in sources if isinstance(source.value, str | Path))]
    for path in paths:
        answers.check_output(path, signs.EXPLAIN, files, made=into_folder)
    return paths


def _path(folder: Path, name: str, number: int) -> Path:
    """The path of an image in a folder; a name from a table or an archive may be no file name, or too long for one."""
    stem = os.fsencode(Path(name).stem.replace("\0", ""))[:_STEM].decode(errors="ignore")
    return folder / f"{stem}.{number}.png"


def _facts(explanation: Explanation, scored: Deletion | None, path: Path) -> dict[str, Any]:
    from dataclasses import asdict

    facts = {"image": str(path), "prefix_share": [round(float(share), 4) for share in explanation.prefix_share]}
    return facts | ({"deletion": asdict(scored)} if scored else {})


def _tell(explanation: Explanation, scored: Deletion | None, path: Path) -> None:
    from weevit.cli.console import say

    best = explanation.result.top[0]
    say(f"{explanation.result.input}: {best.probability:.1%} {best.name} -> {path}")
    if len(explanation.prefix):
        shares = " ".join(f"{share:.0%}" for share in explanation.prefix_share)
        say(f"  share of the patches' attention that goes to class token and registers, by block: {shares}")
    if scored:
        say(
            f"  deletion score (mean probability of the class while patches go; low is faithful): {scored.map:.3f}, "
            f"random order {scored.random:.3f}, least relevant first {scored.reverse:.3f}"
        )

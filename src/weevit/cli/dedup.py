"""`weevit dedup`: images that are there more than once; what is certain can be moved away, and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weevit.cli import options
from weevit.cli.console import EXIT_NOTHING, EXIT_SOME_FAILED, say, say_json, tell
from weevit.errors import UsageError, nearest
from weevit.text import kinds, some, typed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from weevit.duplicates.groups import DuplicateGroup, Duplicates
    from weevit.duplicates.looks import Progress
    from weevit.duplicates.moves import Moved

_SHOWN = 5
"""Groups of a kind that are printed; the tables have all of them."""


class _Dedup(click.Group):
    """A group whose command is `find` where none is named: `weevit dedup photos`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            _check_misspelt(args)
            args = ["find", *args]
        return super().parse_args(ctx, args)


def _check_misspelt(args: list[str]) -> None:
    """Refuse `aply dup` before a model is fetched for it, unless there is a file of that name."""
    near = nearest(args[0], ("apply", "undo"), count=1)
    if near and not os.path.lexists(args[0]):
        command = f"weevit dedup {_command([near[0], *args[1:]])}"
        raise UsageError(f"{args[0]}: no such file, and no command of weevit dedup.", f"Did you mean {command}")


@click.group(cls=_Dedup)
def dedup() -> None:
    """Find images that are there more than once.

    `weevit dedup photos/ -o dup`; see `weevit dedup find --help`.

    Two lists: copies, which are certain (the same bytes; compressed, scaled, squeezed or mirrored; a part of the
    whole), and moments, to look at (taken within seconds; one thing twice). Nothing is ever deleted: apply moves
    copies to a folder, and undo moves them back.
    """


@dedup.command()
@options.inputs
@options.loading
@click.option("--no-embeddings", is_flag=True, help="Ask no model; parts and moments are then not found.")
@options.strict
@options.output
@options.json_lines
@options.quiet
@options.verbose
def find(
    inputs: tuple[str, ...],
    loading: options.Loading,
    no_embeddings: bool,
    strict: bool,
    output: Path | None,
    json_lines: bool,
    quiet: bool,
) -> int:
    """Find copies and moments; `find` itself may be left out.

    --output dup writes a page to look through (report.html), copies.csv, moments.csv, failures.csv, and the record that
    apply reads (duplicates.json). No image is changed.
    """
    from weevit.cli.answers import check_there, load_model, read_inputs, tell_left_out
    from weevit.cli.progress import watching
    from weevit.duplicates.find import find_duplicates
    from weevit.duplicates.folder import check_output
    from weevit.images.decode import Limits

    check_output(output, [*inputs, loading.model])
    check_there(inputs, loading.model)
    expansion = read_inputs(inputs)
    given: Any = expansion if inputs == ("-",) else list(inputs)  # folders by name: files are moved relative to them
    model: Any = loading.model if no_embeddings else load_model(loading, quiet)
    limits = Limits(max_pixels=loading.max_pixels)
    with watching(quiet, _stage) as watch:
        found = find_duplicates(
            given, model, output, embeddings=not no_embeddings, threads=loading.threads, limits=limits, watch=watch
        )
    if json_lines:
        for values in _json_lines(found):
            say_json(values)
    else:
        say(*_lines(found))
    if not quiet:
        _summary(found, output, inputs, loading.model if loading.model != options.DEFAULT_MODEL else "")
        tell_left_out(_counter(found))
    if not found.images:
        return EXIT_NOTHING
    return EXIT_SOME_FAILED if strict and found.failures else 0


@dedup.command()
@click.argument("folder", metavar="DUP")
@click.option("--move-to", type=options.Output(), required=True, metavar="TRASH", help="The folder to move copies to.")
@click.option("--dry-run", is_flag=True, help="Check every file, print the moves, and make none.")
@options.strict
@options.json_lines
@options.quiet
@options.verbose
def apply(folder: str, move_to: Path, dry_run: bool, strict: bool, json_lines: bool, quiet: bool) -> int:
    """Move copies away, and leave the best of each group.

    All copies of the list in DUP but the kept ones go to TRASH, which keeps their relative paths.

    Of each group the whole image is kept, with the most pixels, then the most bytes, then the oldest. Every file is
    read again first. undo.csv in TRASH has a line per move; the same command resumes, and `weevit dedup undo TRASH`
    moves everything back.
    """
    from weevit.duplicates.removal import apply_duplicates

    with _moving(quiet) as watch:
        done = apply_duplicates(folder, move_to, dry_run=dry_run, watch=watch)
    _tell_moves(done, dry_run, json_lines, "would move" if dry_run else "moved")
    if not quiet:
        again = f"weevit dedup apply {typed(folder)} --move-to {typed(move_to)}"
        if dry_run:
            tell(f"next: {again}" if done.moves else "nothing to move")
        elif done.moves or done.earlier:
            tell(f"next: weevit dedup undo {typed(move_to)}   moves everything back")
    return _code(done, strict)


@dedup.command()
@click.argument("trash", metavar="TRASH")
@click.option("--dry-run", is_flag=True, help="Check every file, print the moves, and make none.")
@options.strict
@options.json_lines
@options.quiet
@options.verbose
def undo(trash: str, dry_run: bool, strict: bool, json_lines: bool, quiet: bool) -> int:
    """Move everything in TRASH back; nothing is overwritten."""
    from weevit.duplicates.undoing import undo_duplicates

    with _moving(quiet) as watch:
        done = undo_duplicates(trash, dry_run=dry_run, watch=watch)
    _tell_moves(done, dry_run, json_lines, "would move back" if dry_run else "moved back", back=True)
    if dry_run and done.moves and not quiet:
        tell(f"next: weevit dedup undo {typed(trash)}")
    return _code(done, strict)


# ---- finding


def _stage(progress: Progress) -> str:
    broken = f" · {progress.broken.total():,} not read ({kinds(progress.broken)})" if progress.broken else ""
    return progress.stage + broken


def _counter(found: Duplicates) -> Any:
    from collections import Counter

    return Counter(found.left_out)


def _lines(found: Duplicates) -> Iterator[str]:
    from weevit.duplicates.folder import size

    yield f"copies: {len(found.copies):,} groups, {found.spares:,} images could go ({size(found.spare)})"
    yield from _some(found.copies)
    if found.model:
        yield f"to look at: {len(found.moments):,} groups"
    elif found.moments:
        yield f"to look at: {len(found.moments):,} groups, by thumbnails alone"
    yield from _some(found.moments)
    if found.failures:
        yield f"not read: {len(found.failures):,}"
        yield from (f"  {one.input}: {one.error}" for one in found.failures[:_SHOWN])
        yield from _more(len(found.failures))


def _some(groups: tuple[DuplicateGroup, ...]) -> Iterator[str]:
    for group in groups[:_SHOWN]:
        first, *others = [image.id for image in group.members]
        yield f"  {first} ← {some(others, 3)}   ({group.why})"
    yield from _more(len(groups))


def _more(count: int) -> Iterator[str]:
    if count > _SHOWN:
        yield f"  ... and {count - _SHOWN:,} more"


def _json_lines(found: Duplicates) -> Iterator[dict[str, Any]]:
    """One object per finding, after a summary."""
    from weevit.duplicates.folder import SCHEMA
    from weevit.duplicates.groups import plain

    counts = {"copies": len(found.copies), "moments": len(found.moments), "failures": len(found.failures)}
    summary = {"images": found.images, "spare_images": found.spares, "spare_bytes": found.spare, "model": found.model}
    more = {"roots": list(found.roots), "unchecked": list(found.unchecked), "seconds": found.seconds}
    yield {"schema": SCHEMA, "kind": "summary", **summary, "found": counts, **more}
    for kind in counts:
        for one in getattr(found, kind):
            yield {"schema": SCHEMA, "kind": kind, "finding": plain(one)}


def _summary(found: Duplicates, output: Path | None, inputs: Iterable[str], model: str) -> None:
    from weevit.duplicates.removal import apart

    for text in found.unchecked:
        tell(f"not looked for: {text}")
    tell(f"{found.images:,} images in {found.seconds:.0f} s")
    if output is None:
        own = ["--no-embeddings"] if not found.model else ["-m", model] if model else []
        tell(f"next: weevit dedup {_command([*inputs, *own])} -o dup")
        return
    tell(f"written: {output} (report.html to look through)")
    if found.copies:
        trash = apart(found.roots, Path("trash"))
        tell(f"next: weevit dedup apply {typed(output)} --move-to {typed(trash)} --dry-run")


def _command(inputs: Iterable[str]) -> str:
    return " ".join(map(typed, inputs))


# ---- moving


def _moving(quiet: bool) -> Any:
    from contextlib import contextmanager

    from weevit.cli.progress import counted_progress

    @contextmanager
    def moving() -> Iterator[Any]:
        with counted_progress(quiet) as moved:
            yield lambda done, total: moved(done, total, "files")

    return moving()


def _tell_moves(done: Moved, dry_run: bool, json_lines: bool, what: str, back: bool = False) -> None:
    from dataclasses import asdict

    from weevit.duplicates.folder import size
    from weevit.duplicates.trash import SCHEMA

    if json_lines:
        for kind, rows in (("move", done.moves), ("left", done.left)):
            for one in rows:
                say_json({"schema": SCHEMA, "kind": kind, "dry_run": dry_run, **asdict(one)})
    else:
        ways = ((one.source, one.target) for one in done.moves)
        say(*(f"{end} → {start}" if back else f"{start} → {end}" for start, end in ways))
    for one in done.left:
        tell(f"left: {one.input}: {one.why}")
    earlier = f" · {done.earlier:,} were done before" if done.earlier else ""
    left = f" · {len(done.left):,} left" if done.left else ""
    tell(f"{what}: {len(done.moves):,} files, {size(done.bytes)}{earlier}{left}")


def _code(done: Moved, strict: bool) -> int:
    if done.left and not done.moves and not done.earlier:
        return EXIT_NOTHING
    return EXIT_SOME_FAILED if strict and done.left else 0

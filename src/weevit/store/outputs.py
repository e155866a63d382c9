"""The allowed outputs: never over an input, nor over a file that the verb did not write, nor at an address.

A verb's file is recognised by its contents: the columns of a table, the schema of a report, a text in an image. The
caller brings that function; the rule, its errors and the proposed name are here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from weevit.errors import OutputError, UsageError
from weevit.store.files import writing
from weevit.store.home import given_path
from weevit.text import one_line, typed

Sign = Callable[[Path], bool]
"""Whether the current verb has written the file or folder."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_LOOKED_AT = 1 << 16


def local(given: str | os.PathLike[str], option: str = "--output") -> Path:
    """The path of an output, with `~` expanded: no shell does that in Python, and a folder called `~` is not meant.

    Raises:
        UsageError: an address (results are written on this machine), an empty text, `-`, or no path at all.
    """
    path, text = given_path(option, given), os.fsdecode(given)
    if is_address(text):
        name = text.rstrip("/").rpartition("/")[2] or "out"
        raise UsageError(
            f"{option} is a file or folder on this machine, and {text!r} is an address.",
            f"{option} {typed(name)}   and copy it there",
        )
    if not text:
        raise UsageError(f"{option} is the name of a file or folder: an empty one was given.", f"{option} out")
    if "\0" in text:
        raise UsageError(f"{option} is the name of a file or folder, and {text!r} has a NUL, which none has.")
    if text == "-":
        raise UsageError(
            f"{option} is the name of a file or folder: '-' was given, and stdout is neither.",
            f"{option} out; or --json, where the verb has it, which prints the answers",
        )
    return path


def is_address(text: str) -> bool:
    """Whether a text is an address (`s3://...`) rather than a path."""
    return _ADDRESS.match(text) is not None


def refuse_inputs(
    output: Path, inputs: Iterable[str | os.PathLike[str]], option: str = "--output", inside: bool = False
) -> None:
    """Refuse an output that is an input, under any name: a link, other capitals, another path to the same file.

    Args:
        output: a file or folder.
        inputs: paths; absent ones, addresses and patterns are skipped.
        option: the output's option.
        inside: refuse an input in the output folder, too.

    Raises:
        UsageError: it is one.
    """
    folder = inside and os.path.isdir(output)  # noqa: PTH112 - text of any kind
    for given in inputs:
        if _same(output, given):
            raise UsageError(
                f"{option} is {str(output)!r}, which is the input {os.fspath(given)!r} itself: it would be lost.",
                f"{option} {typed(free_name(output))}",
            )
        there = folder and os.path.exists(given)  # noqa: PTH110 - text of any kind
        if there and Path(os.path.realpath(output)) in Path(os.path.realpath(given)).parents:
            raise UsageError(
                f"The input {os.fspath(given)!r} lies in the folder {str(output)!r}, which {option} names.",
                f"{option} {typed(free_name(output))}",
            )


def refuse_foreign(output: Path, ours: Sign, what: str, option: str = "--output") -> None:
    """Refuse a file that another program wrote, or a folder with such files.

    Args:
        output: a file, or a folder; an absent one or an empty folder is fine.
        ours: whether the verb wrote it.
        what: name of the verb's output.
        option: the output's option.

    Raises:
        UsageError: it was not.
    """
    if not os.path.lexists(output):
        return
    if output.is_dir():
        there = sorted(name for name in os.listdir(output) if not name.startswith("."))  # noqa: PTH208 - names
        if there and not ours(output):
            shown = ", ".join(map(one_line, there[:3])) + (", ..." if len(there) > 3 else "")
            raise UsageError(
                f"{output} is not empty and holds no {what}, but {shown}.", f"{option} {typed(free_name(output))}"
            )
    elif not output.is_file() or not ours(output):  # reading a pipe would wait for ever
        raise UsageError(
            f"{output} exists and is no {what}, so it is not replaced.",
            f"{option} {typed(free_name(output))}",
        )


def refuse_read_only(*folders: Path) -> None:
    """Refuse folders that may not be written; for an absent one its nearest parent counts.

    Raises:
        UsageError: that is a file.
        OutputError: that may not be written.
    """
    for folder in folders:
        there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
        if not there.is_dir():
            raise UsageError(f"{there} is a file, and {folder} would lie in it.", "Choose another --output.")
        if not os.access(there, os.W_OK):
            raise OutputError(f"The folder {str(there)!r} may not be written.", "Choose another --output.")


def check_file(
    output: Path, ours: Sign, what: str, inputs: Iterable[object], option: str = "--output", made: bool = False
) -> None:
    """Refuse a file that a verb could not write, or would destroy, before anything is computed.

    Args:
        output: the file.
        ours: whether the verb wrote the file that is there.
        what: name of the verb's output.
        inputs: models and data; only paths are looked at.
        option: the output's option.
        made: whether its folder is made.

    Raises:
        UsageError: an address, a folder, a file in an absent folder, an input, a file of another program.
        OutputError: its folder may not be written.
    """
    local(output, option)
    folder = output.absolute().parent
    with writing(output):
        if output.is_dir():
            raise UsageError(f"{output} is a folder; {option} is a file.", f"{option} {typed(free_name(output))}")
        if not made and not folder.is_dir():
            raise UsageError(
                f"There is no folder {str(folder)!r} to write {output.name} into.", f"mkdir -p {typed(folder)}"
            )
        refuse_inputs(output, [one for one in inputs if isinstance(one, str | Path)], option)
        refuse_foreign(output, ours, what, option)
        refuse_read_only(folder)


def free_name(path: Path) -> Path:
    """The next free name: `answers-2.csv`."""
    path = path if path.name.strip(".") else Path("out")
    number = 2
    while os.path.exists(free := path.with_name(f"{path.stem}-{number}{path.suffix}")):  # noqa: PTH110 - never raises
        number += 1
    return free


def first_line(path: Path) -> str:
    """The first line of a text file; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.readline(_LOOKED_AT).decode("utf-8", "replace").rstrip("\n")
    except OSError:
        return ""


def _same(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 - text of any kind
    except (OSError, ValueError):
        return False

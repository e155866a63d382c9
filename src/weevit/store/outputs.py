"""Where results may go: never over an input, nor over what the verb did not write itself, nor to an address.

What a verb wrote is known by a sign in the file: the columns of a table, the schema of a report, a line in an image.
Whoever asks brings the way to tell; the rule, its errors and the name that is proposed instead stand here, once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from weevit.errors import OutputError, UsageError
from weevit.store.files import writing
from weevit.text import typed

Sign = Callable[[Path], bool]
"""Tells of a file or folder that is there whether the verb that asks has written it."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_LOOKED_AT = 1 << 16


def local(given: str | os.PathLike[str], option: str = "--output") -> Path:
    """The path of an output; UsageError for an address (`s3://...`): results are written on this machine."""
    text = os.fspath(given)
    if _ADDRESS.match(text):
        name = text.rstrip("/").rpartition("/")[2] or "out"
        raise UsageError(
            f"{option} is a file or folder on this machine, and {text!r} is an address.",
            f"{option} {typed(name)}   and copy it there",
        )
    if not text:
        raise UsageError(f"{option} is the name of a file or folder: an empty one was given.", f"{option} out")
    return Path(text)


def refuse_inputs(
    output: Path, inputs: Iterable[str | os.PathLike[str]], option: str = "--output", inside: bool = False
) -> None:
    """Refuse an output that is an input, under whatever name: a link, other capitals, another way to the same file.

    Args:
        output: a file or folder.
        inputs: paths; whatever is not there, or no path (an address, a pattern), is passed over.
        option: the output's.
        inside: refuse an input that lies in the output folder, too.

    Raises:
        UsageError: it is one.
    """
    if not _there(output):
        return
    real = Path(os.path.realpath(output))
    for given in inputs:
        if not _there(given):
            continue
        if _same(output, given):
            raise UsageError(
                f"{option} is {str(output)!r}, which is the input {os.fspath(given)!r} itself: it would be lost.",
                f"{option} {typed(free_name(output))}",
            )
        if inside and real in Path(os.path.realpath(given)).parents:
            raise UsageError(
                f"The input {os.fspath(given)!r} lies in the folder {str(output)!r}, which {option} names.",
                f"{option} {typed(free_name(output))}",
            )


def refuse_foreign(output: Path, ours: Sign, what: str, option: str = "--output") -> None:
    """Refuse a file that was not written by the verb that would replace it, or a folder that has such files.

    Args:
        output: a file, or a folder; nothing there, or an empty folder, is well.
        ours: tells whether the verb wrote it.
        what: what it would be then: `table of weevit classify`.
        option: the output's.

    Raises:
        UsageError: it did not.
        OSError: the folder cannot be listed.
    """
    if not os.path.lexists(output):
        return
    if output.is_dir():
        there = sorted(name for name in os.listdir(output) if not name.startswith("."))  # noqa: PTH208 - names
        if there and not ours(output):
            shown = ", ".join(there[:3]) + (", ..." if len(there) > 3 else "")
            raise UsageError(
                f"{output} is not empty and holds no {what}, but {shown}.", f"{option} {typed(free_name(output))}"
            )
    elif not output.is_file() or not ours(output):  # reading a pipe would wait for ever
        raise UsageError(
            f"{output} is there, and is no {what}: what weevit did not write it does not replace.",
            f"{option} {typed(free_name(output))}",
        )


def refuse_read_only(*folders: Path) -> None:
    """Refuse folders that may not be written; of one that is not there, the nearest on the way that is counts.

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
    """Refuse a file that a verb could not write, or would destroy, before anything is computed for it.

    Args:
        output: the file.
        ours: tells of a file that is there whether the verb wrote it.
        what: what it would be then.
        inputs: models and data; those that are no paths are passed over.
        option: the output's.
        made: whether its folder is made where it is not there.

    Raises:
        UsageError: an address, a folder, a file in a folder that is not there, an input, a file of somebody else.
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
    """The next name like it that nothing has: `answers-2.csv`."""
    path = path if path.name.strip(".") else Path("out")
    number = 2
    while _there(free := path.with_name(f"{path.stem}-{number}{path.suffix}")):
        number += 1
    return free


def first_line(path: Path) -> str:
    """The start of a text file, up to its first line feed; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.readline(_LOOKED_AT).decode("utf-8", "replace").rstrip("\n")
    except OSError:
        return ""


def _there(path: str | os.PathLike[str]) -> bool:
    try:
        return os.path.lexists(path) and os.path.exists(path)  # noqa: PTH110 - text of any kind
    except (OSError, ValueError):
        return False


def _same(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 - text of any kind
    except (OSError, ValueError):
        return False

"""A check as files: a page for people, JSON for machines, a list of what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np

from weevit.checking.fixes import Fix, fixes
from weevit.checking.results import DataCheck, plain
from weevit.errors import UsageError
from weevit.evaluation.saved import check_report, report, reporting, write_report
from weevit.reports.page import is_page, require_jinja
from weevit.store.files import finite, write_file
from weevit.store.outputs import check_file, first_line, local
from weevit.text import csv_bytes, csv_row

SCHEMA = "weevit.data-check/2"
_FIX_COLUMNS = [field.name for field in fields(Fix)]
FIX_LIST = "fix-list.csv"


CHECK = report(SCHEMA, {FIX_LIST: lambda path: first_line(path) == csv_row(_FIX_COLUMNS).rstrip()})


def check_output(output: str | Path | None, fix_list: str | Path | None, *inputs: object) -> None:
    """Refuse outputs that could not be written, before anything is checked.

    Raises:
        UsageError: an invalid name, an input, or a file that weevit did not write.
        MissingExtraError: jinja2 is not installed.
        OutputError: a folder may not be written, or another process works in it.
    """
    if output is not None and _is_page(local(output)):
        require_jinja()
        check_file(
            local(output), lambda page: is_page(page, "check.html"), "page of weevit data check", inputs, made=True
        )
    elif output is not None:
        check_report(output, CHECK, inputs)
    if fix_list is not None:
        ours = CHECK.unfinished[FIX_LIST]
        check_file(local(fix_list, "--fix-list"), ours, "list of weevit data check", inputs, "--fix-list", made=True)
        if local(fix_list, "--fix-list").suffix.lower() != ".csv":
            raise UsageError(f"A fix list ends in .csv: {str(fix_list)!r} was given.", "--fix-list fixes.csv")


@contextmanager
def writable(output: str | Path | None, fix_list: str | Path | None, *inputs: object) -> Iterator[None]:
    """Check as `check_output`, and hold the folder of a report while it is made."""
    check_output(output, fix_list, *inputs)
    folder = None if output is None or _is_page(local(output)) else output
    with reporting(folder, CHECK, inputs):
        yield


def _is_page(path: Path) -> bool:
    return path.suffix.lower() in (".html", ".htm") and not path.is_dir()


def write_check(check: DataCheck, output: str | Path | None, fix_list: str | Path | None) -> None:
    """Write the requested files, each whole or not at all; OutputError where the disk does not take them."""
    if fix_list is not None:
        write_file(local(fix_list, "--fix-list"), _fix_table(check))
    if output is None:
        return
    from weevit.checking.report import check_page

    path, page = local(output), check_page(check)
    if _is_page(path):
        write_file(path, page)
        return
    write_file(path / FIX_LIST, _fix_table(check))
    write_report(path, page, as_json(check))


def _fix_table(check: DataCheck) -> bytes:
    return csv_bytes(_FIX_COLUMNS, [astuple(fix) for fix in fixes(check)])


def as_json(check: DataCheck) -> dict[str, Any]:
    """All findings as plain data."""
    return finite(summary(check)) | dict(_findings(check))


def summary(check: DataCheck) -> dict[str, Any]:
    """The contents of the data set, and the number of findings of each kind."""
    return {
        "schema": SCHEMA,
        "path": check.path,
        "images": len(check.images),
        "bytes": check.bytes,
        "multi_label": check.multi_label,
        "classes": list(check.classes),
        "counts": {split: list(counts) for split, counts in check.counts.items()},
        "imbalance": check.imbalance,
        "sizes": _sizes(check),
        "formats": dict(check.formats),
        "modes": dict(check.modes),
        "orientations": {str(value): count for value, count in sorted(check.orientations.items())},
        "broken_kinds": dict(check.broken_kinds),
        "leaks": len(check.leaks),
        "conflicts": len(check.conflicts),
        "found": {name: len(rows) for name, rows in _findings(check)},
        "notes": list(check.notes),
        "unchecked": list(check.unchecked),
        "model": check.model,
        "seconds": check.seconds,
    }


def _sizes(check: DataCheck) -> dict[str, list[int]]:
    """Smallest, median and largest width and height."""
    known = check.sizes[check.sizes[:, 0] > 0]
    if not len(known):
        return {}
    at = np.quantile(known, (0, 0.5, 1), axis=0).astype(int).tolist()
    return {name: [row[index] for row in at] for index, name in enumerate(("width", "height"))}


def _findings(check: DataCheck) -> Iterator[tuple[str, list[Any]]]:
    for name in ("differences", "broken", "copies", "suspects", "alike", "unusual"):
        yield name, [plain(one) for one in getattr(check, name)]


def json_lines(check: DataCheck) -> Iterator[dict[str, Any]]:
    """One object per finding, after a summary."""
    yield {"kind": "summary", **finite(summary(check))}
    for name, rows in _findings(check):
        yield from ({"schema": SCHEMA, "kind": name, "finding": row} for row in rows)

"""Pages from templates: self-contained HTML without network access, and (but for `grid.py`) without scripts.

Every page extends `templates/base.html`, which has the style (light and dark, phone and desktop) and a content policy
that forbids everything outside of the file; `templates/parts.html` has tiles, tables, charts and galleries. Names of
files and classes come from strangers: everything in a template but `charts.Svg` is escaped, and invisible marks are
spelled out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from weevit._version import __version__
from weevit.store.extras import needed
from weevit.text import counted, on_screen

_TEMPLATES = Path(__file__).parent / "templates"

_HEAD = 1024
_MADE = re.compile('<meta name="generator" content="weevit [^",]*, ([a-z_.]+)">')

NO_BREAK = "\u00a0"


def render(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: a file in `weevit/reports/templates`; a missing value is an error.
        values: its values.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return str(
        _environment().get_template(template).render(version=__version__, made=made, template=template, **values)
    )


def is_page(path: Path, template: str = "") -> bool:
    """Whether a file is a page rendered here, from this template if one is named."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    found = _MADE.search(head.decode("utf-8", "replace"))
    return found is not None and template in ("", found[1])


def style() -> str:
    """The style of every page: colours in light and dark, type, tables, notices."""
    return (_TEMPLATES / "style.css").read_text(encoding="utf-8")


def require_jinja() -> None:
    """Raise MissingExtraError if jinja2 is not installed, before anything is computed for a page."""
    _environment()


def percent(share: float | None, digits: int = 1) -> str:
    """0.826 -> `82.6 %`; a dash where there is no value."""
    return "–" if share is None or share != share else f"{100 * share:.{digits}f}{NO_BREAK}%"


def points(share: float | None) -> str:
    """A difference of shares with its sign: 0.013 -> `+1.3`; a dash where there is no value."""
    return "–" if share is None or share != share else f"{100 * share:+.1f}"


def number(value: float | None, digits: int = 0) -> str:
    """12403 -> `12,403`; a dash where there is no value."""
    return "–" if value is None or value != value else f"{value:,.{digits}f}"


def interval(bounds: Sequence[float] | None) -> str:
    """(0.79, 0.857) -> `79.0 – 85.7 %`; a dash where there is none."""
    if bounds is None:
        return "–"
    low, high = bounds
    return f"{100 * low:.1f}{NO_BREAK}–{NO_BREAK}{100 * high:.1f}{NO_BREAK}%"


def _shown(value: Any) -> Any:
    """A name with its direction and control characters escaped; an image stays as it is."""
    return on_screen(value) if type(value) is str else value


@cache
def _environment() -> Any:
    jinja2 = needed("jinja2", "data", "Reports need jinja2, which is not installed.")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, points=points, number=number, interval=interval, counted=counted)
    return environment

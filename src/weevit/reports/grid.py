"""A page with a grid of images, to look through and to choose from: groups of duplicates, hits of a search.

The page is a file in a folder, beside its thumbnails; it has a script of its own (`templates/grid.js`), which its
content policy names by hash, so that no other runs. Without scripts it still shows all images.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from weevit.reports.page import render
from weevit.text import list_line, on_screen

TEMPLATE = "grid.html"

_SCRIPT = Path(__file__).parent / "templates" / "grid.js"


@dataclass(frozen=True)
class Item:
    """One image.

    Attributes:
        name: its full name, which the list of chosen files has.
        image: address of its thumbnail, relative to the page, or a `data:` address; None without one.
        title: a short text below the thumbnail.
        facts: name -> value, in the order in which they are compared side by side; the values of `lines` among them.
        lines: names of the facts that stand below the thumbnail.
        href: address of the image itself, relative to the page; empty without one.
        spare: whether it can go: chosen by the button for these.
    """

    name: str
    image: str | None
    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    href: str = ""
    spare: bool = False


@dataclass(frozen=True)
class Group:
    """Images that are opened side by side.

    Attributes:
        title: the reason, in words; may be empty.
        items: the images.
    """

    title: str
    items: Sequence[Item]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: its anchor.
        title, text: heading, and a paragraph below it.
        groups: what it shows.
    """

    id: str
    title: str
    text: str
    groups: Sequence[Group]


def grid_page(
    verb: str,
    title: str,
    lede: str,
    sections: Sequence[Section],
    tiles: Sequence[Mapping[str, str]] = (),
    notices: Sequence[tuple[str, str]] = (),
) -> str:
    """The page as one HTML text; thumbnails are files beside it.

    Args:
        verb: the command, as in `weevit dedup`.
        title, lede: heading, and a line below it.
        sections: the images.
        tiles: figures at a glance, as for `parts.tiles`.
        notices: (text, kind) as for `parts.notice`.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    from markupsafe import Markup

    script, digest = _script()
    return render(
        TEMPLATE,
        verb=verb,
        title=title,
        lede=lede,
        sections=sections,
        links=[(section.id, section.title) for section in sections],
        tiles=tiles,
        notices=notices,
        script=Markup(script),
        digest=digest,
        exact=lambda item: json.dumps(list_line(item.name)),
        values=lambda item: json.dumps([(name, on_screen(value)) for name, value in item.facts.items()]),
    )


@cache
def _script() -> tuple[str, str]:
    """The script, and the hash that the content policy allows."""
    text = _SCRIPT.read_text(encoding="utf-8")
    return text, base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

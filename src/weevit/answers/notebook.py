"""One answer in a notebook: the image, its classes as bars, or the error."""

from __future__ import annotations

import base64
import io
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from weevit.errors import WeevitError
from weevit.images.source import Source, open_image

if TYPE_CHECKING:
    from weevit.answers.results import Prediction, Result

SIDE = 160
"""Longer side of the image in pixels."""

_STYLE = "margin:4px 0;display:flex;gap:16px;align-items:flex-start;font:13px/1.5 system-ui,sans-serif"
_BAR = "display:inline-block;height:10px;border-radius:2px;background:#3b7dd8;vertical-align:middle"


def html(result: Result) -> str:
    """One answer as self-contained HTML; names are escaped."""
    lines = [f"<b>{escape(result.input)}</b>"]
    if not result.ok:
        lines.append(escape(result.error or result.status))
    elif result.unknown:
        lines.append("unknown")
    lines += map(_bar, result.top)
    if result.ok and not result.top:
        lines.append(escape(", ".join(result.arrays())))
    return f'<div style="{_STYLE}">{_image(result)}<div>{"<br>".join(lines)}</div></div>'


def _bar(prediction: Prediction) -> str:
    width = round(200 * prediction.probability)
    return f'<span style="{_BAR};width:{width}px"></span> {prediction.probability:.1%} {escape(prediction.name)}'


def _image(result: Result) -> str:
    """The image, where the input is an existing file."""
    with suppress(WeevitError, OSError, ValueError):
        if result.ok and Path(result.input).is_file():
            image = open_image(Source(result.input, Path(result.input)))
            image.thumbnail((SIDE, SIDE))
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=85)
            data = base64.b64encode(stream.getvalue()).decode()
            return f'<img alt="" style="max-width:{SIDE}px" src="data:image/jpeg;base64,{data}">'
    return ""

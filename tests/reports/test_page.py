"""Pages: whole in one file, escaped, typed errors; and as Chromium sees them."""

from __future__ import annotations

import base64
import io
import socket
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import DESKTOP, PHONE, Browser
from PIL import Image

from weevit.errors import MissingExtraError, OutputError
from weevit.images.source import Source
from weevit.reports import charts, page
from weevit.reports.axes import Axis
from weevit.reports.thumbnails import thumbnail
from weevit.store.files import write_file

HOSTILE = "<img src=x onerror=alert(1)>"

EVERYTHING = """{% extends "base.html" %}{% import "parts.html" as parts %}
{% block title %}{{ name }}{% endblock %}
{% block lede %}<p class="lede">{{ name }} {{ long }}</p>{% endblock %}
{% block content %}
{{ parts.tiles([{"name": name, "value": 0.5|percent, "note": (0.25, 1)|interval}, {"name": "b", "value": 12|number}]) }}
{{ parts.contents([("a", name)]) }}{{ parts.notice(long, "bad") }}
<section id="a"><h2>{{ name }}</h2>{{ parts.chart(wide, name, wide=true) }}
<div class="charts">{% for svg in svgs %}{{ parts.chart(svg, name) }}{% endfor %}</div></section>
<section>{{ parts.gallery(images) }}</section>
<section>{{ parts.table(name, columns, rows, text=(0, 1)) }}{{ parts.facts([(name, long)]) }}</section>
{% endblock %}"""


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """A page of all parts, with names that are long, hostile, and of other scripts."""
    jinja2 = pytest.importorskip("jinja2")
    name, long = f"{HOSTILE} Füße 服装 \u202eabc", "a" * 300
    names = [f"class {i} {long[: 7 * i]}" for i in range(25)]
    file = tmp_path / "a.png"
    Image.fromarray(np.zeros((30, 90, 3), np.uint8)).save(file)
    uri = thumbnail(Source("a", file))
    values: dict[str, Any] = {
        "name": name,
        "long": long,
        "wide": charts.heatmap(charts.Grid(np.eye(25, dtype=int) * 99, names, names), "confusion"),
        "svgs": [
            charts.bars([charts.Bar(one, 0.5) for one in names], Axis(name), "bars"),
            charts.line([charts.Series(one, [0, 1], [0, 1]) for one in names[:5]], Axis(name), Axis(name), "line"),
        ],
        "images": [{"image": uri, "alt": name, "title": long, "lines": [name, long]}] * 3
        + [{"image": None, "alt": name, "title": name, "lines": []}],
        "columns": ["class", "note", *(f"column {i}" for i in range(12))],
        "rows": [(one, long, *range(12)) for one in names],
    }
    environment = page._environment()
    assert isinstance(environment, jinja2.Environment)
    html = environment.from_string(EVERYTHING).render(version="1", made="today", template="everything.html", **values)
    return written(tmp_path / "page.html", html)


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_page_of_everything_in_a_browser(everything: Path, browser: Browser, width: int, dark: bool) -> None:
    seen = browser.look(everything, width, dark)
    seen.check()
    assert seen.facts["images"] == 3
    assert seen.facts["charts"] == 3
    assert HOSTILE in seen.facts["text"]
    red, green, blue = (int(part) for part in seen.facts["background"].strip("rgb()").split(","))
    assert (red + green + blue < 150) == dark


def test_the_browser_notices_what_is_wrong(tmp_path: Path, browser: Browser) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<meta charset="utf-8"><body><img src="gone.png" alt="x"><img src="data:image/png;base64,AAAA" alt="y">'
        '<img src="https://127.0.0.1:9/z.png"><svg></svg><table><tr><td>1</td></tr></table>'
        '<div style="width:5000px">w</div><script>console.error("no"); nothere()</script>'
    )
    seen = browser.look(bad)
    assert len(seen.facts["broken"]) == 3
    assert any("gone.png" in address for address in seen.requests)
    assert any("127.0.0.1" in address for address in seen.requests)
    assert any("nothere" in text for text in seen.complaints)
    expected = {"silent": 2, "headless": 1, "scripts": 1}
    assert {name: seen.facts[name] for name in expected} == expected
    assert seen.facts["overflow"] > 3000
    with pytest.raises(AssertionError):
        seen.check()


def test_a_page_forbids_what_is_not_in_it(tmp_path: Path, browser: Browser) -> None:
    """Should anything ever slip through the escaping, the page's own policy stops it: nobody is called."""
    pytest.importorskip("jinja2")
    source = (
        '{% extends "base.html" %}{% block title %}t{% endblock %}{% block content %}{{ inner|safe }}{% endblock %}'
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        inner = f'<script src="{address}/s.js"></script><script>fetch("{address}")</script><img src="{address}/x.png">'
        html = page._environment().from_string(source).render(version="1", made="today", template="x.html", inner=inner)
        seen = browser.look(written(tmp_path / "p.html", html))
        assert sum("Content Security Policy" in text for text in seen.complaints) == 3
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_names_are_escaped_and_missing_values_are_errors() -> None:
    jinja2 = pytest.importorskip("jinja2")
    environment = page._environment()
    assert environment.from_string("{{ x }}").render(x=HOSTILE) == "&lt;img src=x onerror=alert(1)&gt;"
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ y }}").render(x=1)


def test_templates_are_part_of_the_package() -> None:
    folder = resources.files("weevit.reports") / "templates"
    names = {item.name for item in folder.iterdir()}
    assert {"base.html", "parts.html", "style.css"} <= names


def test_without_jinja(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    page._environment.cache_clear()
    with pytest.raises(MissingExtraError) as caught:
        page.require_jinja()
    assert caught.value.hint == 'pip install "weevit[data]"'
    page._environment.cache_clear()


def written(path: Path, html: str) -> Path:
    """A page as a file."""
    write_file(path, html)
    return path


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    path = written(tmp_path / "a" / "report.html", "odd \udcff name")
    assert path.read_bytes() == b"odd \\udcff name"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        written(tmp_path / "file" / "report.html", "x")
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("filter_", "value", "expected"),
    [
        (page.percent, 0.8264, "82.6\u00a0%"),
        (page.percent, float("nan"), "–"),
        (page.percent, None, "–"),
        (page.points, -0.0123, "-1.2"),
        (page.points, 0.5, "+50.0"),
        (page.number, 12403, "12,403"),
        (page.interval, (0.79, 0.857), "79.0\u00a0–\u00a085.7\u00a0%"),
        (page.interval, None, "–"),
    ],
)
def test_filters(filter_: Any, value: Any, expected: str) -> None:
    assert filter_(value) == expected


def test_thumbnails(tmp_path: Path, shared: Path) -> None:
    upright = shared / "data" / "image_zoo" / "exif"
    sizes = set()
    for path in sorted(upright.iterdir()):
        uri = thumbnail(Source(path.name, path), 96)
        assert uri is not None
        kind, _, data = uri.partition(",")
        assert kind == "data:image/jpeg;base64"
        sizes.add(Image.open(io.BytesIO(base64.b64decode(data))).size)
    assert len(sizes) == 1
    assert max(next(iter(sizes))) == 96
    assert thumbnail(Source("gone", tmp_path / "gone.jpg")) is None
    small = Source("array", np.zeros((5, 4, 3), np.uint8))
    assert thumbnail(small) is not None

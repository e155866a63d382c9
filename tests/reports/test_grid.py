"""The grid: one script, named by its hash; rows found whatever the width; fast with thousands of images."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from browsing import CHROMIUM, DESKTOP, PHONE, Browser
from PIL import Image

from weevit.reports.grid import Group, Item, Section, grid_page
from weevit.reports.thumbnails import jpeg

pytest.importorskip("jinja2")


def page(folder: Path, groups: list[Group]) -> Path:
    (folder / "thumbs").mkdir(parents=True)
    (folder / "thumbs" / "0.jpg").write_bytes(jpeg(Image.new("RGB", (90, 60), (90, 120, 30)), 90))
    html = grid_page("weevit search", "hits", "of a query", [Section("hits", "Hits", "The best first.", groups)])
    (folder / "report.html").write_text(html, encoding="utf-8")
    return folder / "report.html"


def item(place: int, spare: bool = False) -> Item:
    facts = {"similarity": f"{1 - place / 1e4:.4f}", "folder": "photos"}
    return Item(f"photos/{place}.jpg", "thumbs/0.jpg", f"{place}.jpg", facts, ("similarity",), "", spare)


def test_the_policy_names_the_only_script_by_its_hash(tmp_path: Path) -> None:
    html = page(tmp_path / "a", [Group("", [item(0)])]).read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    assert "photos/0.jpg" in re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)  # without scripts too


def test_a_name_in_the_list_is_exact(tmp_path: Path) -> None:
    name = "a\"b'c<d>&\u202e\n\\é.jpg"
    html = page(tmp_path / "a", [Group("", [Item(name, None, "x")])]).read_text()
    assert "\u202e" not in html
    assert "no image" in html


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_three_thousand_images_by_keyboard(tmp_path: Path, browser: Browser, width: int) -> None:
    assert CHROMIUM
    path = page(tmp_path / "many", [Group("", [item(place) for place in range(3000)])])
    context = browser._chromium.new_context(viewport={"width": width, "height": 844})
    try:
        tab = context.new_page()
        tab.goto(path.as_uri(), wait_until="load")
        assert tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 3000
        loaded = tab.evaluate("[...document.images].filter(i => i.complete && i.naturalWidth).length")
        assert loaded < 3000  # those in view, and some more
        columns = tab.evaluate(
            "getComputedStyle(document.querySelector('.set > ul')).gridTemplateColumns.split(' ').length"
        )
        label = "document.activeElement.getAttribute('aria-label')"
        tab.focus(".cell[tabindex='0']")
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowDown")
        assert tab.evaluate(label) == f"photos/{1 + 2 * columns}.jpg"
        tab.keyboard.press("ArrowUp")
        assert tab.evaluate(label) == f"photos/{1 + columns}.jpg"
        tab.keyboard.press("End")
        assert tab.evaluate(label) == "photos/2999.jpg"
        assert tab.evaluate("document.activeElement.getBoundingClientRect().top < innerHeight")
        tab.keyboard.press("Enter")
        assert tab.evaluate("document.querySelectorAll('dialog figure').length") == 12
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    finally:
        context.close()

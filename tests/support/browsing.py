"""A real browser that looks at a page as a person would: what it complained of, fetched, could not show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("WEEVIT_CHROMIUM", "/usr/bin/chromium")
_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-default-apps", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage"),
)
PHONE, DESKTOP = 390, 1280

_LOOK = """() => ({
  broken: [...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).map(i => i.alt),
  images: document.images.length,
  silent: [...document.images].filter(i => !i.alt).length
    + [...document.querySelectorAll('svg')].filter(s => !s.getAttribute('aria-label')).length,
  charts: document.querySelectorAll('svg').length,
  headless: [...document.querySelectorAll('table')].filter(t => !t.querySelector('th')).length,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  scripts: document.scripts.length,
  text: document.body.innerText,
  background: getComputedStyle(document.body).backgroundColor,
  tiny: [...document.querySelectorAll('svg text')].filter(t => t.getBoundingClientRect().height < 9).length,
})"""


@dataclass
class Seen:
    """What a page looked like at one width.

    Attributes:
        facts: images and charts counted, those that are broken or have no words, pixels of overflow, the text.
        complaints: errors and warnings of the console, and of the page.
        requests: addresses that were asked for, but for the file itself.
    """

    facts: dict[str, Any]
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Fail unless the page is as every page has to be."""
        assert self.complaints == []
        assert self.requests == []
        assert self.facts["broken"] == []
        assert {name: self.facts[name] for name in ("silent", "headless", "overflow", "scripts")} == {
            "silent": 0, "headless": 0, "overflow": 0, "scripts": 0,
        }  # fmt: skip


class Browser:
    """Chromium without a window."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    def look(self, page: Path, width: int = DESKTOP, dark: bool = False, shot: Path | None = None) -> Seen:
        """Open a file and say what is there to see; `shot` keeps a image of the whole page."""
        scheme = "dark" if dark else "light"
        context = self._chromium.new_context(
            viewport={"width": width, "height": 844 if width < 600 else 800}, color_scheme=scheme
        )
        try:
            seen = Seen({})
            tab = context.new_page()
            tab.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
            tab.on("pageerror", lambda error: seen.complaints.append(str(error)))
            address = page.absolute().as_uri()
            own = (address, "data:")
            tab.on("request", lambda asked: None if asked.url.startswith(own) else seen.requests.append(asked.url))
            tab.goto(address, wait_until="load")
            seen.facts = tab.evaluate(_LOOK)
            if shot is not None:
                tab.screenshot(path=str(shot), full_page=True)
            return seen
        finally:
            context.close()

    @contextmanager
    def opened(self, page: Path, width: int = DESKTOP, dark: bool = False) -> Iterator[tuple[Any, list[str]]]:
        """A tab with a page that has a script, and what it complains of or fetches from elsewhere than its folder."""
        context = self._chromium.new_context(
            viewport={"width": width, "height": 844}, color_scheme="dark" if dark else "light", accept_downloads=True
        )
        complaints: list[str] = []
        try:
            tab = context.new_page()
            tab.on("console", lambda message: complaints.append(message.text))
            tab.on("pageerror", lambda error: complaints.append(str(error)))
            own = (page.absolute().parent.as_uri(), "blob:", "data:")
            tab.on("request", lambda asked: None if asked.url.startswith(own) else complaints.append(asked.url))
            tab.goto(page.absolute().as_uri(), wait_until="load")
            yield tab, complaints
        finally:
            context.close()


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start it; a test that needs one skips where it is absent, and fails where WEEVIT_REQUIRE_CHROMIUM is set."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _absent("needs playwright, which is not installed")
    if not Path(CHROMIUM).exists():
        _absent(f"needs Chromium at {CHROMIUM} (or WEEVIT_CHROMIUM), which is not there")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_ARGUMENTS))
        try:
            yield Browser(chromium)
        finally:
            chromium.close()


def _absent(message: str) -> None:
    if os.environ.get("WEEVIT_REQUIRE_CHROMIUM"):
        pytest.fail(message)
    pytest.skip(message)

"""The page, driven in Chromium as a person would: chosen, dropped, pasted, by keyboard, on a phone, in dark."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import browsing
import pytest
from served import Running, serving

import weevit
from conftest import png
from weevit.zoo.decision import Decision
from weevit.zoo.writing import write_checkpoint


@contextmanager
def opened(
    browser: browsing.Browser, server: Running, width: int = browsing.DESKTOP, dark: bool = False
) -> Iterator[Any]:
    """The page in a tab; every complaint and every request elsewhere is a failure."""
    context = browser._chromium.new_context(
        viewport={"width": width, "height": 844}, color_scheme="dark" if dark else "light",
        permissions=["clipboard-read", "clipboard-write"], has_touch=width < 600, is_mobile=width < 600,
    )  # fmt: skip
    complaints: list[str] = []
    tab = context.new_page()
    tab.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    own = (server.url, "blob:", "data:")
    tab.on("request", lambda asked: None if asked.url.startswith(own) else complaints.append(asked.url))
    # Before the page is there: subscribed to later, the chooser of a key pressed at once may be missed.
    tab.on("filechooser", lambda _: None)
    try:
        tab.goto(server.url, wait_until="networkidle")
        yield tab
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        assert [one for one in complaints if not re.search("status of (4|503)", one)] == []
    finally:
        context.close()


def choose(tab: Any, *files: tuple[str, bytes]) -> None:
    tab.set_input_files("#pick", [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files])


def answered(tab: Any, count: int) -> list[str]:
    """The cards' texts once all have an answer, or an error."""
    script = "count => document.querySelectorAll('.card .bars li:first-child, .card .state.bad').length >= count"
    tab.wait_for_function(script, arg=count, timeout=20_000)
    return [card.inner_text() for card in tab.query_selector_all(".card")]


def test_many_images_are_answered_and_a_broken_one_says_so(browser: browsing.Browser, server: Running) -> None:
    names = [f"<b>{number}</b>.png" for number in range(6)]
    with opened(browser, server) as tab:
        choose(tab, *((name, png(number)) for number, name in enumerate(names)), ("broken.png", b"none"))
        cards = answered(tab, 7)
        assert len(cards) == 7
        for number, name in enumerate(names):
            (own,) = (card for card in cards if card.startswith(name))
            (result,) = weevit.load("digits", cache=False).stream([png(number)])
            for best in result.top:
                assert f"{best.name}\n{100 * best.probability:.1f} %" in own
        (bad,) = (card for card in cards if card.startswith("broken"))
        assert "The bytes are of no known image format." in bad
        assert tab.query_selector(".card b") is None
        tab.click("#clear")
        assert tab.query_selector(".card") is None


def test_drop_and_paste(browser: browsing.Browser, server: Running) -> None:
    script = """([kind, data]) => {
      const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
      const moved = new DataTransfer();
      moved.items.add(new File([bytes], `${kind}.png`, {type: 'image/png'}));
      const event = kind === 'drop' ? new DragEvent('drop', {dataTransfer: moved, bubbles: true, cancelable: true})
        : new ClipboardEvent('paste', {clipboardData: moved, bubbles: true});
      document.getElementById('drop').dispatchEvent(event);
    }"""
    with opened(browser, server) as tab:
        for count, kind in enumerate(("drop", "paste"), 1):
            tab.evaluate(script, [kind, base64.b64encode(png(count)).decode()])
            assert answered(tab, count)[0].startswith(f"{kind}.png")


def test_heat_map_and_copies(browser: browsing.Browser, server: Running) -> None:
    with opened(browser, server) as tab:
        tab.fill("#topk", "2")
        choose(tab, ("it's.png", png(1)))
        answered(tab, 1)
        tab.click(".show-heat")
        tab.wait_for_selector(".heat:not([hidden])")
        tab.wait_for_function("document.querySelector('.heat').naturalWidth === 64")
        assert tab.get_attribute(".heat", "alt").startswith("Heat map")
        assert tab.get_attribute(".show-heat", "aria-pressed") == "true"
        tab.click(".show-heat")
        assert tab.is_visible(".photo")
        tab.click(".copy-json")
        row = json.loads(tab.evaluate("navigator.clipboard.readText()"))
        assert (row["input"], len(row["class_name"])) == ("it's.png", 2)
        tab.click(".copy-curl")
        command = tab.evaluate("navigator.clipboard.readText()")
        assert command == f"""curl -F 'image=@"it'\\''s.png"' '{server.url}/v1/classify?topk=2&model=digits'"""


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("name", ["a;b.png", "a,b.png", 'a"b.png', "a\\b.png", "it's.png", "écran 1.png"])
def test_the_copied_command_can_be_typed(browser: browsing.Browser, server: Running, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(png(1))
    with opened(browser, server) as tab:
        choose(tab, (name, png(1)))
        answered(tab, 1)
        tab.click(".copy-curl")
        command = tab.evaluate("navigator.clipboard.readText()")
        tab.click(".copy-json")
        row = json.loads(tab.evaluate("navigator.clipboard.readText()"))
    typed = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(typed.stdout)["results"][0]["probability"] == row["probability"]


def test_by_keyboard_alone(browser: browsing.Browser, server: Running) -> None:
    with opened(browser, server) as tab:
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "pick"
        with tab.expect_file_chooser() as chooser:
            tab.keyboard.press("Enter")
        chooser.value.set_files([{"name": "a.png", "mimeType": "image/png", "buffer": png(1)}])
        answered(tab, 1)
        seen = []
        for _ in range(12):
            tab.keyboard.press("Tab")
            seen.append(tab.evaluate("document.activeElement.className || document.activeElement.id"))
        assert {"topk", "clear", "show-heat", "copy-json", "copy-curl"} <= set(seen)
        tab.focus(".show-heat")
        tab.keyboard.press("Enter")
        tab.wait_for_selector(".heat:not([hidden])")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [browsing.PHONE, browsing.DESKTOP])
def test_it_looks_right_on_a_phone_and_in_the_dark(
    browser: browsing.Browser, server: Running, width: int, dark: bool, tmp_path: Path
) -> None:
    with opened(browser, server, width, dark) as tab:
        choose(tab, *((f"photo-{number}-{'x' * 60}.png", png(number, 300, 400)) for number in range(2)))
        answered(tab, 2)
        background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
        assert tab.is_visible(".button.plain") == (width == browsing.PHONE)  # photographs are taken with phones
        if width == browsing.PHONE:
            script = "[...document.querySelectorAll('button, .button')].filter(b => b.offsetParent && "
            assert tab.evaluate(f"{script} b.getBoundingClientRect().height < 40).map(b => b.className)") == []
        tab.screenshot(path=str(Path(os.environ.get("WEEVIT_SHOTS", tmp_path)) / f"{width}-{dark}.png"), full_page=True)


def test_a_page_that_is_opened_before_the_models_are_loaded_waits_for_them(
    browser: browsing.Browser, server: Running
) -> None:
    refused: list[int] = []

    def answer(route: Any) -> None:
        if refused:
            route.continue_()
            return
        refused.append(503)
        body = '{"detail": "The models are being loaded."}'
        route.fulfill(status=503, headers={"Retry-After": "1"}, body=body)

    with opened(browser, server) as tab:
        tab.route("**/v1/models", answer)
        tab.evaluate("byId('model-line').textContent = ''; models()")
        tab.wait_for_function("() => document.getElementById('model-line').textContent.includes('10 classes')")
        assert refused
        assert tab.is_hidden("#notice")


def test_unknown_is_said_and_models_are_chosen(browser: browsing.Browser, serve_extra: None, tmp_path: Path) -> None:
    own = weevit.load("digits").checkpoint
    rest = own.tensors(), own.preprocessing, own.labels
    write_checkpoint(tmp_path / "unsure", own.architecture, *rest, decision=Decision(threshold=0.999))
    (tmp_path / "key").write_text("a-key-of-more-than-sixteen-characters")
    words = ("digits", tmp_path / "unsure", "--api-key-file", tmp_path / "key")
    with serving(*words, PYTHONPATH=os.environ.get("PYTHONPATH", "")) as server, opened(browser, server) as tab:
        assert tab.is_visible("#key")
        assert "needs an API key" in tab.inner_text("#notice")
        tab.fill("#key", "a-key-of-more-than-sixteen-characters")
        tab.press("#key", "Enter")
        tab.wait_for_selector("#model-field:not([hidden])")
        tab.select_option("#model", "unsure")
        choose(tab, ("a.png", png(1)))
        assert "unknown: no class is likely enough" in answered(tab, 1)[0]

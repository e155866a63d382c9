"""`--index`: /v1/search, thumbnails of the index's images and of nothing else, and the page, driven in Chromium."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import browsing
import pytest
from PIL import Image
from served import Running, multipart, serving

import weevit
from conftest import data_uri, png

MODEL = "vit_micro_patch16_reg1_gap_64.digits"
"""What an index records for the model that comes with weevit."""

pytestmark = pytest.mark.usefixtures("serve_extra")


@dataclass
class Searched:
    """A server, the index that it searches, and the folder of its images."""

    server: Running
    index: Path
    photos: Path


@pytest.fixture(scope="module")
def searched(serve_extra: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searched]:
    folder = tmp_path_factory.mktemp("index")
    photos = folder / "photos"
    photos.mkdir()
    for number in range(30):
        (photos / f"<b>{number}<i>.png").write_bytes(png(number))
    weevit.index(photos, folder / "photos.idx", "digits")
    words = ("--index", folder / "photos.idx")
    with serving(*words, WEEVIT_CACHE=str(folder / "cache"), PYTHONPATH=os.environ.get("PYTHONPATH", "")) as running:
        yield Searched(running, folder / "photos.idx", photos)


def ids(answer: object) -> list[str]:
    assert isinstance(answer, dict)
    return [hit["id"] for hit in answer["results"]]


def test_the_answers_are_those_of_the_library(searched: Searched) -> None:
    server, index = searched.server, weevit.open_index(searched.index)
    first, second = png(3), png(40)
    body, media = multipart(first, second)
    other, _ = multipart(first, second)
    other = other.replace(b'name="image"', b'name="not"').replace(b'name="not"', b'name="image"', 1)
    names = list(index.ids())
    for answer, expected in (
        (server.ask("POST", "/v1/search?k=5", first), index.search(first, 5)),
        (server.ask("POST", "/v1/search?k=5", body, content_type=media), index.search([first, second], 5)),
        (server.ask("POST", "/v1/search?k=5", other, content_type=media), index.search(first, 5, second)),
        (
            server.post("/v1/search", {"images": [data_uri(first)], "not": [data_uri(second)], "k": 5}),
            index.search(first, 5, second),
        ),
        (
            server.post("/v1/search", {"ids": [names[3]], "not_ids": [names[9]], "k": 5}),
            index.search(searched.photos / Path(names[3]).name, 5, searched.photos / Path(names[9]).name),
        ),
    ):
        assert answer.status == 200, answer.body
        found = answer.json()
        assert found["model"] == MODEL
        assert ids(found) == [hit.id for hit in expected]
        scores = [hit["similarity"] for hit in found["results"]]
        assert scores == pytest.approx([hit.score for hit in expected], abs=2e-3)  # ids have float16 vectors
    assert len(server.ask("POST", "/v1/search?k=1000", first).json()["results"]) == 30
    assert server.ask("GET", "/v1/models").json()["index"] == {"images": 30, "model": MODEL}
    assert {"/v1/search", "/v1/search/thumbnail"} <= set(server.ask("GET", "/openapi.json").json()["paths"])


def test_what_cannot_be_searched_is_said(searched: Searched) -> None:
    server, known = searched.server, next(weevit.open_index(searched.index).ids())
    for values, status, said in (
        ({"ids": ["none.png"]}, 400, "The index has no image 'none.png'."),
        ({}, 400, "names no image"),
        ({"not_ids": [known]}, 400, "names no image"),
        ({"ids": [known], "k": 0}, 400, "k is 1 or more"),
        ({"ids": [known], "k": 1001}, 400, "k is at most 1,000"),
        ({"ids": 3}, 400, "ids is a list"),
        ({"ids": [known], "kk": 3}, 400, "There is no setting 'kk'"),
        ({"images": [data_uri(b"GIF89a")]}, 422, "image"),
        ({"images": [data_uri(png(0))] * 40, "not": [data_uri(png(0))] * 40}, 413, "at most 64 images"),
    ):
        answer = server.post("/v1/search", values)
        assert answer.status == status, values
        assert said in answer.json()["detail"]


def test_s6_thumbnails_are_of_images_of_the_index_only(searched: Searched) -> None:
    server, hit = searched.server, searched.server.ask("POST", "/v1/search?k=1", png(3)).json()["results"][0]
    answer = server.ask("GET", hit["thumbnail"])
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(answer.body)).size == (48, 40)
    outside = searched.photos.parent / "outside.png"
    outside.write_bytes(png(0))
    for given in (str(outside), "photos.idx/index.json", "../outside.png", "/etc/passwd", "", "%00", hit["id"] + "/"):
        assert server.ask("GET", f"/v1/search/thumbnail?id={given}").status == 404
    (searched.photos / "<b>7<i>.png").write_bytes(b"no image any more")
    (seven,) = (name for name in weevit.open_index(searched.index).ids() if name.endswith("<b>7<i>.png"))
    answer = server.ask("GET", f"/v1/search/thumbnail?id={seven.replace('<', '%3C')}")
    assert answer.status == 422
    assert "photos" not in answer.body.decode()
    (searched.photos / "<b>7<i>.png").write_bytes(png(7))


def test_an_index_that_becomes_one_of_another_space_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weevit.serve import searching

    monkeypatch.setattr(searching, "_LOOK_AGAIN_S", -1.0)
    (tmp_path / "a.png").write_bytes(png(0))
    folder, model = tmp_path / "photos.idx", weevit.load("digits", cache=False)
    weevit.index(tmp_path / "a.png", folder, model)
    searcher = searching.Searcher(folder, {"digits": model})
    (tmp_path / "b.png").write_bytes(png(1))
    weevit.index([tmp_path / "a.png", tmp_path / "b.png"], folder, model)
    assert len(searcher.current()) == 2
    kept = searcher.current().version
    shutil.rmtree(folder)
    assert searcher.current().version == kept  # and is searched from its mapping
    other = weevit.load("digits", image_size=96, cache=False)
    for count in range(4):  # versions of another space, among them one with another number
        weevit.index([tmp_path / "a.png", tmp_path / "b.png"][: 1 + count % 2], folder, other, prune=True)
        assert len(searcher.current()) == 2
        assert searcher.hits(model.embed(tmp_path / "a.png")[0], 1)[0].score == pytest.approx(1, abs=1e-3)
    assert searcher.current().version == kept


def test_another_space_is_refused_at_the_start(searched: Searched, capsys: pytest.CaptureFixture[str]) -> None:
    from weevit.cli.app import main

    for words, said in (
        (
            ["digits", "--image-size", "96", "--index", str(searched.index)],
            "cannot be compared with those of the index",
        ),
        (["digits", "--index", str(searched.photos)], "is no index"),
        (["--index", str(searched.photos / "none")], "is not there"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["serve", *words, "--port", "0", "--quiet"])
        assert ended.value.code == 2, words
        assert said in capsys.readouterr().err


def test_s10_no_request_makes_the_server_fail(searched: Searched) -> None:
    pytest.importorskip("schemathesis")
    from fuzzing import fuzz

    tried, failures = fuzz(f"{searched.server.url}/openapi.json", cases=6)
    assert tried > 20
    assert failures == []


# ---- the page


def shown(tab: object, count: int) -> list[str]:
    """Names of the hits, once the search has ended and that many have their thumbnails."""
    tab.wait_for_function("() => document.getElementById('state').textContent.includes('images')")  # type: ignore[attr-defined]  # playwright's page
    script = "count => document.querySelectorAll('.hit img[src]').length >= count && document.title"
    tab.wait_for_function(script, arg=count, timeout=20_000)  # type: ignore[attr-defined]  # playwright's page
    return [one.inner_text() for one in tab.query_selector_all(".hit .name")]  # type: ignore[attr-defined]  # the same


@pytest.mark.parametrize(("width", "dark"), [(browsing.DESKTOP, False), (browsing.PHONE, True)])
def test_search_by_an_image_then_by_results(
    browser: browsing.Browser, searched: Searched, width: int, dark: bool, tmp_path: Path
) -> None:
    from test_served_page import opened

    with opened(browser, searched.server, width, dark) as tab:
        tab.click("#search-link a")
        tab.wait_for_load_state("networkidle")
        assert f"images, compared by {MODEL}" in tab.inner_text("#model-line")
        tab.set_input_files("#pick", [{"name": "q.png", "mimeType": "image/png", "buffer": png(3)}])
        assert shown(tab, 24)[0] == "<b>3<i>.png"
        assert tab.query_selector(".hit b") is None
        tab.click(".hit:nth-child(2) .less")
        tab.wait_for_function("() => document.querySelectorAll('#not li').length === 1")
        assert len(tab.query_selector_all("#like li")) == 1
        second = shown(tab, 24)[1]
        tab.focus(".hit:nth-child(2) .by-this")
        tab.keyboard.press("Enter")
        tab.wait_for_function("() => document.querySelectorAll('.terms li').length === 1")
        tab.wait_for_function("name => document.querySelector('.hit .name').textContent === name", arg=second)
        assert tab.evaluate("document.activeElement.className") == "by-this"  # the keyboard stays among the results
        tab.fill("#count", "3")
        tab.press("#count", "Enter")
        tab.wait_for_function("() => document.querySelectorAll('.hit').length === 3")
        background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
        if width == browsing.PHONE:
            script = "[...document.querySelectorAll('button, .button')].filter(b => b.offsetParent && "
            assert tab.evaluate(f"{script} b.getBoundingClientRect().height < 40).map(b => b.className)") == []
        tab.screenshot(path=str(Path(os.environ.get("WEEVIT_SHOTS", tmp_path)) / f"search-{width}.png"), full_page=True)
        tab.click("#clear")
        tab.wait_for_function("() => !document.querySelector('.hit')")


def test_the_page_asks_for_a_key(browser: browsing.Browser, searched: Searched, tmp_path: Path) -> None:
    from test_served_page import opened

    (tmp_path / "key").write_text("a-key-of-more-than-sixteen-characters")
    words = ("--index", searched.index, "--api-key-file", tmp_path / "key", "--quiet")
    with serving(*words, PYTHONPATH=os.environ.get("PYTHONPATH", "")) as server, opened(browser, server) as tab:
        tab.goto(f"{server.url}/search", wait_until="networkidle")
        tab.fill("#key", "a-key-of-more-than-sixteen-characters")
        tab.press("#key", "Enter")
        tab.set_input_files("#pick", [{"name": "q.png", "mimeType": "image/png", "buffer": png(5)}])
        assert shown(tab, 24)[0] == "<b>5<i>.png"


def test_a_new_version_is_searched_without_a_new_start(searched: Searched) -> None:
    server, new = searched.server, png(99)
    assert server.ask("POST", "/v1/search?k=1", new).json()["results"][0]["similarity"] < 0.999
    (searched.photos / "new.png").write_bytes(new)
    weevit.index(searched.photos, searched.index, "digits")
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        best = server.ask("POST", "/v1/search?k=1", new).json()["results"][0]
        if best["id"].endswith("new.png"):
            break
        time.sleep(0.2)
    assert best["similarity"] == pytest.approx(1, abs=1e-3)
    assert server.post("/v1/search", {"ids": [best["id"]], "k": 1}).json()["results"][0]["id"] == best["id"]
    (searched.photos / "new.png").unlink()

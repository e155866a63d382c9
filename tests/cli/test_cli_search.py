"""`weevit index`, `weevit search` and `weevit bench --search`: what is printed, and exit codes."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import browsing
import labelled
import pytest

pytest.importorskip("filelock")

import weevit
from weevit.cli import app


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    labelled.put(Path("photos/broken.png"), "no image")
    return labelled.noise(Path("photos"), 9)


def says(capsys: pytest.CaptureFixture[str], words: str, code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as ended:
        app.main(words.split())
    found = capsys.readouterr()
    assert ended.value.code == code, found.err
    assert "mistake of ours" not in found.err
    return found.out, found.err


def test_from_photos_to_hits(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = says(capsys, "index photos -m digits -o photos.idx")
    assert not out
    assert "photos/broken.png: not an image" in err
    assert "9 images in photos.idx · 9 embedded · 0 known · 1 failed (1 not an image)" in err
    assert "next: weevit search photos.idx QUERY.jpg" in err
    out, err = says(capsys, "search photos.idx photos/3.png -k 2")
    assert out.splitlines()[0] == "1.0000  photos/3.png"
    assert len(out.splitlines()) == 2
    assert "2 of 9 images · vit_micro_patch16_reg1_gap_64.digits" in err
    out, _ = says(capsys, "search photos.idx photos/3.png photos/4.png --not photos/5.png --json -q")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["rank"] for row in rows] == list(range(1, 10))
    assert set(rows[0]) == {"schema", "rank", "id", "similarity"}
    out, _ = says(capsys, "search photos.idx --class 7 --json -q -k 3")
    assert all(set(json.loads(line)) == {"schema", "rank", "id", "probability"} for line in out.splitlines())
    (Path("photos/0.png")).unlink()
    out, err = says(capsys, "index photos -o photos.idx --json")
    assert json.loads(out) == {
        "schema": "weevit.index/1", "index": "photos.idx", "images": 8, "version": 2, "total": 9, "same": 8,
        "copied": 0, "embedded": 0, "gone": 1, "lost": 0, "failed": 1,
    }  # fmt: skip
    says(capsys, "index photos -o photos.idx --strict -q", code=3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("index photos", "No --output was given"),
        ("index -o new.idx", "neither was given"),
        ("index photos --from v.npy -o new.idx", "both were given"),
        ("index photos --ids v.txt -o new.idx", "--ids is for --from"),
        ("index photos -m digitz -o new.idx", "digits"),
        ("index photos -o photos", "--output"),
        ("index --from none.npy -o new.idx", "is not there"),
        ("search photos.idx", "neither was given"),
        ("search photos.idx photos/1.png --class 3", "both were given"),
        ("search photos.idx --class 3 --not photos/1.png", "--not goes with IMAGES"),
        ("search photos.idx --like digits", "--like names a classifier"),
        ("search photos.idx --class three", "No class 'three'"),
        ("search photos.idx photos/none.png", "cannot be searched for"),
        ("search photos.idx photos/1.png -k 10", "k is 10, and the index holds 9 images"),
        ("search photos.idx photos/1.png -k 0", "-k is 1 or more"),
        ("search nothing.idx photos/1.png", "is not there"),
        ("search photos photos/1.png", "is no index.\nweevit index PHOTOS -o photos.idx"),
        ("search photos.idx --class " + "1" * 5000, "No class '1"),
        ("search photos.idx photos/1.png -m nothing", "nothing"),
        ("bench digits digits", "One model is measured at a time: 2 were given"),
    ],
)
def test_what_cannot_be_done_is_said(capsys: pytest.CaptureFixture[str], words: str, message: str) -> None:
    says(capsys, "index photos -m digits -o photos.idx -q")
    _, err = says(capsys, words, code=2)
    assert message in err


def test_a_page_has_the_images_in_it(
    capsys: pytest.CaptureFixture[str], browser: browsing.Browser, tmp_path: Path
) -> None:
    pytest.importorskip("jinja2")
    labelled.noise(Path("photos"), 40)
    Path("photos/1.png").rename("photos/<img src=x onerror=alert(1)>.png")
    says(capsys, "index photos -m digits -o photos.idx -q")
    says(capsys, "search photos.idx photos/3.png --not photos/5.png -k 40 --html hits/page.html -q")
    says(capsys, "search photos.idx photos/3.png -k 2 --html photos/3.png", code=2)
    labelled.put(Path("mine.html"), "<p>mine")
    says(capsys, "search photos.idx photos/3.png -k 2 --html mine.html", code=2)
    assert Path("mine.html").read_text() == "<p>mine"
    for width, dark in ((browsing.DESKTOP, False), (browsing.PHONE, True)):
        with browser.opened(tmp_path / "hits" / "page.html", width, dark) as (tab, complaints):
            assert tab.locator("#hits .cell").count() == 40
            assert tab.locator("#query .cell").count() == 1
            tab.locator("#hits .cell").first.focus()
            tab.keyboard.press("ArrowRight")
            tab.keyboard.press("Space")
            assert tab.locator("#count").inner_text() == "1"
            tab.keyboard.press("Enter")
            assert tab.locator("#beside figure").count() == 12
            assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
            assert complaints == []


def test_an_index_of_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = says(capsys, "index none.png -m digits -o new.idx", code=1)
    assert "none.png: missing" in err
    assert "0 images in new.idx" in err


def test_vectors_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    says(capsys, "embed photos -m digits -o v.npy -q")
    _, err = says(capsys, "index --from v.npy -o unknown.idx")
    assert "next: weevit search" not in err  # no image can be compared with vectors of an unknown model
    _, err = says(capsys, "index --from v.npy -m digits -o v.idx")
    assert "9 images in v.idx" in err
    assert says(capsys, "search v.idx photos/2.png -k 1 -q")[0] == "1.0000  photos/2.png\n"


def test_a_model_that_moved_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for needed in ("starlette", "uvicorn", "httptools", "prometheus_client"):
        pytest.importorskip(needed)
    from weevit.zoo.resolve import resolve

    folder = resolve("digits").path.parent
    Path("here").mkdir()
    for path in folder.iterdir():
        labelled.put(Path("here", path.name), path.read_bytes())
    says(capsys, "index photos -m here -o photos.idx -q")
    Path("here").rename("there")
    for words in ("search photos.idx photos/1.png", "index photos -o photos.idx", "serve --index photos.idx --port 0"):
        _, err = says(capsys, words, code=1)
        assert "here does not exist" in err
        assert "-m MODEL" in err
    assert says(capsys, "search photos.idx photos/1.png -m there -k 1 -q")[0].endswith("photos/1.png\n")


def test_an_image_or_paths_on_stdin_are_searched_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2")
    says(capsys, "index photos -m digits -o photos.idx -q")
    for given in (Path("photos/3.png").read_bytes(), b"photos/3.png\n"):
        for words in ("search photos.idx - -k 1 -q", "search photos.idx - -k 1 -q --html page.html"):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
            assert says(capsys, words)[0] == "1.0000  photos/3.png\n"
    assert "data:image/jpeg" in Path("page.html").read_text()
    _, err = says(capsys, "search photos.idx photos/1.png --not= -k 1", code=2)
    assert "An input is a path or an address: '' was given." in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--image-size 128", "preprocessing.height: 64 then, 128 now"),
        ("--max-pixels 10", "too_large"),
        ("--engine openvino", "openvino"),
        ("--image-size 0", "--image-size"),
    ],
)
def test_options_hold_for_the_model_of_an_index_that_is_there(
    capsys: pytest.CaptureFixture[str], photos: Path, words: str, message: str
) -> None:
    if "openvino" in words:
        pytest.importorskip("openvino")
    says(capsys, "index photos -m digits -o photos.idx -q")
    labelled.noise(photos, 10)  # one that is new
    _, err = says(capsys, f"index photos -o photos.idx {words}", code=2 if "--image-size" in words else 0)
    assert message in err


@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_index_is_made_again_without_its_model_being_named(
    capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    says(capsys, "index photos -m digits -o photos.idx -q")
    (shard,) = Path("photos.idx/data").iterdir()
    content = shard.read_bytes()
    shard.unlink()
    if damage != "missing":
        shard.write_bytes(content[:100] if damage == "cut" else content[:-1] + b"?")
    says(capsys, "search photos.idx photos/1.png", code=1)
    _, err = says(capsys, "index photos -o photos.idx")
    assert "9 were damaged and are made again" in err
    assert says(capsys, "search photos.idx photos/1.png -k 1 -q")[0] == "1.0000  photos/1.png\n"


def test_ctrl_c_keeps_what_was_embedded(photos: Path) -> None:
    labelled.noise(photos, 400)
    words = [sys.executable, "-m", "weevit", "index", "photos", "-m", "digits", "-o", "photos.idx", "--threads", "1"]
    code = "from weevit.search import writing; writing.SECONDS = 0; from weevit.cli.app import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words[3:]], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not Path("photos.idx/index.json").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "they are kept. Rerun the command to resume." in err
    there = len(weevit.open_index("photos.idx"))
    assert 0 < there < 400
    made = weevit.index("photos", "photos.idx", "digits")
    assert len(made) == 400


def test_bench_prints_a_card_per_model(capsys: pytest.CaptureFixture[str]) -> None:
    labelled.noise(Path("data/a"), 4)
    labelled.noise(Path("data/b"), 3, (30, 30))
    out, _ = says(capsys, "bench --search data digits")
    assert out.startswith("7 images of 2 classes; 7 of them searched for\n   mAP  recall@1")
    assert "vit_micro_patch16_reg1_gap_64.digits" in out
    out, _ = says(capsys, "bench --search data digits --json")
    assert json.loads(out)["schema"] == "weevit.search-card/1"
    says(capsys, "bench --search nothing digits", code=1)
    out, err = says(capsys, "bench --search data digits digitz --json", code=2)
    assert (out, "digitz" in err) == ("", True)  # no figures of the first that would be lost

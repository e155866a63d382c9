"""`weevit dedup` as it is typed: two lists, a folder, a page; copies moved away and back."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import browsing
import labelled
import pytest
from PIL import ImageOps
from scenes import encoded, scaled, scene

from weevit.cli import app

pytest.importorskip("jinja2")
pytest.importorskip("filelock")

Types = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def types(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Types:
    """Type a command in `tmp_path`; gives the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = app._run(shlex.split(line))
        told = capfd.readouterr()
        assert "mistake of ours" not in told.err
        return code, told.out, told.err

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    top = tmp_path / "my photos"
    for seed in range(4):
        labelled.put(top / f"{seed}.jpg", encoded(scene(seed), quality=95))
    labelled.put(top / "in" / "same.jpg", (top / "0.jpg").read_bytes())
    labelled.put(top / "in" / "small.jpg", encoded(scaled(scene(1), 0.5)))
    labelled.put(top / "in" / "<b>mirrored.jpg", encoded(ImageOps.mirror(scene(2))))
    labelled.put(top / "cut.jpg", encoded(scene(5))[:900])
    return top


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_from_the_search_to_the_undo(types: Types, photos: Path, tmp_path: Path) -> None:
    before = tree(photos)
    code, out, err = types("dedup 'my photos' --no-embeddings -o 'du p'")
    assert code == 0
    assert "copies: 3 groups, 3 images could go" in out
    assert "my photos/0.jpg ← my photos/in/same.jpg   (the same bytes)" in out
    assert "not read: 1" in out
    assert "not looked for: parts cut out of other images" in err
    assert {path.name for path in (tmp_path / "du p").iterdir()} >= {
        "report.html", "copies.csv", "moments.csv", "failures.csv", "duplicates.json", "thumbs"
    }  # fmt: skip
    (command,) = re.findall(r"next: weevit (.*)", err)
    for expected in ("would move: 3 files", "moved: 3 files", "moved back: 3 files"):
        code, out, err = types(command)
        assert (code, len(out.splitlines())) == (0, 3)
        assert expected in err
        command = (re.findall(r"next: weevit (.*?)(?:   .*)?$", err, re.MULTILINE) or [""])[0]
        assert tree(photos) == before or expected.startswith("moved: ")
    assert tree(photos) == before
    code, out, err = types("dedup apply 'du p' --move-to trash --dry-run")
    assert "would move: 3 files" in err


def test_moves_are_printed_as_they_go(types: Types, photos: Path, tmp_path: Path) -> None:
    types("dedup 'my photos' --no-embeddings -o dup")
    source, target = str(photos / "in" / "same.jpg"), "in/same.jpg"
    assert f"{source} → {target}" in types("dedup apply dup --move-to trash")[1].splitlines()
    assert f"{target} → {source}" in types("dedup undo trash")[1].splitlines()


@pytest.mark.parametrize("inputs", [". --no-embeddings", "*.jpg in --no-embeddings", ". in -m digits"])
def test_the_next_command_can_be_typed_among_the_images(
    types: Types, photos: Path, monkeypatch: pytest.MonkeyPatch, inputs: str
) -> None:
    monkeypatch.chdir(photos)
    code, _, err = types(f"dedup {inputs}")
    assert code == 0
    (command,) = re.findall(r"next: weevit (.*)", err)
    assert shlex.split(command) == ["dedup", *inputs.split(), "-o", "dup"]
    _, out, err = types(command)
    assert "3 images could go" in out
    (command,) = re.findall(r"next: weevit (.*)", err)
    assert types(command)[0] == 0
    code, _, err = types("dedup apply dup --move-to trash")
    assert code == 2
    assert types(f"dedup apply dup {err.splitlines()[-1]}")[0] == 0


def test_the_tables_have_every_image(types: Types, photos: Path, tmp_path: Path) -> None:
    types("dedup 'my photos' --no-embeddings -o dup")
    with (tmp_path / "dup" / "copies.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["group"], row["what"], Path(row["input"]).name) for row in rows] == [
        ("1", "keep", "1.jpg"), ("1", "near", "small.jpg"), ("2", "keep", "2.jpg"),
        ("2", "mirrored", "<b>mirrored.jpg"), ("3", "keep", "0.jpg"), ("3", "exact", "same.jpg"),
    ]  # fmt: skip
    with (tmp_path / "dup" / "failures.csv").open(encoding="utf-8", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["decode_error"]


def test_a_rerun_replaces_what_it_wrote(types: Types, photos: Path, tmp_path: Path) -> None:
    types("dedup 'my photos' --no-embeddings -o dup")
    (photos / "in" / "same.jpg").unlink()
    (photos / "cut.jpg").unlink()
    assert types("dedup 'my photos' --no-embeddings -o dup")[0] == 0
    assert not (tmp_path / "dup" / "failures.csv").exists()
    assert len(list((tmp_path / "dup" / "thumbs").iterdir())) == 4
    assert "same.jpg" not in (tmp_path / "dup" / "copies.csv").read_text()


def test_our_own_thumbnails_are_no_copies(types: Types, photos: Path) -> None:
    for _ in range(2):
        code, out, _ = types("dedup . --no-embeddings -o 'my photos/dup'")
        assert code == 0
        assert "copies: 3 groups, 3 images could go" in out


def test_one_object_a_line(types: Types, photos: Path) -> None:
    code, out, err = types("dedup 'my photos' --no-embeddings --json --quiet")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [line["kind"] for line in lines] == ["summary", "copies", "copies", "copies", "failures"]
    assert {line["schema"] for line in lines} == {"weevit.duplicates/1"}
    types("dedup 'my photos' --no-embeddings -o dup")
    code, out, err = types("dedup apply dup --move-to trash --json --quiet")
    moves = [json.loads(line) for line in out.splitlines()]
    assert {Path(move["source"]).name for move in moves} == {"same.jpg", "small.jpg", "<b>mirrored.jpg"}
    assert {move["dry_run"] for move in moves} == {False}


def test_exit_codes(types: Types, photos: Path, tmp_path: Path) -> None:
    assert types("dedup 'my photos' --no-embeddings --strict")[0] == 3
    labelled.put(tmp_path / "bad" / "a.jpg", b"<html>")
    assert types("dedup bad --no-embeddings")[0] == 1
    types("dedup 'my photos' --no-embeddings -o dup")
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"changed")
    code, out, err = types("dedup apply dup --move-to trash")
    assert (code, out) == (1, "")
    assert err.count("left: ") == 3
    assert types("dedup apply dup")[0] == 2
    assert types("dedup --help")[0] == 0


@pytest.mark.parametrize("line", ["dedup apply gone --move-to trash", "dedup undo gone"])
def test_what_is_not_there_says_what_to_type(types: Types, line: str) -> None:
    code, out, err = types(line)
    assert (code, out) == (2, "")
    assert "weevit dedup" in err


def test_a_misspelt_command_is_no_input(types: Types, photos: Path) -> None:
    code, out, err = types("dedup aply 'my dup' --move-to trash")
    assert (code, out) == (2, "")
    assert "Did you mean weevit dedup apply 'my dup' --move-to trash" in err


def test_paths_on_stdin(types: Types, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    text = "".join(f"{path}\n" for path in sorted(photos.rglob("*.jpg")))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code, out, _ = types("dedup - --no-embeddings -o dup")
    assert code == 0
    assert "copies: 3 groups" in out
    assert "moved: 3 files" in types("dedup apply dup --move-to trash")[2]


# ---- the page, in a browser


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [browsing.PHONE, browsing.DESKTOP])
def test_the_page_by_keyboard(
    types: Types, photos: Path, tmp_path: Path, browser: browsing.Browser, width: int, dark: bool
) -> None:
    types("dedup 'my photos' --no-embeddings -o dup")
    with browser.opened(tmp_path / "dup" / "report.html", width, dark) as (tab, complaints):
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        label = "document.activeElement.getAttribute('aria-label')"
        tab.focus(".cell[tabindex='0']")
        assert tab.evaluate(label) == "my photos/1.jpg"
        tab.keyboard.press("ArrowRight")
        assert tab.evaluate(label) == "my photos/in/small.jpg"
        tab.keyboard.press("Space")
        tab.keyboard.press("End")
        assert tab.evaluate(label) == "my photos/in/same.jpg"
        tab.keyboard.press("Space")
        tab.keyboard.press("Enter")
        assert tab.evaluate("document.getElementById('beside').open")
        differs = tab.evaluate(
            "[...document.querySelectorAll('dialog dd.differs')].map(d => d.previousSibling.textContent)"
        )
        assert set(differs) == {"what", "folder"}
        assert tab.evaluate("[...document.querySelectorAll('dialog img')].every(i => i.naturalWidth > 0)")
        tab.keyboard.press("Escape")
        assert not tab.evaluate("document.getElementById('beside').open")
        assert tab.evaluate(label) == "my photos/in/same.jpg"
        with tab.expect_download() as download:
            tab.click("#save")
        assert Path(download.value.path()).read_text() == "my photos/in/small.jpg\nmy photos/in/same.jpg\n"
        tab.click("#clear")
        tab.click("#spare")
        assert tab.inner_text("#count") == "3"
        assert complaints == []


def test_names_are_text_and_no_other_script_runs(
    types: Types, photos: Path, tmp_path: Path, browser: browsing.Browser
) -> None:
    for name in ("<img src=x onerror=alert(1)>.jpg", "'\"><script>alert(1)<", "\u202egpj.jpg"):
        labelled.put(photos / name.replace("/", "_") / "a.jpg", encoded(scene(3), quality=60))
    types("dedup 'my photos' --no-embeddings -o dup")
    page = tmp_path / "dup" / "report.html"
    html = page.read_text()
    assert html.count("<script") == 1
    assert "\u202e" not in html
    with browser.opened(page) as (tab, complaints):
        tab.focus(".cell[tabindex='0']")
        tab.keyboard.press("Enter")
        tab.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.bad = 1\">')")
        tab.wait_for_timeout(200)
        assert tab.evaluate("window.bad") is None
        assert all(
            "Content Security Policy" in one or "ERR_FILE_NOT_FOUND" in one or one.endswith("/x") for one in complaints
        )

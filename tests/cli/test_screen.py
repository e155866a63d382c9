"""Row M10: in no verb does a terminal see more than text of what strangers wrote, and no table is split by it."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from weevit.cli import app
from weevit.cli.console import drawing, screened, terminal
from weevit.cli.progress import words_column
from weevit.text import one_line, plain_cell
from weevit.zoo.checkpoint import read_checkpoint
from weevit.zoo.labels import Label
from weevit.zoo.resolve import resolve
from weevit.zoo.writing import write_checkpoint

NASTY = "\x1b]0;title\x07\x1b]52;c;aGk=\x07\x1b[2K\x9b31m\r99% =1+1\n\u202e\u2066\u200b\u2028\x85[red]\x7f"
"""In a name: window title, clipboard, erased line, carriage return, line feed, marks of direction, rich's markup."""

FORBIDDEN = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *"\u200b\u200e\u2028\u2029\u202e\u2066"} - {"\n"}

Says = Callable[..., tuple[int, str, str]]


@pytest.fixture
def says(capfd: pytest.CaptureFixture[str]) -> Says:
    """Run a command; whatever it prints is text, and `99%` begins no line, as it would after a line feed in a name."""

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = app._run([str(word) for word in words])
        out, err = capfd.readouterr()
        assert not set(out + err) & FORBIDDEN, (words, out, err)
        assert not any(line.startswith("\u202e") or line.startswith("\\u202e") for line in (out + err).splitlines())
        assert "a mistake of ours" not in err
        return code, out, err

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`digits` under a name, and with class names, that no person would give."""
    plain = resolve("digits")
    folder = tmp_path_factory.mktemp("models") / f"m{NASTY.replace('/', '')}"
    labels = tuple(Label(f"{i}{NASTY}", f"n{i}{NASTY}") for i in range(10))
    write_checkpoint(folder, plain.architecture, plain.tensors(), plain.preprocessing, labels)
    assert read_checkpoint(folder).labels == labels
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of four images, one of them broken, under such names."""
    top = tmp_path_factory.mktemp("images") / f"i{NASTY}"
    for number in range(3):
        folder = top / f"{number}{NASTY}"
        folder.mkdir(parents=True)
        for each in range(4):
            noise = Image.effect_noise((64, 64), 40 + 60 * number).convert("RGB")
            noise.save(folder / f"{each}{NASTY}.png")
    (folder / f"9{NASTY}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return top


def test_verbs_that_answer(says: Says, model: Path, images: Path, tmp_path: Path) -> None:
    code, out, _ = says("classify", images, "-m", model, "--topk", 2)
    assert code == 0
    assert len(out.splitlines()) == 12
    code, out, _ = says("classify", images, "-m", model, "--json")
    assert {json.loads(line)["class_name"][0][2:] for line in out.splitlines() if '"ok"' in line} == {NASTY}
    says("embed", images, "-m", model, "--json")
    says("embed", images, "-m", model, "-o", tmp_path / "v.npy")
    assert len((tmp_path / "v.ids.txt").read_text().splitlines()) == 12
    says("features", images, "-m", model, "-o", tmp_path / f"f{NASTY}.npz")
    (tmp_path / f"o{NASTY}").mkdir()
    says("explain", images, "-m", model, "-o", tmp_path / f"o{NASTY}", "--deletion")
    says("classify", images, "-m", model, "-o", tmp_path / f"job{NASTY}")
    says("jobs", "status", tmp_path / f"job{NASTY}")
    says("jobs", "verify", tmp_path / f"job{NASTY}")


def test_verbs_that_look_and_learn(says: Says, model: Path, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    assert says("data", "check", images, "-m", model, "-o", tmp_path / "check")[0] == 0
    assert says("fit", images, "-m", model, "--folds", 2, "-o", tmp_path / f"fit{NASTY}")[0] == 0
    fitted = tmp_path / f"fit{NASTY}"
    assert says("eval", fitted, images, "-o", tmp_path / "one")[0] == 0
    assert says("eval", fitted, images, "-o", tmp_path / "two", "--json")[0] == 0
    assert says("compare", tmp_path / "one", tmp_path / "two")[0] == 0
    assert says("info", fitted)[0] == 0
    for page in (fitted / "report.html", tmp_path / "one" / "report.html", tmp_path / "check" / "report.html"):
        assert not set(page.read_text()) & (FORBIDDEN - {"\t"}), page
        assert "<script" not in page.read_text()
    with (tmp_path / "one" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 13
    assert {plain_cell(row["target"])[1:] for row in rows} == {next(images.iterdir()).name[1:]}


@pytest.mark.parametrize(
    "words",
    [
        (f"clasify{NASTY}", "x"),
        ("classify", "x.png", f"--no{NASTY}"),
        ("classify", "x.png", "--topk", NASTY),
        ("classify", "x.png", "--engine", NASTY),
        ("classify", "x.png", "--image-size", NASTY),
        ("classify", "x.png", "-m", NASTY),
        ("classify", "x.png", "-m", f"./{NASTY}"),
        ("classify", NASTY, "-m", "digits"),
        ("classify", f"{NASTY}.tar", f"{NASTY}.csv", f"{NASTY}/*.png", "-m", "digits"),
        ("classify", "x.png", "-m", "digits", "-o", f"{NASTY}.xlsx"),
        ("classify", "x.png", "-m", "digits", "-o", f"{NASTY}/a/b.csv"),
        ("info", NASTY),
        ("models", NASTY),
        ("eval", "digits", NASTY),
        ("compare", NASTY, NASTY),
        ("data", "check", NASTY),
        ("fit", NASTY, "-o", NASTY),
        ("jobs", "status", NASTY),
        ("recipe", "show", NASTY),
        ("recipe", "diff", "finetune", NASTY),
        ("recipe", "show", "finetune", f"name={NASTY}", f"no.key{NASTY}=1"),
        ("train", NASTY, "--dry-run"),
        ("resume", NASTY),
        ("-v", NASTY),
    ],
)
def test_errors(says: Says, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = says(*words)
    assert code in (1, 2), err
    assert err


def test_names_in_lists_of_errors(says: Says, model: Path, images: Path, tmp_path: Path) -> None:
    for split, classes in (("train", 3), ("val", 2), ("test", 1)):
        for number in range(classes):
            (tmp_path / "d" / split / f"{split[0]}{number}{NASTY}").mkdir(parents=True)
            Image.new("RGB", (9, 9)).save(tmp_path / "d" / split / f"{split[0]}{number}{NASTY}" / "a.png")
    for words in (("data", "check", tmp_path / "d", "--no-embeddings"), ("eval", model, tmp_path / "d")):
        _, out, err = says(*words)
        assert "- t0\\x1b]0;title" in out + err or "n0\\x1b" in err
        assert not any(line.startswith("\\u202e") for line in (out + err).splitlines())


def test_a_traceback_too(says: Says, model: Path, tmp_path: Path) -> None:
    code, _, err = says("info", tmp_path / NASTY, "-v")
    assert code
    assert "Traceback" in err


def test_recipes(says: Says, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    named = f"name={NASTY}".replace("\n", "").replace("\x85", "").replace("\u2028", "")
    says("recipe", "show", "finetune", named)
    path = tmp_path / "r.yaml"
    path.write_text('model: {name: "\\e]0;x\\a\\u202e\\N\\L"}\n')
    says("recipe", "show", path)
    says("recipe", "diff", "finetune", path)


def test_tables_and_archives(says: Says, model: Path, tmp_path: Path) -> None:
    good = io.BytesIO()
    Image.new("RGB", (20, 20)).save(good, "PNG")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for content in (good.getvalue(), b"no image"):
            member = tarfile.TarInfo(f"{len(content)}{NASTY}.png")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["path", "id"], [f"{NASTY}.png", NASTY], ["", NASTY]])
    (tmp_path / "l.txt").write_text("x" + NASTY.replace("\n", "") + "\n", encoding="utf-8")
    words = ("classify", tmp_path / "a.tar", tmp_path / "t.csv", tmp_path / "l.txt", "-m", model)
    _, out, err = says(*words)
    assert len(out.splitlines()) == 1
    assert "t.csv" in err or NASTY[5:9] in err
    _, out, _ = says(*words, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    for ending in ("csv", "parquet"):
        says(*words, "-o", tmp_path / f"answers.{ending}")
    with (tmp_path / "answers.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [plain_cell(row["input"]) for row in read] == [row["input"] for row in rows]
    parquet = pytest.importorskip("pyarrow.parquet")
    assert parquet.read_table(tmp_path / "answers.parquet")["input"].to_pylist() == [row["input"] for row in rows]
    assert parquet.read_table(tmp_path / "answers.parquet")["class_name"].to_pylist()[0][0].endswith(NASTY)


def test_whatever_others_print_is_text_too(capfd: pytest.CaptureFixture[str]) -> None:
    with screened():
        print(NASTY)
        sys.stderr.writelines([NASTY])
        sys.stderr.write(warnings.formatwarning(NASTY, UserWarning, NASTY, 1))
        logging.getLogger("of.others").warning(NASTY)
        terminal().write("\x1b[?25h")
    out, err = capfd.readouterr()
    assert not set(out) & FORBIDDEN
    assert not set(err.replace("\x1b[?25h", "")) & FORBIDDEN
    assert err.endswith("\x1b[?25h")


def test_what_others_print_above_a_bar_is_text_too() -> None:
    from rich.console import Console
    from rich.progress import Progress

    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system=None, width=200)
    with screened(), drawing(Progress(words_column(), console=console, transient=True)) as bar:
        bar.add_task(f"[red]words[/] of a name [/oops] {one_line(NASTY)}")
        print(NASTY)
        sys.stderr.write(f"{NASTY}\n")
    assert "\x1b[" in file.getvalue()
    assert "[red]words[/] of a name [/oops]" in file.getvalue()
    for sign in ("\x1b]", "\x07", "\x9b", "\u202e", "\u200b", "\u2028", "\x85", "\x7f"):
        assert sign not in file.getvalue()


@pytest.mark.parametrize("environment", [{"LANG": "C", "LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_names_that_are_no_text_in_a_poor_locale(environment: dict[str, str], model: Path, tmp_path: Path) -> None:
    if sys.platform == "darwin" or os.name == "nt":
        pytest.skip("file names are text there")
    path = os.fsencode(tmp_path) + b"/\xff\x9b31m.png"
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(os.fsdecode(path))
    words = [sys.executable, "-m", "weevit", "classify", os.fsencode(tmp_path), path + b"no", "-m", os.fsencode(model)]
    done = subprocess.run(words, capture_output=True, env=os.environ | environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\\udcff\\udc9b31m.png" in done.stdout
    assert b"Traceback" not in done.stderr
    assert not set((done.stdout + done.stderr).decode()) & FORBIDDEN


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
def test_a_terminal_with_a_bar(model: Path, images: Path, tmp_path: Path) -> None:
    """What rich draws is made of escape sequences; none of them is of ours or a stranger's making."""
    import pty

    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "weevit", "classify", str(images), "-m", str(model), "-o", str(tmp_path / "a.csv")]
    with subprocess.Popen(words, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"}) as process:
        os.close(theirs)
        seen = bytearray()
        try:
            while part := os.read(ours, 65536):
                seen += part
        except OSError:  # so Linux says that the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0, bytes(seen)
    text = seen.decode()
    assert "\x1b[" in text  # there was a bar
    for sign in ("\x1b]", "\x07", "\x9b", "\u202e", "\u200b", "\u2028", "\x85", "\x7f"):
        assert sign not in text
    assert "\\x1b]0;title" in text

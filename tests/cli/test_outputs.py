"""No output lands on an input, on what the verb did not write, or at an address; its own files it replaces."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.cli import app
from weevit.errors import UsageError
from weevit.store.outputs import free_name, local, refuse_foreign, refuse_inputs

Says = Callable[..., tuple[int, str]]


@pytest.fixture
def says(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Run a command in `tmp_path`; gives the exit code and what stood on stderr."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> tuple[int, str]:
        capfd.readouterr()
        code = app._run(line.split())
        return code, capfd.readouterr().err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three images, lists and tables of them, and files that somebody else made."""
    for number, name in enumerate(("zero", "one")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for each in range(3):
            noise = Image.effect_noise((32, 32), 50 + 40 * number).convert("RGB")
            noise.save(tmp_path / "data" / name / f"{each}.png")
    paths = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "data").rglob("*.png"))
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    (tmp_path / "one.txt").write_text(f"{paths[0]}\n")
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{p},{Path(p).parent.name}\n" for p in paths))
    (tmp_path / "cat.png").write_bytes((tmp_path / paths[0]).read_bytes())
    (tmp_path / "theirs.jsonl").write_text('{"name": 1}\n')
    (tmp_path / "theirs.html").write_text("<html>mine</html>")
    (tmp_path / "v.ids.txt").write_text("a list of mine\n")
    np.save(tmp_path / "w.npy", np.zeros((3, 4), np.float64))
    np.savez(tmp_path / "maps.npz", mine=np.zeros(3))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "report.html").write_text("mine")
    return tmp_path


def state(folder: Path) -> dict[str, bytes]:
    """Every file there is."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


DESTROYS = [
    "classify list.csv -m digits -o list.csv",
    "classify list.txt -m digits -o ./data/../list.csv",
    "classify cat.png -m digits -o list.csv",
    "classify cat.png -m digits -o theirs.jsonl",
    "classify cat.png -m digits -o table.parquet",
    "embed table.parquet -m digits -o table.parquet",
    "embed cat.png -m digits -o v.npy",
    "embed cat.png -m digits -o w.npy",
    "features cat.png -m digits -o maps.npz",
    "features cat.png -m digits -o out.npz --pca cat.png",
    "features cat.png -m digits --pca data/one/0.png",
    "explain cat.png -m digits -o cat.png",
    "explain linked.png -m digits -o cat.png",
    "explain cat.png -m digits -o linked.png",
    "explain cat.png -m digits -o hard.png",
    "explain one.txt -m digits -o data/one/0.png",
    "explain data -m digits -o data",
    "eval digits data -o notes",
    "eval digits data -o data",
    "eval digits data -o .",
    "compare digits digits data -o notes",
    "data check data --no-embeddings -o notes",
    "data check data --no-embeddings -o data",
    "data check data --no-embeddings -o theirs.html",
    "data check list.csv --no-embeddings --fix-list list.csv",
    "data check data --no-embeddings --fix-list list.csv",
    "fit data -m digits -o notes",
    "fit data -m digits -o data",
    "classify data -m digits -o data",
    "classify data -m digits -o notes",
    "embed cat.png -m digits -o notes",
]


@pytest.mark.parametrize("line", DESTROYS)
def test_what_would_destroy_something_is_refused(says: Says, folder: Path, line: str) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"path": ["cat.png"]}), folder / "table.parquet")
    (folder / "linked.png").symlink_to("cat.png")
    os.link(folder / "cat.png", folder / "hard.png")
    before = state(folder)
    code, err = says(line)
    assert state(folder) == before
    assert code in (1, 2), err
    assert err.count("\n") <= 3
    assert any(word in err for word in ("would be lost", "is not replaced", "is not empty", "lies in the folder")), err
    assert "note: digits" not in err  # no model was loaded for it


def test_what_a_verb_wrote_it_replaces(says: Says, folder: Path) -> None:
    pytest.importorskip("pyarrow")
    for line in (
        *("classify cat.png -o a.csv", "classify cat.png -o a.jsonl", "classify cat.png -o a.parquet"),
        *("embed cat.png -o e.npy", "embed cat.png -o e.parquet", "features cat.png -o f.npz --pca p.png"),
        *("explain cat.png -o x.png", "classify data -o job", "data check data -o check --fix-list fixes.csv"),
        "data check data --no-embeddings -o page.html",
    ):
        for more in ("", " --image-size 32" if "job" not in line else ""):
            code, err = says(f"{line} -m digits{more}")
            assert code == 0, err
    for line in (
        "explain cat.png -m digits -o p.png",
        "classify cat.png -m digits -o e.parquet",
        "embed cat.png -m digits -o a.parquet",
    ):
        code, err = says(f"{line} -m digits")
        assert (code, "is not replaced" in err) == (2, True), line  # another verb's


def test_reports_replace_their_own_kind(says: Says, folder: Path) -> None:
    pytest.importorskip("sklearn")
    assert says("fit data -m digits -o mine --folds 2 --validation-share 0.34")[0] == 0
    for _ in range(2):
        assert says("eval mine data -o one --split all")[0] == 0
        assert says("eval mine data -o two --split all --table parquet")[0] == 0
        assert says("compare one two -o both")[0] == 0
    for line in (
        "eval mine data -o both",
        "compare one two -o one",
        "eval mine data -o mine",
        "data check data -m digits -o one",
    ):
        assert says(line)[0] == 2
    (folder / "one" / "report.json").unlink()  # stopped while it was written
    assert says("eval mine data -o one")[0] == 0
    (folder / "one" / "report.json").write_text('{"schema": "of another"}')
    assert says("eval mine data -o one")[0] == 2


def test_a_fit_is_not_fitted_over_its_own_model(says: Says, folder: Path) -> None:
    pytest.importorskip("sklearn")
    assert says("fit data -m digits -o mine --folds 2 --validation-share 0.34")[0] == 0
    before = state(folder / "mine")
    for model in ("mine", "mine/model", "mine/model/model.safetensors"):
        code, err = says(f"fit data -m {model} -o mine --folds 2")
        assert code == 2, err
    assert state(folder / "mine") == before


def test_a_second_fit_leaves_nothing_of_the_first(says: Says, folder: Path) -> None:
    pytest.importorskip("sklearn")
    for split in ("train", "validation", "test"):
        shutil.copytree(folder / "data", folder / "split" / split)
    for number, path in enumerate(sorted((folder / "split").rglob("*.png"))):
        Image.effect_noise((32, 32), 20 + 3 * number).convert("RGB").save(path)
    assert says("fit split -m digits -o mine --folds 2")[0] == 0
    assert (folder / "mine" / "test" / "report.json").is_file()
    (folder / "mine" / "test" / "of-mine.txt").write_text("kept")
    shutil.rmtree(folder / "split" / "test")
    assert says("fit split -m digits -o mine --folds 2")[0] == 0
    assert {path.name for path in (folder / "mine" / "test").iterdir()} == {"of-mine.txt"}
    assert says("compare mine/validation mine/test")[0] == 2


@pytest.mark.parametrize("address", ["s3://b/x", "s3://b/x.csv", "https://h/x.npy", "hf://a/b", "file:///tmp/x.png"])
@pytest.mark.parametrize(
    "line",
    [
        *("classify cat.png -o", "embed cat.png -o", "features cat.png -o", "features cat.png --pca"),
        *("explain cat.png -o", "eval tiny data -o", "compare tiny wee data -o", "data check data -o"),
        *("data check data --fix-list", "fit data -o", "train digits_micro --data data -o", "finetune data -o"),
    ],
)
def test_an_address_is_no_output(says: Says, folder: Path, line: str, address: str) -> None:
    of_jobs = line.split()[0] in ("classify", "embed", "features") and line.endswith("-o") and "." not in address
    if of_jobs:
        pytest.importorskip("pyarrow")
    if of_jobs and address.startswith("s3:"):  # a job may be kept there: tests/jobs/test_bucket.py
        return
    before = state(folder)
    code, err = says(f"{line} {address}")
    assert code == 2
    assert ("'hf' is none of them" if of_jobs else "is an address") in err
    assert "127.0.0.1" not in err  # nor was a model looked for
    assert state(folder) == before
    assert not (folder / "s3:").exists()


@pytest.mark.parametrize(
    "line",
    [
        *("classify cat.png -o", "embed cat.png -o", "features cat.png -o", "features cat.png --pca"),
        *("explain cat.png -o", "eval tiny data -o", "compare tiny wee data -o", "data check data -o"),
        *("data check data --fix-list", "fit data -o", "train digits_micro --data data -o", "finetune data -o"),
        *("index data -o", "dedup data -o", "quantize tiny --data data -o"),
    ],
)
def test_a_dash_is_no_output(says: Says, folder: Path, line: str) -> None:
    before = state(folder)
    code, err = says(f"{line} -")
    assert code == 2
    assert "stdout is neither" in err
    assert state(folder) == before


def test_python_refuses_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jinja2")
    monkeypatch.chdir(folder)
    for output in ("s3://b/x", "notes", "data"):
        for call in (
            lambda output: weevit.evaluate("digits", "data", output),
            lambda output: weevit.compare("digits", "digits", "data", output),
            lambda output: weevit.check_data("data", output=output, embeddings=False),
            lambda output: weevit.fit("data", output, "digits"),
        ):
            with pytest.raises(UsageError, match=r"is an address|is not empty|would be lost"):
                call(output)
    assert (folder / "notes" / "report.html").read_text() == "mine"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("classify cat.png -m digits --output=~/a.csv", "a.csv"),
        ("classify cat.png -m digits --output=~/job", "job/job.json"),
        ("embed cat.png -m digits --output=~/v.npy", "v.ids.txt"),
        ("features cat.png -m digits --pca=~/p.png", "p.png"),
        ("data check data --no-embeddings --fix-list=~/f.csv --output=~/check", "check/report.json f.csv"),
        ("fit data -m digits --output=~/mine --folds 2", "mine/model/config.json"),
    ],
)
def test_a_tilde_that_no_shell_expanded_is_the_home_folder(
    says: Says, folder: Path, home: Path, line: str, made: str
) -> None:
    """No shell expands it behind `=`: a folder called `~` was made, which nobody deletes without fear."""
    for needed in ("pyarrow", "sklearn", "jinja2"):
        pytest.importorskip(needed)
    assert says(line)[0] == 0
    assert all((home / name).is_file() for name in made.split())
    assert not (folder / "~").exists()


def test_a_tilde_in_python(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jinja2")
    monkeypatch.chdir(folder)
    weevit.fit("data", "~/mine", "digits", folds=2)
    weevit.evaluate("~/mine", "data", "~/eval")
    weevit.compare("~/mine", "~/mine", "data", "~/both")
    weevit.check_data("data", output="~/page.html", fix_list="~/fixes.csv", embeddings=False)
    weevit.find_duplicates("data", output="~/dups", embeddings=False)
    weevit.run_job(weevit.load("digits"), "data", "~/job")
    assert len(weevit.read_results("~/job")) == 6
    assert {path.name for path in home.iterdir()} == {"mine", "eval", "both", "page.html", "fixes.csv", "dups", "job"}
    assert not (folder / "~").exists()


@pytest.mark.parametrize("output", [None, 5, ""])
def test_what_is_no_name_is_no_output(folder: Path, output: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("jinja2")
    monkeypatch.chdir(folder)
    for call in (
        lambda: weevit.fit("data", output, "digits"),
        lambda: weevit.check_data("data", fix_list=output or "", embeddings=False),
    ):
        with pytest.raises(UsageError, match=r"is the name of a file or folder|is a path"):
            call()


def test_other_capitals_are_the_same_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that does not tell them apart, which `samefile` knows; here it is told so."""
    monkeypatch.setattr(os.path, "samefile", lambda one, other: str(one).lower() == str(other).lower())
    (folder / "CAT.png").write_bytes(b"")
    with pytest.raises(UsageError, match="would be lost"):
        refuse_inputs(folder / "CAT.png", [folder / "cat.png"])


def test_what_is_no_file_is_never_ours(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")  # reading it would wait for ever
    with pytest.raises(UsageError, match="is not replaced"):
        refuse_foreign(tmp_path / "a.csv", lambda path: True, "table")
    with pytest.raises(UsageError, match="empty one was given"):
        local("")
    with pytest.raises(UsageError, match="'-' was given"):
        local("-")
    assert local("C:/x.csv") == Path("C:/x.csv")
    (tmp_path / "b.csv").touch()
    (tmp_path / "b-2.csv").touch()
    assert free_name(tmp_path / "b.csv").name == "b-3.csv"


def test_job_options_without_a_job_are_refused(says: Says, folder: Path) -> None:
    for line in (
        "classify cat.png --shard 1/2",
        "classify cat.png -o a.csv --shard 1/2",
        "embed cat.png -o v2.npy --retry-failed",
        "features cat.png -o m.npz --shard-size 7",
        "embed cat.png -o v2.npy --dtype float16",
    ):
        code, err = says(f"{line} -m digits")
        assert (code, "is for a folder as --output" in err) == (2, True), err


def test_signs_are_not_fooled_by_junk(folder: Path) -> None:
    from weevit.cli import signs

    rng = np.random.default_rng(0)
    junk = [b"", b"\x00" * 100, b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"PAR1", b"\x89PNG\r\n\x1a\n", b"{" * 70_000]
    junk += [rng.bytes(400), json.dumps([1]).encode(), b'{"schema":1}', "é".encode("utf-16")]
    for content in junk:
        for own in (signs.CLASSIFY, signs.EMBED, signs.FEATURES, signs.PCA, signs.EXPLAIN):
            for ending, sign in own.items():
                path = folder / f"junk{ending}"
                path.write_bytes(content)
                assert sign(path) is False


def test_what_is_no_file_lies_in_no_folder(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    refuse_inputs(tmp_path, [tmp_path / "gone.jpg", tmp_path / "*.jpg", "hf-hub:a/b"], inside=True)
    with pytest.raises(UsageError, match="lies in the folder"):
        refuse_inputs(tmp_path, [tmp_path / "report.json"], inside=True)

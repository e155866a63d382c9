"""One situation, one error class, one exit code: every verb that writes, from the command line and from Python.

    an invalid choice of output                                       UsageError     2
    another process works in it; it may only be read; it is full      OutputError    1

What is refused is refused before a model is loaded, and nothing that was there is changed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import labelled
import mounts
import pytest
import runs

import weevit
from weevit.cli import app
from weevit.errors import OutputError, UsageError, WeevitError
from weevit.store.locks import take_lock

if os.name != "posix":
    pytest.skip("pipes, links and mounts", allow_module_level=True)
for needed in ("pyarrow", "filelock", "jinja2", "sklearn"):
    pytest.importorskip(needed)

LOADING = tuple(map(import_module, ("weevit.predict", "weevit.fitting.fit", "weevit.evaluation.model",
                                    "weevit.evaluation.suite", "weevit.checking.check",
                                    "weevit.quantization.quantize", "weevit.search.building",
                                    "weevit.duplicates.find")))  # fmt: skip
"""Where models are loaded."""

TRAINS = ("train", "resume", "finetune")


@dataclass(frozen=True)
class Verb:
    """How a verb writes.

    Attributes:
        words: the command; OUT stands for the output.
        twin: the call of the same, of the output; None where there is none.
        ending: of a file; empty for a folder.
        lock: the lock of a folder.
    """

    words: str
    twin: Callable[[str], object] | None = None
    ending: str = ""
    lock: str = ".lock"

    @property
    def name(self) -> str:
        return self.words.partition(" ")[0]


def job(verb: str, out: str) -> object:
    return weevit.run_job(weevit.load("digits"), "photos", out, verb)


def train(out: str) -> object:
    return weevit.train("recipe.yaml", "data", out, report=False)


WORKER = ".worker-1-of-1.lock"
VERBS = {
    "classify a file": Verb("classify photos -m digits -o OUT", ending=".csv"),
    "classify lines": Verb("classify photos -m digits -o OUT", ending=".jsonl"),
    "classify a table": Verb("classify photos -m digits -o OUT", ending=".parquet"),
    "classify a folder": Verb("classify photos -m digits -o OUT", partial(job, "classify"), lock=WORKER),
    "embed a file": Verb("embed photos -m digits -o OUT", ending=".npy"),
    "embed a folder": Verb("embed photos -m digits -o OUT", partial(job, "embed"), lock=WORKER),
    "features a file": Verb("features photos/0.png -m digits -o OUT", ending=".npz"),
    "features a drawing": Verb("features photos/0.png -m digits --pca OUT", ending=".png"),
    "features a folder": Verb("features photos -m digits -o OUT", partial(job, "features"), lock=WORKER),
    "explain": Verb("explain photos/0.png -m digits -o OUT", ending=".png"),
    "index": Verb("index photos -m digits -o OUT", lambda out: weevit.index("photos", out, "digits")),
    "data check": Verb(
        "data check data --no-embeddings -o OUT", lambda out: weevit.check_data("data", output=out, embeddings=False)
    ),
    "data check a page": Verb(
        "data check data --no-embeddings -o OUT",
        lambda out: weevit.check_data("data", output=out, embeddings=False),
        ending=".html",
    ),
    "data check a list": Verb(
        "data check data --no-embeddings --fix-list OUT",
        lambda out: weevit.check_data("data", fix_list=out, embeddings=False),
        ending=".csv",
    ),
    "dedup": Verb(
        "dedup photos --no-embeddings -o OUT",
        lambda out: weevit.find_duplicates("photos", output=out, embeddings=False),
    ),
    "fit": Verb("fit data -m digits --folds 2 -o OUT", lambda out: weevit.fit("data", out, "digits", folds=2)),
    "eval": Verb(
        "eval digits data --allow-missing -o OUT",
        lambda out: weevit.evaluate("digits", "data", out, allow_missing=True),
    ),
    "eval a suite": Verb("eval digits --suite data -o OUT", lambda out: weevit.evaluate_suite("digits", "data", out)),
    "compare": Verb(
        "compare digits digits data --allow-missing -o OUT",
        lambda out: weevit.compare("digits", "digits", "data", out, allow_missing=True),
    ),
    "quantize": Verb(
        "quantize digits --no-data --min-speedup 0 -o OUT",
        lambda out: weevit.quantize("digits", None, out, min_speedup=0),
    ),
    "train": Verb("train recipe.yaml --data data --no-report -o OUT", train),
    "resume": Verb("resume OUT --no-report", lambda out: weevit.resume(out, report=False)),
    "finetune": Verb("finetune data -m digits -o OUT", lambda out: weevit.finetune("data", out, "digits")),
}
FOLDERS = [name for name, verb in VERBS.items() if not verb.ending]
FILES = [name for name, verb in VERBS.items() if verb.ending]
MEANT_AS_FILES = ["features a drawing", "data check a list"]
"""Where a folder of that name is not simply the other way to write the same answers."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a data set and a recipe."""
    top = tmp_path_factory.mktemp("made")
    runs.images(top / "data", train=16, validation=6, classes=2)
    for path in sorted(top.glob("data/*/*")):
        path.rename(path.with_name(path.name.removeprefix("class ")))
    runs.recipe(top / "recipe.yaml")
    labelled.noise(top / "photos", 2)
    return top


@pytest.fixture(scope="module")
def begun(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped at once."""
    from weevit.training.watch import Watcher

    folder = tmp_path_factory.mktemp("runs") / "begun"
    weevit.train(made / "recipe.yaml", made / "data", folder, report=False, watcher=Watcher(should_stop=lambda: True))
    return folder


@pytest.fixture
def world(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with all of that."""
    folder = Path(shutil.copytree(made, tmp_path / "world"))
    monkeypatch.chdir(folder)
    return folder


Ask = Callable[..., str]


@pytest.fixture(params=["command", "Python"])
def ask(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Ask:
    """Asks a verb for an output, expects an error of that class and its exit code, and gives its message."""

    def command(name: str, out: object, expected: type[WeevitError]) -> str:
        code = app._run([str(out) if word == "OUT" else word for word in VERBS[name].words.split()])
        said = capfd.readouterr().err
        assert code == (2 if expected is UsageError else 1), said
        assert "Traceback" not in said
        assert "mistake of ours" not in said
        return said

    def python(name: str, out: object, expected: type[WeevitError]) -> str:
        twin = VERBS[name].twin
        if twin is None:
            pytest.skip("from the command line only")
        with pytest.raises(expected) as caught:
            twin(str(out))
        assert caught.value.hint
        return str(caught.value)

    return command if request.param == "command" else python


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every name below a folder, locks apart, with what it holds."""
    found = (path for path in sorted(folder.rglob("*")) if not path.name.endswith(".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


@pytest.fixture
def refused(ask: Ask, world: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The same, where no model may be loaded, and nothing may be changed."""

    def asked(name: str, out: object, expected: type[WeevitError]) -> str:
        needs(name)
        if VERBS[name].lock != WORKER or ask.__name__ == "command":  # a job's twin takes a model that is loaded
            for room in LOADING:
                monkeypatch.setattr(room, "load", lambda *given, **more: pytest.fail("a model was loaded"))
        before = contents(world)
        said = ask(name, out, expected)
        assert contents(world) == before
        return said

    return asked


def needs(name: str) -> None:
    if name in TRAINS and importlib.util.find_spec("torch") is None:
        pytest.skip("needs PyTorch")


def named(name: str) -> Path:
    """An output of a verb."""
    return Path("out" + VERBS[name].ending)


# ---- an invalid choice of output


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.lock != WORKER])
def test_an_address(refused: Ask, name: str) -> None:
    assert "is an address" in refused(name, f"s3://bucket/x{VERBS[name].ending}", UsageError)


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.twin])
def test_a_nul_which_no_name_has(world: Path, name: str) -> None:
    needs(name)
    twin = VERBS[name].twin
    assert twin is not None
    with pytest.raises(UsageError, match=r"NUL|holds no run"):
        twin("out\0")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_where_a_folder_is_meant(refused: Ask, world: Path, name: str) -> None:
    named(name).write_text("mine")
    for out in ("out", "out/below"):
        assert "is a file" in refused(name, out, UsageError)


@pytest.mark.parametrize("name", MEANT_AS_FILES)
def test_a_folder_where_a_file_is_meant(refused: Ask, world: Path, name: str) -> None:
    named(name).mkdir()
    assert "is a folder" in refused(name, named(name), UsageError)


@pytest.mark.parametrize("name", VERBS)
def test_what_somebody_else_wrote(refused: Ask, world: Path, name: str) -> None:
    out = named(name)
    if VERBS[name].ending:
        out.write_text("mine")
        assert "so it is not replaced" in refused(name, out, UsageError)
        return
    for there in ("thesis.tex", "recipe.yaml", "report.html", "state/step-000001", "data/train.parquet"):
        (out / there).parent.mkdir(parents=True)
        (out / there).write_text("mine")
        assert "is not empty and holds no" in refused(name, out, UsageError)
        shutil.rmtree(out)


@pytest.mark.parametrize("name", VERBS)
def test_an_input(refused: Ask, world: Path, name: str) -> None:
    given = "photos" if " photos" in VERBS[name].words else "data"
    out = world / given
    if VERBS[name].ending:
        out = out / f"0{VERBS[name].ending}"
        if not out.exists():
            shutil.copy(world / "photos" / "0.png", out)
    said = refused(name, out, UsageError)
    assert any(words in said for words in ("would be lost", "is not replaced", "holds no"))


@pytest.mark.parametrize("kind", ["pipe", "link to nowhere"])
@pytest.mark.parametrize("name", VERBS)
def test_something_else_of_that_name(refused: Ask, world: Path, name: str, kind: str) -> None:
    out = named(name)
    if kind == "pipe":
        os.mkfifo(out)
    else:
        out.symlink_to("nowhere")
    refused(name, out, UsageError)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_in_which_something_leads_out_of_it(refused: Ask, world: Path, name: str, begun: Path) -> None:
    records = {WORKER: "job.json", ".lock": "report.json"} | dict.fromkeys(("fit", "train", "resume"), "run.json")
    records |= {"finetune": "begun.json", "dedup": "duplicates.json"}
    record = records.get(name, records[VERBS[name].lock])
    Path("out").mkdir()
    (Path("out") / record).symlink_to(world / "recipe.yaml")
    refused(name, "out", UsageError)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_that_is_not_there(refused: Ask, world: Path, name: str) -> None:
    if not name.startswith("data check"):  # which makes it, as all that write folders do
        assert "There is no folder" in refused(name, world / "nowhere" / named(name), UsageError)


# ---- another process, a disk that may only be read, a full one, a name that no disk takes


@pytest.mark.parametrize("name", VERBS)
def test_a_name_that_is_too_long(refused: Ask, name: str) -> None:
    assert "File name too long" in refused(name, "x" * 300 + VERBS[name].ending, OutputError)


@pytest.mark.parametrize("name", FOLDERS)
def test_another_process_works_in_it(refused: Ask, world: Path, begun: Path, name: str) -> None:
    out = world / "out"
    shutil.copytree(begun, out) if name == "resume" else out.mkdir()
    held = take_lock(out / VERBS[name].lock, UsageError("busy"))
    try:
        assert "Another process works in" in refused(name, out, OutputError)
    finally:
        held.release()


@pytest.fixture
def disk(world: Path) -> Iterator[Path]:
    with mounts.small_disk(world / "disk") as folder:
        yield folder


@pytest.mark.parametrize("name", VERBS)
def test_a_disk_that_may_only_be_read(refused: Ask, disk: Path, begun: Path, name: str) -> None:
    out = disk / named(name)
    if name == "resume":
        shutil.copytree(begun, out)
    mounts.make_read_only(disk)
    assert "may not be written" in refused(name, out, OutputError)


@pytest.mark.parametrize("name", [name for name in VERBS if name != "eval a suite"])
def test_a_full_disk(ask: Ask, disk: Path, begun: Path, name: str) -> None:
    needs(name)
    out = disk / named(name)
    if name == "resume":
        shutil.copytree(begun, out)
    before = contents(disk)
    before.pop("out/log.txt", None)  # in whose page there is room
    mounts.fill(disk)
    said = ask(name, out, OutputError)
    assert "cannot be written: No space left on device" in said
    (disk / ".filler").unlink()
    left = contents(disk)
    assert {one: left.get(one) for one in before} == before
    assert not [one for one in left.keys() - before if one.endswith(".tmp") or left[one] == b""]


# ---- another run of the same verb


@pytest.mark.parametrize("name", ["embed a folder", "train", "finetune"])
def test_another_run_of_the_verb(ask: Ask, world: Path, begun: Path, name: str) -> None:
    needs(name)
    if name == "train":
        shutil.copytree(begun, "out")
    elif name == "finetune":
        Path("out").mkdir()
        for record in ("begun.json", "finetune.json"):
            (Path("out") / record).write_text("{}")
    else:
        weevit.run_job(weevit.load("digits"), "photos", "out", "embed", normalize=True)
    before = contents(world / "out")
    assert "out holds a" in ask(name, "out", UsageError)
    assert contents(world / "out") == before


# ---- names whose bytes are no UTF-8, of an old disk or archive


@pytest.mark.parametrize("name", [name for name in VERBS if name != "eval a suite"])
def test_names_that_are_no_text(made: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """What is given and what is written lies in such a folder."""
    needs(name)
    world = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        shutil.copytree(made, world)
    except OSError:
        pytest.skip("this disk takes UTF-8 only")
    out = world / named(name)
    if name == "resume":
        from weevit.training.watch import Watcher

        watcher = Watcher(should_stop=lambda: True)
        weevit.train(world / "recipe.yaml", world / "data", out, report=False, watcher=watcher)
    verb, *words = VERBS[name].words.replace("OUT", str(out)).split()
    words = [str(world / word) if (world / word).exists() else word for word in words]
    code = app._run([verb, *words, *(["--minutes", "0.1"] if name == "finetune" else [])])
    said = capfd.readouterr().err
    assert code == 0, said
    assert out.exists()

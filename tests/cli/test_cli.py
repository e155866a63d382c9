"""The command line as a user types it: answers on stdout, the rest on stderr, exit codes, errors of one screen."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

import click
import numpy as np
import pytest
from PIL import Image

from weevit.cli import options
from weevit.cli.app import VERBS, cli, main
from weevit.cli.doctor import CORE, EXTRAS
from weevit.engine import choice
from weevit.engine.choice import WAYS, refusal
from weevit.engine.machine import Cpu, cpu
from weevit.images.decode import Limits
from weevit.reports import page
from weevit.zoo.checkpoint import read_checkpoint
from weevit.zoo.decision import Decision
from weevit.zoo.weights import DEFAULT_MODEL, WEIGHTS
from weevit.zoo.writing import write_checkpoint


@dataclass
class Said:
    code: int
    out: str
    err: str


class Shell:
    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *words: object) -> Said:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = self._capfd.readouterr()
        assert "Traceback" not in err or "-v" in words
        return Said(int(ended.value.code or 0), out, err)


@pytest.fixture
def weevit(capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capfd)


@pytest.fixture
def photos_and_worse(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "sub/c.webp"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "d.jpg").write_bytes((folder / "b.jpg").read_bytes()[:300])
    (folder / "e.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not a image")
    return folder


# ---- models, info, doctor


def test_models_lists_all(weevit: Shell) -> None:
    said = weevit("models")
    assert said.code == 0
    lines = said.out.splitlines()
    assert len([line for line in lines if line.startswith("vit_")]) == 41
    pwee = next(line for line in lines if DEFAULT_MODEL in line)
    assert "15.3 M" in pwee and "4.37" in pwee and "80.08" in pwee and "apache-2.0" in pwee  # noqa: PT018


def test_models_as_json_and_by_pattern(weevit: Shell) -> None:
    rows = [json.loads(line) for line in weevit("models", "*rope*", "--json").out.splitlines()]
    assert len(rows) == 4
    assert {row["license"] for row in rows} == {"mit"}
    assert len(weevit("models", "pwee", "--json").out.splitlines()) == 3
    said = weevit("models", "resnet")
    assert said.code == 2
    assert "No model's name is like 'resnet'" in said.err


def test_info(weevit: Shell) -> None:
    facts = json.loads(weevit("info", "pwee", "--json").out)
    assert facts["name"] == DEFAULT_MODEL
    assert facts["costs"]["params"] == 15253480
    assert facts["published_top1_top5"]["imagenet"] == [80.082, 95.138]
    assert "parallel" in weevit("info", "pwee").out
    assert "no weights" in weevit("info", "vit_base_patch16_reg4_gap_256").out


def test_info_of_a_folder(weevit: Shell, fake_tiny: Path) -> None:
    facts = json.loads(weevit("info", fake_tiny, "--json").out)
    assert len(facts["sha256"]) == 64
    assert facts["costs"]["params"] == 5717416
    assert facts["decision"] == "the likeliest class"


def test_info_of_a_model_with_a_rule_for_the_unknown(weevit: Shell, fake_tiny: Path, tmp_path: Path) -> None:
    plain = read_checkpoint(fake_tiny)
    rule = Decision(threshold=0.5, coverage=0.95, temperature=0.7)
    write_checkpoint(
        tmp_path / "own", plain.architecture, plain.tensors(), plain.preprocessing, plain.labels, decision=rule
    )
    facts = json.loads(weevit("info", tmp_path / "own", "--json").out)
    assert facts["decision"] == {
        "threshold": 0.5,
        "coverage": 0.95,
        "multi_label": False,
        "label_thresholds": None,
        "temperature": 0.7,
    }
    assert "threshold                      0.5" in weevit("info", tmp_path / "own").out


def test_doctor(weevit: Shell) -> None:
    facts = json.loads(weevit("doctor", "--json").out)
    assert facts["threads"]["chosen"] >= 1
    assert facts["hub"]["answers"].startswith("no: ")
    assert "writable" in facts["caches"]["built graphs"]
    assert facts["processor"]["instruction set"] == cpu().name
    assert facts["precisions"]["fp32 on cpu"].startswith("onnxruntime: timm's numbers")
    assert facts["precisions"]["bf16 on cpu"].startswith("refused: Precision bf16 needs") == (
        refusal(WAYS[2]) is not None
    )
    assert facts["installed"]["numpy"] == version("numpy")
    assert weevit("doctor").code == 0


def test_doctor_knows_every_extra() -> None:
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]
    extras = {
        extra: tuple(re.split(r"[\[>]", line)[0] for line in lines if not line.startswith("weevit["))
        for extra, lines in project["optional-dependencies"].items()
    }
    assert {name: extras[name] for name in extras.keys() - {"test", "dev"}} == EXTRAS
    core = [re.split("[>]", line)[0].lower() for line in project["dependencies"]]
    assert sorted(core) == sorted(CORE)


def test_doctor_offline_asks_nothing(weevit: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert json.loads(weevit("doctor", "--json").out)["hub"]["answers"].startswith("not asked")


@pytest.mark.parametrize(
    "environment",
    [
        {"HF_ENDPOINT": "junk"},
        {"HF_ENDPOINT": "http://[::bad"},
        {"WEEVIT_CACHE": "/dev/null/x", "HF_HOME": "/dev/null/y"},
        {"https_proxy": "nonsense://[", "http_proxy": "nonsense://["},
        {"HF_HOME": "\x1b]0;x\x07" + "long" * 2000},
    ],
)
def test_doctor_never_falls_ill(weevit: Shell, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said = weevit("doctor")
    assert said.code == 0
    assert "\x1b" not in said.out
    facts = json.loads(weevit("doctor", "--json").out)
    if "WEEVIT_CACHE" in environment:
        assert all("NOT writable: /dev/null is no folder" in text for text in facts["caches"].values())


def test_doctor_waits_for_no_name_server(weevit: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which has seconds of its own, as have answers in drops: a timeout of a connection limits neither."""
    from weevit.cli import doctor

    ended = threading.Event()
    monkeypatch.setattr(doctor, "HUB_SECONDS", 0.05)
    monkeypatch.setattr(doctor, "_ask", lambda address: str(ended.wait(60)))
    start = time.monotonic()
    facts = json.loads(weevit("doctor", "--json").out)
    assert time.monotonic() - start < 30
    assert facts["hub"]["answers"].startswith("no: timed out")
    ended.set()


def test_doctor_tells_what_is_broken_and_goes_on(weevit: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from weevit.cli import doctor

    for name in ("_engines", "_threads", "_hub", "_installed", "_writable"):
        monkeypatch.setattr(doctor, name, broken)
    facts = json.loads(weevit("doctor", "--json").out)
    assert facts["engines"] == facts["hub"] == {"could not be found out": "RuntimeError: broken"}
    assert facts["caches"]["hub"] == "RuntimeError: broken"
    assert facts["weevit"]["version"]


def broken(*args: object) -> None:
    raise RuntimeError("broken")


def test_doctor_writes_nothing(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("WEEVIT_CACHE", "HF_HOME")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-B", "-m", "weevit", "doctor"]
    subprocess.run(words, env=environment, cwd=tmp_path, check=True, capture_output=True)
    assert list(tmp_path.rglob("*")) == []


# ---- what is checked before a model is fetched


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("classify ct.png", "Did you mean 'cat.png'?"),
        ("embed ct.png -o v.npy", "Did you mean 'cat.png'?"),
        ("features ct.png -o m.npz", "Did you mean 'cat.png'?"),
        ("explain ct.png -o x.png", "Did you mean 'cat.png'?"),
        ("classify ct.png -o job", "Did you mean 'cat.png'?"),
        ("eval tiny dta", "Did you mean 'data'?"),
        ("eval tiny --suite dta", "dta cannot be read"),
        ("compare tiny wee dta", "Did you mean 'data'?"),
        ("data check dta", "Did you mean 'data'?"),
        ("fit dta -o mine", "Did you mean 'data'?"),
        ("quantize tiny --data dta -o mine", "Did you mean 'data'?"),
        ("index dta -o mine", "Did you mean 'data'?"),
        ("finetune dta -o mine", "Did you mean 'data'?"),
        ("train digits_micro --data dta -o mine --from tiny", "Did you mean 'data'?"),
        ("classify cat.png", "--model digits"),
    ],
)
def test_a_typo_is_no_problem_of_the_hub(
    weevit: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    if line.startswith(("train", "finetune")):
        pytest.importorskip("torch")
    if line.startswith(("fit", "quantize", "index")) or line.endswith("job"):
        for needed in ("sklearn", "pyarrow", "jinja2", "filelock"):
            pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20)).save(tmp_path / "cat.png")
    (tmp_path / "data").mkdir()
    done = weevit(*line.split())
    assert done.code in (1, 2)
    assert said in done.err
    assert ("127.0.0.1" in done.err) == (line == "classify cat.png")  # where alone there is something to ask for
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.png", "data"]


@pytest.mark.parametrize(
    ("line", "package"),
    [
        ("classify cat.png -o a.parquet", "pyarrow"),
        ("embed cat.png -o a.parquet", "pyarrow"),
        ("classify cat.png -o job", "pyarrow"),
        ("eval tiny data -o out", "jinja2"),
        ("eval tiny data -o out --table parquet", "pyarrow"),
        ("compare tiny wee data -o out", "jinja2"),
        ("data check data -o out", "jinja2"),
        ("data check data", "sklearn.linear_model"),
        ("fit data -o mine", "jinja2"),
        ("fit data -o mine", "sklearn.linear_model"),
    ],
)
def test_extras_are_asked_for_first(
    weevit: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, package: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20)).save(tmp_path / "cat.png")
    (tmp_path / "data").mkdir()
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("weevit.reports.page._environment", page._environment.__wrapped__)
    done = weevit(*line.split())
    assert done.code == 1
    assert 'pip install "weevit[data]"' in done.err
    assert "127.0.0.1" not in done.err


def test_digits_says_what_it_is_for(weevit: Shell, photos_and_worse: Path) -> None:
    said = weevit("classify", photos_and_worse / "a.png", "-m", "digits")
    assert "note: digits reads single handwritten digits" in said.err
    assert "handwritten" in weevit("info", "digits").out


# ---- classify


def test_classify_in_a_pipe(weevit: Shell, photos_and_worse: Path, fake_tiny: Path) -> None:
    said = weevit("classify", photos_and_worse, "-m", fake_tiny, "--image-size", 64, "--topk", 2)
    assert said.code == 0
    assert [line.split(": ")[0].rpartition("/")[2] for line in said.out.splitlines()] == ["a.png", "b.jpg", "c.webp"]
    first = said.err.splitlines()[0]
    assert first.startswith("vit_tiny_patch16_224.augreg_in21k_ft_in1k · 5.7 M · 64 px · onnxruntime, ")
    assert "d.jpg: truncated: " in said.err
    assert "e.png: empty: " in said.err
    assert "3 done · 2 failed (1 truncated, 1 empty)" in said.err
    assert "left out 1 file not named like images: 1 .txt" in said.err


def test_classify_as_json(weevit: Shell, photos_and_worse: Path, fake_tiny: Path) -> None:
    said = weevit("classify", photos_and_worse, "-m", fake_tiny, "--image-size", 64, "--topk", 3, "--json")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert len(rows) == 5
    common, classes = ["input", "status", "error", "width", "height"], ["class_index", "class_id", "class_name"]
    assert all(list(row) == ["schema", *common, *classes, "probability"] for row in rows)
    assert [row["status"] for row in rows] == ["ok", "ok", "decode_error", "decode_error", "ok"]
    assert all(len(rows[0][name]) == 3 for name in [*classes, "probability"])
    assert all(rows[2][name] is None for name in ["width", *classes, "probability"])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_classify_into_a_file(
    weevit: Shell, photos_and_worse: Path, fake_tiny: Path, tmp_path: Path, ending: str
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"answers.{ending}"
    assert weevit("classify", photos_and_worse, "-m", fake_tiny, "--image-size", 64, "-o", path).code == 0
    rows = read_rows(path)
    assert [Path(row["input"]).name for row in rows] == ["a.png", "b.jpg", "d.jpg", "e.png", "c.webp"]
    assert [row["status"] for row in rows] == ["ok", "ok", "decode_error", "decode_error", "ok"]
    assert [path.name for path in tmp_path.iterdir()] in (["photos", path.name], [path.name, "photos"])


def read_rows(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


def test_exit_codes(weevit: Shell, photos_and_worse: Path, fake_tiny: Path) -> None:
    model = ("-m", fake_tiny, "--image-size", 64)
    assert weevit("classify", photos_and_worse / "a.png", *model, "--strict").code == 0
    assert weevit("classify", photos_and_worse, *model, "--strict").code == 3
    assert weevit("classify", photos_and_worse / "e.png", *model).code == 1
    assert weevit("classify", photos_and_worse / "none.png", *model).code == 1
    assert weevit("classify").code == 2
    assert weevit("classify", "a.png", "--modle", "x").code == 2
    assert weevit("classify", "a.png", "-m", "no-such-model").code == 2


def test_a_name_with_odd_characters(weevit: Shell, fake_tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / 'a "b",\n ü 猫.png'
    Image.new("RGB", (20, 20)).save(path)
    model = ("-m", fake_tiny, "--image-size", 64)
    assert json.loads(weevit("classify", path, *model, "--json").out)["input"] == str(path)
    weevit("classify", path, *model, "-o", tmp_path / "a.csv")
    assert read_rows(tmp_path / "a.csv")[0]["input"] == str(path)


def test_inputs_from_stdin(fake_tiny: Path, photos_and_worse: Path) -> None:
    words = [sys.executable, "-m", "weevit", "classify", "-", "-m", fake_tiny, "--image-size", "64", "--json"]
    text = f"{photos_and_worse / 'a.png'}\n\n{photos_and_worse / 'b.jpg'}\n"
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["ok", "ok"]


@pytest.mark.parametrize("words", ["models", "models --json", "--help", "classify . -m digits -q --json"])
def test_a_reader_that_has_seen_enough(photos_and_worse: Path, words: str) -> None:
    command = f"{sys.executable} -m weevit {words} | head -0; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=photos_and_worse)
    assert (done.returncode, "weevit: " in done.stderr, "rror" in done.stderr) == (0, False, False)


# ---- embed, features


def test_embed_into_npy(weevit: Shell, photos_and_worse: Path, fake_tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    said = weevit("embed", photos_and_worse, "-m", fake_tiny, "--image-size", 64, "-o", path, "--normalize")
    assert said.code == 0
    vectors = np.load(path)
    assert vectors.shape == (3, 192)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    names = (tmp_path / "vectors.ids.txt").read_text().splitlines()
    assert [Path(name).name for name in names] == ["a.png", "b.jpg", "c.webp"]


def test_embed_into_parquet(weevit: Shell, photos_and_worse: Path, fake_tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "vectors.parquet"
    assert weevit("embed", photos_and_worse, "-m", fake_tiny, "--image-size", 64, "-o", path).code == 0
    rows = read_rows(path)
    assert [row["embedding"] is None for row in rows] == [False, False, True, True, False]
    assert len(rows[0]["embedding"]) == 192


def test_embed_into_parquet_has_a_row_for_each_failure_of_failures_only(
    weevit: Shell, fake_tiny: Path, tmp_path: Path
) -> None:
    """As classify does; an earlier file would be taken for the answer."""
    pytest.importorskip("pyarrow")
    path = tmp_path / "vectors.parquet"
    assert weevit("embed", "gone.png", "-m", fake_tiny, "--image-size", 64, "-o", path).code == 1
    assert [(row["input"], row["status"], row["embedding"]) for row in read_rows(path)] == [
        ("gone.png", "missing", None)
    ]


def test_embed_says_where_it_needs_to_know(weevit: Shell, photos_and_worse: Path) -> None:
    said = weevit("embed", photos_and_worse)
    assert said.code == 2
    assert "-o vectors.npy" in said.err


def test_features(weevit: Shell, photos_and_worse: Path, fake_tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    model = ("-m", fake_tiny, "--image-size", 64, "-o", path)
    assert weevit("features", photos_and_worse / "a.png", "--layers", "5,-1", *model).code == 0
    with np.load(path) as maps:
        assert maps["block_5"].shape == maps["block_11"].shape == (192, 4, 4)
    assert weevit("features", photos_and_worse, *model).code == 0
    with np.load(path) as maps:
        assert maps["block_11"].shape == (3, 192, 4, 4)
        assert len(maps["inputs"]) == 3


# ---- errors


def test_a_verb_that_is_not_there(weevit: Shell) -> None:
    said = weevit("clasify", "x.jpg")
    assert said.code == 2
    assert said.err == "weevit: No verb 'clasify'.\nDid you mean 'classify'?   weevit classify x.jpg\n"
    assert "There are: models, info" in weevit("qqqq").err


def test_bf16_is_refused_before_anything_is_loaded(
    weevit: Shell, photos_and_worse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model that is named is not there: nobody looked."""
    monkeypatch.setattr(choice, "cpu", lambda: Cpu("AVX2", known=True, avx2=True))
    said = weevit("classify", photos_and_worse / "a.png", "--model", "nowhere", "--precision", "bf16")
    assert said.code == 2
    assert "this one (AVX2) has neither avx512_bf16 nor amx_bf16" in said.err
    said = weevit(
        "classify", photos_and_worse / "a.png", "--model", "nowhere", "--precision", "bf16", "--engine", "onnxruntime"
    )
    assert said.code == 2
    assert "The engine onnxruntime does not compute in bf16 on cpu" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "pwe"], "Did you mean 'pwee'"),
        (["-m", "./nothing"], "does not exist"),
        (["--image-size", "12x13x14"], "HEIGHTxWIDTH"),
        (["--image-size", "100"], "multiple of 16"),
        (["--threads", "0"], "1 or more"),
        (["--batch-size", "0"], "at least one image"),
        (["--topk", "0"], "topk is 1 or more"),
        (["--engine", "onnx"], "Did you mean 'onnxruntime'"),
        (["-o", "answers.xlsx"], "ends in .csv, .jsonl, .parquet"),
        (["-o", "no/such/folder/a.csv"], "There is no folder"),
    ],
)
def test_what_cannot_be_meant(
    weevit: Shell, photos_and_worse: Path, fake_tiny: Path, words: list[str], message: str
) -> None:
    model = [] if "-m" in words else ["-m", str(fake_tiny)]
    said = weevit("classify", photos_and_worse / "a.png", *model, *words)
    assert said.code in (1, 2)
    assert said.out == ""
    assert message in said.err
    assert len(said.err.splitlines()) <= 6


def test_a_hub_that_is_not_there(weevit: Shell, photos_and_worse: Path) -> None:
    said = weevit("classify", photos_and_worse / "a.png")
    assert said.code == 1
    assert "127.0.0.1:9" in said.err


def test_a_missing_extra_names_the_line(
    weevit: Shell, photos_and_worse: Path, fake_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = weevit("classify", photos_and_worse, "-m", fake_tiny, "--image-size", 64, "-o", tmp_path / "a.parquet")
    assert said.code == 1
    assert 'pip install "weevit[data]"' in said.err


def test_a_full_disk(weevit: Shell, photos_and_worse: Path, fake_tiny: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = subprocess.run(
        f"{sys.executable} -m weevit classify {photos_and_worse} -m {fake_tiny} --image-size 64 --json > /dev/full",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupted(fake_tiny: Path, tmp_path: Path) -> None:
    """However slow or fast the machine: the list of inputs never ends before the signal has been heard."""
    Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "a.png")
    words = [sys.executable, "-m", "weevit", "classify", "-", "-m", str(fake_tiny), "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        feeding = threading.Thread(target=feed, args=(process.stdin, f"{tmp_path / 'a.png'}\n"), daemon=True)
        feeding.start()
        process.stdout.readline()
        process.send_signal(2)
        threading.Thread(target=process.stdout.read, daemon=True).start()
        err = process.stderr.read() if process.stderr else ""
        process.wait(timeout=120)
        feeding.join(timeout=120)
        with contextlib.suppress(OSError):
            process.stdin.close()
    assert process.returncode == 130
    assert "Interrupted" in err
    assert "Traceback" not in err


def feed(stream: IO[str], line: str) -> None:
    """Write a line again and again, until nobody reads it."""
    with contextlib.suppress(OSError, ValueError):
        while True:
            stream.write(line)
            stream.flush()


# ---- the frozen surface


def test_every_verb_has_help(weevit: Shell) -> None:
    for verb in VERBS:
        said = weevit(verb, "--help")
        assert said.code == 0
        assert f"weevit {verb}" in said.out or "Usage" in said.out


@pytest.mark.parametrize("group", ["", "jobs", "data", "dedup", "recipe"])
def test_an_overview_shows_whole_sentences(weevit: Shell, group: str) -> None:
    said = weevit(*group.split(), "--help")
    _, commands = said.out.split("Commands:\n")
    assert [line for line in commands.splitlines() if not line.endswith(".")] == []
    assert "..." not in commands


@pytest.mark.parametrize("group", ["", "jobs", "data", "recipe"])
def test_a_group_alone_shows_its_commands(weevit: Shell, group: str) -> None:
    said = weevit(*group.split())
    assert said.code == 2
    assert said.err.startswith(f"Usage: weevit {group}".rstrip())
    assert "Commands:" in said.err


def test_options_say_the_same_everywhere() -> None:
    spelled: dict[str, set[tuple[str, ...]]] = {}
    for verb in VERBS:
        command = cli.get_command(click.Context(cli), verb)
        for parameter in command.params:
            if parameter.opts[0].startswith("-"):
                spelled.setdefault(parameter.name, set()).add(tuple(parameter.opts))
    assert all(len(ways) == 1 for ways in spelled.values()), spelled


def test_defaults_that_are_written_twice() -> None:
    assert options.DEFAULT_MODEL == DEFAULT_MODEL
    assert Limits().max_pixels == options.DEFAULT_MAX_PIXELS
    assert any(row.name == DEFAULT_MODEL for row in WEIGHTS)


def test_real_photo(weevit: Shell, vit_tiny: Path, photos: list[Path]) -> None:
    os.environ.pop("HF_HUB_OFFLINE", None)
    said = weevit("classify", photos[0], "-m", vit_tiny, "--topk", 1)
    assert "tench, Tinca tinca (n01440764)" in said.out

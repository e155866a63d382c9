"""What others read a job with: each opens `data/` as it is, rows without an answer included. And results as tables.

The readers are no dependencies of weevit, and pyarrow imports pandas where it is there, which costs memory that other
tests measure. So these tests skip where development installs, and run in an environment of their own, with
WEEVIT_REQUIRE_READERS=1.
"""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("filelock")

import fakes

import weevit
from weevit.jobs.results import verify_job

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 192
"""Of a ViT-Ti, as in the documentation."""

KINDS = ("emb", "half", "late")
"""Jobs of embeddings: float32; float16; float32 with a first shard in which no row has an answer."""


def reader(name: str) -> Any:
    """The module, or a skip that says what is missing; a failure with WEEVIT_REQUIRE_READERS."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        module = None
    if module is None or not module.__file__:  # tests/datasets, a folder, answers to that name where nothing else does
        why = f"{name} is not installed; it reads our Parquet as a stranger does"
        (pytest.fail if os.environ.get("WEEVIT_REQUIRE_READERS") else pytest.skip)(why)
    return module


@dataclass(frozen=True)
class Jobs:
    """Folders of finished jobs of the same images, the first three of which are broken.

    Attributes:
        top: `emb`, `half`, `late` and `answers` lie in it.
        broken: inputs without an answer.
    """

    top: Path
    broken: int = 3

    def data(self, kind: str) -> str:
        return str(self.top / kind / "data")

    def rows(self, kind: str) -> dict[str, list[Any]]:
        """What weevit itself reads."""
        found: dict[str, list[Any]] = weevit.read_results(self.top / kind).to_pydict()
        return found

    def vectors(self, kind: str) -> npt.NDArray[np.float32]:
        """(rows with an answer, 192)"""
        return np.array([own for own in self.rows(kind)["embedding"] if own is not None], np.float32)


def real_images(shared: Path) -> list[Path]:
    photos = sorted((shared / "data" / "imagenet_photos").iterdir())[:12]
    bad = shared / "data" / "image_zoo" / "bad"
    return [*(bad / name for name in ("broken.png", "truncated_jpeg.jpg", "zero_width.gif")), *photos]


def own_images() -> list[Path]:
    bad, photos, digits = (ROOT / "examples" / name for name in ("broken", "photos", "digits/test"))
    good = [*sorted(photos.iterdir())[:3], *(min((digits / str(number)).iterdir()) for number in range(9))]
    return [*sorted(bad.iterdir()), photos / "there is none.jpg", *good]


@pytest.fixture(scope="module", params=["real", "own"])
def jobs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """Of real photos and weights where they are there, and of what comes with weevit."""
    top = tmp_path_factory.mktemp(request.param)
    if request.param == "real":
        model, images = request.getfixturevalue("vit_tiny"), real_images(request.getfixturevalue("shared"))
    else:
        model, images = fakes.folder(top / fakes.TINY_TAG), own_images()
    listed = top / "list.csv"
    rows = [f"{path},n{number:02},{'even' if number % 2 == 0 else ''}" for number, path in enumerate(images)]
    listed.write_text("\n".join(["path,id,label", *rows]) + "\n")
    predictor = weevit.load(model, image_size=64, cache=False)
    weevit.run_job(predictor, listed, top / "emb", shard_size=4)
    weevit.run_job(predictor, listed, top / "half", shard_size=4, dtype="float16")
    weevit.run_job(predictor, listed, top / "late", shard_size=3)
    weevit.run_job(predictor, listed, top / "answers", "classify", shard_size=4, topk=3)
    return Jobs(top)


def same(found: dict[str, list[Any]], wanted: dict[str, list[Any]]) -> None:
    """Compare columns to the last bit; vectors may come as arrays of any kind."""
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        own = [value.tolist() if isinstance(value, np.ndarray) else value for value in found[name]]
        assert own == values, name


def test_the_jobs_are_what_they_should_be(jobs: Jobs) -> None:
    for kind in (*KINDS, "answers"):
        rows = jobs.rows(kind)
        assert rows["input"] == [f"n{number:02}" for number in range(15)]
        assert [status == "ok" for status in rows["status"]] == [False] * jobs.broken + [True] * 12
        assert not list(verify_job(jobs.top / kind))
    assert len(list((jobs.top / "emb" / "data").iterdir())) == 4
    assert jobs.vectors("emb").shape == (12, WIDTH)


@pytest.mark.parametrize("kind", [*KINDS, "answers"])
def test_pyarrow(jobs: Jobs, kind: str) -> None:
    dataset = reader("pyarrow.dataset").dataset(jobs.data(kind))
    same(dataset.to_table().to_pydict(), jobs.rows(kind))
    assert reader("pyarrow.parquet").read_table(jobs.data(kind)).num_rows == dataset.count_rows() == 15
    assert dataset.schema.metadata[b"weevit.verb"] == (b"classify" if kind == "answers" else b"embed")


@pytest.mark.parametrize("kind", [*KINDS, "answers"])
def test_pandas(jobs: Jobs, kind: str) -> None:
    frame = reader("pandas").read_parquet(jobs.data(kind))
    same(frame.astype(object).where(frame.notna(), None).to_dict("list"), jobs.rows(kind))
    assert frame[frame["target"] == "even"]["input"].tolist() == [f"n{number:02}" for number in range(0, 15, 2)]
    if kind == "answers":
        assert frame["class_name"].str[0].isna().sum() == jobs.broken
    else:
        good = np.stack(frame[frame["status"] == "ok"]["embedding"])
        assert good.dtype == (np.float16 if kind == "half" else np.float32)
        np.testing.assert_array_equal(good.astype(np.float32), jobs.vectors(kind))


@pytest.mark.parametrize("kind", [*KINDS, "answers"])
def test_polars(jobs: Jobs, kind: str) -> None:
    polars = reader("polars")
    frame = polars.read_parquet(jobs.data(kind))
    same(frame.to_dict(as_series=False), jobs.rows(kind))
    assert polars.scan_parquet(jobs.data(kind)).filter(polars.col("status") == "ok").collect().height == 12
    even = frame.filter(polars.col("target") == "even")
    assert even["input"].to_list() == [f"n{number:02}" for number in range(0, 15, 2)]
    if kind == "answers":
        assert frame["class_name"].list.first().null_count() == jobs.broken
    else:
        assert frame.schema["embedding"].inner == (polars.Float16 if kind == "half" else polars.Float32)
        good = frame["embedding"].list.to_array(WIDTH)
        assert good.null_count() == jobs.broken
        np.testing.assert_array_equal(good.drop_nulls().to_numpy().astype(np.float32), jobs.vectors(kind))


NEAREST = """
SELECT input, array_cosine_similarity(embedding::FLOAT[192], (
    SELECT embedding::FLOAT[192] FROM '{data}/*.parquet' WHERE input = 'n07'
)) AS likeness FROM '{data}/*.parquet' ORDER BY likeness DESC NULLS LAST
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", ["data/*.parquet", "**/*.parquet"])
def test_duckdb(jobs: Jobs, kind: str, pattern: str) -> None:
    with reader("duckdb").connect() as connection:
        names = "input, status, error, width, height, embedding, target, fingerprint"
        rows = connection.execute(f"SELECT {names} FROM '{jobs.top / kind / pattern}'").fetchall()
        same(dict(zip(names.split(", "), map(list, zip(*rows, strict=True)), strict=True)), jobs.rows(kind))
        kinds = (
            f"SELECT DISTINCT typeof(embedding), typeof(embedding::FLOAT[{WIDTH}]) FROM '{jobs.top / kind / pattern}'"
        )
        assert connection.execute(kinds).fetchall() == [("FLOAT[]", f"FLOAT[{WIDTH}]")]
        found = connection.execute(NEAREST.format(data=jobs.data(kind))).fetchall()
    vectors = jobs.vectors(kind).astype(np.float64)
    likeness = vectors @ vectors[4] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[4])
    numbers = {name: own for name, own in found if own is not None}
    assert found[0][0] == "n07"
    assert {name for name, own in found if own is None} == {"n00", "n01", "n02"}
    np.testing.assert_allclose([numbers[f"n{3 + index:02}"] for index in range(12)], likeness, atol=1e-5)
    assert list(numbers.values()) == sorted(numbers.values(), reverse=True)


def test_duckdb_and_classes(jobs: Jobs) -> None:
    with reader("duckdb").connect() as connection:
        data = f"'{jobs.data('answers')}/*.parquet'"
        rows = connection.execute(f"SELECT input, class_name[1], target FROM {data}").fetchall()
        count = f"SELECT target, count(*), count(class_name) FROM {data} GROUP BY target ORDER BY 2"
        assert connection.execute(count).fetchall() == [(None, 7, 6), ("even", 8, 6)]
    wanted = jobs.rows("answers")
    assert rows == [
        (name, labels and labels[0], target)
        for name, labels, target in zip(wanted["input"], wanted["class_name"], wanted["target"], strict=True)
    ]


@pytest.mark.parametrize(
    ("kind", "ask"),  # but everything of `late`: LanceDB looks for the width in the first rows that it is given
    [("emb", "everything"), ("half", "everything"), *((kind, "answers") for kind in KINDS)],
)
def test_lancedb(jobs: Jobs, kind: str, ask: str, tmp_path: Path) -> None:
    dataset = reader("pyarrow.dataset").dataset(jobs.data(kind))
    database = reader("lancedb").connect(tmp_path / "lance")
    if ask == "everything":
        table = database.create_table("emb", dataset)
        assert table.count_rows() == 15
    else:
        good = dataset.to_table(filter=reader("pyarrow.compute").field("status") == "ok")
        table = database.create_table("emb", good.combine_chunks())  # its first chunk may be empty
        assert table.count_rows() == 12
    assert str(table.schema.field("embedding").type) == f"fixed_size_list<item: float>[{WIDTH}]"
    wanted = jobs.rows(kind)
    rows = {row["input"]: row for row in table.to_arrow().to_pylist()}
    for name, status, vector in zip(wanted["input"], wanted["status"], wanted["embedding"], strict=True):
        if ask == "everything" or vector is not None:
            assert (rows[name]["status"], rows[name]["embedding"]) == (status, vector)
    found = table.search(jobs.vectors(kind)[4]).limit(20).to_list()
    assert len(found) == 12
    assert found[0]["input"] == "n07"
    assert {row["status"] for row in found} == {"ok"}


@pytest.mark.parametrize("kind", [*KINDS, "answers"])
@pytest.mark.parametrize("call", ["data", "data_dir", "parquet"])
def test_datasets(jobs: Jobs, kind: str, call: str, tmp_path: Path) -> None:
    load = reader("datasets").load_dataset
    cache = str(tmp_path / "cache")
    if call == "data":
        found = load(jobs.data(kind), cache_dir=cache)
    elif call == "data_dir":
        found = load(str(jobs.top / kind), data_dir="data", cache_dir=cache)
    else:
        found = load("parquet", data_dir=jobs.data(kind), cache_dir=cache)
    assert list(found) == ["train"]
    same({name: list(found["train"][name]) for name in found["train"].column_names}, jobs.rows(kind))


def documented(page: str = "jobs.md", heading: str = "Open it elsewhere") -> list[tuple[str, str]]:
    """Reader -> its line in the documentation."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| (\w+) \| `(.+)` \|$", section, re.MULTILINE)


def test_every_reader_has_its_line() -> None:
    assert [name for name, _ in documented()] == ["pandas", "Polars", "pyarrow", "DuckDB", "LanceDB", "datasets"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "line"), documented(), ids=[name for name, _ in documented()])
def test_the_documented_lines(
    jobs: Jobs, kind: str, name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {own: reader(own) for own in re.findall(r"\b(pandas|polars|pyarrow|duckdb|lancedb|datasets)\.", line)}
    if name == "pyarrow":
        importlib.import_module("pyarrow.dataset")
    assert name.lower() in modules
    (tmp_path / "emb").symlink_to(jobs.top / kind)
    monkeypatch.chdir(tmp_path)
    found = eval(line, modules)
    rows = {
        "DuckDB": lambda: len(found.fetchall()),
        "LanceDB": lambda: found.count_rows(),
        "pyarrow": lambda: found.count_rows(),
        "datasets": lambda: found["train"].num_rows,
    }.get(name, lambda: len(found))()
    assert rows == (12 if "status" in line else 15)


# ---- results of a call

TABLES = documented("answers.md", "In Python")


def test_every_library_of_tables_has_its_line() -> None:
    assert [name for name, _ in TABLES] == ["pandas", "Polars", "datasets"]


@pytest.mark.parametrize("good", [0, 1], ids=["good first", "broken first"])
@pytest.mark.parametrize(("output", "columns"), [
    ("logits", ("class_index", "probability")), ("embedding", ("embedding",)),
])  # fmt: skip
@pytest.mark.parametrize(("name", "line"), TABLES, ids=[name for name, _ in TABLES])
def test_results_are_a_table_in_one_call(name: str, line: str, output: Any, columns: list[str], good: int) -> None:
    images = [ROOT / "examples/digits/test/3/0175.png", ROOT / "examples/broken/page.jpg"]
    with weevit.load("digits", cache=False) as model:
        results = list(model.stream(images[:: -1 if good else 1], outputs=(output,), topk=2))
    found = eval(line, {name.lower(): reader(name.lower()), "results": results})
    row = results[good].to_dict()
    for column in columns:
        np.testing.assert_array_equal(found[column][good], row[column])
        kind = found.features[column].feature.dtype if name == "datasets" else np.asarray(found[column][good]).dtype
        assert kind == row[column].dtype
    if output == "logits":
        assert list(found["class_id"][good]) == row["class_id"] == [str(index) for index in row["class_index"]]
    assert [found["status"][place] for place in (good, 1 - good)] == ["ok", "decode_error"]

"""`Embedder` and `Classifier`: the answers of the model itself, in whatever maps batches."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import labelled
import numpy as np
import pytest
from PIL import Image

import weevit
from weevit.integrations.ray import Classifier, Embedder

COUNT = 24


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled.noise(tmp_path_factory.mktemp("images"), COUNT)


@pytest.fixture(scope="module")
def files(images: Path) -> list[bytes]:
    return [(images / f"{number}.png").read_bytes() for number in range(COUNT)]


@pytest.fixture(scope="module")
def vectors(digits: weevit.Predictor, images: Path) -> np.ndarray:
    """As a job writes them: to the last bit."""
    results = digits.stream([images / f"{number}.png" for number in range(COUNT)], ("embedding",), steady=True)
    return np.stack([result.embedding for result in results if result.embedding is not None])


def text(*values: object) -> np.ndarray:
    return np.array([*values, None], object)[:-1]


def test_a_dict_of_arrays_gets_columns(files: list[bytes], vectors: np.ndarray) -> None:
    batch = {"id": np.arange(4), "bytes": text(files[0], b"no image", None, files[1])}
    found = pickle.loads(pickle.dumps(Embedder("digits", cache=False)))(batch)
    assert list(found) == ["id", "bytes", "status", "error", "width", "height", "embedding"]
    assert found["status"].tolist() == ["ok", "decode_error", "missing", "ok"]
    assert found["embedding"].dtype == np.float32
    assert np.array_equal(found["embedding"][[0, 3]], vectors[:2])
    assert np.isnan(found["embedding"][[1, 2]]).all()
    assert found["width"].tolist() == [40, -1, -1, 40]
    assert found["error"][0] == ""
    assert found["error"][2] == "missing: 2: no image in this row"
    assert found["id"].tolist() == [0, 1, 2, 3]


def test_paths_pixels_and_addresses(images: Path, vectors: np.ndarray, digits: weevit.Predictor) -> None:
    embed = Embedder("digits", cache=False)
    paths = embed({"path": text(str(images / "0.png"), str(images / "gone.png"), "s3://bucket/x.png")})
    assert paths["status"].tolist() == ["ok", "missing", "unreadable"]
    assert "only with --allow-urls" in paths["error"][2]
    pixels = np.stack([np.asarray(digits.open(next(iter(weevit_sources(images / "3.png")))))])
    assert np.array_equal(embed({"image": pixels})["embedding"][0], vectors[3])
    assert np.array_equal(embed.vectors([images / "5.png", pixels[0]]), vectors[[5, 3]])
    assert np.isnan(embed.vectors([None])).all()
    assert embed.vectors([]).shape == (0, vectors.shape[1])


def weevit_sources(path: Path) -> Any:
    from weevit.images.sources import expand

    return expand(path)


def test_a_table_gets_nulls(files: list[bytes], digits: weevit.Predictor) -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"id": ["a", "b"], "bytes": [files[0], b"no image"]})
    found = Classifier("digits", topk=2, cache=False)(table)
    assert found.column("status").to_pylist() == ["ok", "decode_error"]
    best = digits.classify(files[0], topk=2)
    assert found.column("class_id")[0].as_py() == [one.id for one in best.top]
    assert found.column("class_id")[1].as_py() is None
    assert found.column("probability")[0].as_py() == pytest.approx(best.probabilities, abs=1e-6)
    assert Classifier("digits", cache=False).labels([files[0], b"x"]).tolist() == [best.top[0].id, None]
    with pytest.raises(weevit.UsageError, match="has a column 'status' already"):
        Classifier("digits", cache=False)(table.append_column("status", pa.array(["", ""])))


def test_structs_of_the_hub(images: Path, files: list[bytes], vectors: np.ndarray) -> None:
    """The column `image` of every data set of the hub, read by Ray, Spark or Daft itself."""
    rows = [{"bytes": files[0], "path": None}, {"bytes": None, "path": str(images / "1.png")}]
    embed = Embedder("digits", cache=False)
    found = embed({"image": text(*rows, {"bytes": None, "path": None}, {"width": 3})})
    assert found["status"].tolist() == ["ok", "ok", "missing", "unreadable"]
    assert np.array_equal(found["embedding"][:2], vectors[:2])
    pa = pytest.importorskip("pyarrow")
    assert embed(pa.table({"image": rows})).column("status").to_pylist() == ["ok", "ok"]


def test_a_value_that_is_no_image_is_told_of_what_kind_it_is(images: Path, vectors: np.ndarray) -> None:
    pixels = np.zeros((8, 8, 3), np.float32)
    found = Embedder("digits", cache=False)(
        {"image": text(pixels, 5, "a\0b", float("nan"), Image.open(images / "0.png"))}
    )
    assert found["error"].tolist() == [
        "unreadable: row 0: an array of float32, where an image is one of uint8",
        "unreadable: row 1: a value of type int is not an image",
        "missing: 'a\\x00b': a NUL in a path",
        "missing: row 3: no image in this row",
        "",
    ]
    assert np.array_equal(found["embedding"][4], vectors[0])


def test_a_column_of_an_answers_name_is_not_written_over(files: list[bytes]) -> None:
    with pytest.raises(weevit.UsageError, match="has a column 'width' already"):
        Embedder("digits", cache=False)({"bytes": text(files[0]), "width": np.array([640])})


def test_another_kind_of_batch_is_refused(files: list[bytes]) -> None:
    with pytest.raises(
        weevit.UsageError, match=r"A batch is a pyarrow\.Table or a dict of arrays: .* type list"
    ) as caught:
        Embedder("digits", cache=False)(files)
    assert caught.value.hint == 'batch_format="pyarrow"'


def test_a_batch_without_images() -> None:
    with pytest.raises(weevit.UsageError, match="no column 'bytes or image or path'; its columns are photo") as caught:
        Embedder("digits")({"photo": np.zeros(2)})
    assert caught.value.hint == "Embedder(..., image='photo')"


# ---- engines


@pytest.fixture(scope="module")
def ray_data() -> Any:
    pytest.importorskip("pandas")
    ray = pytest.importorskip("ray")
    data = pytest.importorskip("ray.data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        data.DataContext.get_current().enable_progress_bars = False
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
        yield data
        ray.shutdown()


@pytest.fixture
def parquet(files: list[bytes], tmp_path: Path) -> str:
    from pyarrow import parquet, table

    folder = tmp_path / "photos"
    folder.mkdir()
    for part in range(4):
        rows = range(part * COUNT // 4, (part + 1) * COUNT // 4)
        parquet.write_table(
            table({"id": list(rows), "bytes": [files[row] for row in rows]}), folder / f"{part}.parquet"
        )
    return str(folder)


pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{name}") for name in ("DeprecationWarning", "FutureWarning", "ResourceWarning")
]


@pytest.mark.parametrize("form", ["numpy", "pyarrow"])
def test_ray_data(ray_data: Any, parquet: str, vectors: np.ndarray, form: str) -> None:
    own: dict[str, Any] = {"batch_format": form, "batch_size": 5, "num_cpus": 1}
    if form == "numpy":
        mapped = ray_data.read_parquet(parquet).map_batches(Threads("digits", cache=False), **own)
    else:
        own |= {"compute": ray_data.ActorPoolStrategy(size=1), "fn_constructor_args": ("digits",)}
        mapped = ray_data.read_parquet(parquet).map_batches(Threads, **own)
    rows = sorted(mapped.take_all(), key=lambda row: row["id"])
    assert [row["status"] for row in rows] == ["ok"] * COUNT
    assert np.array_equal(np.stack([row["embedding"] for row in rows]).astype(np.float32), vectors)
    assert {row["threads"] for row in rows} == {1}  # of an actor with one CPU


class Threads(Embedder):
    """Says how many threads it has."""

    def __call__(self, batch: Any) -> Any:
        found = super().__call__(batch)
        count = np.full(len(batch["id"]), self.model.threads.count)
        return {**found, "threads": count} if isinstance(found, dict) else found.append_column("threads", [count])


class Dies(Embedder):
    """Fails at one row."""

    def __call__(self, batch: Any) -> Any:
        if 20 in batch["id"].tolist():
            raise RuntimeError("on purpose")
        return super().__call__(batch)


def test_ray_datas_checkpoints(ray_data: Any, parquet: str, vectors: np.ndarray, tmp_path: Path) -> None:
    """A pipeline that failed half-way goes on where it was: every id once, each with its own vector."""
    checkpoint = pytest.importorskip("ray.data.checkpoint")
    context = ray_data.DataContext.get_current()
    context.checkpoint_config = checkpoint.CheckpointConfig(
        id_column="id", checkpoint_path=str(tmp_path / "checkpoints"), delete_checkpoint_on_success=False
    )
    out = str(tmp_path / "out")
    try:
        with pytest.raises(Exception, match="on purpose"):
            ray_data.read_parquet(parquet).map_batches(
                Dies("digits", cache=False), batch_size=6, num_cpus=1
            ).write_parquet(out)  # fmt: skip
        before = sorted(row["id"] for row in read(out))
        ray_data.read_parquet(parquet).map_batches(
            Embedder("digits", cache=False), batch_size=6, num_cpus=1
        ).write_parquet(out)  # fmt: skip
    finally:
        context.checkpoint_config = None
    rows = sorted(read(out), key=lambda row: row["id"])
    assert len(before) < COUNT
    assert [row["id"] for row in rows] == list(range(COUNT))
    assert np.array_equal(np.array([row["embedding"] for row in rows], np.float32), vectors)


def read(folder: str) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return [row for path in Path(folder).glob("*.parquet") for row in parquet.read_table(path).to_pylist()]


def test_daft(files: list[bytes], vectors: np.ndarray) -> None:
    daft = pytest.importorskip("daft")
    embed = Embedder("digits", cache=False)

    @daft.func.batch(return_dtype=daft.DataType.list(daft.DataType.float32()))
    def embedding(images: Any) -> list[Any]:
        return list(embed.vectors(images.to_pylist()))

    frame = daft.from_pydict({"id": list(range(8)), "bytes": files[:8]})
    found = frame.with_column("embedding", embedding(frame["bytes"])).sort("id").to_pydict()
    assert np.array_equal(np.array(found["embedding"], np.float32), vectors[:8])


def test_spark(files: list[bytes], vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    sql = pytest.importorskip("pyspark.sql")
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import ArrayType, FloatType

    embed = Embedder("digits", cache=False)
    session = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        frame = session.createDataFrame(list(enumerate(files[:8])), ["id", "bytes"])
        udf = predict_batch_udf(lambda: embed.vectors, return_type=ArrayType(FloatType()), batch_size=4)
        rows = frame.select("id", udf("bytes").alias("embedding")).orderBy("id").collect()
    finally:
        session.stop()
    assert np.array_equal(np.array([row["embedding"] for row in rows], np.float32), vectors[:8])

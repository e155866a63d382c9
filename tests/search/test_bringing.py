"""Vectors that exist already: read as they were written, under the name of the model that made them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import labelled
import numpy as np
import pytest

pytest.importorskip("filelock")
pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

import weevit
from weevit.errors import UsageError


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    labelled.noise(Path("photos"), 12)
    return [f"photos/{number}.png" for number in range(12)]


@pytest.fixture
def vectors(digits: weevit.Predictor, photos: list[str]) -> np.ndarray:
    return digits.embed(photos)


def save(vectors: Any, ids: list[str], name: str = "v.npy") -> str:
    np.save(name, vectors)
    Path(name).with_suffix(".ids.txt").write_text("".join(f"{one}\n" for one in ids))
    return name


@pytest.mark.parametrize("zeros", [0, 1])
def test_vectors_of_length_1_are_known_beside_zeros(photos: list[str], vectors: np.ndarray, zeros: int) -> None:
    own = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    own[:zeros] = 0
    assert weevit.index_vectors(save(own, photos), "v.idx").space.normalized
    own[3] *= 2
    assert not weevit.index_vectors(save(own, photos), "other.idx").space.normalized


def test_ids_of_parquet_are_text_or_bytes_and_none_is_absent(photos: list[str], vectors: np.ndarray) -> None:
    lists = pa.array(vectors.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"path": [own.encode() for own in photos], "vector": lists}), "bytes.parquet")
    assert list(weevit.index_vectors("bytes.parquet", "v.idx").ids()) == photos
    pq.write_table(pa.table({"path": [None, *photos[1:]], "vector": lists}), "null.parquet")
    with pytest.raises(UsageError, match="the column path lacks the id of a vector"):
        weevit.index_vectors("null.parquet", "null.idx")
    assert not Path("null.idx").exists()


def test_ids_that_are_no_text_are_written_as_text(vectors: np.ndarray) -> None:
    np.save("v.npy", vectors[:2])
    Path("v.ids.txt").write_bytes(b"caf\xe9.jpg\nb.jpg\n")
    made = weevit.index_vectors("v.npy", "v.idx")
    assert list(made.ids()) == ["caf\\udce9.jpg", "b.jpg"]
    assert pq.read_table(made.to_parquet("out.parquet"))["input"].to_pylist() == list(made.ids())


def test_vectors_of_an_unknown_model_take_no_images(
    digits: weevit.Predictor, photos: list[str], vectors: np.ndarray
) -> None:
    weevit.index_vectors(save(vectors, photos), "v.idx")
    with pytest.raises(UsageError, match="does not know the model of its vectors"):
        weevit.index("photos", "v.idx", digits)


@pytest.mark.parametrize("order", ["Fortran", "big-endian", "Fortran, big-endian"])
def test_the_order_in_memory_does_not_matter(photos: list[str], vectors: np.ndarray, order: str) -> None:
    own = vectors.astype(">f4") if "big-endian" in order else vectors
    own = np.asfortranarray(own) if "Fortran" in order else own
    made = weevit.index_vectors(save(own, photos), "v.idx")
    ids, read = made.to_numpy()
    assert ids == photos
    assert read.tolist() == vectors.astype(np.float16).tolist()
    assert [hits[0].id for hits in made.search_vectors(vectors, k=1)] == photos


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("form", ["npy", "list", "large_list", "fixed", "folder"])
def test_vectors_are_those_that_were_brought(
    digits: weevit.Predictor, photos: list[str], vectors: np.ndarray, dtype: str, form: str
) -> None:
    own = vectors.astype(dtype)
    if form == "npy":
        source = save(own, photos)
    else:
        kind = pa.from_numpy_dtype(own.dtype)
        lists = {"large_list": pa.large_list(kind), "fixed": pa.list_(kind, own.shape[1])}.get(form, pa.list_(kind))
        column = pa.array([list(row) for row in own], lists)
        table = pa.table({"input": photos, "embedding": column, "status": ["ok"] * len(photos)})
        source = "v.parquet" if form != "folder" else "v"
        if form == "folder":
            Path("v/data").mkdir(parents=True)
            pq.write_table(table.slice(0, 5), "v/data/a.parquet")
            pq.write_table(table.slice(5), "v/data/b.parquet")
        else:
            pq.write_table(table, source, row_group_size=5)
    made = weevit.index_vectors(source, "v.idx", digits)
    ids, found = made.to_numpy()
    assert ids == photos
    assert found.tobytes() == vectors.astype(np.float16).tobytes()
    assert made.search("photos/3.png", 1)[0].id == "photos/3.png"


def test_what_weevit_embed_writes_is_taken(digits: weevit.Predictor, photos: list[str]) -> None:
    weevit.run_job(digits, [*photos, "photos/none.png"], "job", "embed", shard_size=5)
    made = weevit.index_vectors("job", "v.idx", digits)
    assert sorted(made.ids()) == sorted(photos)  # the one without an answer has no vector


def test_without_a_model_vectors_are_compared_among_themselves(photos: list[str], vectors: np.ndarray) -> None:
    made = weevit.index_vectors(save(vectors, photos), "v.idx")
    assert made.search_vectors(vectors[2:3], 1)[0][0].id == photos[2]
    with pytest.raises(UsageError, match="does not know the model of its vectors"):
        made.search(photos[0])


def test_vectors_of_another_model_are_refused(digits: weevit.Predictor, photos: list[str], vectors: np.ndarray) -> None:
    with pytest.raises(UsageError, match="their cosine is"):
        weevit.index_vectors(save(vectors[::-1], photos), "v.idx", digits)
    with pytest.raises(UsageError, match=r"vectors of 7 numbers, and .*digits gives 64"):
        weevit.index_vectors(save(vectors[:, :7], photos), "v.idx", digits)
    assert not Path("v.idx").exists()


def test_scaled_vectors_have_no_classes(digits: weevit.Predictor, photos: list[str]) -> None:
    made = weevit.index_vectors(save(digits.embed(photos, normalize=True), photos), "v.idx", digits)
    assert made.space.normalized
    assert made.search(photos[1], 1)[0].id == photos[1]
    with pytest.raises(UsageError, match="scaled to length 1"):
        made.search_class(3)


def test_an_index_of_vectors_is_brought_up_to_date_by_images(
    digits: weevit.Predictor, photos: list[str], vectors: np.ndarray
) -> None:
    """The vectors have no bytes of an image to be known by: every image is embedded once."""
    weevit.index_vectors(save(vectors, photos), "v.idx", digits)
    made = weevit.index("photos", "v.idx", digits)
    assert sorted(made.ids()) == sorted(photos)
    assert made.version > 1


def test_odd_ids_come_back(photos: list[str], vectors: np.ndarray) -> None:
    pq.write_table(
        pa.table({"id": ["ü\n\\", "same", "same", "x" * 9000], "vector": [list(row) for row in vectors[:4]]}),
        "v.parquet",
    )
    ids = list(weevit.index_vectors("v.parquet", "v.idx").ids())
    assert ids[:3] == ["ü\n\\", "same", "same#2"]
    assert len(ids[3]) <= 4096


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda v: "none.npy", "is not there"),
        (lambda v: labelled.put(Path("v.txt"), "1 2 3"), "Vectors are in"),
        (lambda v: labelled.put(Path("v.npy"), b"\x93NUMPY nonsense") and save_ids("v.npy"), "holds no array"),
        (lambda v: save(v.astype(int), ["x"] * len(v)), "holds int64 of shape"),
        (lambda v: save(v[0], ["x"]), "expected floating point of shape"),
        (lambda v: save(v[:0], []), "holds no vectors"),
        (lambda v: save(v, ["x"]), "has 1 lines for 12 vectors"),
        (lambda v: np.save("v.npy", v) or "v.npy", "is not there: it names the image of each vector"),
        (lambda v: np.save("v.npy", np.array([{}], object), allow_pickle=True) or save_ids("v.npy"), "holds no array"),
        (lambda v: save(np.where(np.eye(*v.shape) > 0, np.nan, v), [str(n) for n in range(len(v))]), "NaN, infinity"),
        (lambda v: save(v * 1e6, [str(n) for n in range(len(v))]), "above 65,504"),
        (lambda v: table({"input": ["a"], "embedding": [[1.0, None]]}), "differ in length, or have gaps"),
        (lambda v: table({"input": ["a", "b"], "embedding": [[1.0], [1.0, 2.0]]}), "differ in length, or have gaps"),
        (lambda v: table({"input": ["a"], "embedding": [3.0]}), "expected lists of floating point"),
        (lambda v: table({"input": ["a"], "embedding": [["x"]]}), "expected floating point"),
        (lambda v: table({"input": ["a"], "embedding": [[1]]}), "lists of int64; expected floating point"),
        (lambda v: table({"a": ["a"], "b": ["b"], "embedding": [[1.0]]}, ["id", "id", "embedding"]), "has 2 columns"),
        (lambda v: table({"nothing": ["a"]}), "has none of the columns"),
        (lambda v: labelled.put(Path("v.parquet"), b"PAR1"), "is not a whole Parquet file"),
        (lambda v: Path("empty").mkdir() or "empty", "holds no Parquet files"),
    ],
)
def test_what_holds_no_vectors_is_a_typed_error(
    photos: list[str], vectors: np.ndarray, write: Callable[[np.ndarray], Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        weevit.index_vectors(write(vectors), "v.idx")
    assert not Path("v.idx").exists()


def save_ids(name: str) -> str:
    Path(name).with_suffix(".ids.txt").write_text("x\n")
    return name


def table(columns: dict[str, Any], names: list[str] | None = None) -> str:
    pq.write_table(pa.table(columns).rename_columns(names or list(columns)), "v.parquet")
    return "v.parquet"

"""An index of images: what is embedded, what readers see, and what damage and kills leave."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import labelled
import numpy as np
import pytest

pytest.importorskip("filelock")

import weevit
from weevit.answers.results import Array, unit_length
from weevit.errors import MalformedFileError, OutputError, UsageError
from weevit.search import building, writing
from weevit.search.building import Progress
from weevit.search.index import Index
from weevit.store.locks import take_lock

COUNT = 30


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return labelled.noise(Path("photos"), COUNT)


def make(digits: weevit.Predictor, folder: str = "photos.idx", prune: bool = False) -> tuple[Index, Progress]:
    seen: list[Progress] = []
    made = weevit.index("photos", folder, digits, prune=prune, watch=seen.append)
    return made, seen[-1]


def contents(index: Index) -> dict[str, bytes]:
    ids, vectors = index.to_numpy()
    assert len(set(ids)) == len(ids)
    return {name: vector.tobytes() for name, vector in zip(ids, vectors, strict=True)}


def true_vectors(digits: weevit.Predictor, index: Index) -> dict[str, bytes]:
    """As the model gives them for the files that are there."""
    rows = digits.stream(list(index.ids()), outputs=("embedding",), steady=True)
    return {row.input: np.asarray(row.embedding, np.float16).tobytes() for row in rows}


def test_an_index_holds_a_vector_per_image(digits: weevit.Predictor, photos: Path) -> None:
    (photos / "7.png").write_bytes(b"no image")
    made, progress = make(digits)
    assert (progress.total, progress.embedded, progress.errors.total(), len(made)) == (COUNT, COUNT - 1, 1, COUNT - 1)
    assert contents(made) == true_vectors(digits, made)
    rows = Path("photos.idx/failures.csv").read_text().splitlines()
    assert rows[0] == "input,split,status,error"
    assert rows[1].startswith("photos/7.png,,decode_error,")
    assert [row[:2] for row in progress.failures] == [("photos/7.png", "decode_error")]


def test_only_what_is_new_or_changed_is_embedded(digits: weevit.Predictor, photos: Path) -> None:
    make(digits)
    shutil.copy(photos / "0.png", photos / "copy.png")
    (photos / "1.png").rename(photos / "moved.png")
    (photos / "2.png").unlink()
    (photos / "3.png").write_bytes(labelled.png(5, (40, 36)))
    os.utime(photos / "4.png", ns=(1, 1))  # touched: another time, the same bytes
    labelled.noise(photos / "more", 31)
    for number in range(COUNT):
        (photos / "more" / f"{number}.png").unlink()
    made, progress = make(digits)
    assert (progress.embedded, progress.copied, progress.gone) == (2, 3, 2)  # 3, more/30; copy, moved, 4; 1, 2
    assert progress.same == COUNT - 4
    assert contents(made) == true_vectors(digits, made)
    again, progress = make(digits)
    assert (progress.same, progress.done, again.version) == (progress.total, progress.total, made.version)


def test_more_inputs_than_are_held_are_listed_twice(
    digits: weevit.Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(make(digits, "held.idx")[0])
    monkeypatch.setattr(building, "_FEW", 7)
    made, progress = make(digits)
    assert (progress.total, progress.done) == (COUNT, COUNT)
    assert contents(made) == before


def test_an_image_that_breaks_leaves_and_one_that_is_mended_comes_back(digits: weevit.Predictor, photos: Path) -> None:
    make(digits)
    whole = (photos / "3.png").read_bytes()
    (photos / "3.png").write_bytes(whole[:100])
    made, progress = make(digits)
    assert (len(made), progress.errors.total(), progress.gone) == (COUNT - 1, 1, 0)
    (photos / "3.png").write_bytes(whole)
    made, progress = make(digits)
    assert (len(made), progress.embedded + progress.copied) == (COUNT, 1)
    assert not Path("photos.idx/failures.csv").exists()


def test_an_empty_folder_does_not_empty_an_index(digits: weevit.Predictor, photos: Path) -> None:
    make(digits)
    photos.rename("elsewhere")
    photos.mkdir()
    with pytest.raises(UsageError, match=r"30 of the 30 images in .* are not among the inputs"):
        make(digits)
    assert len(weevit.open_index("photos.idx")) == COUNT
    made, progress = make(digits, prune=True)
    assert (len(made), progress.gone) == (0, COUNT)
    with pytest.raises(UsageError, match="holds no image yet"):
        made.search(Path("elsewhere/0.png"))


@pytest.mark.parametrize("why", ["missing", "unreadable"])
def test_a_list_of_files_that_cannot_be_read_does_not_empty_an_index(
    digits: weevit.Predictor, photos: Path, why: str
) -> None:
    names = [f"photos/{number}.png" for number in range(COUNT)]
    weevit.index(names, "photos.idx", digits)
    photos.rename("elsewhere")
    if why == "unreadable":
        for name in names:
            Path(name).mkdir(parents=True)
    with pytest.raises(UsageError, match="or their files cannot be read"):
        weevit.index(names, "photos.idx", digits)
    assert len(weevit.open_index("photos.idx")) == COUNT
    assert len(weevit.index(names, "photos.idx", digits, prune=True)) == 0


def test_a_file_of_a_list_that_is_missing_leaves(digits: weevit.Predictor, photos: Path) -> None:
    names = [f"photos/{number}.png" for number in range(COUNT)]
    weevit.index(names, "photos.idx", digits)
    (photos / "3.png").unlink()
    made = weevit.index(names, "photos.idx", digits)
    assert list(made.ids()) == [name for name in names if name != "photos/3.png"]


def test_an_index_in_the_home_folder_is_made_where_it_is_opened(
    digits: weevit.Predictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert weevit.index("photos", "~/photos.idx", digits).folder == tmp_path / "home" / "photos.idx"
    weevit.index("photos", "~/photos.idx", digits)
    np.save("v.npy", np.eye(2))
    Path("v.ids.txt").write_text("a\nb\n")
    assert weevit.index_vectors("v.npy", "~/v.idx").folder == tmp_path / "home" / "v.idx"
    assert not Path("~").exists()


# ---- searching


def test_an_image_finds_itself_and_its_likes(digits: weevit.Predictor, photos: Path) -> None:
    made, _ = make(digits)
    vectors = unit_length(digits.embed([photos / f"{number}.png" for number in range(COUNT)]))
    cosines = vectors @ vectors[4]
    hits = made.search(photos / "4.png", 5)
    assert hits[0].id == "photos/4.png"
    assert [hit.score for hit in hits] == pytest.approx(np.sort(cosines)[::-1][:5].tolist(), abs=2e-3)
    assert hits[0].to_dict() == {"id": "photos/4.png", "similarity": hits[0].score}


def test_several_images_mean_what_they_have_in_common_without_what_is_not_meant(
    digits: weevit.Predictor, photos: Path
) -> None:
    made, _ = make(digits)
    like, unlike = [photos / "1.png", photos / "2.png"], photos / "3.png"
    one, other, out = unit_length(digits.embed([*like, unlike]))
    by_hand = made.search_vectors(((one + other) / 2 - out / 2)[None], COUNT)[0]
    found = made.search(like, COUNT, unlike)
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in by_hand], abs=1e-5)
    scores = {hit.id: hit.score for hit in found}
    assert scores["photos/3.png"] < {hit.id: hit.score for hit in made.search(like, COUNT)}["photos/3.png"]


@pytest.mark.parametrize("length", [1e-44, 1e-30, 1e30])
@pytest.mark.filterwarnings("error")
def test_the_length_of_a_query_does_not_matter(digits: weevit.Predictor, photos: Path, length: float) -> None:
    made, _ = make(digits)
    query = np.zeros((1, 64), np.float32)
    query[0, :2] = 1, -1
    ((first, *_),) = made.search_vectors(query, 3)
    ((same, *_),) = made.search_vectors(query * np.float32(length), 3)
    assert (same.id, same.score) == (first.id, pytest.approx(first.score, abs=1e-6))


def test_a_class_is_found_by_its_probability(digits: weevit.Predictor, photos: Path) -> None:
    made, _ = make(digits)
    probabilities = {
        row.input: {one.name: one.probability for one in row.top} for row in digits.classify([*made.ids()], topk=10)
    }
    name = digits.checkpoint.labels[3].name if digits.checkpoint.labels else "3"
    hits = made.search_class(name, COUNT)
    assert [hit.measure for hit in hits] == ["probability"] * COUNT
    expected = sorted((own[name] for own in probabilities.values()), reverse=True)
    assert [hit.score for hit in hits] == pytest.approx(expected, abs=2e-3)
    assert [hit.id for hit in made.search_class(3, 2)] == [hit.id for hit in hits[:2]]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda index: index.search([]), "needs an image"),
        (lambda index: index.search("photos/none.png"), "cannot be searched for: missing"),
        (lambda index: index.search("photos/0.png", 0), "k is 1 or more"),
        (lambda index: index.search("photos/0.png", COUNT + 1), "k is 31, and the index holds 30 images"),
        (lambda index: index.search_vectors(np.zeros((1, 64), np.float32)), "no direction"),
        (lambda index: index.search_vectors(np.full((1, 64), np.nan, np.float32)), "no direction"),
        (lambda index: index.search_vectors(np.ones((1, 7), np.float32)), "vectors of 64 numbers"),
        (lambda index: index.search_vectors(np.ones((0, 64), np.float32)), "vectors of 64 numbers"),
        (lambda index: index.search_vectors("query.jpg"), "an array of numbers"),
        (lambda index: index.search_vectors([[1, 2], [3]]), "an array of numbers"),
        (lambda index: index.search_vectors(np.full((1, 64), 1e300)), "no direction"),
        (lambda index: index.search_class("eleven"), "No class 'eleven'"),
        (lambda index: index.search_class(10), "No class '10'"),
        (lambda index: index.search_class("1" * 5000), "No class '1"),
    ],
)  # fmt: skip
def test_bad_queries_are_typed_errors(
    digits: weevit.Predictor, photos: Path, ask: Callable[[Index], object], message: str
) -> None:
    made, _ = make(digits)
    with pytest.raises(UsageError, match=message):
        ask(made)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: weevit.open_index(5), "folder is a path: 5 was given"),
        (lambda model: weevit.open_index("photos.idx", "digits"), "a loaded model: 'digits' was given"),
        (lambda model: weevit.index("photos", 5, model), "--output is a path: 5 was given"),
        (lambda model: weevit.index("photos", "photos.idx", model, prune="no"), "prune is True or False: 'no'"),
        (lambda model: weevit.index_vectors(5, "v.idx"), "vectors is a path: 5 was given"),
        (lambda model: weevit.index_vectors("v.npy", "v.idx", 5), "A model is a name or a path: 5 was given"),
        (lambda model: weevit.index_vectors("v.npy", "v.idx", ids=5), "ids is a path: 5 was given"),
        (lambda model: weevit.measure_search("photos", model, seed="7"), "seed is a whole number"),
    ],
)
def test_what_is_no_argument_is_a_typed_error(
    digits: weevit.Predictor, photos: Path, call: Callable[[weevit.Predictor], object], message: str
) -> None:
    make(digits)
    np.save("v.npy", np.eye(2))
    Path("v.ids.txt").write_text("a\nb\n")
    (photos / "0.png").unlink()
    with pytest.raises(UsageError, match=message):
        call(digits)
    assert len(weevit.open_index("photos.idx")) == COUNT


def test_another_embedding_space_is_refused_with_what_differs(digits: weevit.Predictor, photos: Path) -> None:
    make(digits)
    larger = weevit.Predictor(digits.checkpoint, image_size=80)
    with pytest.raises(UsageError, match=r"preprocessing\.height: 64 then, 80 now"):
        weevit.open_index("photos.idx", larger)
    with pytest.raises(UsageError, match=r"preprocessing\.height"):
        weevit.index("photos", "photos.idx", larger)
    with pytest.raises(UsageError, match="other weights"):
        weevit.index("photos", "photos.idx", weevit.load(other_weights(digits)))


def other_weights(digits: weevit.Predictor) -> Path:
    """The same architecture with one number changed."""
    from weevit.zoo.writing import write_checkpoint

    own = digits.checkpoint
    tensors = {name: array.copy() for name, array in own.tensors().items()}
    tensors["blocks.0.mlp.fc1.bias" if "blocks.0.mlp.fc1.bias" in tensors else next(iter(tensors))].flat[0] += 1
    return write_checkpoint(Path("other"), own.architecture, tensors, own.preprocessing, own.labels).path.parent


def test_another_head_has_the_same_space(digits: weevit.Predictor, photos: Path) -> None:
    from weevit.zoo.labels import Label
    from weevit.zoo.writing import write_checkpoint

    made, _ = make(digits)
    own = digits.checkpoint
    tensors = dict(own.tensors())
    tensors["head.weight"], tensors["head.bias"] = -tensors["head.weight"][:2], np.zeros(2, np.float32)
    labels = (Label("mine", "mine"), Label("yours", "yours"))
    head = write_checkpoint(Path("head"), own.architecture, tensors, own.preprocessing, labels).path.parent
    hits = made.search_class("mine", 3, head)
    expected = {row.input: row.top for row in weevit.load(head).classify([hit.id for hit in hits], topk=2)}
    for hit in hits:
        assert hit.score == pytest.approx(
            next(one.probability for one in expected[hit.id] if one.name == "mine"), abs=2e-3
        )


def test_the_recorded_model_answers_where_none_is_given(photos: Path) -> None:
    weevit.index("photos", "photos.idx", "digits")
    assert weevit.open_index("photos.idx").search(photos / "9.png", 1)[0].id == "photos/9.png"
    assert weevit.index("photos", "photos.idx").version == 1


@pytest.mark.parametrize("source", ["hf-hub:stranger/model", "hf-hub:timm/no-such-model@1", "vit_pwee_patch16"])
def test_a_strangers_index_has_no_model_fetched(
    digits: weevit.Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    make(digits)
    path = Path("photos.idx/index.json")
    manifest = json.loads(path.read_text())
    assert manifest["space"]["maker"]["source"] == digits.checkpoint.name  # whatever folder weevit is installed in
    manifest["space"]["maker"]["source"] = source
    path.write_text(json.dumps(manifest))
    monkeypatch.setattr("weevit.zoo.resolve.fetch", lambda *arguments: pytest.fail(f"fetches {arguments}"))
    with pytest.raises(UsageError):
        weevit.open_index("photos.idx").search("photos/0.png", 1)


def test_the_file_of_an_image_is_the_one_that_was_indexed(
    digits: weevit.Predictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, _ = make(digits)
    shutil.copytree(photos, tmp_path / "copy" / "photos")
    monkeypatch.chdir(tmp_path / "copy")
    assert opened.path_of("photos/3.png") == tmp_path / "photos" / "3.png"
    made, _ = make(digits, str(tmp_path / "photos.idx"))  # the rows are of the copies now
    monkeypatch.chdir(tmp_path)
    assert made.path_of("photos/3.png") == tmp_path / "copy" / "photos" / "3.png"
    shutil.rmtree(tmp_path / "copy")
    assert made.path_of("photos/3.png") == Path("photos/3.png")


def test_ids_are_found_from_another_folder(
    digits: weevit.Predictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(digits)
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    opened = weevit.open_index("../photos.idx")
    assert opened.path_of("photos/3.png") == tmp_path / "photos" / "3.png"
    assert opened.path_of("photos/none.png") is None


# ---- what happens to the folder


def test_a_damaged_shard_is_found_and_made_again(digits: weevit.Predictor, photos: Path) -> None:
    before = contents(make(digits)[0])
    (shard,) = Path("photos.idx/data").iterdir()
    whole = bytearray(shard.read_bytes())
    whole[-30] ^= 1
    shard.write_bytes(whole)
    with pytest.raises(MalformedFileError, match="is damaged"):
        weevit.open_index("photos.idx")
    made, progress = make(digits)
    assert (progress.lost, progress.embedded) == (COUNT, COUNT)
    assert contents(made) == before


@pytest.mark.parametrize("damage", ["gone", "cut", "other tensors", "empty"])
def test_a_missing_or_malformed_shard_is_a_typed_error_and_made_again(
    digits: weevit.Predictor, photos: Path, damage: str
) -> None:
    before = contents(make(digits)[0])
    (shard,) = Path("photos.idx/data").iterdir()
    if damage == "gone":
        shard.unlink()
    elif damage == "other tensors":
        from safetensors.numpy import save_file

        save_file({"vectors": np.zeros((2, 2), np.float16)}, shard)
    else:
        shard.write_bytes(shard.read_bytes()[: 0 if damage == "empty" else 500])
    with pytest.raises(MalformedFileError):
        weevit.open_index("photos.idx")
    assert contents(make(digits)[0]) == before


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "weevit.index/99"},
        {"unknown": 1},
        {"version": -1},
        {"space": {"width": 64, "normalized": 3}},
        {"shards": [{"file": "../../etc/passwd"}]},
    ],
)
def test_a_manifest_of_a_stranger_is_a_typed_error(digits: weevit.Predictor, photos: Path, change: object) -> None:
    make(digits)
    path = Path("photos.idx/index.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **dict(change)}))  # type: ignore[call-overload]
    for ask in (lambda: weevit.open_index("photos.idx"), lambda: make(digits)):
        with pytest.raises(MalformedFileError):
            ask()


@pytest.mark.parametrize(("key", "value"), [("error", -5), ("error", 1e308), ("bytes", -1), ("rows", 10**9)])
def test_figures_that_no_shard_has_are_refused(digits: weevit.Predictor, photos: Path, key: str, value: float) -> None:
    """With a negative error no row would be among the best."""
    make(digits)
    path = Path("photos.idx/index.json")
    manifest = json.loads(path.read_text())
    manifest["shards"][0][key] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(MalformedFileError, match=key):
        weevit.open_index("photos.idx")


@pytest.mark.parametrize(("key", "last"), [("next", 999_999), ("version", (1 << 53) - 1)])
def test_numbers_begin_again_after_the_last(digits: weevit.Predictor, photos: Path, key: str, last: int) -> None:
    """A stranger's index may hold the last number, and what is written after it must be readable."""
    make(digits)
    path = Path("photos.idx/index.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), key: last}))
    shutil.copy(photos / "0.png", photos / "copy.png")
    assert len(make(digits)[0]) == COUNT + 1
    path.write_text(json.dumps({**json.loads(path.read_text()), key: last + 1}))
    with pytest.raises(MalformedFileError, match=key):
        weevit.open_index("photos.idx")


def test_a_shard_that_is_named_twice_is_refused(digits: weevit.Predictor, photos: Path) -> None:
    make(digits)
    path = Path("photos.idx/index.json")
    manifest = json.loads(path.read_text())
    manifest["shards"] *= 2
    path.write_text(json.dumps(manifest))
    with pytest.raises(MalformedFileError, match="names a shard twice"):
        weevit.open_index("photos.idx")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_an_open_index_holds_each_shard_once(
    digits: weevit.Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten million images are 153 shards, and a process may have 1,024 files open."""
    monkeypatch.setattr(writing, "SHARD_ROWS", 5)
    monkeypatch.setattr(writing, "MOST_SMALL", 99)
    make(digits)
    before = len(list(Path("/proc/self/fd").iterdir()))
    opened = weevit.open_index("photos.idx")
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= len(opened._parts) == COUNT // 5


@pytest.mark.parametrize("key", ["rows", "gone", "file"])
def test_a_manifest_that_does_not_fit_its_shards_is_a_typed_error(
    digits: weevit.Predictor, photos: Path, key: str
) -> None:
    make(digits)
    path = Path("photos.idx/index.json")
    manifest = json.loads(path.read_text())
    manifest["shards"][0][key] = {"rows": 29, "gone": "AAAA", "file": "shard-000009-00000000.safetensors"}[key]
    path.write_text(json.dumps(manifest))
    with pytest.raises(MalformedFileError):
        weevit.open_index("photos.idx")


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_links_in_an_index_are_refused(digits: weevit.Predictor, photos: Path, tmp_path: Path) -> None:
    make(digits)
    (shard,) = Path("photos.idx/data").iterdir()
    shard.rename(tmp_path / "outside")
    shard.symlink_to(tmp_path / "outside")
    with pytest.raises((UsageError, MalformedFileError), match="link"):
        weevit.open_index("photos.idx")
    with pytest.raises((UsageError, MalformedFileError), match="link"):
        make(digits)


def test_a_second_writer_is_refused(digits: weevit.Predictor, photos: Path) -> None:
    made, _ = make(digits)
    taken = take_lock(Path("photos.idx/.lock"), OutputError("held"))
    try:
        with pytest.raises(OutputError, match="Another process works in"):
            make(digits)
        assert made.search("photos/0.png", 1)[0].id == "photos/0.png"
    finally:
        taken.release()


def test_a_folder_of_somebody_else_is_refused(digits: weevit.Predictor, photos: Path) -> None:
    for output in ("photos", "full"):
        labelled.put(Path("full/letter.txt"), "mine")
        with pytest.raises(UsageError):
            weevit.index("photos", output, digits)
    assert Path("full/letter.txt").read_text() == "mine"


def test_shards_that_rows_left_are_rewritten(
    digits: weevit.Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder never has more than 1.3 times the bytes of its rows, in any number of small steps."""
    monkeypatch.setattr(writing, "SHARD_ROWS", 16)
    make(digits)
    for step in range(24):
        (photos / f"{step}.png").unlink()
        labelled.put(photos / f"new-{step}.png", labelled.png(step, (40, 36)))
        made, _ = make(digits)
        lines = made._manifest.shards
        assert {path.name for path in Path("photos.idx/data").iterdir()} == {line.file for line in lines}
        assert sum(line.rows for line in lines) <= 1.3 * len(made)
        assert len([line for line in lines if line.rows < 8]) <= writing.MOST_SMALL
    assert contents(made) == true_vectors(digits, made)


def test_an_open_index_stays_its_version_until_it_is_refreshed(digits: weevit.Predictor, photos: Path) -> None:
    before, _ = make(digits)
    known = contents(before)
    (photos / "0.png").unlink()
    after, _ = make(digits)
    assert contents(before) == known
    assert before.refresh()
    assert not before.refresh()
    assert contents(before) == contents(after)


KILLED = """
import sys, time, weevit
from weevit.search import writing
writing.SECONDS, writing.SHARD_ROWS = 0.0, 4
model = weevit.load("digits", threads=1)
print("begin", flush=True)
weevit.index("photos", "photos.idx", model)
"""


def test_a_killed_writer_loses_nothing_and_doubles_nothing(digits: weevit.Predictor, photos: Path) -> None:
    """Row S12, in short: a reader asks all the time; benchmarks/search.py kills does it twenty times."""
    dice, kills, versions = np.random.default_rng(0), 0, set[int]()
    for turn in range(6):
        for name in dice.choice(COUNT, 12, replace=False).tolist():
            labelled.put(photos / f"{name}.png", labelled.png(100 * turn + name, (40, 36)))
        writer = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "begin\n"
        end = time.monotonic() + float(dice.uniform(0.0, 0.15))
        while time.monotonic() < end or (turn == 0 and not Path("photos.idx/index.json").exists()):
            if Path("photos.idx/index.json").exists():
                opened = weevit.open_index("photos.idx")
                versions.add(opened.version)
                assert len(set(opened.ids())) == len(opened)
        writer.send_signal(signal.SIGKILL)
        kills += writer.wait() == -signal.SIGKILL
        writer.stdout.close()
    assert kills >= 3
    made, _ = make(digits)
    assert contents(made) == true_vectors(digits, made)
    assert len(made) == COUNT


def test_vectors_of_fit_are_known(digits: weevit.Predictor, photos: Path, tmp_path: Path) -> None:
    """What `embed_split` kept is copied; the index itself is not kept a second time there."""
    from dataclasses import dataclass

    from weevit.images.source import Source
    from weevit.images.sources import expand
    from weevit.search.embeddings import embed_split

    @dataclass
    class Images:
        sources: tuple[Source, ...]

    embed_split(digits, Images(tuple(expand("photos"))), tmp_path / "cache")  # type: ignore[arg-type]
    seen: list[Progress] = []
    weevit.index("photos", "photos.idx", digits, cache=tmp_path / "cache", watch=seen.append)
    assert (seen[-1].copied, seen[-1].embedded) == (COUNT, 0)


# ---- handed over


def test_it_is_handed_over_as_arrays_and_parquet(digits: weevit.Predictor, photos: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    made, _ = make(digits)
    ids, vectors = made.to_numpy()
    table = parquet.read_table(made.to_parquet("out.parquet"))
    assert table["input"].to_pylist() == ids
    assert np.array(table["embedding"].to_pylist(), np.float16).tobytes() == vectors.tobytes()
    assert table.schema.metadata[b"weevit.model"].decode() == digits.checkpoint.name
    assert made.to_parquet("out.parquet").stat().st_size  # its own file is replaced
    again = weevit.index_vectors("out.parquet", "again.idx", digits)
    assert contents(again) == contents(made)


def test_it_is_not_handed_over_into_a_file_of_somebody_else(digits: weevit.Predictor, photos: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    made, _ = make(digits)
    parquet.write_table(arrow.table({"input": ["a"], "embedding": [[1.0]]}), "mine.parquet")
    for name in ("mine.parquet", "photos/0.png"):
        before = Path(name).read_bytes()
        with pytest.raises(UsageError, match="it is not replaced"):
            made.to_parquet(name)
        assert Path(name).read_bytes() == before


@pytest.mark.parametrize(("module", "call"), [("faiss", "to_faiss"), ("lancedb", "to_lance")])
def test_libraries_of_others_are_named_where_they_are_absent(
    digits: weevit.Predictor, photos: Path, monkeypatch: pytest.MonkeyPatch, module: str, call: str
) -> None:
    made, _ = make(digits)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(weevit.MissingExtraError, match="is not installed"):
        getattr(made, call)(*(["db"] if call == "to_lance" else []))


def test_faiss_finds_the_same(digits: weevit.Predictor, photos: Path) -> None:
    pytest.importorskip("faiss")
    made, _ = make(digits)
    ids, vectors = made.to_numpy()
    units: Array = unit_length(vectors.astype(np.float32))
    _, rows = made.to_faiss().search(units[:5], 4)
    for row, hits in zip(rows, made.search_vectors(units[:5], 4), strict=True):
        assert [ids[at] for at in row] == [hit.id for hit in hits]


def test_lancedb_finds_the_same(digits: weevit.Predictor, photos: Path) -> None:
    pytest.importorskip("lancedb")
    made, _ = make(digits)
    ids, vectors = made.to_numpy()
    table = made.to_lance("db")
    found = table.search(vectors[3].astype(np.float32)).distance_type("cosine").limit(1).to_list()
    assert found[0]["id"] == ids[3]


def test_constants_keep_what_they_promise() -> None:
    assert 1 / (1 - writing.MOST_LEFT) <= 1.3
    assert writing.SECONDS <= 30
    assert building.MOST_GONE == 0.5

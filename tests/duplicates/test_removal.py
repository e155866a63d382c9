"""Copies are moved away and back: nothing is lost, whatever is killed, swapped, linked or forged in between."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import labelled
import mounts
import pytest
from PIL import ImageOps
from scenes import encoded, scaled, scene

import weevit
from weevit.duplicates import trash
from weevit.duplicates.groups import Duplicates
from weevit.duplicates.moves import Moved
from weevit.errors import MalformedFileError, OutputError, UsageError
from weevit.store import moving

pytest.importorskip("filelock")
pytest.importorskip("jinja2")
if os.name != "posix":
    pytest.skip("open folders", allow_module_level=True)

Tree = dict[str, str]


def tree(folder: Path) -> Tree:
    """Path -> sha256, of every file below a folder; the trash's own files apart."""
    own = (trash.RECORD, trash.UNDO, ".lock")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in own)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of which some are copies, in folders, with names that are odd."""
    top = tmp_path_factory.mktemp("made") / "photos"
    for place in range(4):
        labelled.put(top / "a" / f"{place}.jpg", encoded(scene(place), quality=95))
    labelled.put(top / "b" / "same.jpg", (top / "a" / "0.jpg").read_bytes())
    labelled.put(top / "b" / "c" / 'half, "é" \'=1\n2.jpg', encoded(scaled(scene(1), 0.5), quality=80))
    labelled.put(top / "=mirrored.png", encoded(ImageOps.mirror(scaled(scene(2), 0.9)), "PNG"))
    labelled.put(top / "b" / "other.jpg", encoded(scene(9)))
    return top


MOVED = {"b/same.jpg", 'b/c/half, "é" \'=1\n2.jpg', "=mirrored.png"}


@pytest.fixture
def photos(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "photos"))


@pytest.fixture
def dup(photos: Path, tmp_path: Path) -> Path:
    found = weevit.find_duplicates(photos, output=tmp_path / "dup", embeddings=False)
    assert len(found.copies) == 3
    return tmp_path / "dup"


def test_copies_are_moved_and_moved_back(photos: Path, dup: Path, tmp_path: Path) -> None:
    before, away = tree(photos), tmp_path / "trash"
    planned = weevit.apply_duplicates(dup, away, dry_run=True)
    assert tree(photos) == before
    assert not away.exists()
    done = weevit.apply_duplicates(dup, away)
    assert done == planned
    assert tree(away) == {name: before[name] for name in MOVED}
    assert tree(photos) == {name: digest for name, digest in before.items() if name not in MOVED}
    with (away / "undo.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["from", "to", "sha256"]
    assert [row[2] for row in rows[1:]] == [one.sha256 for one in done.moves]
    again = weevit.apply_duplicates(dup, away)
    assert (again.moves, again.left, again.earlier) == ((), (), 3)
    back = weevit.undo_duplicates(away)
    assert sorted(back.moves, key=str) == sorted(done.moves, key=str)
    assert back.left == ()
    assert tree(photos) == before
    assert tree(away) == {}
    assert weevit.undo_duplicates(away).earlier == 3


def test_the_kept_one_has_the_most_pixels_then_bytes_then_age(tmp_path: Path) -> None:
    top = tmp_path / "photos"
    labelled.put(top / "small.jpg", encoded(scaled(scene(1), 0.5), quality=95))
    labelled.put(top / "light.jpg", encoded(scene(1), quality=50))
    for name, age in (("new.jpg", 2_000_000_000), ("old.jpg", 1_000_000_000)):
        labelled.put(top / name, encoded(scene(1), quality=90))
        os.utime(top / name, (age, age))
    (group,) = weevit.find_duplicates(top, embeddings=False).copies
    assert [(Path(one.id).name, one.kind) for one in group.members] == [
        ("old.jpg", ""), ("new.jpg", "exact"), ("light.jpg", "near"), ("small.jpg", "near"),
    ]  # fmt: skip


# ---- killed at any point


class _Killed:
    """Ends the process at the n-th call of a function that acts on the disk."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                os._exit(9)
            return function(*given, **more)

        return counted


ACTS = ("open", "write", "rename", "unlink", "link", "fsync", "mkdir", "utime", "close")


def killed(at: int, call: Callable[[], object]) -> bool:
    """Run a call in a process that is killed at its n-th act on the disk; whether it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, of which none is used here
        child = os.fork()
    if not child:
        kill = _Killed(at)
        for module in (moving.os, trash.os):
            for name in ACTS:
                setattr(module, name, kill(getattr(os, name)))
            break  # one module, of one name
        try:
            call()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.fixture(params=["one disk", pytest.param("two disks", marks=pytest.mark.long)])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder for copies: beside the images, or on another file system."""
    if request.param == "one disk":
        yield tmp_path / "trash"
        return
    with mounts.small_disk(tmp_path / "disk") as disk:
        yield disk / "trash"


@pytest.mark.parametrize("then", ["undo", "resume"])
def test_a_kill_at_any_point_loses_nothing(photos: Path, dup: Path, away: Path, then: str) -> None:
    before = tree(photos)
    kept = {name: digest for name, digest in before.items() if name not in MOVED}
    point = 0
    while killed(point, lambda: weevit.apply_duplicates(dup, away)):
        there = tree(photos)
        assert {name: there.get(name) for name in kept} == kept
        assert set(before.values()) <= {*there.values(), *tree(away).values()}
        if then == "resume":
            assert weevit.apply_duplicates(dup, away).left == ()
            assert tree(photos) == kept
            assert tree(away) == {name: before[name] for name in MOVED}
        if (away / trash.RECORD).exists():
            assert weevit.undo_duplicates(away).left == ()
        assert tree(photos) == before, point
        shutil.rmtree(away, ignore_errors=True)
        point += 3 if point > 12 else 1
    assert point > 40


def test_a_kill_of_the_undo_loses_nothing(photos: Path, dup: Path, away: Path) -> None:
    before, point = tree(photos), 0
    weevit.apply_duplicates(dup, away)
    while killed(point, lambda: weevit.undo_duplicates(away)):
        assert set(before.values()) <= {*tree(photos).values(), *tree(away).values()}
        assert weevit.undo_duplicates(away).left == ()
        assert tree(photos) == before, point
        weevit.apply_duplicates(dup, away)
        point += 2
    assert point > 10


def test_a_torn_line_is_no_move_and_the_next_one_is_whole(photos: Path, dup: Path, tmp_path: Path) -> None:
    before, away = tree(photos), tmp_path / "trash"
    weevit.apply_duplicates(dup, away)
    with (away / trash.UNDO).open("ab") as file:
        file.write(f"{photos}/a/1.jpg,a/1.j".encode())
    trash.append(away, trash.Move(f"{photos}/a/3.jpg", "a/3.jpg", before["a/3.jpg"]))
    assert len(list(trash.read_moves(away))) == 4
    assert weevit.undo_duplicates(away).left == ()
    assert tree(photos) == before


# ---- what changed since it was looked at


def left(done: Moved, photos: Path) -> dict[str, str]:
    return {str(Path(one.input).relative_to(photos)): one.why for one in done.left}


CHANGES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "the copy was edited": (lambda kept, copy: copy.write_bytes(copy.read_bytes() + b"x"), "was changed since"),
    "the copy has other bytes, and the old time": (lambda kept, copy: rewrite(copy), "bytes changed"),
    "the copy is gone": (lambda kept, copy: copy.unlink(), "it is gone"),
    "the copy is a link to the kept one": (lambda kept, copy: link(copy, kept), "changed since|a link"),
    "the copy is a pipe": (lambda kept, copy: (copy.unlink(), os.mkfifo(copy)), "changed since|plain file"),
    "the kept one is gone": (lambda kept, copy: kept.unlink(), "copy to keep, .* is not as it was: it is gone"),
    "the kept one was edited": (lambda kept, copy: kept.write_bytes(b"x"), "copy to keep, .* changed"),
    "the kept one is a link": (lambda kept, copy: link(kept, copy), "copy to keep, .* is not as it was"),
}


def rewrite(path: Path) -> None:
    status, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-3] + bytes(255 - byte for byte in data[-3:]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_stays_where_it_is(photos: Path, dup: Path, tmp_path: Path, change: str) -> None:
    act, why = CHANGES[change]
    act(photos / "a" / "0.jpg", photos / "b" / "same.jpg")
    before = {path: path.lstat().st_ino for path in photos.rglob("*")}
    done = weevit.apply_duplicates(dup, tmp_path / "trash")
    ((name, said),) = left(done, photos).items()
    assert name == "b/same.jpg"
    assert re.search(why, said), said
    assert len(done.moves) == 2
    after = {path: path.lstat().st_ino for path in photos.rglob("*")}
    assert {path: after.get(path) for path in before if path.name in ("0.jpg", "same.jpg")} == {
        path: inode for path, inode in before.items() if path.name in ("0.jpg", "same.jpg")
    }


def test_two_names_of_one_file_stay(photos: Path, tmp_path: Path) -> None:
    """Moving one would free nothing, and on a disk that does not tell capitals apart would take the kept one away."""
    os.link(photos / "a" / "3.jpg", photos / "b" / "hard.jpg")
    weevit.find_duplicates(photos, output=tmp_path / "dup", embeddings=False)
    done = weevit.apply_duplicates(tmp_path / "dup", tmp_path / "trash")
    assert "second name" in left(done, photos)["b/hard.jpg"]
    assert (photos / "b" / "hard.jpg").samefile(photos / "a" / "3.jpg")


def test_a_folder_that_became_a_link_is_not_entered(photos: Path, dup: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.move(photos / "b", tmp_path / "elsewhere"))
    (photos / "b").symlink_to(elsewhere)
    before = tree(elsewhere)
    done = weevit.apply_duplicates(dup, tmp_path / "trash")
    assert "folder is a link" in left(done, photos)["b/same.jpg"]
    assert tree(elsewhere) == before


def during(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen between the last look at a file and its move."""
    rename, done = os.rename, []

    def renames(*given: Any, **more: Any) -> None:
        if not done and str(given[0]).endswith("same.jpg"):
            done.append(act())
        rename(*given, **more)

    monkeypatch.setattr(moving.os, "rename", renames)


@pytest.mark.parametrize("other", ["file", "link", "folder", "nothing"])
def test_a_file_that_is_swapped_at_the_last_moment_is_put_back(
    photos: Path, dup: Path, away: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photos / "b" / "same.jpg"

    def swap() -> None:
        path.unlink()
        if other == "file":
            path.write_bytes(b"somebody's new work")
        elif other == "link":
            path.symlink_to("other.jpg")
        elif other == "folder":
            labelled.put(path / "thesis.tex", "mine")

    during(monkeypatch, swap)
    done = weevit.apply_duplicates(dup, away)
    assert "b/same.jpg" in left(done, photos)
    if other == "file":
        assert path.read_bytes() == b"somebody's new work"
    elif other == "link":
        assert path.readlink() == Path("other.jpg")
    elif other == "folder":
        assert (path / "thesis.tex").read_text() == "mine"


def test_a_name_that_is_taken_at_the_last_moment_is_not_overwritten(
    photos: Path, dup: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = trash.append

    def appends(folder: Path, move: trash.Move) -> None:
        append(folder, move)
        if move.target == "b/same.jpg":
            labelled.put(folder / "b" / "same.jpg", "somebody else's")

    monkeypatch.setattr(trash, "append", appends)
    before = tree(photos)
    done = weevit.apply_duplicates(dup, away)
    assert (away / "b" / "same.jpg").read_text() == "somebody else's"
    assert (away / "b" / "same-2.jpg").read_bytes() == (photos / "a" / "0.jpg").read_bytes()
    assert len(done.moves) == 3
    monkeypatch.undo()
    back = weevit.undo_duplicates(away)
    assert tree(photos) == before
    assert len(back.left) <= 1


def test_undo_never_overwrites_what_has_the_name_by_now(photos: Path, dup: Path, away: Path) -> None:
    weevit.apply_duplicates(dup, away)
    (photos / "b" / "same.jpg").write_bytes(b"new")
    shutil.rmtree(photos / "b" / "c")
    back = weevit.undo_duplicates(away)
    assert left(back, photos) == {"b/same.jpg": "another file has its name now; it stays in the trash"}
    assert (photos / "b" / "same.jpg").read_bytes() == b"new"
    assert (photos / "b" / "c").is_dir()
    assert set(tree(away)) == {"b/same.jpg"}


# ---- records that a stranger made


def edit(folder: Path, name: str, act: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / name).read_text())
    act(values)
    (folder / name).write_text(json.dumps(values))


def place(values: dict[str, Any], **own: Any) -> None:
    values["copies"][0]["members"][1]["place"] |= own


FORGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "a path upwards": lambda values: place(values, path="../../etc/hosts"),
    "a path upwards in between": lambda values: place(values, path="b/../../x.jpg"),
    "an absolute path": lambda values: place(values, path="/etc/hosts"),
    "an empty path": lambda values: place(values, path=""),
    "a NUL": lambda values: place(values, path="b/\0.jpg"),
    "another folder": lambda values: place(values, root=7),
    "a relative folder": lambda values: values.update(roots=["photos"]),
    "a folder upwards": lambda values: values.update(roots=[values["roots"][0] + "/../photos"]),
    "the kept one twice": lambda values: place(values, **values["copies"][0]["members"][0]["place"]),
    "a number as a path": lambda values: place(values, path=7),
    "an unknown key": lambda values: place(values, more=1),
    "another schema": lambda values: values.update(schema="weevit.duplicates/99"),
    "a list": lambda values: values.update(copies={}),
}


@pytest.mark.parametrize("way", FORGED)
def test_a_forged_record_moves_nothing(photos: Path, dup: Path, tmp_path: Path, way: str) -> None:
    edit(dup, "duplicates.json", FORGED[way])
    before = tree(tmp_path)
    with pytest.raises(MalformedFileError):
        weevit.apply_duplicates(dup, tmp_path / "trash")
    assert tree(tmp_path) == before


def test_a_record_that_names_other_files_of_the_folder_moves_no_file_but_images(
    photos: Path, dup: Path, tmp_path: Path
) -> None:
    text = labelled.put(photos / "taxes.txt", "secret")
    own = {"path": "taxes.txt", "modified": text.stat().st_mtime_ns}

    def name(values: dict[str, Any]) -> None:
        member = values["copies"][0]["members"][1]
        member |= {"sha256": hashlib.sha256(b"secret").hexdigest(), "bytes": 6}
        member["place"] |= own

    edit(dup, "duplicates.json", name)
    done = weevit.apply_duplicates(dup, tmp_path / "trash")
    assert [one.why for one in done.left] == ["it is no image"]
    assert text.read_text() == "secret"


@pytest.mark.parametrize(
    ("source", "target"),
    [("/etc/x.jpg", "b/same.jpg"), ("PHOTOS/../x.jpg", "b/same.jpg"), ("PHOTOS/x.jpg", "../dup/report.html"),
     ("PHOTOS/x.jpg", "/etc/hosts"), ("PHOTOS", "b/same.jpg")],
)  # fmt: skip
def test_a_forged_list_moves_nothing_back(photos: Path, dup: Path, tmp_path: Path, source: str, target: str) -> None:
    away = tmp_path / "trash"
    weevit.apply_duplicates(dup, away)
    with (away / trash.UNDO).open("a") as file:
        file.write(f"{source.replace('PHOTOS', str(photos))},{target},{'0' * 64}\n")
    before = tree(tmp_path)
    with pytest.raises(MalformedFileError, match="outside"):
        weevit.undo_duplicates(away)
    assert tree(tmp_path) == before


def test_what_is_no_image_is_not_moved_back(photos: Path, dup: Path, tmp_path: Path) -> None:
    """A trash that a stranger packed must not drop a program into a folder."""
    away = tmp_path / "trash"
    weevit.apply_duplicates(dup, away)
    labelled.put(away / "run.sh", "#!/bin/sh")
    trash.append(away, trash.Move(f"{photos}/run.sh", "run.sh", hashlib.sha256(b"#!/bin/sh").hexdigest()))
    assert [one.why for one in weevit.undo_duplicates(away).left] == ["it is no image"]
    assert not (photos / "run.sh").exists()


# ---- where to


@pytest.mark.parametrize("where", ["photos/trash", "photos", "dup", "dup/report.html"])
def test_a_trash_that_would_be_found_again_or_holds_something_else(
    photos: Path, dup: Path, tmp_path: Path, where: str
) -> None:
    before = tree(tmp_path)
    for dry_run in (True, False):
        with pytest.raises(UsageError, match=r"lies in|holds no|is no trash") as caught:
            weevit.apply_duplicates(dup, tmp_path / where, dry_run=dry_run)
        assert caught.value.hint
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["photos", "gone", "dup/report.html"])
def test_what_is_no_list_and_no_trash(photos: Path, dup: Path, tmp_path: Path, name: str) -> None:
    for call in (lambda: weevit.apply_duplicates(tmp_path / name, tmp_path / "trash"),
                 lambda: weevit.undo_duplicates(tmp_path / name)):  # fmt: skip
        with pytest.raises(
            UsageError, match=r"holds no list of duplicates|is no folder that weevit dedup apply"
        ) as caught:
            call()
        assert "weevit dedup" in caught.value.hint


def test_paths_in_the_home_folder_are_found_there(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    before = tree(photos)
    weevit.find_duplicates(photos, output="~/dup", embeddings=False)
    assert (tmp_path / "home" / "dup" / "report.html").is_file()
    moved = weevit.apply_duplicates("~/dup", "~/trash").moves
    assert all((tmp_path / "home" / "trash" / one.target).is_file() for one in moved)
    assert len(weevit.undo_duplicates("~/trash").moves) == len(moved) > 0
    assert tree(photos) == before
    assert not Path("~").exists()


def test_what_is_no_argument_moves_nothing(photos: Path, dup: Path, tmp_path: Path) -> None:
    before, away = tree(photos), tmp_path / "trash"
    for call, message in (
        (lambda: weevit.apply_duplicates(dup, away, dry_run="no"), "dry_run is True or False: 'no'"),
        (lambda: weevit.apply_duplicates(5, away), "duplicates is a path: 5"),
        (lambda: weevit.apply_duplicates(dup, 5), "--move-to is a path: 5"),
        (lambda: weevit.undo_duplicates(5), "trash is a path: 5"),
        (lambda: weevit.undo_duplicates(away, dry_run="no"), "dry_run is True or False: 'no'"),
        (lambda: weevit.find_duplicates(photos, output=5, embeddings=False), "--output is a path: 5"),
        (lambda: weevit.find_duplicates(photos, embeddings="no"), "embeddings is True or False: 'no'"),
    ):
        with pytest.raises(UsageError, match=message):
            call()
    assert tree(photos) == before


def test_a_list_is_not_to_be_written_among_the_images(photos: Path, tmp_path: Path) -> None:
    for name, new in ((photos, "dup"), (tmp_path / "gone", tmp_path / "gone")):
        with pytest.raises(UsageError) as caught:
            weevit.apply_duplicates(name, tmp_path / "trash")
        assert caught.value.hint == f"weevit dedup photos -o {new}"


def test_a_disk_that_is_full_stops_and_the_same_call_resumes(photos: Path, dup: Path, tmp_path: Path) -> None:
    before = tree(photos)
    with mounts.small_disk(tmp_path / "disk") as disk:
        away = disk / "trash"
        away.mkdir()
        mounts.fill(disk)
        with pytest.raises(OutputError, match="No space left"):
            weevit.apply_duplicates(dup, away)
        assert set(before.values()) <= {*tree(photos).values(), *tree(away).values()}
        (disk / ".filler").unlink()
        assert weevit.apply_duplicates(dup, away).left == ()
        assert weevit.undo_duplicates(away).left == ()
    assert tree(photos) == before


def test_members_of_archives_tables_and_links_are_listed_only(photos: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "more.tar", "w") as archive:
        archive.add(photos / "a" / "3.jpg", "3.jpg")
    (photos / "linked.jpg").symlink_to(photos / "a" / "1.jpg")
    outside = labelled.put(tmp_path / "outside" / "3.jpg", (photos / "a" / "3.jpg").read_bytes())
    (photos / "folder").symlink_to(outside.parent)
    found = weevit.find_duplicates([str(photos), str(tmp_path / "more.tar")], output=tmp_path / "dup", embeddings=False)
    places = {Path(image.id).name: image.place for group in found.copies for image in group.members}
    assert places["linked.jpg"] is None
    (group,) = [group for group in found.copies if any("more.tar" in image.id for image in group.members)]
    assert [image.place is None for image in group.members if "a/3.jpg" not in image.id] == [True, True]
    done = weevit.apply_duplicates(tmp_path / "dup", tmp_path / "trash")
    assert {Path(one.input).name for one in done.left} == {"linked.jpg", "3.jpg"}
    assert outside.exists()
    assert (photos / "linked.jpg").is_symlink()


def test_nothing_moves_where_the_one_to_keep_is_listed_only(photos: Path, tmp_path: Path) -> None:
    """The others were compared with it: a part of it must not be kept for a copy of the whole."""
    import tarfile

    labelled.put(tmp_path / "large.jpg", encoded(scaled(scene(1), 2), quality=95))
    with tarfile.open(tmp_path / "more.tar", "w") as archive:
        archive.add(tmp_path / "large.jpg", "large.jpg")
    weevit.find_duplicates([photos, tmp_path / "more.tar"], output=tmp_path / "dup", embeddings=False)
    done = weevit.apply_duplicates(tmp_path / "dup", tmp_path / "trash")
    said = {Path(one.input).name: one.why for one in done.left}
    assert set(said) == {"1.jpg", 'half, "é" \'=1\n2.jpg'}
    assert all("more.tar/large.jpg: it lies in an archive" in why for why in said.values())


def test_the_record_reads_back_as_it_was_written(dup: Path, photos: Path) -> None:
    from weevit.duplicates.folder import read_duplicates

    found = weevit.find_duplicates(photos, embeddings=False)
    again = read_duplicates(dup)
    assert isinstance(again, Duplicates)
    assert (again.copies, again.roots, again.images) == (found.copies, found.roots, found.images)

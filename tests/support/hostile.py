"""What a stranger may do to the files of a folder: seeded edits, to be hashed anew by the caller."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

SECONDS = 5.0
"""In which a typed error has to come."""

ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        -5,
        1,
        10**9,
        -(10**9),
        1 << 63,
        10**400,
        0.5,
        -0.0,
        1e308,
        -1e308,
        float("nan"),
        float("inf"),
    ),
    *(
        "",
        "0",
        "nan",
        "../../outside/kept.txt",
        "/etc/hostname",
        "\u202e\x1b]0;x\x07",
        "\ud800",
        "\U0001f600" * 9,
        "x" * 100_000,
    ),
    *([], [None], [[]], {}, {"": {}}, {"a": [1, {"b": None}]}, ["../outside"], list(range(1000))),
)
"""Values that are put in the place of others."""


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to every value in JSON, through keys and indices."""
    yield way
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*way, key))


def edit(value: Any, dice: random.Random) -> bytes:
    """JSON with one thing about it changed, as text."""
    value = json.loads(json.dumps(value))
    way = dice.choice([own for own in places(value) if own] or [()])
    kind = dice.choice(("odd", "odd", "odd", "remove", "add", "number", "twice", "deep", "cut", "bytes"))
    if not way:
        return json.dumps(dice.choice(ODD)).encode("utf-8", "surrogatepass")
    holder = value
    for key in way[:-1]:
        holder = holder[key]
    old = holder[way[-1]]
    if kind == "remove":
        del holder[way[-1]]
    elif kind == "add" and isinstance(holder, dict):
        holder[dice.choice(("more", "__class__", "../x", ""))] = dice.choice(ODD)
    elif kind == "number" and isinstance(old, int | float):
        holder[way[-1]] = dice.choice((old + 1, old - 1, -old, old * 1000, old + 0.5, str(old)))
    elif kind == "deep":
        text = json.dumps(value)
        return (text[:-1] + ', "deep": ' + "[" * 100_000 + "]" * 100_000 + "}").encode()
    elif kind == "twice" and isinstance(value, dict) and value:
        key = dice.choice(list(value))
        return (json.dumps(value)[:-1] + f", {json.dumps(key)}: {json.dumps(dice.choice(ODD))}}}").encode()
    elif kind == "cut":
        text = json.dumps(value).encode()
        return text[: dice.randrange(len(text))]
    elif kind == "bytes":
        text = bytearray(json.dumps(value).encode())
        text[dice.randrange(len(text))] = dice.randrange(256)
        return bytes(text)
    else:
        holder[way[-1]] = dice.choice(ODD)
    return json.dumps(value).encode()


def edit_file(path: Path, dice: random.Random, outside: Path) -> str:
    """Change a JSON or JSONL file, or put something else in its place; returns what was done."""
    kind = dice.choice(("json",) * 8 + ("link", "pipe", "folder", "empty", "junk", "gone", "large"))
    if kind == "json" and path.suffix in (".json", ".jsonl"):
        lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
        if lines:
            place = dice.randrange(len(lines))
            lines[place] = edit(json.loads(lines[place]), dice)
            path.write_bytes(b"\n".join(lines) + b"\n")
            return f"{path.name}: line {place} is {lines[place][:300]!r}"
    if kind == "large" and path.suffix not in (".json", ".jsonl", ".csv", ".yaml"):
        kind = "junk"
    content = path.read_bytes()
    path.unlink()
    if kind == "link":
        (outside / path.name).write_bytes(content)
        path.symlink_to(outside / path.name)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(b'{"schema": "' + b"x" * 100_000_000 + b'"}')
    elif kind in ("json", "junk"):
        data = bytearray(content or b"x")
        for _ in range(dice.choice((1, 1, 8, 100))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data[: dice.choice((len(data), len(data), len(data) // 2))])
    elif kind == "empty":
        path.write_bytes(b"")
    return f"{path.name}: {kind}"


def fresh(whole: Path, place: Path) -> tuple[Path, Path]:
    """A copy of a folder, and a folder beside it which nothing may touch."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place / "folder")
    outside = place / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("not yours")
    return place / "folder", outside


def state_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def within(seconds: float = SECONDS) -> Iterator[None]:
    """Fail where the block takes longer, in the main thread."""

    def late(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise AssertionError(f"it took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


_COMMANDS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect")
_FILES = ("open", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.truncate", "shutil.rmtree")


class Watched:
    """What Python is asked to do, while watched: names of files below a folder, commands, connections."""

    _one: Watched | None = None

    def __init__(self) -> None:
        self.below: str | None = None
        self.seen: list[str] = []

    @classmethod
    def get(cls) -> Watched:
        """The one of this process: a hook cannot be taken away."""
        if cls._one is None:
            cls._one = cls()
            sys.addaudithook(cls._one._heard)
        return cls._one

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.below is None or event not in (*_FILES, *_COMMANDS):
            return
        if event in _COMMANDS:
            self.seen.append(f"{event} {arguments!r}")
        for one in arguments[:2]:
            if isinstance(one, str | bytes | os.PathLike):
                path = os.path.abspath(os.fsdecode(one))  # noqa: PTH100 - not through links: those are looked at by name
                if path.startswith((self.below, "/etc/hostname")):
                    self.seen.append(f"{event} {path}")

    @contextmanager
    def outside(self, folder: Path) -> Iterator[list[str]]:
        """Gives what was done to anything below the folder."""
        self.seen, self.below = [], str(folder)
        try:
            yield self.seen
        finally:
            self.below = None


def attack(
    whole: Path,
    place: Path,
    seed: int,
    files: Callable[[Path], list[Path]],
    seal: Callable[[Path], None],
    use: Callable[[Path], None],
    allowed: tuple[type[BaseException], ...],
    seconds: float = SECONDS,
) -> str:
    """One edit of a copy, sealed anew and used; returns what happened.

    Args:
        whole: the folder as weevit wrote it.
        place: for the copy.
        seed: of the edit.
        files: the files of a copy that may be changed.
        seal: computes digests anew.
        use: what weevit does with the folder.
        allowed: errors that may come of it.
        seconds: that it may take.

    Raises:
        AssertionError: another error, too late, or something outside was touched.
    """
    dice = random.Random(seed)
    place.mkdir(parents=True, exist_ok=True)
    folder, outside = fresh(whole, place)
    done = edit_file(dice.choice(files(folder)), dice, outside)
    seal(folder)
    before = state_of(outside)
    said = "accepted"
    with Watched.get().outside(outside) as touched:
        try:
            with within(seconds):
                use(folder)
        except allowed as error:
            said = f"{type(error).__name__}: {str(error)[:200]}"
        except Exception as error:
            raise AssertionError(f"seed {seed}: {done}: {type(error).__name__}: {str(error)[:300]}") from error
    assert state_of(outside) == before, f"seed {seed}: {done}: something outside was changed"
    assert not touched, f"seed {seed}: {done}: {touched[:3]}"
    return f"{done} -> {said}"

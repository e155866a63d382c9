"""Row M8 of the scorecard: addresses in lists and tables run nothing, write nothing and ask nobody unasked."""

from __future__ import annotations

import csv
import io
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import addresses
import pytest
from PIL import Image
from serving import Server

from weevit.errors import ImageError, UnreadableImageError, UsageError
from weevit.images.remote import is_public
from weevit.images.source import Source, open_image, printable
from weevit.images.sources import expand

fsspec = pytest.importorskip("fsspec")


DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


def png(width: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, 3), "red").save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder with two images, and a stranger's rows: the two, with every hostile address between them."""
    folder = tmp_path / "stranger"
    folder.mkdir()
    for name in ("there.png", "last.png"):
        (folder / name).write_bytes(png())
    with addresses.listening() as listener:
        yield folder, ["there.png", *addresses.hostile(folder, listener.port), "last.png"]
        assert listener.asked == []
    assert not (folder / "PWNED").exists()


@pytest.fixture
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection, or a question to a name server, is an error that no code of ours expects."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def write_list(path: Path, rows: list[str]) -> Path:
    path.with_suffix(".txt").write_text("\n".join(rows) + "\n")
    return path.with_suffix(".txt")


def write_csv(path: Path, rows: list[str]) -> Path:
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([row, "cat"] for row in rows)
    return path.with_suffix(".csv")


def write_parquet(path: Path, rows: list[str]) -> Path:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"path": rows, "label": ["cat"] * len(rows)}), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def write_hub_parquet(path: Path, rows: list[str]) -> Path:
    """The hub's struct of bytes and path, with paths only."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"image": [{"bytes": None, "path": row} for row in rows], "label": ["cat"] * len(rows)})
    parquet.write_table(table, path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


CONTAINERS = [write_list, write_csv, write_parquet, write_hub_parquet]


@pytest.mark.usefixtures("nobody_is_asked")
@pytest.mark.parametrize("write", CONTAINERS)
def test_every_row_of_a_strangers_table_is_a_row(
    write: Callable[[Path, list[str]], Path], stranger: tuple[Path, list[str]]
) -> None:
    folder, rows = stranger
    before = sorted(path.name for path in folder.iterdir())
    first, *hostile, last = expand(write(folder / "rows", rows))
    assert len(hostile) == len(rows) - 2 > 40
    for source in (first, last):
        assert open_image(source).size == (4, 3)
    for source in hostile:
        with pytest.raises(ImageError):
            open_image(source)
        assert source.fingerprint()
    made = {path.name for path in folder.iterdir()} - set(before)
    assert len(made) == 1, made  # the table


@pytest.mark.usefixtures("nobody_is_asked")
def test_typed_addresses_of_other_kinds_are_refused(stranger: tuple[Path, list[str]]) -> None:
    _, rows = stranger
    refused = [row for row in rows if "://" in row and row.partition("://")[0].lower() not in ("http", "https", "s3")]
    assert len(refused) > 25
    for row in refused:
        with pytest.raises((UsageError, ImageError)):
            open_image(next(iter(expand(row))))


@pytest.mark.parametrize("allowed", ["", "public"])
def test_no_permission_is_asked_for_addresses_that_are_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    monkeypatch.setenv("WEEVIT_ALLOW_URLS", allowed)
    rows = {"file:///a.png": "path of the file itself", "ftp://a/b.png": "not read", "s3://a::b": "never followed"}
    for source, why in zip(expand(write_list(tmp_path / "rows", list(rows))), rows.values(), strict=True):
        with pytest.raises(UnreadableImageError, match=why):
            open_image(source)


@pytest.mark.parametrize("verb", ["classify", "job", "eval", "fit"])
def test_a_strangers_table_in_a_verb(verb: str, stranger: tuple[Path, list[str]], tmp_path: Path) -> None:
    """The two images are answered, and everything else is a failed row; the run comes to its end."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("sklearn")
    from weevit.cli.app import _run

    folder, rows = stranger
    table = write_csv(folder / "rows", rows)
    if verb == "fit":  # which needs more than two images of one class
        good = [path for digit in "38" for path in sorted((DIGITS / "train" / digit).iterdir())[:8]]
        table.write_text(table.read_text() + "".join(f"{path},{path.parent.name}\n" for path in good))
    table.write_text(table.read_text().replace(",cat", ",3"))
    commands = {
        "classify": ["classify", str(table), "-m", "digits", "-o", str(tmp_path / "answers.csv")],
        "job": ["classify", str(table), "-m", "digits", "-o", str(tmp_path / "job")],
        "eval": ["eval", "digits", str(table), "--allow-missing", "-o", str(tmp_path / "report")],
        "fit": ["fit", str(table), "-m", "digits", "-o", str(tmp_path / "fit")],
    }
    assert _run(commands[verb]) == 0
    if verb == "classify":
        with (tmp_path / "answers.csv").open(newline="") as file:
            answers = list(csv.DictReader(file))
        assert [row["input"] for row in answers] == [printable(row) for row in rows]
        assert [row["input"] for row in answers if row["status"] == "ok"] == ["there.png", "last.png"]
    if verb == "job":
        import weevit

        kept = weevit.read_results(tmp_path / "job", ["input", "status"]).to_pylist()
        assert len(kept) == len(rows)
        assert [row["input"] for row in kept if row["status"] == "ok"] == ["there.png", "last.png"]


def names(source: Source) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(source)
    return str(caught.value)


def listed(tmp_path: Path, *rows: str) -> list[Source]:
    return list(expand(write_list(tmp_path / "rows", list(rows))))


@pytest.fixture
def serve() -> Iterator[Any]:
    pytest.importorskip("aiohttp")
    with Server({"/a.png": png(5)}) as server:
        yield server


def test_addresses_in_lists_need_a_permission(serve: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (refused,) = listed(tmp_path, f"{serve.address}/a.png")
    assert "--allow-urls" in names(refused)
    monkeypatch.setenv("WEEVIT_ALLOW_URLS", "public")
    (private,) = listed(tmp_path, f"{serve.address}/a.png")
    assert "private network" in names(private)
    assert serve.asked == []
    monkeypatch.setenv("WEEVIT_ALLOW_URLS", "private")
    (allowed,) = listed(tmp_path, f"{serve.address}/a.png")
    assert open_image(allowed).size == (5, 3)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]"]
)
def test_no_spelling_of_this_machine_gets_around(
    host: str, serve: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEEVIT_ALLOW_URLS", "public")
    (source,) = listed(tmp_path, f"http://{host}:{serve.port}/a.png")
    with pytest.raises(ImageError):
        open_image(source)
    assert serve.asked == []


def test_a_name_server_that_changes_its_mind(serve: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the connection that is judged: a name that was public a moment ago may lead here now."""
    monkeypatch.setenv("WEEVIT_ALLOW_URLS", "public")
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
    (source,) = listed(tmp_path, f"http://example.org:{serve.port}/a.png")
    assert "private network" in names(source)
    assert serve.asked == []


def test_a_redirect_into_a_private_network(serve: Server) -> None:
    """A typed address may be this machine; where it redirects to may be the same host, and no other private one."""
    with Server({"/a.png": png(6)}, host="127.0.0.2") as other:
        serve.redirect("/away.png", f"{other.address}/a.png")
        serve.redirect("/here.png", f"{serve.address}/a.png")
        (here,) = expand(f"{serve.address}/here.png")
        assert open_image(here).size == (5, 3)
        (away,) = expand(f"{serve.address}/away.png")
        with pytest.raises(UnreadableImageError, match="private network"):
            open_image(away)
        assert other.asked == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *[(text, True) for text in ("8.8.8.8", "2600::1", "64:ff9b::808:808", "::ffff:8.8.8.8")],
        *[(text, False) for text in ("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254")],
        *[(text, False) for text in ("0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::")],
        *[
            (text, False)
            for text in ("fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::")
        ],
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) == public

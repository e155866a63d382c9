"""Images at addresses: a real S3 client against a server on loopback, and plain HTTP."""

from __future__ import annotations

import io
import os
import pickle
import re
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import labelled
import pytest
from PIL import Image

import weevit
from weevit.datasets.read import read_dataset
from weevit.errors import EmptyImageError, MissingImageError, TooLargeImageError, UnreadableImageError, UsageError
from weevit.images import remote
from weevit.images.decode import Limits
from weevit.images.remote import RemoteFile
from weevit.images.source import Source, open_image
from weevit.images.sources import expand, names_one_image

pytest.importorskip("fsspec")


def png(width: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, 3), "red").save(stream, "PNG")
    return stream.getvalue()


def sources(inputs: object) -> list[Source]:
    return list(expand(inputs))  # type: ignore[arg-type]


def widths(found: list[Source]) -> list[int]:
    return [open_image(source).size[0] for source in found]


def stamps(inputs: object) -> list[str]:
    return [source.fingerprint() for source in sources(inputs)]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A client of a server of our own; what is under test finds that server by the environment."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for key, value in {"ACCESS_KEY_ID": "nobody", "SECRET_ACCESS_KEY": "no", "DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(f"AWS_{key}", value)
        for key in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
            patch.setenv(f"AWS_{key}", "/nowhere")
        patch.setenv("NO_PROXY", "127.0.0.1")
        s3fs.S3FileSystem.clear_instance_cache()  # fsspec keeps clients of a server of earlier tests
        s3 = boto3.client("s3")
        yield s3
        s3.close()
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def bucket(client: Any, tmp_path: Path) -> str:
    """The address of a bucket of the test's own."""
    name = tmp_path.name.replace("_", "-").lower()[:60].strip("-")
    client.create_bucket(Bucket=name)
    return f"s3://{name}"


def put(client: Any, bucket: str, contents: dict[str, bytes | str]) -> None:
    for key, content in contents.items():
        client.put_object(Bucket=bucket.removeprefix("s3://"), Key=key, Body=content)


def test_what_is_below_an_address_comes_in_natural_order(client: Any, bucket: str) -> None:
    keys = ("p/img10.png", "p/IMG2.PNG", "p/deep/er/img1.png", "p/img1.png")
    put(client, bucket, {key: png(width) for width, key in enumerate(keys, 1)})
    put(client, bucket, {"other.png": png(), "p/notes.txt": "x"})
    for address in (f"{bucket}/p", f"{bucket}/p/"):
        found = expand(address)
        inside = ["deep/er/img1.png", "img1.png", "IMG2.PNG", "img10.png"]
        assert [source.name for source in found] == [f"{bucket}/p/{name}" for name in inside]
        assert found.left_out == {".txt": 1}
        assert widths(list(found)) == [3, 4, 2, 1]


def test_one_folder_of_a_bucket_is_listed_at_a_time(client: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing of everything would hold a kilobyte per object."""
    put(client, bucket, {f"p/{folder}/{name}.png": png() for folder in range(3) for name in range(2)})
    put(client, bucket, {"p/": b""})  # what consoles make for a folder
    listed: list[str] = []
    real = remote._entries
    monkeypatch.setattr(remote, "_entries", lambda system, path: (listed.append(path), real(system, path))[1])
    found = iter(expand(f"{bucket}/p"))
    assert next(found).name == f"{bucket}/p/0/0.png"
    assert len(listed) == 2
    assert [source.name[-7:] for source in found] == ["0/1.png", "1/0.png", "1/1.png", "2/0.png", "2/1.png"]
    assert len(listed) == 4


def test_hidden_names_are_left_out_as_on_a_disk(client: Any, bucket: str, tmp_path: Path) -> None:
    keys = ("p/1.png", "p/._1.png", "p/.thumbs/2.png", "p/deep/.3.png", "p/deep/4.png", ".own/5.png", ".own/.6.png")
    put(client, bucket, {key: png() for key in keys})
    for key in keys:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(png())
    for word in ("", "p", "p/*.png", "p/**/*.png", ".own", ".own/*.png", "p/._*", "p/*/.3.png", "p/._1.png"):
        there = [source.name.removeprefix(bucket) for source in expand(f"{bucket}/{word}")]
        assert there == [source.name.removeprefix(str(tmp_path)) for source in expand(f"{tmp_path}/{word}")], word


def test_one_object_is_a_source_whatever_its_ending(client: Any, bucket: str) -> None:
    put(client, bucket, {"a.png": png(1), "a.dat": png(2), "bare": png(3), "empty.png": b""})
    one, dat, bare, empty = sources([f"{bucket}/{key}" for key in ("a.png", "a.dat", "bare", "empty.png")])
    assert [one.name, dat.name, bare.name] == [f"{bucket}/{key}" for key in ("a.png", "a.dat", "bare")]
    assert widths([one, dat, bare]) == [1, 2, 3]
    with pytest.raises(EmptyImageError):
        open_image(empty)


def test_what_is_not_there_keeps_its_place(client: Any, bucket: str) -> None:
    put(client, bucket, {"a.png": png()})
    words = ["a.png", "gone.png", "gone", "gone.tar", "gone.csv", "*.jpg", "gone-*.tar", "a.png"]
    first, *missing, last = sources([f"{bucket}/{word}" for word in words])
    assert widths([first, last]) == [4, 4]
    assert [source.name for source in missing] == [f"{bucket}/{word}" for word in words[1:-1]]
    for source in [*missing, *sources("s3://no-such-bucket/a.png"), *sources("s3://no-such-bucket/photos")]:
        with pytest.raises(MissingImageError):
            open_image(source)
    assert missing[0].fingerprint() == "absent"


def test_patterns_and_ranges(client: Any, bucket: str) -> None:
    put(client, bucket, {f"{folder}/img{number}.png": png(number) for folder in "ab" for number in (1, 2, 10)})
    assert widths(sources(f"{bucket}/a/*.png")) == [1, 2, 10]
    assert widths(sources(f"{bucket}/**/img?.png")) == [1, 2, 1, 2]
    assert widths(sources(f"{bucket}/b/img{{1..2}}.png")) == [1, 2]


def test_archives_and_patterns_of_them(client: Any, bucket: str) -> None:
    for number in (10, 9):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name, content in (("a.png", png(number)), ("a.cls", b"7"), ("b.png", png(number + 50))):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        put(client, bucket, {f"x-{number}.tar": stream.getvalue()})
    found = sources(f"{bucket}/x-10.tar")
    assert [source.name for source in found] == [f"{bucket}/x-10.tar/{name}" for name in ("a.png", "b.png")]
    assert [source.target for source in found] == ["7", None]
    assert widths(found) == [10, 60]
    assert widths(sources(f"{bucket}/x-*.tar")) == [9, 59, 10, 60]
    assert len(set(stamps(f"{bucket}/x-*.tar"))) == 4


def test_lists_and_tables_beside_their_images(
    client: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEEVIT_ALLOW_URLS", "public")  # addresses in lists; what lies beside one needs no permission
    table = "id,path,label\nx,a.png,cat\ny,gone.png,dog\n"
    put(client, bucket, {"p/a.png": png(1), "b.png": png(2), "p/list.txt": f"a.png\n{bucket}/b.png", "p/t.csv": table})
    assert widths(sources(f"{bucket}/p/list.txt")) == [1, 2]
    first, gone = sources(f"{bucket}/p/t.csv")
    assert [(first.name, first.target), (gone.name, gone.target)] == [("x", "cat"), ("y", "dog")]
    assert widths([first]) == [1]
    with pytest.raises(MissingImageError):
        open_image(gone)
    (tmp_path / "here.txt").write_text(f"{bucket}/b.png")  # a list on this machine may name addresses
    assert widths(sources(tmp_path / "here.txt")) == [2]


def test_a_parquet_at_an_address(client: Any, bucket: str) -> None:
    pa = pytest.importorskip("pyarrow")
    stream = io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(pa.table({"png": [png(1), png(2)]}), stream, row_group_size=1)
    put(client, bucket, {"t.parquet": stream.getvalue()})
    assert widths(sources(f"{bucket}/t.parquet")) == [1, 2]


def test_fingerprints_change_with_the_content_and_only_then(client: Any, bucket: str) -> None:
    put(client, bucket, {"p/a.png": png(1), "p/b.png": png(2)})
    first = stamps(f"{bucket}/p")
    assert stamps(f"{bucket}/p") == first
    assert stamps([f"{bucket}/p/a.png", f"{bucket}/p/b.png"]) == first  # asked one by one
    put(client, bucket, {"p/b.png": png(3), "p/c.png": png(4)})
    later = stamps(f"{bucket}/p")
    assert len(later) == 3
    assert (later[0] == first[0], later[1] == first[1]) == (True, False)
    assert stamps(f"{bucket}/p/b.png") == later[1:2]
    assert widths(sources(f"{bucket}/p")) == [1, 3, 4]


def test_a_large_object_is_refused_by_its_size(client: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.spec import AbstractBufferedFile

    put(client, bucket, {"a.png": png()})
    (source,) = sources(f"{bucket}/a.png")
    assert open_image(source, Limits(max_bytes=len(png()))).size == (4, 3)
    monkeypatch.setattr(AbstractBufferedFile, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(TooLargeImageError, match="the limit"):
        open_image(source, Limits(max_bytes=len(png()) - 1))


def test_an_address_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="nosuch://host"):
        sources("nosuch://host/a.png")


class Bare(BaseHTTPRequestHandler):
    """A server that says nothing of size, and sends a image in two pieces; or that is out of order."""

    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/broken.png" else 200)
        self.end_headers()
        for part in (png()[:30], png()[30:]):
            self.wfile.write(part)
            self.wfile.flush()
            threading.Event().wait(0.1)

    def log_message(self, *_: object) -> None: ...


class Quiet(SimpleHTTPRequestHandler):
    log_message = Bare.log_message


@pytest.fixture
def serve() -> Iterator[Any]:
    pytest.importorskip("aiohttp")
    servers: list[ThreadingHTTPServer] = []

    def start(handler: Any) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_images_at_web_addresses(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(3))
    (tmp_path / "bare").write_bytes(png(5))
    host = serve(partial(Quiet, directory=str(tmp_path)))
    words = [f"{host}/a.png", f"{host}/bare", f"{host}/a.png?size=large", f"{host}/gone.png"]
    found = sources(words)
    assert [source.name for source in found] == words
    assert widths(found[:3]) == [3, 5, 3]
    with pytest.raises(MissingImageError):
        open_image(found[3])
    with pytest.raises(TooLargeImageError):
        open_image(found[0], Limits(max_bytes=10))
    before = stamps(words[0])
    assert stamps(words[0]) == before
    (tmp_path / "a.png").write_bytes(png(4))
    os.utime(tmp_path / "a.png", (0, 0))  # this server tells whole seconds only
    assert stamps(words[0]) != before


@pytest.mark.parametrize("word", ["/", "/*.png"])
def test_a_changed_file_of_a_web_page_is_another_one(serve: Any, tmp_path: Path, word: str) -> None:
    """A page that lists files tells neither size nor time: a job took every change for the file it knew."""
    (tmp_path / "a.png").write_bytes(png(3))
    host = serve(partial(Quiet, directory=str(tmp_path)))
    before = stamps(host + word)
    assert before == stamps(f"{host}/a.png")
    (tmp_path / "a.png").write_bytes(png(4))
    os.utime(tmp_path / "a.png", (0, 0))
    assert stamps(host + word) != before


def test_a_query_behind_a_table_or_an_archive(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of an address that is signed for a day: names of images hold no signature, and the next day's are the same."""
    monkeypatch.setenv("WEEVIT_CACHE", str(tmp_path / "cache"))
    labelled.tar(tmp_path / "x.tar", {"in": "ab"})
    (tmp_path / "a.png").write_bytes(png(3))
    (tmp_path / "t.csv").write_text("path,label\na.png,cat\n")
    (tmp_path / "l.txt").write_text("a.png\n")
    host = serve(partial(Quiet, directory=str(tmp_path)))
    found = sources([f"{host}/{name}?sig=a/b%2Fc&to=x.jpg" for name in ("x.tar", "t.csv", "l.txt")])
    assert [source.name for source in found] == [f"{host}/x.tar/in/0.png", f"{host}/x.tar/in/1.png", "a.png", "a.png"]
    assert [source.target for source in found] == ["a", "b", "cat", None]
    assert widths(found) == [4, 4, 3, 3]
    assert not names_one_image(f"{host}/t.csv?sig=1")
    assert names_one_image(f"{host}/a.png?sig=1.csv")
    assert read_dataset(f"{host}/x.tar?sig=1").classes == ("a", "b")


def test_python_answers_every_image_at_an_address(serve: Any, client: Any, bucket: str, tmp_path: Path) -> None:
    """Of a folder in a bucket it was the first one."""
    (tmp_path / "a.png").write_bytes(png(3))
    (tmp_path / "bare").write_bytes(png(5))
    put(client, bucket, {"photos/1.png": png(1), "photos/2.png": png(2), "one/1.png": png(1)})
    host = serve(partial(Quiet, directory=str(tmp_path)))
    with weevit.load("digits") as model:
        assert [one.width for one in model.classify(f"{bucket}/photos")] == [1, 2]
        assert [one.width for one in model.classify(f"{bucket}/one")] == [1]
        for one in ("a.png", "a.png?v=1", "bare"):
            assert model.classify(f"{host}/{one}").ok
        assert model.classify(f"{host}/gone").status == "missing"


def test_archives_of_a_web_page_are_fetched_as_one_is(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a server that does not send parts of a file, too."""
    monkeypatch.setenv("WEEVIT_CACHE", str(tmp_path / "cache"))
    labelled.tar(tmp_path / "x-0.tar", {"in": "ab"})
    host = serve(partial(Quiet, directory=str(tmp_path)))
    assert widths(sources(f"{host}/x-*.tar")) == widths(sources(f"{host}/x-0.tar")) == [4, 4]


def test_a_image_without_a_size_is_read_to_its_end(serve: Any) -> None:
    (source,) = sources(serve(Bare) + "/a.png")
    assert open_image(source).size == (4, 3)
    with pytest.raises(TooLargeImageError):
        open_image(source, Limits(max_bytes=40))  # more than the first piece has


@pytest.mark.parametrize("name", ["l.txt", "l.csv", "x.tar", "p.parquet"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_ends_too_soon_is_one_failed_row(
    name: str, ranges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    pytest.importorskip("pyarrow")
    monkeypatch.setenv("WEEVIT_SHARDS_GB", "0")  # an archive is read in place

    class Dropping(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "20000")
            self.send_header("Accept-Ranges", "bytes" if ranges else "none")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(b"path\n" * 100)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Dropping) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/{name}"
        *_, last = sources(address)
        server.shutdown()
        thread.join()
    assert last.name == address
    with pytest.raises(UnreadableImageError, match=re.escape(address)):
        open_image(last)


def test_a_server_out_of_order_does_not_mean_that_nothing_is_there(serve: Any) -> None:
    for source in sources(["http://127.0.0.1:9/a.png", "http://127.0.0.1:9/t.csv", serve(Bare) + "/broken.png"]):
        with pytest.raises(UnreadableImageError):
            open_image(source)


# ---- archives are read from local copies


@pytest.fixture
def archives(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Three archives of four images in a bucket; the requests for them are listed."""
    from weevit.images import shards

    monkeypatch.setenv("WEEVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "_opened", {})
    client.create_bucket(Bucket="shards")
    for number in range(3):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for index in range(4):
                for ending, content in (("png", png(4 * number + index + 1)), ("cls", b"ab"[index % 2 :][:1])):
                    member = tarfile.TarInfo(f"{number}{index}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        client.put_object(Bucket="shards", Key=f"{number}.tar", Body=stream.getvalue())
    fetched: list[str] = []
    real = RemoteFile.open
    monkeypatch.setattr(RemoteFile, "open", lambda file: (fetched.append(file.name), real(file))[1])
    yield fetched
    for number in range(3):
        client.delete_object(Bucket="shards", Key=f"{number}.tar")
    client.delete_bucket(Bucket="shards")


ARCHIVES = [f"s3://shards/{number}.tar" for number in range(3)]


def copies(tmp_path: Path) -> list[int]:
    return [path.stat().st_size for path in (tmp_path / "cache" / "shards").glob("*.tar")]


def test_an_archive_is_fetched_once_for_all_readers(archives: list[str], tmp_path: Path) -> None:
    found = sources("s3://shards/{0..2}.tar")
    assert widths(found[::-1]) == list(range(12, 0, -1))  # in any order
    assert widths(sources("s3://shards/{0..2}.tar")) == list(range(1, 13))
    assert archives == ARCHIVES
    assert len(copies(tmp_path)) == 3
    assert [one.name for one in (tmp_path / "cache" / "shards").iterdir() if one.name.startswith(".")] == []
    assert widths([pickle.loads(pickle.dumps(found[5]))]) == [6]


def test_another_archive_at_the_address_is_another_copy(archives: list[str], client: Any) -> None:
    assert widths(sources(ARCHIVES[0])) == [1, 2, 3, 4]
    s3fs = pytest.importorskip("s3fs")
    content = client.get_object(Bucket="shards", Key="2.tar")["Body"].read()
    client.put_object(Bucket="shards", Key="0.tar", Body=content)
    s3fs.S3FileSystem.clear_instance_cache()
    assert widths(sources(ARCHIVES[0])) == [9, 10, 11, 12]
    assert archives == [ARCHIVES[0]] * 2


def test_what_does_not_fit_is_read_in_place(archives: list[str], tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setenv("WEEVIT_SHARDS_GB", "0.000025")  # two of the three
    found = sources("s3://shards/{0..2}.tar")
    assert widths(found) == list(range(1, 13))
    assert len(copies(tmp_path)) == 2
    assert archives.count(ARCHIVES[0]) == archives.count(ARCHIVES[1]) == 1
    assert archives.count(ARCHIVES[2]) == 1 + 4  # the list of its members, and each image
    assert "further archives are not cached, and are read in place each time" in caplog.text


def test_copies_of_others_make_room(archives: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    from weevit.images import shards

    monkeypatch.setenv("WEEVIT_SHARDS_GB", "0.000025")
    assert widths(sources("s3://shards/{0..1}.tar")) == list(range(1, 9))
    shards._opened.clear()  # another process
    assert widths(sources(ARCHIVES[2])) == [9, 10, 11, 12]
    assert len(copies(tmp_path)) == 2
    assert archives == ARCHIVES


def test_without_room_or_a_cache_the_answers_are_the_same(
    archives: list[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("WEEVIT_SHARDS_GB", "0")
    assert widths(sources(ARCHIVES[0])) == [1, 2, 3, 4]
    assert not (tmp_path / "cache" / "shards").exists()
    monkeypatch.setenv("WEEVIT_SHARDS_GB", "many")
    with pytest.raises(UsageError, match="WEEVIT_SHARDS_GB is 'many'"):
        sources(ARCHIVES[0])
    monkeypatch.delenv("WEEVIT_SHARDS_GB")
    (tmp_path / "cache").write_text("a file where the cache should be")
    assert widths(sources(ARCHIVES[0])) == [1, 2, 3, 4]
    assert archives.count(ARCHIVES[0]) == 10


def test_a_copy_that_was_cut_off_is_fetched_again(archives: list[str], tmp_path: Path) -> None:
    assert widths(sources(ARCHIVES[0])) == [1, 2, 3, 4]
    (copy,) = (tmp_path / "cache" / "shards").glob("*.tar")
    os.truncate(copy, 100)
    assert widths(sources(ARCHIVES[0])) == [1, 2, 3, 4]
    assert archives == [ARCHIVES[0]] * 2
    copy.unlink()
    copy.symlink_to("/etc/hostname")
    assert widths(sources(ARCHIVES[0])) == [1, 2, 3, 4]
    assert not copy.is_symlink()


def test_a_server_that_stops_within_an_archive_leaves_no_copy(
    archives: list[str], tmp_path: Path, monkeypatch: Any
) -> None:
    def stops(file: Any, size: int) -> Iterator[bytes]:
        yield b"x" * 512
        raise UnreadableImageError(f"{file.name}: the connection is closed")

    with monkeypatch.context() as patch:
        patch.setattr(RemoteFile, "blocks", stops)
        with pytest.raises(UnreadableImageError, match="the connection is closed"):
            widths(sources(ARCHIVES[0]))
    assert list((tmp_path / "cache" / "shards").glob("*.tar")) == []
    assert widths(sources(ARCHIVES[0])) == [1, 2, 3, 4]


@pytest.mark.parametrize("more", [True, False])
def test_a_server_that_sends_more_or_less_than_it_says_leaves_no_copy(
    archives: list[str], tmp_path: Path, monkeypatch: Any, more: bool
) -> None:
    sent: list[int] = []

    def sends(file: Any, size: int) -> Iterator[bytes]:
        while more or not sent:
            sent.append(4096)
            yield bytes(4096)

    monkeypatch.setattr(RemoteFile, "blocks", sends)
    assert widths(sources(ARCHIVES[0])) == [1, 2, 3, 4]  # read in place
    assert list((tmp_path / "cache" / "shards").glob("*.tar")) == []
    assert [one.name for one in (tmp_path / "cache" / "shards").iterdir() if one.suffix != ".lock"] == []
    assert sum(sent) < 2_000_000  # of each attempt at most the size, and a block


def test_a_training_on_archives_in_a_bucket_is_resumed_within_an_epoch(archives: list[str], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    import runs

    from weevit.training.loop import resume, train
    from weevit.training.watch import Watcher

    words = ["schedule.epochs=2", "loop.batch_size=2", "data.validation_share=0.3", "loop.checkpoint_every=1 steps"]
    data, recipe = "s3://shards/{0..2}.tar", runs.recipe(tmp_path / "recipe.yaml")
    whole = train(recipe, data, tmp_path / "whole", words, threads=1, report=False)
    steps: list[int] = []
    stop = Watcher(lambda progress: steps.append(progress.step), should_stop=lambda: bool(steps) and steps[-1] >= 2)
    assert train(recipe, data, tmp_path / "run", words, threads=1, report=False, watcher=stop).step == 2
    assert resume(tmp_path / "run", report=False).digest == whole.digest
    assert whole.total == 8
    assert archives == ARCHIVES  # for two runs, their evaluations, and the record of what they read

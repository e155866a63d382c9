"""`weevit bench --serve`: what it prints, and what it refuses to put under load."""

from __future__ import annotations

import json
import socket
import socketserver
import tarfile
import threading
from pathlib import Path

import pytest
from served import Running

from conftest import png
from weevit.cli.app import main
from weevit.errors import UsageError, WeevitError
from weevit.serve.load import Load, Target, load_test, parse_target


def run(*words: object) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *map(str, words)])
    return ended.value.code


def test_it_prints_what_it_found(server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number) if number else b"broken")
    words = ("--serve", server.url, "--clients", 4, "--requests", 30, "--images", tmp_path)
    assert run(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "weevit.load/1"
    assert found["statuses"] == {"200": 20, "422": 10}
    assert 0 < found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"]
    assert found["images_per_s"] == pytest.approx(20 / found["seconds"], rel=0.02)
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert "20 answers in" in out
    assert "10 x 422" in out
    assert len(server.logged(60, route="/v1/classify")) >= 60  # the server saw them all


def test_without_an_answer_there_are_no_times(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    assert run("--serve", server.url, "--clients", 1, "--requests", 3, "--images", tmp_path) == 1
    out = capsys.readouterr().out
    assert out.startswith("0 answers in ")
    assert out.endswith("3 x 422\n")


def test_images_in_archives_and_lists_are_sent(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        archive.add(tmp_path / "a.png", "a.png")
    (tmp_path / "images.txt").write_text("a.png\n")
    for name in ("images.tar", "images.txt"):
        assert run("--serve", server.url, "--clients", 1, "--requests", 2, "--images", tmp_path / name) == 0
        assert "2 answers in" in capsys.readouterr().out


def test_made_images_are_real_ones(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--serve", server.url, "--clients", 1, "--requests", 8) == 0
    assert "8 answers in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--serve", "http://example.com"], "another machine"),
        (["--serve", "https://127.0.0.1"], "address of a server"),
        (["--serve", "127.0.0.1:8000"], "address of a server"),
        (["--serve", "http://[::1"], "address of a server"),
        (["--serve", "http://127.0.0.1:0"], "address of a server"),
        (["--serve", "http://127.0.0.1:8000", "digits"], "whatever model it has"),
        ([], "One model is measured at a time: none was given"),
    ],
)
def test_what_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert said in capsys.readouterr().err


def test_answers_in_chunks_are_read_whole() -> None:
    """As of servers that do not know how long their answers are."""
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for _ in range(3):  # on one connection
                while self.rfile.readline().strip():
                    pass
                self.rfile.read(4)
                self.wfile.write(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        found = load_test(Target("127.0.0.1", other.server_address[1]), [b"body"], 1, 3)
        other.shutdown()
    assert found.statuses == {"200": 3}


@pytest.mark.parametrize(
    "answer", [b"\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999, b"SSH"]
)
def test_what_is_no_web_server_does_not_answer(answer: bytes) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.rfile.read(4)
            self.wfile.write(answer + b"\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(WeevitError, match="Nothing answers"):
            load_test(Target("127.0.0.1", other.server_address[1]), [b"body"], 1, 2)
        other.shutdown()


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert run("--serve", f"http://127.0.0.1:{port}", "--requests", 3) == 1
    assert "Nothing answers" in capsys.readouterr().err


def test_targets() -> None:
    own = parse_target("http://localhost:81/v2/models/a/infer?x=1", key="k")
    assert (own.host, own.port, own.path) == ("localhost", 81, "/v2/models/a/infer?x=1")
    assert b"Authorization: Bearer k\r\n" in own.head(5)
    assert parse_target("http://[::1]").local
    assert b"Host: [::1]:80\r\n" in parse_target("http://[::1]").head(5)
    assert not parse_target("http://10.0.0.1", remote=True).local
    with pytest.raises(UsageError):
        parse_target("http://127.0.0.1\r\nX: y")


def test_percentiles_of_few() -> None:
    assert Load(1, 1.0, [0.5]).percentile(0.99) == 0.5
    many = Load(1, 2.0, [number / 1000 for number in range(1, 1001)])
    assert many.percentile(0.5) == pytest.approx(0.5, abs=0.002)
    assert many.percentile(0.99) == pytest.approx(0.99, abs=0.002)
    assert many.per_s == 500

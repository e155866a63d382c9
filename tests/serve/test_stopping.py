"""Keys, SIGTERM under load, slow clients, full queues, ports in use: the server among clients that are not kind."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from served import serving

from conftest import data_uri, png

pytest.importorskip("starlette")

from weevit.errors import CorruptImageError
from weevit.serve import explaining
from weevit.serve.addresses import Addresses
from weevit.serve.app import asgi
from weevit.serve.bounds import Bounds
from weevit.serve.keys import read_keys
from weevit.serve.models import Models, _Pace
from weevit.serve.place import is_this_machine
from weevit.serve.problems import ProblemError
from weevit.serve.service import Service

pytestmark = pytest.mark.usefixtures("serve_extra")

KEY = "a-key-of-more-than-sixteen-characters"


def environment(tmp_path: Path) -> dict[str, str]:
    return {"WEEVIT_CACHE": str(tmp_path / "cache"), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


def test_keys_are_asked_for_everywhere_but_at_the_door(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"# two\n{KEY}\nanother-key-of-sixteen-or-more\n")
    with serving("digits", "--api-key-file", tmp_path / "keys", **environment(tmp_path)) as server:
        for path in ("/healthz", "/readyz", "/", "/v2/health/ready"):
            assert server.ask("GET", path).status == 200
        for given in ({}, {"authorization": "Bearer "}, {"authorization": f"Bearer {KEY}x"}, {"x-api-key": "ü"}):
            answer = server.ask("POST", "/v1/classify", png(0), **given)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert server.ask("GET", "/openapi.json", **given).status == 401
        for given in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": "another-key-of-sixteen-or-more"}):
            assert server.ask("POST", "/v1/classify", png(0), **given).status == 200
        assert not [line for line in server.log if KEY in line]
        assert server.stop() == 0


def test_a_comment_is_no_key_wherever_it_begins(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"  # the key of the camera at the door\n\t{KEY}\r\n")
    keys = read_keys(tmp_path / "keys")
    assert keys.has(KEY)
    assert not keys.has("# the key of the camera at the door")


@pytest.mark.parametrize(("host", "local"), [("127.0.0.2", True), ("::1", True), ("0.0.0.0", False), ("::", False)])
def test_which_addresses_other_machines_reach(host: str, local: bool) -> None:
    assert is_this_machine(host) is local


def test_s9_sigterm_under_load_answers_all_that_was_accepted(tmp_path: Path) -> None:
    found: Counter[object] = Counter()
    with serving("digits", **environment(tmp_path)) as server:

        def client() -> None:
            while True:
                try:
                    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
                except OSError:  # no longer listening: not accepted
                    return
                with connection:
                    data = png(1)
                    head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
                    try:
                        connection.sendall(head.encode() + data)
                        found[connection.recv(1 << 16)[9:12]] += 1
                    except OSError:
                        found["reset"] += 1

        clients = [threading.Thread(target=client) for _ in range(8)]
        for one in clients:
            one.start()
        time.sleep(1)
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert server.ask("GET", "/readyz").status == 503  # and still answers, so that balancers notice
        assert server.ask("GET", "/healthz").headers["connection"] == "close"
        code = server.process.wait(10)
        for one in clients:
            one.join(20)
    assert code == 0
    assert time.monotonic() - start < 10
    assert found[b"200"] > 20
    assert set(found) <= {b"200", b"", "reset"}
    assert found[b""] + found["reset"] <= 8  # one each at most, in the moment in which the socket closed


def test_ctrl_c_while_two_threads_import_ends_the_server(tmp_path: Path) -> None:
    """As a KeyboardInterrupt inside a lock of Python's imports it could leave both threads waiting for ever."""
    slow = tmp_path / "sitecustomize.py"
    slow.write_text(
        "import sys, time\n"
        "class Finder:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name == 'weevit.serve.server':\n"
        "            print('importing', file=sys.stderr, flush=True)\n"
        "            try:\n"
        "                time.sleep(10)\n"
        "            except KeyboardInterrupt:\n"  # as in a callback of importlib
        "                time.sleep(10)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    own = {**os.environ, **environment(tmp_path)}
    own["PYTHONPATH"] = os.pathsep.join([str(tmp_path), own["PYTHONPATH"]])
    command = [sys.executable, "-m", "weevit", "serve", "digits", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=own) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line == "importing\n":
                break
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(10) == 130
        finally:
            process.kill()
    assert time.monotonic() - start < 5


def test_what_was_accepted_has_its_deadline_after_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn drops what is not answered in time: after 30 s that was, whatever the deadline."""
    from weevit.serve import server

    configured: list[Any] = []

    async def serve(*given: object) -> None:
        del given

    monkeypatch.setattr(server, "_Server", lambda config, service: configured.append(config))
    monkeypatch.setattr(server, "_serve", serve)
    monkeypatch.setattr(server, "keep_flat", lambda: None)
    service = Service(Bounds(deadline_s=100.5), Addresses([], 1))
    with socket.socket() as unused:
        server.run(service, unused, dict, lambda: None)
    assert configured[0].timeout_graceful_shutdown > 100.5 + 10


def test_s2_slow_clients_are_closed_and_disturb_nobody(tmp_path: Path) -> None:
    with serving("digits", "--quiet", **environment(tmp_path)) as server:
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
        for number, one in enumerate(slow):
            if number % 12 == 5:  # answered before the body comes
                one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc")
            elif number % 12 == 8:
                one.sendall(b"PUT /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: ")
            elif number % 3 == 1:
                one.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nX-A: ")
            elif number % 3 == 2:
                one.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc")
        start = time.monotonic()
        statuses: Counter[int] = Counter()
        open_ones = set(range(60))
        while open_ones and time.monotonic() - start < 12:
            statuses[server.ask("POST", "/v1/classify", png(2)).status] += 1
            for number in sorted(open_ones):
                slow[number].setblocking(False)
                try:
                    if number % 3:
                        slow[number].send(b"x")
                    if slow[number].recv(1 << 16) == b"":
                        open_ones.discard(number)
                except BlockingIOError:
                    pass
                except OSError:
                    open_ones.discard(number)
            time.sleep(0.2)
        assert not open_ones
        assert time.monotonic() - start < 10
        assert set(statuses) == {200}
        for one in slow:
            one.close()


def test_s1_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    big = png(3, 1500, 1500)
    found: Counter[int] = Counter()
    with serving("digits", "--queue", 2, "--quiet", **environment(tmp_path)) as server:

        def client(seed: int) -> None:
            for _ in range(5):
                answer = server.ask("POST", "/v1/classify", big)
                found[answer.status] += 1
                if answer.status == 503:
                    assert answer.json()["type"] == "urn:weevit:busy"
                    assert 1 <= int(answer.headers["retry-after"]) <= 60

        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(12)]
        for one in clients:
            one.start()
        for one in clients:
            one.join(60)
        assert set(found) == {200, 503}
        assert found.total() == 60
        assert server.ask("POST", "/v1/classify", big).status == 200


def test_what_does_not_come_in_time_is_refused_and_asked_again_slowly(tmp_path: Path) -> None:
    """Nobody waits beyond the deadline; a second refusal on a connection comes when Retry-After has passed."""
    file = io.BytesIO()
    Image.new("RGB", (7500, 7500), (9, 99, 200)).save(file, "PNG")
    words = ("digits", "--deadline", 0.1, "--quiet")
    with serving(*words, **environment(tmp_path)) as server, ExitStack() as held:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        held.callback(connection.close)

        def ask(body: bytes) -> tuple[int, float]:
            start = time.monotonic()
            connection.request("POST", "/v1/classify", body)
            answer = connection.getresponse()
            if answer.status == 503:
                problem = json.loads(answer.read())
                assert (problem["type"], answer.headers["retry-after"]) == ("urn:weevit:busy", "1")
            else:
                answer.read()
            return answer.status, time.monotonic() - start

        first, second = ask(file.getvalue()), ask(file.getvalue())
        assert (first[0], second[0]) == (503, 503)
        assert first[1] < 0.9 <= second[1] < 5
        statuses = []
        while 200 not in statuses and len(statuses) < 20:
            statuses.append(ask(png(0))[0])
        assert statuses[-1] == 200


def test_what_is_not_expected_in_time_is_refused_at_once() -> None:
    bounds = Bounds(queue=16, deadline_s=1.0)
    models = Models({}, bounds)
    models._pace.per_image = 0.1
    with models.place(6):  # 0.6 s of 0.8
        models.check_place(1)
        with pytest.raises(ProblemError, match=r"6 images wait; with this request they take about 0.9 s"):
            models.check_place(3)
        models._pace.per_image = 0.01
        with pytest.raises(ProblemError, match=r"6 images wait; the limit is 16"):
            models.check_place(11)
    models.check_place(64)  # nothing waits: it is tried


def test_the_pace_is_that_of_busy_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = _Pace()
    for _ in range(6):  # 0.25 s of work for 5 images, then 10 s of nothing
        pace.work()
        now[0] += 0.25
        pace.count(5)
        pace.rest()
        now[0] += 10
    assert pace.per_image == pytest.approx(0.05)


@pytest.mark.parametrize("failing", [False, True])
def test_work_that_is_no_classification_is_counted(monkeypatch: pytest.MonkeyPatch, failing: bool) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    seen = []

    def draw(models: Models, served: object, source: object) -> tuple[bytes, str]:
        now[0] += 0.5
        seen.append(models)
        if failing:
            raise CorruptImageError("half of it")
        return b"", ""

    monkeypatch.setattr(explaining, "_draw", draw)
    scope = {"type": "http", "method": "POST", "path": "/v1/explain", "query_string": b"", "headers": []}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": png(0)}

    async def send(message: Any) -> None:
        assert message.get("status") in (None, 422 if failing else 200)

    async def explain_ten() -> None:
        app = asgi("digits")
        for _ in range(10):
            await app(dict(scope), receive, send)

    asyncio.run(explain_ten())
    assert seen[0]._pace.per_image == pytest.approx(0.5)


@pytest.mark.parametrize("form", ["bytes", "uri", "embeddings", "explain"])
def test_a_body_is_held_until_its_answer(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    held = []
    app = asgi("digits")
    models = app._service.loaded()
    place = models.place

    def seen(count: int) -> Any:
        held.append(app._service.bodies.held)
        return place(count)

    monkeypatch.setattr(models, "place", seen)
    uri = json.dumps({"input" if form == "embeddings" else "image": data_uri(png(0))}).encode()
    body, media = (uri, b"application/json") if form in ("uri", "embeddings") else (png(0), b"image/png")
    path = f"/v1/{form if form in ('embeddings', 'explain') else 'classify'}"
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [(b"content-type", media)]}
    arriving = iter([{"type": "http.request", "body": body}])

    async def receive() -> dict[str, Any]:
        return next(arriving, None) or await asyncio.Future()

    async def send(message: Any) -> None:
        assert message.get("status") in (None, 200)

    asyncio.run(app(scope, receive, send))
    assert held == [len(body)]
    assert app._service.bodies.held == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_s13_many_large_images_take_no_more_memory_than_one(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (6000, 6000), (9, 99, 200)).save(file, "PNG")
    with serving("digits", "--quiet", **environment(tmp_path)) as server:

        def ask(data: bytes) -> int:
            return server.ask("POST", "/v1/classify", data).status

        assert [ask(file.getvalue()), ask(png(0))] == [200, 200]
        alone = server.peak_mb()
        server.forget_peak()
        with ThreadPoolExecutor(6) as pool:
            large = [pool.submit(ask, file.getvalue()) for _ in range(6)]
            beside = [ask(png(seed)) for seed in range(6)]
        assert [future.result() for future in large] + beside == [200] * 12
        assert server.peak_mb() < alone + 50


def test_who_goes_away_is_not_answered(tmp_path: Path) -> None:
    """Images that nobody waits for any more leave the queue before their turn."""
    data = png(4, 1500, 1500)
    head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with serving("digits", "--metrics", **environment(tmp_path)) as server:
        for _ in range(12):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(head + data)
        statuses: Counter[int] = Counter()
        while statuses.total() < 12:
            time.sleep(0.1)
            statuses = Counter(line["status"] for line in server.lines())
        assert set(statuses) <= {200, 499}
        assert statuses[499] >= 6
        text = server.ask("GET", "/metrics").body.decode()
        assert "weevit_queue_images 0.0" in text
        assert server.ask("POST", "/v1/classify", png(0)).status == 200


def test_one_connection_too_many_is_turned_away(tmp_path: Path) -> None:
    with serving("digits", "--connections", 3, **environment(tmp_path)) as server:
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        time.sleep(0.2)
        with pytest.raises(OSError, match=r"reset|closed|Remote end"):
            server.ask("GET", "/healthz")
        held.pop().close()
        time.sleep(0.2)
        assert server.ask("GET", "/healthz").status == 200
        for one in held:
            one.close()


def test_limits_of_the_command_line_hold(tmp_path: Path) -> None:
    words = ("--max-request", 1, "--max-images", 2, "--max-pixels", 5000)
    with serving("digits", *words, **environment(tmp_path)) as server:
        assert server.ask("POST", "/v1/classify", bytes((1 << 20) + 1)).status == 413
        assert server.ask("POST", "/v1/classify", png(0)).status == 200
        answer = server.ask("POST", "/v1/classify", png(0, 100, 51))
        assert (answer.status, answer.json()["type"]) == (413, "urn:weevit:too_large")
        assert "51 x 100 pixels" in answer.json()["detail"]


def test_faults_of_a_start_have_a_next_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from weevit.cli.app import main

    (tmp_path / "keys").write_text("short\n")
    (tmp_path / "none").write_text("# nothing\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, said in (
            (["--port", port], f"Nothing can listen at 127.0.0.1, port {port}: Address already in use"),
            (["--host", "a..b"], "there is no address of this name.\n--host 127.0.0.1"),
            (["--host", "é" * 80], "there is no address of this name.\n--host 127.0.0.1"),
            (["--host", "192.0.2.1"], "--host 127.0.0.1"),
            (["--host", ""], "an empty one was given.\n--host 127.0.0.1"),
            (["--api-key-file", str(tmp_path / "keys")], "16 characters or more"),
            (["--api-key-file", str(tmp_path / "none")], "has 0"),
            (["--api-key-file", str(tmp_path / "absent")], "cannot be read"),
            (["--allow-urls", "http://a/"], "takes names of hosts"),
            (["--allow-urls", "127.0.0.1"], "takes names of hosts"),
            (["--max-request", "0"], "1 or more"),
            (["a/digits"], "Two models would be called 'digits'"),
        ):
            with pytest.raises(SystemExit) as ended:
                main(["serve", "digits", *words])
            assert ended.value.code == 2, words
            assert said in capsys.readouterr().err


def test_a_model_that_is_not_there_ends_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from weevit.cli.app import main

    with pytest.raises(SystemExit) as ended:
        main(["serve", str(tmp_path / "nothing"), "--port", "0"])
    assert ended.value.code == 1
    assert "nothing does not exist" in capsys.readouterr().err

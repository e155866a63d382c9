"""`/v1/classify` in its three forms, the limits before work, and errors in weevit's words."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import re
import socket
import time
from pathlib import Path

import pytest
from served import Running, multipart, serving

import weevit
from conftest import data_uri, png
from weevit.images.source import Source

PATHS = ("/etc", "/tmp", "/usr", "/home", "site-packages")


def expected(data: bytes, topk: int = 5) -> dict[str, object]:
    from weevit.answers.columns import COMMON, class_columns, json_object

    model = weevit.load("digits", cache=False)
    (result,) = model.stream([Source("image[0]", data)], topk=topk)
    return json.loads(json.dumps(json_object(result, (*COMMON, *class_columns(model.checkpoint, topk)))))


def test_the_three_forms_have_the_answer_of_the_command_line(server: Running) -> None:
    data = png(1)
    body, media = multipart(data, filename="image[0]", topk="3")
    answers = [
        server.ask("POST", "/v1/classify", body, content_type=media),
        server.ask("POST", "/v1/classify?topk=3", data),
        server.ask("POST", "/v1/classify?topk=3", data, content_type="image/png"),
        server.post("/v1/classify", {"images": [data_uri(data)], "topk": 3, "model": "digits"}),
        server.post("/v1/classify", {"image": {"type": "image_url", "image_url": {"url": data_uri(data)}}, "topk": 3}),
    ]
    own = {"model": "digits", "results": [expected(data, 3)]}
    assert [answer.status for answer in answers] == [200] * 5
    assert [answer.json() for answer in answers] == [own] * 5


def test_a_small_answer_is_sent_at_once(server: Running) -> None:
    """Without TCP_NODELAY the body waits 40 ms for the receipt of the head."""
    connection, seconds = http.client.HTTPConnection("127.0.0.1", server.port), []
    for _ in range(21):
        start = time.perf_counter()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        seconds.append(time.perf_counter() - start)
    connection.close()
    assert sorted(seconds)[10] < 0.03


def test_a_bad_image_fails_alone(server: Running) -> None:
    good = [png(seed) for seed in range(3)]
    body, media = multipart(good[0], b"no image", good[1], good[2][:60], good[2], b"")
    answer = server.ask("POST", "/v1/classify", body, content_type=media).json()
    assert [row["status"] for row in answer["results"]] == [
        "ok",
        "decode_error",
        "ok",
        "decode_error",
        "ok",
        "decode_error",
    ]
    for row, data in zip(answer["results"][::2], good, strict=True):
        assert row["probability"] == expected(data)["probability"]
        assert row["error"] is None
    assert answer["results"][1]["error"] == "not an image: The bytes are of no known image format."


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 422, "decode_error"),
        (b"{", {"content_type": "application/json"}, 400, "invalid_request"),
        (b"[]", {"content_type": "application/json"}, 400, "invalid_request"),
        (b'{"images": []}', {"content_type": "application/json"}, 400, "invalid_request"),
        (b'{"images": [1]}', {"content_type": "application/json"}, 400, "invalid_request"),
        (b'{"images": ["cat.jpg"]}', {"content_type": "application/json"}, 400, "invalid_request"),
        (b'{"images": ["file:///etc/passwd"]}', {"content_type": "application/json"}, 400, "addresses_off"),
        (b'{"images": ["http://127.0.0.1/a"]}', {"content_type": "application/json"}, 400, "addresses_off"),
        (b'{"images": ["data:image/png;base64,!"]}', {"content_type": "application/json"}, 422, "decode_error"),
        (b"[" * 100_000, {"content_type": "application/json"}, 400, "invalid_request"),
        (b"--x", {"content_type": "multipart/form-data"}, 400, "invalid_request"),
        (b"--x", {"content_type": "multipart/form-data; boundary=x"}, 400, "invalid_request"),
        (b"x" * 999, {"content_type": f"multipart/form-data; boundary={'x' * 999}"}, 400, "invalid_request"),
        (gzip.compress(b"a", mtime=0), {"content_encoding": "gzip"}, 415, "compressed"),
        (b"a", {"origin": "http://elsewhere.example"}, 403, "other_origin"),
        (b"a", {"origin": "http://[::1"}, 403, "other_origin"),
        (b"a", {"host": "photos.example:8000", "origin": "http://photos.example:8000"}, 403, "other_host"),
        (b"a", {"host": "127.0.0.1.photos.example"}, 403, "other_host"),
        (b"a", {"host": "photos.example."}, 403, "other_host"),
    ],
)
def test_what_is_no_request_is_a_problem(
    server: Running, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = server.ask("POST", "/v1/classify", body, **headers)
    assert (answer.status, answer.json()["type"]) == (status, f"urn:weevit:{code}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "[::1]:80", "127.0.0.2", "a.localhost", "box"])
def test_this_machine_has_many_names(server: Running, host: str) -> None:
    assert server.ask("GET", "/healthz", host=host).status == 200


@pytest.mark.usefixtures("serve_extra")
def test_other_names_are_allowed_by_name_and_with_keys(tmp_path: Path) -> None:
    """With a key, a page that a name server leads here has none; without, it would read the answers."""
    key = tmp_path / "key"
    key.write_text("a-key-of-more-than-sixteen-characters\n")
    with serving("digits", "--allow-host", "Photos.example") as running:
        assert running.ask("GET", "/v1/models", host="photos.example:80").status == 200
        assert running.ask("GET", "/v1/models", host="other.example").status == 403
    with serving("digits", "--api-key-file", key) as running:
        assert running.ask("GET", "/healthz", host="other.example").status == 200


@pytest.mark.parametrize(("query", "status"), [("topk=0", 400), ("topk=x", 400), ("topl=1", 400), ("model=digit", 404)])
def test_settings_are_checked_and_the_nearest_is_named(server: Running, query: str, status: int) -> None:
    answer = server.ask("POST", f"/v1/classify?{query}", png(0))
    assert answer.status == status
    if "=1" in query or "digit" in query:
        assert "Did you mean" in answer.json()["hint"]


@pytest.mark.parametrize("name", ["é.jpg", "写真.jpg", "фото 1.jpg", "🐈.jpg"])
def test_a_name_of_any_script_is_kept(server: Running, name: str) -> None:
    """Browsers and curl send them as UTF-8."""
    body, media = multipart(png(0), png(1), filename=name)
    answer = server.ask("POST", "/v1/classify", body, content_type=media)
    assert [row["input"] for row in answer.json()["results"]] == [name, name]


def test_a_name_may_be_in_the_extended_form(server: Running) -> None:
    """As urllib3 1.26 sends every name that is not ASCII, for requests and others."""
    disposition = b"Content-Disposition: form-data; name=\"image\"; filename*=utf-8''%C3%A9%2F%E5%86%99.jpg"
    body = b"--x\r\n" + disposition + b"\r\n\r\n" + png(0) + b"\r\n--x--\r\n"
    answer = server.ask("POST", "/v1/classify", body, content_type="multipart/form-data; boundary=x")
    assert answer.status == 200, answer.body
    assert [row["input"] for row in answer.json()["results"]] == ["写.jpg"]


@pytest.mark.parametrize("media", ["application/x-www-form-urlencoded", "text/plain", "application/vnd.api+json"])
def test_json_under_another_name_is_told(server: Running, media: str) -> None:
    """`curl -d` without -H says that it sends a form."""
    body = b' \n{"images": ["data:,"]}'
    answer = server.ask("POST", "/v1/classify", body, content_type=media)
    assert answer.status == 400
    assert answer.json()["detail"] == "The body is JSON, and its Content-Type does not say so."
    assert answer.json()["hint"] == "-H 'Content-Type: application/json'"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_base64_may_have_line_ends(server: Running, end: str) -> None:
    """As `base64` and Python's `encodebytes` write it; spaces are none: they stand for plus signs that were lost."""
    data = png(0)
    text = base64.encodebytes(data).decode().replace("\n", end)
    answer = server.post("/v1/classify", {"images": [f"data:image/png;base64,{text}"]})
    assert answer.json()["results"] == [expected(data)]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
    assert server.post("/v2/models/digits/infer", {"inputs": [tensor]}).status == 200
    answer = server.post("/v1/classify", {"images": [f"data:image/png;base64,{text.replace(end, ' ')}"]})
    assert answer.status == 422
    assert "base64" in answer.json()["detail"]


def test_a_setting_is_given_once(server: Running) -> None:
    """One of two would be missed in silence."""
    field = b'--x\r\nContent-Disposition: form-data; name="topk"\r\n\r\n%d\r\n'
    file = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + png(0) + b"\r\n--x--\r\n"
    form = {"content_type": "multipart/form-data; boundary=x"}
    for answer in (
        server.ask("POST", "/v1/classify?topk=1&topk=2", png(0)),
        server.ask("POST", "/v1/classify", field % 1 + field % 2 + file, **form),
        server.ask("POST", "/v1/classify?topk=1", field % 2 + file, **form),
        server.post("/v1/classify?topk=1", {"image": data_uri(png(0)), "topk": 2}),
    ):
        assert (answer.status, answer.json()["type"]) == (400, "urn:weevit:invalid_request")
        assert "'topk' is given more than once" in answer.json()["detail"]
    for path, body in (
        ("/v1/embeddings?model=other", {"input": data_uri(png(0))}),
        ("/v2/models/digits/infer?topk=1", {"inputs": []}),
    ):
        assert "stands in the body" in server.post(path, body).json()["detail"]


def test_addresses_of_other_things_are_problems_too(server: Running) -> None:
    assert server.ask("GET", "/nothing").json()["type"] == "urn:weevit:unknown_address"
    answer = server.ask("GET", "/v1/classify")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert server.ask("POST", "/v1/classify/../../etc/passwd", b"a").status == 404


def test_s6_a_path_in_a_name_reads_nothing(server: Running) -> None:
    names = ["../../../../etc/passwd", "..\\..\\boot.ini", "/etc/shadow", "a\x1b[2Jb\u202ec.png", "x" * 3000]
    for name in names:
        body, media = multipart(png(2), filename=name.replace("\n", ""))
        answer = server.ask("POST", "/v1/classify", body, content_type=media)
        shown = answer.json()["results"][0]["input"]
        assert answer.status == 200
        assert "/" not in shown
        assert "\\.." not in shown
        assert shown.isprintable()
        assert len(shown) < 300
    for name in ("../digits", "/etc/passwd", "digits/../../x", "%2e%2e%2fdigits"):
        assert server.ask("POST", f"/v1/classify?model={name}", png(2)).status == 404
        assert server.ask("GET", f"/v2/models/{name}").status == 404


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("apart", [0, 60, 400])
def test_an_offer_of_another_protocol_loses_no_body(server: Running, chunked: bool, apart: int) -> None:
    """As Java's client and `curl --http2` send it; `apart`: bytes that come before the others."""
    image = png(7)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(image)
    head = b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(image), image) if chunked else image
    request = head + b"HTTP2-Settings: AAMAAABkAAQ\r\n%s\r\n\r\n%s" % (framing, body)
    alive = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request[:apart])
        time.sleep(0.1)
        connection.sendall(request[apart:] + alive + last)
        answers = b"".join(iter(lambda: connection.recv(1 << 16), b"")).split(b"HTTP/1.1 ")[1:]
    assert [own[:3] for own in answers] == [b"200"] * 3
    assert json.loads(answers[0].partition(b"\r\n\r\n")[2]) == server.ask("POST", "/v1/classify", image).json()


def test_a_large_request_is_refused_before_it_is_read(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 10737418240\r\n\r\n")
        answer = client.recv(1 << 16)
    assert b" 413 " in answer
    assert b"connection: close" in answer.lower()


def test_endless_chunks_end_after_the_limit(server: Running) -> None:
    """And with the answer read, not with a connection that is reset."""
    before, sent, answer = server.memory_mb(), 0, b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < 200 << 20:
                client.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
                sent += 1 << 16
        except OSError:
            pass
        answer = client.recv(1 << 16)
    assert b" 413 " in answer
    assert sent < 64 << 20  # the limit is 32 MB, and the network's buffers hold some
    assert server.memory_mb() - before < 80


def test_a_body_that_is_too_long_is_answered_as_soon_as_it_is_sent(server: Running) -> None:
    """Clients that send first and read then get the answer, and do not wait for it."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert server.ask("POST", "/v1/classify", bytes(63 << 20)).status == 413
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


def test_a_head_without_end_and_no_request_at_all(server: Running) -> None:
    for words, status in (
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000, b" 431 "),
        (b"\x16\x03\x01\x02\r\n\r\n", b" 400 "),
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(words)
            answer = client.recv(1 << 16)
            assert status in answer
            assert b"application/problem+json" in answer


@pytest.mark.parametrize("length", [16_000, 20_000, 100_000])
def test_the_length_of_a_head_has_a_limit_however_it_comes(server: Running, length: int) -> None:
    answer = server.ask("GET", "/healthz", x_long="x" * length)
    assert answer.status == (200 if length < 16 << 10 else 431)


@pytest.mark.parametrize(
    ("behind", "status"),
    [
        (b"\0no request\r\n\r\n", b"400"),
        (b"X: " + b"x" * 40_000, b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", b"431"),
    ],
)
def test_what_is_no_request_is_refused_behind_the_answer_before_it(
    server: Running, behind: bytes, status: bytes
) -> None:
    body = png(8)
    request = b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request + request + behind)
        answers = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert re.findall(rb"HTTP/1.1 (\d+) ", answers) == [b"200", b"200", status]


def test_s14_no_answer_and_no_log_line_has_bytes_paths_or_control_characters(server: Running) -> None:
    texts = []
    for data in (
        b"\x1b]0;x\x07" * 9,
        png(1)[:-30],
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        b"BM" + bytes(99),
        b"GIF89a\0",
    ):
        body, media = multipart(data, filename="/etc/\x1b[2Jpasswd")
        texts.append(server.ask("POST", "/v1/classify", body, content_type=media).body.decode())
    texts.append(server.ask("GET", "/%1b%5b2J/etc/passwd?a=%0d%0aSet-Cookie:x").body.decode())
    texts.append(server.ask("POST", "/v1/classify?model=%1b%5b2J", b"a").body.decode())
    server.ask("GET", "/healthz")
    time.sleep(0.2)
    texts += server.log
    assert len(texts) > 10
    for text in texts:
        assert re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f]*", text), text
        assert not any(word in text for word in PATHS), text
    assert not any("\\x" in text for text in texts[:5])


def test_a_line_in_the_log_says_what_was_done_and_not_with_what(server: Running) -> None:
    body, media = multipart(png(3), png(4), filename="secret-name.png")
    server.ask("POST", "/v1/classify", body, content_type=media)
    server.ask("GET", "/secret-address")
    line = server.logged(images=2, bytes=len(body))[-1]
    assert set(line) == {"time", "method", "route", "status", "ms", "images", "bytes", "model"}
    assert (line["route"], line["status"], line["bytes"], line["model"]) == ("/v1/classify", 200, len(body), "digits")
    assert not [one for one in server.log if "secret" in one]


def test_every_answer_has_the_headers_of_a_careful_server(server: Running) -> None:
    for answer in (server.ask("GET", "/"), server.ask("GET", "/nothing"), server.ask("POST", "/v1/classify", png(0))):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "server" not in answer.headers


def test_metrics(server: Running) -> None:
    server.ask("POST", "/v1/classify", png(0))
    server.ask("POST", "/v1/classify", png(0)[:50])
    text = server.ask("GET", "/metrics").body.decode()
    assert re.search(r'weevit_requests_total\{route="/v1/classify",status="200"\} [1-9]', text)
    assert re.search(r'weevit_image_errors_total\{kind="(truncated|corrupt)"\} [1-9]', text)
    for stage in ("decode", "wait", "compute"):
        assert re.search(rf'weevit_stage_seconds_count\{{model="digits",stage="{stage}"\}} [1-9]', text)
    assert re.search(r'weevit_batch_images_count\{model="digits"\} [1-9]', text)
    assert "weevit_queue_images 0.0" in text


def test_ready_and_alive(server: Running) -> None:
    assert server.ask("GET", "/healthz").body == b"ok\n"
    assert server.ask("GET", "/readyz").body == b"ready\n"
    assert server.ask("GET", "/v1/models").json()["data"][0]["id"] == "digits"

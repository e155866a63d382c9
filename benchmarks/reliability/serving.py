"""Rows S1 to S7, S9 to S11 and S13 to S15 of the scorecard in full: the server among clients that are not kind.

    python benchmarks/reliability/serving.py [S1 S2 ...]

Short versions stand in `tests/serve`. Each row starts `weevit serve` in a process of its own and speaks to it over
loopback. Needs the shared data, and for S10 schemathesis.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "tests/support"), str(ROOT / "tests/serve")]

import common  # noqa: E402
from decoding import make_bombs  # noqa: E402
from served import Running, serving  # noqa: E402

import weevit  # noqa: E402
from weevit.serve.load import Load, Target, load_test  # noqa: E402

Outcome = tuple[bool, str]


def photos(count: int) -> list[bytes]:
    return [path.read_bytes() for path in common.photos(count)]


def load(server: Running, images: list[bytes], clients: int, requests: int) -> Load:
    return load_test(Target("127.0.0.1", server.port), images, clients, requests)


@dataclass
class Measured:
    """What `weevit bench --serve` found, and the CPU seconds of both sides."""

    found: dict[str, Any]
    server_s: float
    clients_s: float

    @property
    def answers(self) -> int:
        """How many images were answered."""
        return int(self.found["statuses"].get("200", 0))


def bench(server: Running, folder: Path, clients: int, requests: int) -> Measured:
    words = ["--serve", server.url, "--images", folder, "--clients", clients, "--requests", requests, "--json"]
    command = [sys.executable, "-m", "weevit", "bench", *map(str, words)]
    before, own = resource.getrusage(resource.RUSAGE_CHILDREN), server.cpu_s()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(json.loads(done.stdout), server.cpu_s() - own, seconds)


def s1() -> Outcome:
    """Overload by 64 clients that come back at once, whatever they are told, in turn with 8, which get what there is.

    The deadline is 2.2 times the latency of one client. A run takes about a minute, so that its end, when few clients
    are left, does not decide. Beside other work the rates are also given per CPU second.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, data in enumerate(photos(200)):
            (folder / f"{number}.jpg").write_bytes(data)
        with serving(common.vit_tiny(), "--quiet") as server:
            p99 = bench(server, folder, 1, 150).found["p99_ms"]
            with serving(common.vit_tiny(), "--deadline", 2.2 * p99 / 1000, "--quiet") as bounded:
                bench(bounded, folder, 8, 50)
                runs = [(bench(server, folder, 8, 1000), bench(bounded, folder, 64, 6500)) for _ in range(3)]
    loads = [load for _, load in runs]
    statuses = sum((Counter(load.found["statuses"]) for load in loads), Counter[str]())
    slowest = statistics.median(load.found["p99_ms"] for load in loads)
    goodput = statistics.median(load.found["images_per_s"] / own.found["images_per_s"] for own, load in runs)
    by_cpu = statistics.median(load.answers / load.server_s * own.server_s / own.answers for own, load in runs)
    good = set(statuses) <= {"200", "503"} and goodput >= 0.9 and slowest / p99 <= 3
    return good, (
        f"64 clients, {sum(statuses.values()):,} requests in {sum(load.found['seconds'] for load in loads):.0f} s: "
        f"{dict(statuses)}; p99 of the accepted {slowest:.0f} ms, {slowest / p99:.1f} times that of one client, "
        f"{p99:.0f} ms (<= 3); answers/s {100 * goodput:.0f} % of what 8 clients get (>= 90), per CPU second "
        f"{100 * by_cpu:.0f} %; the clients took {sum(load.clients_s for load in loads):.0f} CPU seconds"
    )


def s2() -> Outcome:
    """200 slow connections of three kinds beside 8 normal clients."""
    kinds = (
        b"",
        b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nA: ",
        b"POST /v1/classify HTTP/1.1\r\nContent-Length: 99999\r\n\r\na",
    )
    with serving("digits", "--quiet") as server:
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
        for number, one in enumerate(slow):
            one.sendall(kinds[number % 3])
            one.setblocking(False)
        start, left, ended = time.monotonic(), set(range(200)), 0.0
        normal: Counter[str] = Counter()

        def ask() -> None:
            while left:
                normal.update(load(server, photos(20), 8, 100).statuses)

        thread = threading.Thread(target=ask)
        thread.start()
        while left and time.monotonic() - start < 20:
            for number in list(left):
                try:
                    if number % 3:
                        slow[number].send(b"x")
                    if slow[number].recv(65536) == b"":
                        left.discard(number)
                except BlockingIOError:
                    continue
                except OSError:
                    left.discard(number)
            ended = time.monotonic() - start
            time.sleep(0.5)
        remaining = len(left)
        left.clear()
        thread.join()
    good = not remaining and ended <= 10.5 and set(normal) == {"200"}
    return good, f"200 slow connections, the last one closed after {ended:.1f} s (<= 10); normal clients {dict(normal)}"


def _push(server: Running, head: bytes, part: bytes, most: int) -> tuple[bytes, int]:
    """Send a body until nobody takes more; the answer, and the bytes that were taken."""
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(head)
        try:
            while sent < most:
                client.sendall(part)
                sent += len(part)
        except OSError:
            pass
        try:
            return client.recv(65536), sent
        except OSError:
            return b"", sent


def s3() -> Outcome:
    line = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\n"
    chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    attacks = {
        "10 GB declared": (line + b"Content-Length: 10737418240\r\n\r\n", bytes(1 << 16)),
        "endless chunks": (line + b"Transfer-Encoding: chunked\r\n\r\n", chunk),
        "chunks of a byte": (line + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 10_000),
        "a lying length": (line + b"Content-Length: 20\r\n\r\n", bytes(1 << 16)),
    }
    told, good = [], True
    with serving("digits", "--quiet") as server:
        server.ask("POST", "/v1/classify", b"x")
        before = server.memory_mb()
        for name, (head, part) in attacks.items():
            answer, sent = _push(server, head, part, 300 << 20)
            status = answer[9:12].decode() or "closed"
            good &= status in ("413", "422", "400", "closed") and sent < 250 << 20
            told.append(f"{name}: {status} after {sent / 2**20:.0f} MB")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: _push(server, *attacks["endless chunks"], 100 << 20), range(8)))
        time.sleep(1)
        more = server.memory_mb() - before
        good &= more < 50 and server.ask("GET", "/readyz").status == 200
    return good, f"{'; '.join(told)}; 8 at once; memory + {more:.0f} MB after them (< 50)"


def _bombs(at_once: int) -> dict[str, Any]:
    """Each bomb's answer and seconds, one after another, and peaks of memory; small images beside many at once."""
    small = _encoded((40, 40), "PNG")
    with tempfile.TemporaryDirectory() as folder, serving("digits", "--quiet") as server:
        bombs = {name: path.read_bytes() for name, path in make_bombs(Path(folder)).items()}
        server.ask("POST", "/v1/classify", bombs[next(iter(bombs))])
        before, found = server.peak_mb(), []
        peaks = {200: 0.0, 413: 0.0, 422: 0.0}
        for name, data in bombs.items():
            server.forget_peak()
            start = time.perf_counter()
            answer = server.ask("POST", "/v1/classify", data)
            found.append((name, answer.status, time.perf_counter() - start))
            peaks[answer.status] = max(peaks[answer.status], server.peak_mb() - before)
        server.forget_peak()
        waits: list[float] = []
        with ThreadPoolExecutor(at_once) as pool:
            asked = [pool.submit(server.ask, "POST", "/v1/classify", data) for data in bombs.values()]
            while not all(future.done() for future in asked):
                start = time.perf_counter()
                assert server.ask("POST", "/v1/classify", small).status == 200
                waits.append(time.perf_counter() - start)
                time.sleep(0.05)
        same = [future.result().status for future in asked] == [status for _, status, _ in found]
        return {"found": found, "peaks": peaks, "together": server.peak_mb() - before, "waits": waits, "same": same}


def s4() -> Outcome:
    """Small files whose header says more pixels than the limit."""
    size = (20_000, 8_500)
    bombs = {kind: _encoded(size, kind) for kind in ("PNG", "GIF", "JPEG")}
    bombs |= {"TIFF": _encoded(size, "TIFF", compression="group4"), "BMP": _encoded(size, "BMP")[:2000]}
    worst, statuses = 0.0, Counter[int]()
    with serving("digits", "--quiet") as server:
        server.ask("POST", "/v1/classify", bombs["PNG"])
        before = server.peak_mb()
        for data in bombs.values():
            start = time.perf_counter()
            statuses[server.ask("POST", "/v1/classify", data).status] += 1
            worst = max(worst, time.perf_counter() - start)
        more = server.peak_mb() - before
    good = set(statuses) <= {413, 422} and worst < 0.1 and more < 50
    took = f"slowest {1000 * worst:.0f} ms (< 100), memory + {more:.0f} MB (< 50)"
    return good, f"{len(bombs)} bombs of 170 megapixels: {dict(statuses)}, {took}"


def _encoded(size: tuple[int, int], kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("L" if kind == "JPEG" else "1", size).save(file, kind, **options)
    return file.getvalue()


def s13() -> Outcome:
    """The bombs of J11, one after another and 16 at once: many at once cost no more memory than the largest alone."""
    seen = _bombs(16)
    found, peaks = seen["found"], seen["peaks"]
    slow = [(name, seconds) for name, status, seconds in found if status != 200 and seconds > 0.1]
    statuses = Counter(status for _, status, _ in found)
    whole = max(seconds for _, status, seconds in found if status == 200)
    refused, more = max(peaks[413], peaks[422]), seen["together"] - peaks[200]
    good = set(statuses) <= {200, 413, 422} and max(refused, more) < 50 and not slow and seen["same"]
    shown = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in slow) or "none"
    return good, (
        f"{len(found)} bombs: {dict(statuses)} (200: real images within the limit of 64 megapixels, the slowest in "
        f"{whole:.1f} s); refused after more than 100 ms: {shown}; memory + {refused:.0f} MB for the refused (< 50), + "
        f"{peaks[200]:.0f} MB for the largest answered, and {more:+.0f} MB over that 16 at once (< 50), same answers: "
        f"{seen['same']}; {len(seen['waits'])} small images beside them: p50 "
        f"{1000 * statistics.median(seen['waits']):.0f} ms, the slowest {max(seen['waits']):.1f} s"
    )


def _tests(*words: str) -> Outcome:
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", *words], cwd=ROOT, capture_output=True, text=True)
    return done.returncode == 0, re.sub(r" in .*", "", done.stdout.strip().splitlines()[-1])


def s7() -> Outcome:
    """5,000 requests, 32 clients, sizes mixed, 5 % broken: each answer is compared with its image's own."""
    model = weevit.load(common.vit_tiny())
    own = photos(500)
    broken = [data[: len(data) // 3] for data in own[:13]] + [b"no image", b"", bytes(5000)] * 4
    images = own[: 500 - len(broken)] + broken
    expected: list[dict[str, object] | None] = []
    for data in images:
        try:
            (result,) = model.stream([data])
            expected.append(
                {"class_index": [one.index for one in result.top], "p": result.probabilities} if result.ok else None
            )
        except weevit.ImageError:
            expected.append(None)
    wrong: Counter[str] = Counter()
    with serving(common.vit_tiny(), "--quiet") as server:

        def ask(number: int) -> None:
            index = (number * 7919) % len(images)
            answer = server.ask("POST", "/v1/classify", images[index])
            want = expected[index]
            if want is None:
                wrong["broken, and not 422"] += answer.status != 422
                return
            if answer.status != 200:
                wrong[f"good, and {answer.status}"] += 1
                return
            row = answer.json()["results"][0]
            apart = max(abs(a - b) for a, b in zip(row["probability"], want["p"], strict=True))  # type: ignore[call-overload]
            wrong["of another image"] += row["class_index"] != want["class_index"] or apart > 1e-5
            wrong["not to the last digit"] += bool(apart > 1e-7)

        start = time.perf_counter()
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(ask, range(5000)))
        seconds = time.perf_counter() - start
    share = 100 * expected.count(None) / len(expected)
    return (
        not wrong.total(),
        f"5,000 requests, 32 clients, {share:.0f} % broken, {seconds:.0f} s; wrong: {dict(+wrong) or 'none'}",
    )


def s9() -> Outcome:
    own = photos(60)
    with serving(common.vit_tiny(), "--quiet") as server:
        statuses: Counter[str] = Counter()
        thread = threading.Thread(target=lambda: statuses.update(load(server, own, 32, 2000).statuses))
        thread.start()
        time.sleep(4)
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        ready = server.ask("GET", "/readyz").status
        code = server.process.wait(30)
        seconds = time.monotonic() - start
        thread.join()
    lost = {name: count for name, count in statuses.items() if name not in ("200", "ConnectionRefusedError")}
    good = ready == 503 and code == 0 and seconds <= 10 and sum(lost.values()) <= 32
    return good, (
        f"SIGTERM under 32 clients: ready {ready} at once, exit {code} after {seconds:.1f} s (<= 10), "
        f"{statuses['200']:,} answered; connections that ended without an answer: {lost or 'none'}"
    )


def s10() -> Outcome:
    from fuzzing import fuzz

    with tempfile.TemporaryDirectory() as folder:
        index = weevit.index(common.photos(50), Path(folder) / "photos.idx", "digits").folder
        with serving("digits", "--index", index, "--metrics", "--quiet") as server:
            tried, failures = fuzz(f"{server.url}/openapi.json", 500)
    return (
        not failures,
        f"{tried:,} requests made by schemathesis, 500 an operation: {failures[:3] or 'no 5xx, the schema holds'}",
    )


def s11() -> Outcome:
    own = photos(200) + [b"no image"] * 10
    points = []
    with serving("digits", "--quiet") as server:
        for part in range(10):
            start = time.monotonic()
            load(server, own, 16, 2000)
            pid = server.process.pid
            counts = len(list(Path(f"/proc/{pid}/task").iterdir())), len(list(Path(f"/proc/{pid}/fd").iterdir()))
            points.append((time.monotonic() - start, server.memory_mb(), *counts))
            del part
    late = points[3:]
    minutes = sum(seconds for seconds, *_ in late[1:]) / 60
    slope = (late[-1][1] - late[0][1]) / minutes
    threads, files = late[-1][2] - late[0][2], late[-1][3] - late[0][3]
    good = slope <= 1 and threads <= 0 and files <= 0
    shown = ", ".join(f"{memory:.0f}" for _, memory, *_ in points)
    told = f"slope {slope:.1f} MB a minute after 8,000 (<= 1), threads {threads:+d}, files {files:+d}"
    return good, f"20,000 requests: memory {shown} MB; {told}"


QUICK = {
    "S5": ("tests/serve/test_served_addresses.py",),
    "S6": ("tests/serve/test_classify.py", "tests/serve/test_served_search.py", "-k", "s6"),
    "S14": ("tests/serve/test_classify.py", "-k", "s14"),
    "S15": ("tests/serve/test_examples.py", "tests/answers/test_pipeline.py", "-k", "s15"),
}
"""Rows that stand in the tests in full."""

ROWS: dict[str, Callable[[], Outcome]] = {
    "S1": s1, "S2": s2, "S3": s3, "S4": s4, "S7": s7, "S9": s9, "S10": s10, "S11": s11, "S13": s13,
    **{name: partial(_tests, *words) for name, words in QUICK.items()},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"any of {', '.join(ROWS)}; all by default")
    print(f"{time.strftime('%Y-%m-%d')}, {common.instruction_set()}")
    failed = []
    for name in parser.parse_args().rows or ROWS:
        good, said = ROWS[name]()
        print(f"{name:<3} {'holds' if good else 'DOES NOT HOLD'}: {said}", flush=True)
        failed += [] if good else [name]
    sys.exit(json.dumps(failed) if failed else 0)


if __name__ == "__main__":
    main()

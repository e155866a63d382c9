"""What serving costs: `weevit serve` beside `weevit classify`, and beside LitServe and Ray Serve.

    python benchmarks/serving.py latency      # 1 client: p50 over decode + forward in this process, in turn
    python benchmarks/serving.py throughput   # 32 clients beside `weevit classify` on the same photos, in turn
    python benchmarks/serving.py start        # start to ready with a cached graph, and idle memory
    python benchmarks/serving.py peers        # the same load on LitServe and Ray Serve, in turn (needs both, and timm)

ViT-Ti and the shared photos. Everything is measured in turn, A B A B; processor seconds stand beside wall seconds,
since a machine that others use too changes the latter. `--server PYTHON` runs the server in another environment,
`--peers PYTHON` the others' servers.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import common

import weevit
from weevit.serve.load import Load, Target, load_test

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Process:
    """A server in a process of its own, and those that it starts."""

    popen: subprocess.Popen[str]
    port: int
    seconds: float

    def tree(self) -> list[int]:
        """Ids of all its processes."""
        found, waiting = [], [self.popen.pid]
        while waiting:
            own = waiting.pop()
            found.append(own)
            for path in Path(f"/proc/{own}/task").glob("*/children"):
                waiting += map(int, path.read_text().split())
        return found

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        total = 0.0
        for pid in self.tree():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / TICKS
        return total

    def memory_mb(self, key: str = "VmRSS") -> float:
        """Of the first process."""
        text = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(re.search(rf"{key}:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


@contextmanager
def started(words: list[object], ready: str) -> Iterator[Process]:
    """Run a command until the block ends; it is ready when a line matches, whose group is its port."""
    begin = time.perf_counter()
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "weevit-bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled once, as pip does when it installs
    popen = subprocess.Popen(
        [str(word) for word in words],
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    )
    assert popen.stdout is not None
    said = []
    for line in popen.stdout:
        said.append(line)
        if found := re.search(ready, line):
            break
    else:
        sys.exit(f"{words} ended:\n{''.join(said)}")
    process = Process(popen, int(found[1]), time.perf_counter() - begin)
    threading.Thread(target=lambda: [None for _ in popen.stdout or ()], daemon=True).start()
    try:
        yield process
    finally:
        os.killpg(popen.pid, signal.SIGTERM)
        try:
            popen.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()


def children_cpu_s() -> float:
    """Of all processes that were run to their end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def server(python: str, model: Path | None = None) -> list[object]:
    return [python, "-m", "weevit", "serve", model or common.vit_tiny(), "--port", 0, "--quiet"]


READY = r"ready: http://[^ ]+:(\d+)"


def latency(python: str, rounds: int) -> None:
    photos = [path.read_bytes() for path in common.photos() if 85_000 < path.stat().st_size < 115_000][:40]
    model = weevit.load(common.vit_tiny())
    served, offline = [], []
    used = [0.0, 0.0]
    with started(server(python), READY) as process:
        connection = http.client.HTTPConnection("127.0.0.1", process.port)
        for number in range(-2, rounds):
            own, theirs = process.cpu_s(), 0.0
            for photo in photos:
                start, begin = time.perf_counter(), time.process_time()
                model.classify(photo)
                middle, end = time.perf_counter(), time.process_time()
                connection.request("POST", "/v1/classify", photo)
                connection.getresponse().read()
                theirs += end - begin
                if number >= 0:
                    offline.append(middle - start)
                    served.append(time.perf_counter() - middle)
            if number >= 0:
                used[0] += process.cpu_s() - own
                used[1] += theirs
        small = []
        for _ in range(100):
            start = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            small.append(time.perf_counter() - start)
        connection.close()
    over = [1000 * (a - b) for a, b in zip(served, offline, strict=True)]
    asked = f"1 client, {len(photos)} photos of about 100 kB, {len(served)} requests"
    p10s, p50s = ([1000 * statistics.quantiles(own, n=10)[nth] for own in (served, offline)] for nth in (0, 4))
    cpu = [1000 * seconds / len(served) for seconds in used]
    print(
        f"{asked}: p50 {p50s[0]:.1f} ms, offline (decode + forward) {p50s[1]:.1f} ms, p50 over offline "
        f"{p50s[0] - p50s[1]:.1f} ms, median of the differences pair by pair {statistics.median(over):.1f} ms; to "
        f"reach <= 3 ms. p10 {p10s[0]:.1f} ms over {p10s[1]:.1f} ms. CPU time per request: server {cpu[0]:.1f} ms, "
        f"offline {cpu[1]:.1f} ms. /healthz on the same connection: p50 {1000 * statistics.median(small):.1f} ms"
    )


def throughput(python: str, rounds: int, count: int, clients: int) -> None:
    paths = common.photos(count)
    photos = [path.read_bytes() for path in paths]
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    loads: list[Load] = []
    out = Path(tempfile.mkdtemp()) / "out.csv"
    words = [python, "-m", "weevit", "classify", "-m", common.vit_tiny(), "-q", "-o", out, *paths]
    with started(server(python), READY) as process:
        target = Target("127.0.0.1", process.port)
        load_test(target, photos, clients, 2 * clients)
        for _ in range(rounds):
            before, start = children_cpu_s(), time.perf_counter()
            subprocess.run([str(word) for word in words], check=True, stderr=subprocess.DEVNULL)
            theirs.append((time.perf_counter() - start, children_cpu_s() - before))
            server_cpu, client_cpu = process.cpu_s(), time.process_time()
            loads.append(load_test(target, photos, clients, count))
            cpu = process.cpu_s() - server_cpu, time.process_time() - client_cpu
            ours.append((loads[-1].seconds, cpu[0]))
            print(
                f"    classify {theirs[-1][0]:.1f} s ({theirs[-1][1]:.1f} CPU s), serve {ours[-1][0]:.1f} s "
                f"({cpu[0]:.1f} CPU s, and {cpu[1]:.1f} of the clients), {dict(loads[-1].statuses)}",
                flush=True,
            )
    wall = statistics.median(b / a for (a, _), (b, _) in zip(ours, theirs, strict=True))
    cpu_ratio = statistics.median(b / a for (_, a), (_, b) in zip(ours, theirs, strict=True))
    best = max(loads, key=lambda one: one.per_s)
    expected = clients / best.per_s
    print(
        f"{clients} clients, {count} photos, {rounds} rounds: {best.per_s:.1f} images/s at best; over `weevit "
        f"classify` {wall:.2f} by wall, {cpu_ratio:.2f} by processor seconds (to reach >= 0.95); p99 "
        f"{best.percentile(0.99):.2f} s, {best.percentile(0.99) / expected:.2f} times {clients} images / throughput"
    )


def start(python: str, rounds: int) -> None:
    seconds, cpu, memory = [], [], []
    for number in range(rounds + 1):
        with started(server(python), READY) as process:
            used = process.cpu_s()
            time.sleep(1)
            if number:
                cpu.append(used)
                seconds.append(process.seconds)
                memory.append(process.memory_mb())
    print(
        f"start to ready {min(seconds):.2f} s at best, median {statistics.median(seconds):.2f} s of {rounds}, "
        f"{statistics.median(cpu):.2f} s of processor time (to reach <= 0.8 s); idle "
        f"{statistics.median(memory):.0f} MB (to reach <= 150 MB)"
    )


PEERS = ("litserve-timm", "litserve-onnx", "ray-onnx")


def peers(given: argparse.Namespace) -> None:
    """One server at a time, in turn."""
    photos = [path.read_bytes() for path in common.photos(given.count)]
    script = HERE / "peers" / "servers.py"
    commands: dict[str, list[object]] = {"weevit": server(given.server)}
    if given.int8:
        commands["weevit-int8"] = server(given.server, given.int8)
    ours = tuple(commands)
    commands |= {name: [given.peers, script, name, common.vit_tiny()] for name in given.names}
    found: dict[str, list[Load]] = {name: [] for name in commands}
    for number in range(given.rounds):
        for name, words in commands.items():
            with started(words, READY) as process:
                forms = name.startswith("litserve")
                target = Target("127.0.0.1", process.port, "/v1/classify" if name in ours else "/predict")
                target = replace(target, media="multipart/form-data; boundary=b" if forms else "")
                bodies = list(map(form, photos)) if forms else photos
                load_test(target, bodies, given.clients, 2 * given.clients)
                before = process.cpu_s()
                load = load_test(target, bodies, given.clients, given.count)
                found[name].append(load)
                print(
                    f"    round {number + 1}: {name:<14} {load.per_s:6.1f} images/s, p50 {load.percentile(0.5):.2f} s, "
                    f"p99 {load.percentile(0.99):.2f} s, {(process.cpu_s() - before) / given.count * 1000:.1f} CPU ms "
                    f"an image, {dict(load.statuses)}",
                    flush=True,
                )
    for own, name in product(ours, given.names):
        pairs = sorted(a.per_s / b.per_s for a, b in zip(found[own], found[name], strict=True))
        print(f"{own} over {name}: {statistics.median(pairs):.2f} ({pairs[0]:.2f} to {pairs[-1]:.2f})")


def form(data: bytes) -> bytes:
    """A form with one file."""
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head + data + b"\r\n--b--\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("latency", "throughput", "start", "peers"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--server", default=sys.executable)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--names", nargs="+", choices=PEERS, default=PEERS, help="servers beside weevit's")
    parser.add_argument("--int8", type=Path, help="ViT-Ti as `weevit quantize` wrote it, which is served as well")
    given = parser.parse_args()
    runs: dict[str, Callable[[], None]] = {
        "latency": lambda: latency(given.server, given.rounds),
        "throughput": lambda: throughput(given.server, given.rounds, given.count, given.clients),
        "start": lambda: start(given.server, given.rounds),
        "peers": lambda: peers(given),
    }
    print(f"{time.strftime('%Y-%m-%d')}, {common.instruction_set()}, {os.cpu_count()} CPUs, ViT-Ti")
    runs[given.what]()


if __name__ == "__main__":
    main()

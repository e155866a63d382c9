"""weevit on one GPU in under eight minutes: is it correct, and how fast; timm's modules beside it in the same process.

    PYTHONPATH=src python benchmarks/gpu/run.py [--short] [--out FILE.json] [--only correct,inference,...]

`--short` runs every section in miniature on any machine, with or without a GPU; a test does so. What each section
measures, how to read the file and what is to be reached stand in benchmarks/gpu/README.md.

Needed: Python 3.10 or later, torch 2.6 or later, torchvision, timm, numpy, Pillow, scikit-learn, safetensors, onnx, and
filelock and pyyaml, which torch, timm and huggingface_hub bring along. Not needed: onnxruntime, click, rich, jinja2,
matplotlib, tensorboard, pyarrow, the network, shared data. On a machine where one of them is missing and nothing can be
fetched, carry it as a wheel (simplejpeg, once weevit decodes with it):

    pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 \\
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 -d wheels simplejpeg pyyaml filelock
    python -m pip install --no-index --no-deps --find-links wheels --target site simplejpeg    # there
    PYTHONPATH=src:site python benchmarks/gpu/run.py --out benchmarks/gpu/results/h100-2026-12-01.json

Sections run one after the other, each in a process of its own that is ended when its time is up. While the first one
checks numbers, which nothing hurries, two more processes compile for the next two, into the same cache.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from record import Record, Section
from targets import judged, lines

from weevit.store.provenance import provenance

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

SHARES = {"correct": 20, "inference": 30, "training": 28, "feeding": 12, "answering": 10}
"""Section -> its share of the time; what one leaves over, the next ones have."""

WARMED = ("inference", "training")
"""What they compile is compiled ahead, beside `correct`."""

MINUTES, SHORT_MINUTES = 7.6, 40.0
GRACE = 15.0
"""Seconds after its time in which a section may come to an end by itself."""

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "triton",
    "numpy",
    "pillow",
    "scikit-learn",
    "safetensors",
    "onnx",
    "simplejpeg",
)

SMI = (
    "name,driver_version,memory.total,pstate,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,"
    "temperature.gpu,power.draw,power.limit"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="in miniature, on any machine")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="is replaced; default gpu.json")
    parser.add_argument("--only", default=",".join(SHARES), help="sections, separated by commas")
    parser.add_argument("--minutes", type=float, help=f"for all of it; default {MINUTES}")
    parser.add_argument("--section", choices=SHARES, help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=float, default=60.0, help=argparse.SUPPRESS)
    parser.add_argument("--warm", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.section:
        work(args)
        return
    names = args.only.split(",")
    if set(names) - set(SHARES):
        parser.error(f"--only {args.only}: the sections are {', '.join(SHARES)}")
    sys.exit(lead(args, names))


# ---- the process that leads


def lead(args: argparse.Namespace, names: Sequence[str]) -> int:
    """Run the sections; 0 where every one of them came to its end without an error."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended too
    start = time.monotonic()
    total = 60 * (args.minutes or (SHORT_MINUTES if args.short else MINUTES))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.unlink(missing_ok=True)
    record = Record(args.out)
    record.content |= {"short": args.short, "machine": machine()}
    record.write()
    print(json.dumps(record.content["machine"], indent=1), flush=True)
    with tempfile.TemporaryDirectory(prefix="weevit-gpu-") as scratch:
        surroundings = environment(Path(scratch), args.short)
        for place, name in enumerate(names):
            left = total - (time.monotonic() - start)
            budget = left * SHARES[name] / sum(SHARES[other] for other in names[place:])
            with warmers(args, names, surroundings) if name == "correct" else ExitStack():
                run_section(record, name, budget, section_command(args, name, budget), surroundings)
            record.content["targets"] = judged(record.content)
            record.content["seconds"] = round(time.monotonic() - start, 1)
            record.write()
    print("\n".join(lines(record.content)), flush=True)
    return int(any(section["status"] != "ok" for section in record.content["sections"].values()))


def run_section(record: Record, name: str, budget: float, command: list[str], surroundings: dict[str, str]) -> None:
    """One section in a process of its own; whatever becomes of it, the record says so and keeps its figures."""
    record.section(name)["budget_s"] = round(budget, 1)
    record.write()
    print(f"---- {name}: at most {budget:.0f} s", flush=True)
    began = time.monotonic()
    with started(command, surroundings) as process:
        try:
            code = process.wait(budget + (GRACE if budget > GRACE else 0))
        except subprocess.TimeoutExpired:
            code = None
    record.reload()
    entry = record.section(name)
    entry["seconds"] = round(time.monotonic() - began, 1)
    if code is None:
        entry["status"] = "cut off"
    elif entry["status"] == "running" or code:
        entry["status"] = "failed"
        entry["failed"].setdefault("the process", {"error": f"ended with {code}", "at": ""})
    record.write()


@contextmanager
def warmers(args: argparse.Namespace, names: Sequence[str], surroundings: dict[str, str]) -> Iterator[None]:
    """Processes that compile ahead; they end with the block, so that they disturb no measurement."""
    with ExitStack() as stack:
        for name in WARMED:
            if name in names:
                command = [*section_command(args, name, 600.0), "--warm"]
                stack.enter_context(started(command, surroundings, quiet=True))
        yield


def section_command(args: argparse.Namespace, name: str, budget: float) -> list[str]:
    words = [sys.executable, str(HERE / "run.py"), "--section", name, "--budget", str(budget), "--out", str(args.out)]
    return [*words, "--short"] if args.short else words


@contextmanager
def started(command: list[str], surroundings: dict[str, str], quiet: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A process and those that it starts; all are gone when the block ends."""
    out = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(command, env=surroundings, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(scratch: Path, short: bool) -> dict[str, str]:
    """Of every section: weevit from this checkout, one cold cache of compiled code, and what byte equality asks for.

    In a short run each computes with one thread: it must come to its end on a machine that is busy.
    """
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = {"OMP_NUM_THREADS": "1"} if short else {}
    return (
        os.environ
        | threads
        | {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(scratch),
            "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
            "TRITON_CACHE_DIR": str(scratch / "triton"),
            "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
            "TORCHINDUCTOR_AUTOGRAD_CACHE": "1",
            # cuBLAS and PyTorch look for it once, at the process's first matrix product.
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "HF_HUB_OFFLINE": "1",
        }
    )


def machine() -> dict[str, Any]:
    """Card, driver, clocks, versions, processor; what nvidia-smi says is read, nothing is set."""
    words = ["nvidia-smi", f"--query-gpu={SMI}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        card = dict(zip(SMI.split(","), said.split(", "), strict=False))
    except (OSError, subprocess.SubprocessError):
        card = {}
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "card": card or None,
        "precision": "inference: modules in bf16 or fp16; training: float32 weights, bf16 autocast",
        **provenance(PACKAGES),
    }


# ---- the process of a section


def work(args: argparse.Namespace) -> None:
    """Run one section to its end, or compile what it will need."""
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.short and device == "cpu":  # a C++ compiler takes minutes on a busy machine; what is traced is the same
        torch.compile = partial(torch.compile, backend="aot_eager")
    section = Section(Record(args.out), args.section, args.budget, args.short, device, args.warm)
    try:
        importlib.import_module(args.section).run(section)
    except Exception as error:
        section.fail("the section", error)
    section.finish()


def end_with_parent(parent: int) -> None:
    """A section whose leader was killed has nobody left to report to."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()

"""The benchmark for a GPU, in miniature: every section comes to its end and leaves its figures, whatever befalls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import runs

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("sklearn")

pytestmark = [pytest.mark.timeout(900), pytest.mark.long]

GPU = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu"
KINDS = ("serial", "parallel", "differential", "rope")

BARE = """
import sys
from importlib.machinery import PathFinder

ABSENT = {"onnxruntime", "click", "rich", "matplotlib", "tensorboard", "pyarrow", "openvino"}

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else super().find_spec(name, path, target)

sys.meta_path[:] = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
"""
"""A `sitecustomize` that hides what the script's docstring says it does not need."""


def run(out: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GPU / "run.py"), "--short", "--out", str(out), *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=800, check=False, env=os.environ | environment
    )


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What a short run has written and said, on a machine with as few packages as the docstring asks for."""
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "sitecustomize.py").write_text(BARE)
    out = folder / "results" / "found.json"
    done = run(out, PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text()), done.stdout


def figures(short: tuple[dict[str, Any], str], section: str) -> dict[str, dict[str, Any]]:
    entry = short[0]["sections"][section]
    assert (entry["status"], entry["skipped"], entry["failed"]) == ("ok", {}, {})
    assert entry["seconds"] > 0
    return dict(entry["figures"])


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for own in value.values():
            yield from numbers(own)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_the_machine_and_the_targets_are_said(short: tuple[dict[str, Any], str]) -> None:
    content, said = short
    assert content["short"] is True
    assert content["machine"]["versions"]["torch"] == metadata.version("torch")
    assert content["machine"]["machine"]["cores"] == os.cpu_count()
    reached = [row["reached"] for row in content["targets"]]
    assert reached == [None, None, None, None, True, True]
    assert "reached      a stopped and resumed run has the same bytes" in said
    assert all(f"  {name} " in said for name in content["sections"])


def test_correct(short: tuple[dict[str, Any], str]) -> None:
    found = figures(short, "correct")
    wanted = [name for kind in KINDS for name in (kind, f"{kind} twice", f"{kind} compiled")]
    assert set(found) == {"set", "made images", "30 steps", "resume", "resume compiled", *wanted}
    assert all(figure["within"] is True for name, figure in found.items() if name not in ("set", "made images"))
    for kind in KINDS:
        assert 0 < found[kind]["bf16_against_fp32"]["logits"] < 3e-2
        assert set(found[kind]["fp32_against_cpu"]) == {"logits", "embedding", "gradients"}
    for name in ("resume", "resume compiled"):
        assert found[name]["identical"] is True
        assert 1 < found[name]["stopped_at"] < found[name]["steps"]
        assert found[name]["set"]["deterministic_algorithms"] is True
        assert found[name]["set"]["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_inference(short: tuple[dict[str, Any], str]) -> None:
    found = figures(short, "inference")
    assert set(found) == {
        *("matmul peak bf16", "matmul peak fp16"),
        *("pwee bf16 compiled 4", "pwee bf16 eager 1", "pwee fp16 eager 4"),
    }
    assert found["pwee bf16 compiled 4"]["graphs"] == 2, "weevit's and timm's, the same from the host"
    for name, figure in found.items():
        if name.startswith("pwee"):
            assert figure["apart"] < 2e-2
            assert min(numbers(figure["forward"]), default=0) > 0
            assert min(numbers(figure["host"]), default=0) > 0
            assert set(figure["share_of_peak"]) == set(figure["compile_s"]) == {"weevit", "timm"}
        else:
            assert figure["tflops"] > 0


def test_training(short: tuple[dict[str, Any], str]) -> None:
    found = figures(short, "training")
    assert set(found) == {"pwee 4", "pwee 4 eager", "pwee 4 eager, not settled", "pwee largest"}
    for name, figure in found.items():
        sides = {"weevit"} if name == "pwee largest" else {"weevit", "timm"}
        assert set(figure["mfu"]) == set(figure["memory_gb"]) == sides
        assert min(numbers({side: figure[side] for side in sides})) > 0
    assert found["pwee largest"]["batch"] > 4
    assert found["pwee 4"]["kernels_ms"]
    assert found["pwee 4"]["busy_ms"] > 0
    assert found["pwee 4"]["graphs"] == 2


def test_feeding(short: tuple[dict[str, Any], str]) -> None:
    found = figures(short, "feeding")
    assert set(found) == {"made images", "all cores", "end to end"}
    assert 60 < found["made images"]["kilobytes"] < 150
    assert found["all cores"]["images_per_s"] > 0
    assert 0 <= found["end to end"]["data_wait"] <= 1
    assert found["end to end"]["of_step_alone"] > 0


def test_answering(short: tuple[dict[str, Any], str]) -> None:
    found = figures(short, "answering")
    sessions = {f"session {batch}" for batch in (1, 64, 256)}
    assert set(found) == {"rows", "fp32", "files", "files, steady", "decoding", *sessions}
    assert all(found[name]["within"] is True for name in ("rows", "fp32", "files", "files, steady"))
    assert found["fp32"]["apart"] < 1e-5 < found["fp32"]["bf16_apart"] < 5e-2
    for name in (*sessions, "files", "files, steady", "decoding"):
        assert found[name]["images_per_s"] > 0


# ---- sections that go wrong


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GPU))


def write(folder: Path, name: str, body: str) -> list[str]:
    """A section of that body, as a command."""
    path = folder / f"{name}.py"
    text = (
        f"import os, sys, time\nsys.path.insert(0, {str(GPU)!r})\nfrom pathlib import Path\n"
        f"from record import Record, Section\n"
        f"section = Section(Record(Path({str(folder / 'found.json')!r})), {name!r}, 5, True, 'cpu')\n{body}\n"
    )
    path.write_text(text)
    return [sys.executable, str(path)]


ENDS = {
    "raises": ("section.fail('whole', ValueError('no'))\nsection.finish()", "failed", {"whole"}),
    "crashes": ("os.kill(os.getpid(), 11)", "failed", {"the process"}),
    "exits": ("sys.exit(3)", "failed", {"the process"}),
    "hangs": ("time.sleep(600)", "cut off", set()),
    "one figure fails": (
        "section.attempt('b', 0, lambda: 1 / 0)\nsection.attempt('c', 0, lambda: section.figure('c', x=2))\n"
        "section.finish()",
        "failed",
        {"b"},
    ),
    "no time": ("section.attempt('b', 100, lambda: section.figure('b', x=2))\nsection.finish()", "ok", set()),
}


@pytest.mark.usefixtures("beside")
def test_whatever_ends_a_section_its_figures_and_those_of_others_stay(tmp_path: Path) -> None:
    from record import Record
    from run import run_section

    record = Record(tmp_path / "found.json")
    for name, (body, status, failed) in ENDS.items():
        command = write(tmp_path, name, f"section.figure('a', x=1)\n{body}")
        run_section(record, name, 4.0 if name == "hangs" else 60.0, command, dict(os.environ))
        found = json.loads((tmp_path / "found.json").read_text())["sections"]
        assert (name, found[name]["status"]) == (name, status)
        assert set(found[name]["failed"]) == failed
        assert all(found[other]["figures"]["a"] == {"x": 1} for other in found)
    assert found["one figure fails"]["figures"]["c"] == {"x": 2}
    assert "ZeroDivisionError" in found["one figure fails"]["failed"]["b"]["error"]
    assert "may take 100 s" in found["no time"]["skipped"]["b"]


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
@pytest.mark.usefixtures("beside")
def test_a_section_that_is_ended_leaves_no_process_behind(tmp_path: Path) -> None:
    from run import started

    place = tmp_path / "child"
    child = f"import os, time; open({str(place)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with started([sys.executable, "-c", parent], dict(os.environ)):
        runs.wait_for(lambda: bool(place.read_text()))
    runs.wait_for(lambda: not alive(int(place.read_text())))


def alive(process: int) -> bool:
    """Whether it runs; who has ended and was not yet looked after by its parent does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.usefixtures("beside")
def test_targets_are_judged_by_their_figures() -> None:
    from targets import FORWARD, STEP, judged, lines

    forward = {"forward": {"times_timm": 1.25, "weevit": {"images_per_s": 24_000.0}}}
    content: dict[str, Any] = {
        "seconds": 1.0,
        "sections": {
            "inference": entry({FORWARD: forward}),
            "training": entry({STEP: {"times_timm": 1.0, "weevit": {"images_per_s": 9_000.0}}}),
            "correct": entry({"resume": {"identical": False, "within": False}}),
        },
    }
    content["targets"] = judged(content)
    assert [row["reached"] for row in content["targets"]] == [True, False, False, True, False, None]
    said = "\n".join(lines(content))
    assert "OUT OF BOUNDS: resume" in said
    assert "NOT REACHED  pwee, bf16, compiled: forward, images/s, at least 25,000: 2.4e+04" in said


def entry(found: dict[str, Any]) -> dict[str, Any]:
    return {"status": "ok", "seconds": 1.0, "figures": found, "skipped": {}, "failed": {}}


@pytest.mark.usefixtures("beside")
def test_the_largest_batch_is_found_below_one_that_memory_does_not_hold() -> None:
    from training import largest_that_fits

    tried: list[int] = []

    def attempt(batch: int) -> None:
        tried.append(batch)
        if batch > 900:
            raise torch.OutOfMemoryError("no")

    largest_that_fits(1030, attempt)
    assert tried == [1024, 896]
    with pytest.raises(torch.OutOfMemoryError):
        largest_that_fits(4000, attempt)
    with pytest.raises(ZeroDivisionError):
        largest_that_fits(64, lambda batch: 1 / 0)  # type: ignore[arg-type,return-value]

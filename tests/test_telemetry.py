"""Row M14 of the scorecard: during every verb nothing is sent, and nothing is written but what was asked for.

A process with a home folder, a temporary folder and a proxy of its own runs the verbs one after another. Whatever a
dependency would send has to pass the proxy, whatever it would leave behind lands in one of the folders.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import addresses
import pytest

from weevit.telemetry import CACHES

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
OUR_CACHES = (".cache/weevit/", ".cache/huggingface/")
CAT, DIGITS, DIGIT = (str(EXAMPLES / name) for name in ("photos/cat.jpg", "digits", "digits/test/3/0175.png"))
STEPS = ["schedule.epochs=2 steps", "schedule.warmup=1 steps", "schedule.cooldown=0 steps", "loop.batch_size=8"]

CORE = [
    ["--help"],
    ["models"],
    ["info", "digits"],
    ["doctor"],
    ["classify", CAT, "-m", "digits"],
    ["classify", CAT, "-m", "tiny"],  # the hub is not there; nobody else is asked
    ["embed", CAT, "-m", "digits", "-o", "out.npy"],
    ["features", CAT, "-m", "digits", "-o", "out.npz"],
    ["explain", DIGIT, "-m", "digits", "-o", "out.png"],
    ["recipe", "list"],
]
DATA = [
    ["classify", CAT, "-m", "digits", "-o", "job"],
    ["jobs", "status", "job"],
    ["data", "check", DIGITS, "-m", "digits", "-o", "check"],
    ["fit", DIGITS, "-m", "digits", "-o", "fit"],
    ["eval", "fit", f"{DIGITS}/test", "-o", "report"],
    ["compare", "digits", "fit", f"{DIGITS}/test"],
]
OPENVINO = [["classify", CAT, "-m", "digits", "--engine", "openvino"]]
TRAIN = [["train", "digits_micro", "--data", DIGITS, "-o", "run", *STEPS], ["resume", "run"]]

PROGRAM = """
import json, sys, time
begun = time.monotonic()
import weevit
from weevit.cli.app import _run
for words in json.loads(sys.argv[1]):
    print("RAN", words[0], _run(words), flush=True)
time.sleep(max(0, float(sys.argv[2]) - (time.monotonic() - begun)))
"""


def test_nothing_is_sent_and_nothing_left_behind(tmp_path: Path) -> None:
    home, temporary, here = (tmp_path / name for name in ("home", "tmp", "here"))
    for folder in (home, temporary, here):
        folder.mkdir()
    verbs = [*CORE, *DATA, *OPENVINO, *TRAIN]
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG", "SYSTEMROOT")}
    alive = os.environ.get("WEEVIT_TELEMETRY_SECONDS", "0")  # onnxruntime connects after ten seconds
    with addresses.listening() as proxy:
        where = f"http://127.0.0.1:{proxy.port}"
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), where)
        places = {"HOME": str(home), "TMPDIR": str(temporary), "HF_ENDPOINT": "http://127.0.0.1:9"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(verbs), alive],
            env=kept | proxies | places | {"NO_PROXY": "127.0.0.1"},
            cwd=here,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    ran = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("RAN ")]
    assert len(ran) == len(verbs)
    answered = [verb for verb, code in ran if code == "0"]
    assert [verb for verb in ("models", "doctor", "classify", "embed", "explain") if verb not in answered] == []
    for package, verb in (("sklearn", "fit"), ("torch", "train")):
        assert (importlib.util.find_spec(package) is None) == (verb not in answered), done.stderr
    assert proxy.asked == []
    left = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    assert [path for path in left if not path.startswith(OUR_CACHES)] == []
    assert any(path.startswith(OUR_CACHES[0]) for path in left)  # home was looked at in the right place
    assert [str(path) for path in temporary.rglob("*")] == []


@pytest.mark.parametrize("name", ["ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"])
def test_a_setting_of_the_user_holds(name: str) -> None:
    code = f"import weevit, os; print(os.environ['{name}'])"
    for given, seen in (({}, "1"), ({name: "0"}, "0")):
        environment = {key: value for key, value in os.environ.items() if key != name} | given
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert out.stdout.strip() == seen


def test_without_a_cache_dependencies_keep_their_files_in_a_folder_that_ends_with_the_process() -> None:
    code = (
        "import os, sys, weevit.telemetry as t\n"
        "t.keep_caches_in(None)\n"
        "folder = os.path.dirname(os.environ['MPLCONFIGDIR'])\n"
        "print(folder, os.path.isdir(folder), *(os.environ[name] == os.path.join(folder, own)"
        " for name, own in t.CACHES.items()))"
    )
    bare = {name: value for name, value in os.environ.items() if name not in CACHES}
    said = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True).stdout
    folder, *held = said.split()
    assert held == ["True"] * (1 + len(CACHES))
    assert not Path(folder).exists()
    assert Path(folder).is_absolute()

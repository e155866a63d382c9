"""No cache decides over an answer: no home folder, no name for the user, a disk that is full or may only be read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from weevit.engine.cache import GraphCache
from weevit.errors import HubError
from weevit.search.kept import default_cache, kept_folders
from weevit.store.cache import cache_folder
from weevit.store.home import expand_home, home
from weevit.zoo import hub

NAMED = {
    name: own for name, own in os.environ.items() if name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "a.png")
    return tmp_path / "a.png"


def weevit(*words: object, nobody: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command with these variables only; as a user whom no list of users names, if asked for."""
    as_nobody = ["unshare", "--user", "--map-user=12345", "--map-group=12345"] if nobody else []
    command = [*as_nobody, sys.executable, "-m", "weevit", *map(str, words)]
    return subprocess.run(command, env=NAMED | environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def _namespaces() -> None:
    ends = ["unshare", "--user", "--map-user=12345", "true"]
    if shutil.which("unshare") is None or subprocess.run(ends, capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces")


@pytest.mark.usefixtures("_namespaces")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("models",), 0),
        (("info", "digits"), 0),
        (("recipe", "list"), 0),
        (("doctor",), 0),
        (("jobs", "status", "nowhere"), 1),
        (("classify", "a.png", "-m", "digits"), 0),
        (("embed", "a.png", "-m", "digits", "-o", "v.npy"), 0),
        (("classify", "a.png", "-m", "tiny"), 1),
    ],
    ids=lambda own: own[0] if isinstance(own, tuple) else "",
)
def test_a_user_without_a_name_and_a_home(
    image: Path, words: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(image.parent)
    before = sorted(image.parent.iterdir())
    said = weevit(*words, nobody=True, HF_HUB_OFFLINE="1")
    assert said.returncode == code, said.stderr
    assert "mistake of ours" not in said.stderr
    assert said.stderr.count("built graphs are not cached") == (words[0] in ("classify", "embed") and code == 0)
    assert {path.name for path in image.parent.iterdir()} - {path.name for path in before} <= {"v.npy", "v.ids.txt"}


def test_no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr(Path, "expanduser", lambda self: nowhere())
    for name in ("WEEVIT_CACHE", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    assert (home(), cache_folder(), default_cache()) == (None, None, None)
    assert GraphCache().get("a") is None
    assert (GraphCache().entries(), kept_folders()) == ([], [])
    assert expand_home("~/x") == Path("~/x")
    with pytest.raises(HubError, match="no home folder") as caught:
        hub.cache_folder()
    assert "HF_HOME" in caught.value.hint


@pytest.mark.parametrize("limit", [0, 20_000])
def test_a_full_cache_disk(image: Path, tmp_path: Path, limit: int) -> None:
    """The graph cannot be written, or only the beginning of it: the operating system sees to that."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        f"from weevit.cli.app import main; main(['classify', {str(image)!r}, '-m', 'digits'])"
    )
    cache = tmp_path / "cache"
    own = {"WEEVIT_CACHE": str(cache), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}  # or code is cut off, too
    done = subprocess.run([sys.executable, "-c", code], env=NAMED | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "a.png: " in done.stdout
    assert done.stderr.count("built graphs are not cached") == 1
    assert not list(cache.rglob("*.onnx"))


def test_a_cache_that_may_only_be_read(image: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = weevit("classify", image, "-m", "digits", WEEVIT_CACHE=str(tmp_path / "file"), HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("built graphs are not cached") == 1


def test_ctrl_c_says_what_a_folder_would_have_kept(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(300):
        Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "images" / f"{number}.png")
    words = ["classify", str(tmp_path / "images"), "-m", "digits", "--json", "-o", str(tmp_path / "x.csv")]
    with subprocess.Popen(
        [sys.executable, "-m", "weevit", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(2)
        _, said = process.communicate(timeout=60)
    if process.returncode == 0:  # it was done before it heard
        pytest.skip("the machine was too fast")
    assert process.returncode == 130
    assert f"\nNothing was written: {tmp_path / 'x.csv'}" in said  # a line of its own, behind the ^C of a terminal
    assert "\\n" not in said
    assert f"-o {tmp_path / 'x'}" in said
    assert not (tmp_path / "x.csv").exists()

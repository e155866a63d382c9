"""What a hint says can be typed: the name on the index, or where weevit was installed from."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from weevit.errors import MissingExtraError
from weevit.store import extras

SOURCE = Path(extras.__file__).parent


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Pretend that pip recorded something."""
    monkeypatch.undo()  # what every test is told, see conftest

    class Distribution:
        text: str | None = None

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return self.text

    pretended = Distribution()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "distribution", lambda name: pretended)
        yield pretended


def test_from_an_index(installed: Any) -> None:
    for nothing in (None, "", "null", "[]", "{", '{"url": 3}', '{"url": "file:///gone", "dir_info": {}}'):
        installed.text = nothing
        assert extras.install("data") == 'pip install "weevit[data]"'


@pytest.mark.parametrize("name", ["clone", "my clone", "it's", 'a"b', "ünï $HOME `x`"])
@pytest.mark.parametrize("editable", [False, True])
def test_from_a_folder(installed: Any, tmp_path: Path, name: str, editable: bool) -> None:
    folder = tmp_path / name
    folder.mkdir()
    installed.text = json.dumps({"url": folder.as_uri(), "dir_info": {"editable": True} if editable else {}})
    words = shlex.split(extras.install("train"))  # as a shell reads it
    assert words == ["pip", "install", *["-e"] * editable, f"{folder}[train]"]


def test_from_a_repository_or_archive(installed: Any, tmp_path: Path) -> None:
    vcs = {"vcs": "git", "commit_id": "0" * 40, "requested_revision": "main"}
    installed.text = json.dumps({"url": "https://host/weevit.git", "vcs_info": vcs})
    assert extras.install("data") == f'pip install "weevit[data] @ git+https://host/weevit.git@{"0" * 40}"'
    (tmp_path / "weevit-1-py3-none-any.whl").touch()
    address = (tmp_path / "weevit-1-py3-none-any.whl").as_uri()
    installed.text = json.dumps({"url": address, "archive_info": {}})
    assert extras.install("data") == f'pip install "weevit[data] @ {address}"'


def test_not_installed_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    def gone(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "distribution", gone)
        assert extras.install("data") == 'pip install "weevit[data]"'


def test_every_missing_package_says_so_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One function for all hints: no other file spells the command out."""
    for path in SOURCE.rglob("*.py"):
        if path.name not in ("extras.py", "remote.py"):  # whose docstring names it
            assert 'pip install "weevit[' not in path.read_text(encoding="utf-8"), path
    monkeypatch.setattr(extras, "install", lambda extra: f"GET {extra}")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    from weevit.images.parquet import pyarrow

    with pytest.raises(MissingExtraError, match="GET data"):
        pyarrow()

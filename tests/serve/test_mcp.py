"""`weevit mcp` by MCP's own client, over stdio; and folders that nothing leads out of."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import weevit
from conftest import png
from weevit.errors import ImageError, UsageError
from weevit.images.decode import Limits


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Images, links out of the folder, and a secret beside it."""
    photos = tmp_path / "photos"
    for name in ("a", "b"):
        (photos / name).mkdir(parents=True)
        for number in range(3):
            (photos / name / f"{number}.png").write_bytes(png(ord(name) + number))
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n none")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.png").write_bytes(png(9))
    (photos / "link.png").symlink_to(tmp_path / "secret" / "key.png")
    (photos / "away").symlink_to(tmp_path / "secret")
    return photos


def call(place: Path, use: Callable[[Any], Awaitable[None]], *words: str) -> None:
    pytest.importorskip("mcp")
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    command = ["-m", "weevit", "mcp", str(place), *(words or ("-m", "digits"))]
    parameters = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))

    async def run() -> None:
        async with Client(stdio_client(parameters)) as client:
            await use(client)

    asyncio.run(run())


def text(result: Any) -> str:
    return "".join(getattr(part, "text", "") for part in result.content)


def test_mcps_client_sees_what_the_library_sees(place: Path) -> None:
    model = weevit.load("digits", cache=False)

    async def use(client: Any) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"classify", "embed", "explain", "check", "find_duplicates"}
        assert all(tool.annotations.read_only_hint for tool in tools.values())
        assert tools["classify"].output_schema is not None

        found = await client.call_tool(
            "classify", {"paths": ["a", "broken.png", str(place / "b" / "0.png")], "topk": 2}
        )
        rows = found.structured_content["result"]
        assert [row["path"] for row in rows] == ["a/0.png", "a/1.png", "a/2.png", "broken.png", str(place / "b/0.png")]
        assert [row["status"] for row in rows] == ["ok", "ok", "ok", "decode_error", "ok"]
        for row in rows[:3]:
            result = model.classify(place / row["path"], topk=2)
            assert [one["name"] for one in row["classes"]] == list(result.labels)
            assert [one["probability"] for one in row["classes"]] == pytest.approx(result.probabilities, abs=1e-6)

        found = await client.call_tool("embed", {"paths": ["a/0.png"]})
        (row,) = found.structured_content["result"]
        assert row["embedding"] == pytest.approx(model.embed(place / "a/0.png")[0].tolist(), rel=1e-6)

        found = await client.call_tool("explain", {"path": "a/0.png"})
        image, said = found.content
        assert image.mime_type == "image/png"
        assert Image.open(io.BytesIO(base64.b64decode(image.data))).width > 128
        assert said.text.startswith(model.classify(place / "a/0.png").labels[0])

    call(place, use)


def test_mcps_client_searches_an_index(place: Path, tmp_path: Path) -> None:
    index = weevit.index([place / name for name in "ab"], tmp_path / "photos.idx", "digits")

    async def use(client: Any) -> None:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools == {"classify", "embed", "explain", "check", "find_duplicates", "search"}
        found = await client.call_tool("search", {"paths": ["a/0.png"], "k": 3})
        hits = found.structured_content["result"]
        assert [hit["id"] for hit in hits] == [hit.id for hit in index.search(place / "a/0.png", 3)]
        found = await client.call_tool("search", {"paths": [hits[1]["id"]], "unlike": ["b/2.png"], "k": 2})
        expected = index.search(hits[1]["id"], 2, place / "b/2.png")
        assert [hit["id"] for hit in found.structured_content["result"]] == [hit.id for hit in expected]
        for wrong in (
            {"paths": []},
            {"paths": ["broken.png"]},
            {"paths": ["../secret/key.png"]},
            {"paths": ["a"], "k": 0},
        ):
            assert (await client.call_tool("search", wrong)).is_error, wrong

    call(place, use, "--index", str(tmp_path / "photos.idx"))


def test_mcps_client_checks_a_folder(place: Path) -> None:
    for name in ("link.png", "away", "broken.png"):
        (place / name).unlink()
    (place / "b" / "copy.png").write_bytes((place / "a" / "0.png").read_bytes())

    async def use(client: Any) -> None:
        found = await client.call_tool("check", {"folder": "."})
        checked = found.structured_content
        assert (checked["images"], checked["classes"]) == (7, 2)
        assert "copies" in "".join(checked["counts"])
        found = await client.call_tool("find_duplicates", {"folder": "."})
        seen = found.structured_content
        assert (seen["images"], seen["unreadable"], seen["counts"]["copies"]) == (7, 0, 3)
        (group,) = (one for one in seen["copies"] if any(path.endswith("copy.png") for path in one["paths"]))
        assert group["kind"] == "exact"
        assert {Path(path).name for path in group["paths"]} == {"0.png", "copy.png"}
        assert group["spare_bytes"] == (place / "a" / "0.png").stat().st_size

    call(place, use)


def test_mcps_client_gets_nothing_from_elsewhere(place: Path) -> None:
    outside = ["../secret/key.png", "/etc/passwd", "link.png", "away/key.png", str(place.parent / "secret" / "key.png")]

    async def use(client: Any) -> None:
        for path in [*outside, "absent.png", "a/../../secret/key.png", "a\0.png"]:
            for tool, arguments in (("classify", {"paths": [path]}), ("explain", {"path": path})):
                found = await client.call_tool(tool, arguments)
                assert found.is_error, (tool, path)
                assert "root:" not in text(found)
        for folder in (".", "away", "..", "/"):
            assert (await client.call_tool("check", {"folder": folder})).is_error
            assert (await client.call_tool("find_duplicates", {"folder": folder})).is_error
        found = await client.call_tool("classify", {"paths": []})
        assert "A call has 1 to 256 images" in text(found)
        assert (await client.call_tool("classify", {"paths": ["a"], "topk": 0})).is_error
        assert not (await client.call_tool("classify", {"paths": ["a"]})).is_error

    call(place, use)


def test_folders_lead_nowhere_else(place: Path) -> None:
    from weevit.serve.folders import Folders

    own = Folders([place])
    assert own.read("a/0.png", Limits()) == png(ord("a"))
    assert own.images(".") == sorted(["a/0.png", "a/1.png", "a/2.png", "b/0.png", "b/1.png", "b/2.png", "broken.png"])
    for path in ("../secret/key.png", "link.png", "away/key.png", "/etc/passwd", "a/../b/0.png", "a/0.png/x", "\0", ""):
        with pytest.raises(UsageError):
            own.read(path, Limits())
    for path in ("", "\0"):  # before, the first of all images, and a word about `..`
        with pytest.raises(UsageError, match="is no path"):
            own.images(path)
    with pytest.raises(UsageError, match="is a link"):
        own.folder(".")
    assert own.folder("a") == place.resolve() / "a"
    os.mkfifo(place / "pipe.png")
    with pytest.raises(UsageError, match="no plain file"):
        own.read("pipe.png", Limits())
    with pytest.raises(ImageError):
        own.read("a/0.png", Limits(max_bytes=10))
    for wrong in ([], [place / "a" / "0.png"], [place / "absent"]):
        with pytest.raises(UsageError):
            Folders(wrong)


@pytest.mark.usefixtures("serve_extra")
def test_too_many_paths_are_not_all_looked_at(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from weevit.serve.folders import Folders
    from weevit.serve.mcp import MOST, Tools

    asked = []
    monkeypatch.setattr(Folders, "images", lambda self, path: asked.append(path) or [path])
    with pytest.raises(UsageError, match="1 to 256 images; these paths have more"):
        Tools(weevit.load("digits", cache=False), Folders([place])).classify(["a/0.png"] * 10_000)
    assert len(asked) == MOST + 1


def test_a_link_made_in_between_is_not_followed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is exchanged for a link between the opening of its parent and its own."""
    from weevit.serve import folders

    real = os.open

    def exchange(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if path == "a":
            (place / "a").rename(place / "moved")
            (place / "a").symlink_to(place.parent / "secret")
        return real(path, flags, *more, **named)

    (place.parent / "secret" / "0.png").write_bytes(png(9))
    monkeypatch.setattr(folders.os, "open", exchange)
    with pytest.raises(UsageError, match="a link"):
        folders.Folders([place]).read("a/0.png", Limits())

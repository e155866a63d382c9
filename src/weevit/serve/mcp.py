"""Tools over MCP: what a model sees in images of some folders, for programs that call tools.

A tool does one thing, says what it does, and answers with typed results; it reads nothing outside of the folders, and
writes nothing.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weevit._version import __version__
from weevit.answers.results import Array, Result, unit_length
from weevit.arguments import whole
from weevit.errors import ImageError, UsageError, WeevitError
from weevit.images.source import Source
from weevit.predict import Predictor
from weevit.search.index import query_of
from weevit.serve.folders import Folders
from weevit.serve.problems import words
from weevit.serve.searching import Searcher
from weevit.store.extras import needed
from weevit.text import one_line

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from weevit.duplicates.groups import DuplicateGroup

MOST = 256
"""Images per call: an answer has to fit into what a client reads."""

_MOST_FINDINGS = 200


@dataclass(frozen=True)
class Class:
    """A class and its probability, from 0 to 1."""

    name: str
    id: str
    probability: float


@dataclass(frozen=True)
class Classified:
    """The classes of an image, best first; or why there are none.

    `unknown` is true where the model says that no class is likely enough.
    """

    path: str
    status: str
    error: str
    unknown: bool
    classes: list[Class]


@dataclass(frozen=True)
class Embedded:
    """The embedding of an image; empty where `error` says why there is none."""

    path: str
    status: str
    error: str
    embedding: list[float]


@dataclass(frozen=True)
class Similar:
    """An image of the index, and the cosine of its embedding with the search, from -1 to 1."""

    id: str
    similarity: float


@dataclass(frozen=True)
class Group:
    """Images that belong together: kind, why, paths with the one to keep first, and the bytes that can be saved."""

    kind: str
    why: str
    paths: list[str]
    spare_bytes: int


@dataclass(frozen=True)
class Duplicated:
    """Images of a folder that are there more than once.

    `copies` are certain, `moments` are to be looked at: the same moment, or alike. Both have the first 200 groups, and
    `counts` the numbers of all. `unchecked` says what was not looked for.
    """

    images: int
    unreadable: int
    counts: dict[str, int]
    copies: list[Group]
    moments: list[Group]
    unchecked: list[str]


@dataclass(frozen=True)
class Finding:
    """A fault of a set of images: its kind, and what was found."""

    kind: str
    finding: dict[str, Any]


@dataclass(frozen=True)
class Checked:
    """What was found in a folder of images with classes; `findings` has the first 200."""

    images: int
    classes: int
    counts: dict[str, int]
    findings: list[Finding]


class Tools:
    """The tools of a server; their docstrings and types are what clients read.

    Args:
        model: what answers.
        folders: what may be read.
        searcher: searches an index of the model's embedding space; None without one.
    """

    def __init__(self, model: Predictor, folders: Folders, searcher: Searcher | None = None) -> None:
        self._model, self._folders, self._searcher = model, folders, searcher

    def classify(self, paths: list[str], topk: int = 5) -> list[Classified]:
        """Name what is in images: the most probable classes of each, best first.

        Args:
            paths: image files, or folders of images; 256 images at most.
            topk: classes per image.
        """
        whole("topk", topk, 1)
        return [_classified(result) for result in self._stream(paths, ("logits",), topk)]

    def embed(self, paths: list[str], normalize: bool = False) -> list[Embedded]:
        """Vectors of images, to compare and to search them: similar images have a large cosine.

        Args:
            paths: image files, or folders of images; 256 images at most.
            normalize: scale each vector to length 1.
        """
        return [_embedded(result, normalize) for result in self._stream(paths, ("embedding",), 1)]

    def explain(self, path: str) -> tuple[bytes, str]:
        """Draw what the answer to an image rests on: the image beside a heat map, and the best class.

        Args:
            path: an image file.
        """
        from weevit.explain.draw import draw_explanation
        from weevit.explain.relevance import explain_source

        found = explain_source(self._model, self._source(path))
        file, best = io.BytesIO(), found.result.top[0]
        draw_explanation(found, with_heads=False).save(file, "PNG")
        return file.getvalue(), f"{best.name}: {best.probability:.1%}"

    def search(self, paths: list[str], unlike: list[str] | None = None, k: int = 12) -> list[Similar]:
        """Find the images of the index that are most similar to images, the most similar first.

        Args:
            paths: image files to be like; what they have in common is searched. The ids that a search returned are
                taken too.
            unlike: image files, or ids, that results should not be like.
            k: images to find, 256 at most.
        """
        searcher = self._searcher
        assert searcher is not None  # the tool is offered with an index only
        whole("k", k, 1, MOST)
        like, other = self._vectors(searcher, paths), self._vectors(searcher, unlike or [])
        if not like:
            raise UsageError("A search has one image or more.", 'paths=["photo.jpg"]')
        query = query_of(np.stack(like), np.stack(other) if other else None)
        return [Similar(one_line(hit.id), round(hit.score, 6)) for hit in searcher.hits(query, k)]

    def check(self, folder: str, embeddings: bool = False) -> Checked:
        """Find faults in a folder with a subfolder of images per class: broken files, copies, leaks between splits.

        Args:
            folder: the folder.
            embeddings: find labels that look wrong, too; takes about as long as classifying all images.
        """
        from weevit.checking.check import check_data
        from weevit.checking.saved import json_lines

        place = self._folders.folder(folder)
        found = check_data(place, self._model, embeddings=embeddings, limits=self._model.limits)
        lines = [line for line in json_lines(found) if line["kind"] != "summary"]
        findings = [Finding(line["kind"], line["finding"]) for line in lines[:_MOST_FINDINGS]]
        return Checked(len(found.images), len(found.classes), Counter(line["kind"] for line in lines), findings)

    def find_duplicates(self, folder: str, embeddings: bool = False) -> Duplicated:
        """Find images that a folder has more than once: the same, recompressed, scaled, mirrored. Nothing is changed.

        Args:
            folder: the folder; subfolders are looked through, too.
            embeddings: find images cut out of others and images of the same moment, too; takes about as long as
                classifying all images.
        """
        from weevit.duplicates.find import find_duplicates

        found = find_duplicates(
            self._folders.folder(folder), self._model, embeddings=embeddings, limits=self._model.limits
        )
        counts = {"copies": len(found.copies), "moments": len(found.moments)}
        copies, moments = (list(map(_group, own[:_MOST_FINDINGS])) for own in (found.copies, found.moments))
        return Duplicated(found.images, len(found.failures), counts, copies, moments, list(found.unchecked))

    def _vectors(self, searcher: Searcher, names: Sequence[str]) -> list[Array]:
        """Embeddings of ids of the index and of files, in no order."""
        known = {name: searcher.current().vector_of(name) for name in names}
        files = [name for name, vector in known.items() if vector is None]
        results = self._stream(files, ("embedding",), 1) if files else []
        for result in results:
            if not result.ok:
                raise UsageError(f"{result.input} cannot be searched for: {result.error}.")
        found = [*known.values(), *(result.embedding for result in results)]
        return [vector for vector in found if vector is not None]

    def _stream(self, paths: Sequence[str], outputs: Sequence[Any], topk: int) -> list[Result]:
        found = list(islice((image for path in paths for image in self._folders.images(path)), MOST + 1))
        if not 1 <= len(found) <= MOST:
            count = "more" if found else "none"
            raise UsageError(f"A call has 1 to {MOST} images; these paths have {count}.", "Name a smaller folder.")
        return list(self._model.stream(map(self._source, found), outputs, topk=topk))

    def _source(self, path: str) -> Source:
        try:
            return Source(one_line(path), self._folders.read(path, self._model.limits))
        except ImageError as error:
            return Source(one_line(path), error)


def _group(group: DuplicateGroup) -> Group:
    return Group(group.kind, one_line(group.why), [one_line(one.id) for one in group.members], group.spare)


def _classified(result: Result) -> Classified:
    classes = [Class(one.name, one.id or one.name, round(one.probability, 6)) for one in result.top]
    return Classified(result.input, result.status, _error(result), result.unknown, classes)


def _embedded(result: Result, normalize: bool) -> Embedded:
    values = result.embedding
    if values is None:
        return Embedded(result.input, result.status, _error(result), [])
    own = unit_length(values[None])[0] if normalize else values
    return Embedded(result.input, result.status, "", [float(str(value)) for value in own])


def _error(result: Result) -> str:
    return one_line(result.error or "")


def mcp_server(model: Predictor, folders: Folders, index: Path | None = None) -> MCPServer[Any]:
    """The server with its tools; `run("stdio")` runs it.

    Args:
        model: what answers.
        folders: what may be read.
        index: folder of an index to search, of the model's embedding space.

    Raises:
        MissingExtraError: mcp is not installed.
        UsageError: no such index, or of another space.
    """
    library = needed("mcp.server.mcpserver", "mcp", "Tools over MCP need mcp, which is not installed.")
    annotations = needed("mcp_types", "mcp", "Tools over MCP need mcp, which is not installed.").ToolAnnotations
    reads = annotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    searcher = None if index is None else Searcher(index, {"model": model})
    tools, roots = Tools(model, folders, searcher), ", ".join(map(one_line, folders.roots))
    instructions = (
        f"{model.checkpoint.name} looks at images. Paths are relative to {one_line(folders.roots[0])}, or absolute and "
        f"below one of these folders: {roots}."
    )
    server: MCPServer[Any] = library.MCPServer(
        "weevit", version=__version__, instructions=instructions, log_level="ERROR"
    )

    def explain(path: str) -> list[Any]:
        png, said = tools.explain(path)
        return [library.Image(data=png, format="png"), said]

    explain.__doc__ = tools.explain.__doc__
    offered: list[tuple[str, str, Callable[..., Any]]] = [
        ("classify", "Classify images", tools.classify),
        ("embed", "Embed images", tools.embed),
        ("explain", "Explain an answer", explain),
        ("check", "Check a folder", tools.check),
        ("find_duplicates", "Find duplicates", tools.find_duplicates),
    ]
    if searcher is not None:
        offered.append(("search", "Search the index", tools.search))
    for name, title, tool in offered:
        typed = None if name != "explain" else False  # an image is no object
        server.add_tool(_telling(tool), name, title=title, annotations=reads, structured_output=typed)
    return server


def _telling(tool: Callable[..., Any]) -> Callable[..., Any]:
    """The tool; an error is told in weevit's words."""

    @wraps(tool)
    def telling(*given: Any, **named: Any) -> Any:
        try:
            return tool(*given, **named)
        except WeevitError as error:
            said = words(error) if isinstance(error, ImageError) else " ".join(f"{error.message} {error.hint}".split())
            raise needed("mcp.server.mcpserver.exceptions", "mcp", "").ToolError(said) from None

    return telling

"""The embedding space of an index: what made its vectors. Vectors of another space are never compared with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from weevit.errors import CheckpointError, ModelError, UsageError
from weevit.predict import Predictor, load
from weevit.store.folder import differences
from weevit.store.outputs import is_address
from weevit.text import typed
from weevit.zoo import fields
from weevit.zoo.checkpoint import Checkpoint
from weevit.zoo.records import Flag, Name, Text, anything, table, words
from weevit.zoo.resolve import EMBEDDED, needs_fetching
from weevit.zoo.weights import WEIGHTS

MAX_WIDTH = 1 << 14
"""Numbers of a vector."""

_PREPROCESSING = ("height", "width", "crop_pct", "crop_mode", "interpolation", "mean", "std")

_plain = table(words(256), anything, 256)


@dataclass(frozen=True)
class Maker:
    """The model that made the vectors.

    Attributes:
        name: the full tag, for people.
        source: what `weevit.load` takes.
        checkpoint: sha256 of the weights' file.
        backbone: sha256 of all tensors but the head: another head on the same backbone has the same embeddings.
        architecture: the row of the model, as JSON has it.
        preprocessing: size, crop, interpolation, mean, std.
        precision: `fp32`, `bf16` or `int8`.
    """

    name: Text
    source: Text
    checkpoint: Name
    backbone: Name
    architecture: Annotated[dict[str, object], _plain]
    preprocessing: Annotated[dict[str, object], _plain]
    precision: Name


@dataclass(frozen=True)
class Space:
    """What a vector means.

    Attributes:
        width: numbers of a vector.
        normalized: whether vectors were scaled to length 1 before they were given. Cosines do not depend on it;
            classifiers do.
        maker: None where it is not known, as of vectors that were brought along without a model.
    """

    width: Annotated[int, fields.whole(1, MAX_WIDTH)]
    normalized: Flag = False
    maker: Maker | None = None

    def open(self, model: str | Path | None = None, threads: int | None = None) -> Predictor:
        """Load the model that made the vectors, or another one of the same space.

        Args:
            model: as for `weevit.load`; by default the one that is recorded.
            threads: to compute with.

        Raises:
            UsageError: no model is recorded, or `model` is of another space.
            ModelError: the model cannot be loaded.
        """
        maker, size = self.made_with()
        precision: Any = maker.precision
        given = _trusted(maker.source) if model is None else model
        try:
            predictor = load(given, image_size=size, threads=threads, precision=precision)
        except (ModelError, UsageError) as error:
            if model is None:
                raise type(error)(error.message, _MOVED) from error
            raise
        self.check(predictor)
        return predictor

    def recorded(self) -> tuple[str, tuple[int, int], str]:
        """The model that made the vectors: what `weevit.load` takes, height and width, and precision.

        Raises:
            UsageError: none is recorded, or one that is neither published nor on this machine.
            CheckpointError: it lies there no more.
        """
        maker, size = self.made_with()
        return _trusted(maker.source), size, maker.precision

    def made_with(self) -> tuple[Maker, tuple[int, int]]:
        """The maker, and its height and width; UsageError where none is recorded."""
        if self.maker is None:
            raise UsageError(
                "The index does not know the model of its vectors, so that no image can be compared with them.",
                "Make it again with the model's name: weevit index --from VECTORS -m MODEL -o INDEX",
            )
        height, width = (self.maker.preprocessing.get(side) for side in ("height", "width"))
        if not isinstance(height, int) or not isinstance(width, int):
            raise UsageError("The index records no image size.", "Make it again.")
        return self.maker, (height, width)

    def check(self, predictor: Predictor) -> None:
        """Refuse a model whose embeddings are of another space; UsageError with what differs."""
        other = space_of(predictor, self.maker)
        if lines := self._unlike(other):
            raise UsageError(
                f"Embeddings of {predictor.checkpoint.name} cannot be compared with those of the index:\n"
                + "\n".join(lines),
                "Leave out --model, --image-size and --precision: the index knows its own. --like takes a classifier "
                "on the same backbone.",
            )

    def _unlike(self, other: Space) -> list[str]:
        """What makes two spaces differ, in lines; names and places do not, nor does the head."""
        if self.maker is None or other.maker is None:
            return differences({"width": self.width}, {"width": other.width})
        then, now = asdict(self.maker), asdict(other.maker)
        if any(then[name] != now[name] for name in ("backbone", "architecture")):
            return [*differences({"model": then["name"]}, {"model": now["name"]}), "  other weights"]
        compared = ("preprocessing", "precision")
        return differences({name: then[name] for name in compared}, {name: now[name] for name in compared})


def space_of(predictor: Predictor, same: Maker | None = None) -> Space:
    """The space of a loaded model's embeddings.

    Args:
        predictor: a loaded model.
        same: a maker whose backbone need not be hashed again where the weights are the same file.
    """
    checkpoint, seen = predictor.checkpoint, asdict(predictor.preprocessing)
    known = same is not None and same.checkpoint == checkpoint.sha256
    maker = Maker(
        name=checkpoint.name,
        source=_lasting(checkpoint),
        checkpoint=checkpoint.sha256,
        backbone=same.backbone if known and same is not None else _backbone(checkpoint.tensors()),
        architecture=_as_json(asdict(checkpoint.architecture)),
        preprocessing=_as_json({name: seen[name] for name in _PREPROCESSING}),
        precision=predictor.precision,
    )
    return Space(checkpoint.architecture.embed_dim, maker=maker)


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """As it is read back: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(values, sort_keys=True))
    return plain


def _lasting(checkpoint: Checkpoint) -> str:
    """What means the same model in another folder, and for a model that comes with weevit on another machine."""
    if EMBEDDED in checkpoint.path.parents:
        return checkpoint.name
    source = checkpoint.source
    return str(Path(source).absolute()) if not is_address(source) and Path(source).exists() else source


_MOVED = "Name the model, where it lies somewhere else now: -m MODEL, or MODEL alone for weevit serve."


def _trusted(source: str) -> str:
    """The recorded model; CheckpointError where it is gone, UsageError where a stranger's index would have another one
    fetched than a published one."""
    if Path(source).is_absolute() and not Path(source).exists():
        raise CheckpointError(f"The model of the index is not there any more: {source} does not exist.", _MOVED)
    published = {f"hf-hub:{weight.hub_id}" for weight in WEIGHTS}
    if source.partition("@")[0] not in published and needs_fetching(source):
        raise UsageError(
            f"The index names the model {source}, which is not on this machine.", f"-m {typed(source)}   fetches it"
        )
    return source


def _backbone(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(name for name in tensors if not name.startswith("head.")):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()

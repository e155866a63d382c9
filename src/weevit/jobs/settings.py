"""What all rows of a job have in common. One folder holds the answers of one model, in one way, and of no other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any

from weevit._version import __version__
from weevit.answers.columns import Column, metadata
from weevit.arguments import whole
from weevit.engine.choice import DEFAULT
from weevit.errors import JobError, MalformedFileError, UsageError
from weevit.jobs.plan import DATA, PARTS
from weevit.jobs.verbs import VERBS
from weevit.predict import Predictor
from weevit.store.folder import differences
from weevit.store.place import Place
from weevit.zoo import fields
from weevit.zoo.records import MAX_COUNT, Name, Text, anything, parse_record, table, words
from weevit.zoo.strict_json import parse_json_object

JOB = "job.json"
SCHEMA = "weevit.job/4"
_OLD = ("weevit.job/1", "weevit.job/2", "weevit.job/3")
DEFAULT_SHARD_SIZE, MAX_SHARD_SIZE = 512, 1_000_000
MAX_BYTES = 1 << 20

_plain = table(words(256), anything, 256)
_side = fields.whole(1, 1 << 16)


def _seen(value: Any) -> dict[str, Any]:
    """Preprocessing; its size is shown to people, all of it is compared."""
    found: dict[str, Any] = _plain(value)
    for name in ("height", "width"):
        try:
            _side(found.get(name))
        except ValueError as error:
            raise ValueError(f"an object whose {name} is {error}") from None
    return found


Plain = Annotated[dict[str, Any], _plain]
Seen = Annotated[dict[str, Any], _seen]


@dataclass(frozen=True)
class Settings:
    """The contents of `job.json`; a difference in any of them is another job.

    Attributes:
        verb: `classify`, `embed` or `features`.
        options: of the verb: topk; normalize and dtype; layers.
        model: the full tag.
        checkpoint: sha256 of the weights.
        preprocessing: size, crop, interpolation, mean, std, the limit of pixels, whether JPEGs are reduced.
        engine: what computed: `onnxruntime`, `openvino` or `torch`.
        shard_size: inputs in a shard.
        weevit: the version that wrote the rows.
        precision: `fp32` or `bf16`; fp32 where a folder of an earlier version says nothing.
        device: `cpu` or `cuda`; the CPU where a folder of an earlier version says nothing.
    """

    verb: Name
    options: Plain
    model: Text
    checkpoint: Name
    preprocessing: Seen
    engine: Name
    shard_size: Annotated[int, fields.whole(1, MAX_COUNT)]
    weevit: Name = __version__
    precision: Name = DEFAULT.precision
    device: Name = DEFAULT.device

    def preprocessing_hash(self) -> str:
        """sha256 of the preprocessing, 64 hex digits."""
        return hashlib.sha256(json.dumps(self.preprocessing, sort_keys=True).encode()).hexdigest()

    def metadata(self, columns: Sequence[Column]) -> dict[str, str]:
        """What stands in the schema of every shard."""
        return metadata(columns) | {
            "weevit.verb": self.verb,
            "weevit.model": self.model,
            "weevit.checkpoint_sha256": self.checkpoint,
            "weevit.preprocessing": json.dumps(self.preprocessing, sort_keys=True),
            "weevit.preprocessing_sha256": self.preprocessing_hash(),
            "weevit.engine": self.engine,
            "weevit.precision": self.precision,
            "weevit.device": self.device,
            "weevit.version": self.weevit,
            "weevit.options": json.dumps(self.options, sort_keys=True),
            "weevit.normalized": json.dumps(bool(self.options.get("normalize", False))),
        }

    def unlike(self, schema: Any) -> str:
        """The first thing that the Arrow schema of a shard says of another job; empty where there is none."""
        said = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in _metadata(schema)}
        wanted = self.metadata([])
        said = {"weevit.precision": DEFAULT.precision, "weevit.device": DEFAULT.device} | said  # of earlier versions
        other = [name for name in wanted if name not in _BY_COLUMNS and said.get(name) != wanted[name]]
        return other[0].removeprefix("weevit.") if other else ""


_BY_COLUMNS = ("weevit.shapes",)


def _metadata(schema: Any) -> list[tuple[bytes, bytes]]:
    return list((schema.metadata or {}).items())


def settings_of(predictor: Predictor, verb: str, options: dict[str, Any], shard_size: int) -> Settings:
    """The settings of a job with this predictor.

    Raises:
        UsageError: no such verb or option, or an empty shard.
    """
    if verb not in VERBS:
        raise UsageError(f"No job {verb!r}; there are {', '.join(VERBS)}.")
    why, usual = "a shard has at least one row", f"Default: {DEFAULT_SHARD_SIZE}."
    shard_size = whole("shard_size", shard_size, 1, MAX_SHARD_SIZE, why, usual)
    checkpoint = predictor.checkpoint
    return Settings(
        verb=verb,
        options=VERBS[verb].checked(options, predictor),
        model=checkpoint.name,
        checkpoint=checkpoint.sha256,
        preprocessing=json.loads(json.dumps(predictor.pixels_depend_on())),  # as it is read back: tuples are lists
        engine=predictor.engine,
        precision=predictor.precision,
        device=predictor.device,
        shard_size=shard_size,
    )


def read_settings(place: Place) -> Settings:
    """The settings of a folder.

    Raises:
        JobError: no job, one of another schema, or a place that cannot be read.
    """
    path = f"{place}/{JOB}"
    try:
        return parse_record(Settings, place.read(JOB, MAX_BYTES), path, SCHEMA)
    except FileNotFoundError:
        raise JobError(
            f"{place} holds no job: there is no {JOB} in it.", "weevit embed photos/ -o FOLDER   starts one"
        ) from None
    except OSError as error:
        raise JobError(
            f"{path} cannot be read: {error.strerror or error}.",
            "Check its name, whether it may be read and, at an address, connection and credentials.",
        ) from error
    except MalformedFileError as error:
        refuse_old(place)
        raise JobError(
            f"{path} is not a job of the kind {SCHEMA}: {error.message}",
            f"Delete {path} and give the command that wrote it again: rows that fit it are kept.",
        ) from error


def refuse_old(place: Place) -> None:
    """Refuse the folder of an older job, whose columns have other names; up to weevit.job/2 it had no `data/`.

    Raises:
        JobError: it is one; the hint says where its rows are.
    """
    kind = ""
    with suppress(OSError, MalformedFileError):
        kind = str(parse_json_object(place.read(JOB, MAX_BYTES), JOB).get("schema"))
    flat = any(fnmatchcase(name, PARTS) for name in place.names())
    if flat or kind in _OLD:
        raise JobError(
            f"{place} is a job of an older kind ({kind if kind in _OLD else _OLD[-2]}), whose columns have other "
            f"names than those of {SCHEMA}.",
            f"Choose another --output to answer its inputs again. Its rows are in {place}{'' if flat else f'/{DATA}'}, "
            "where every reader of Parquet opens them.",
        )


def refuse_other(place: Place, asked: Settings) -> None:
    """Compare with what stands in the folder.

    Raises:
        UsageError: something differs; the message says what.
    """
    lines = differences(asdict(read_settings(place)), asdict(asked))
    if lines:
        raise UsageError(
            f"{place} holds another job; the answers of two would be mixed:\n" + "\n".join(lines),
            "Give the same settings as before, or another --output.",
        )

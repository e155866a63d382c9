"""What all rows of a job have in common. One folder holds the answers of one model, in one way, and of no other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weevit._version import __version__
from weevit.arguments import whole
from weevit.errors import JobError, UsageError
from weevit.jobs.columns import VERBS, Column
from weevit.predict import Predictor
from weevit.zoo.manifest import replace_file

JOB = "job.json"
SCHEMA = "weevit.job/1"
DEFAULT_SHARD_SIZE, MAX_SHARD_SIZE = 512, 1_000_000


@dataclass(frozen=True)
class Settings:
    """The contents of `job.json`; a difference in any of them is another job.

    Attributes:
        verb: `classify`, `embed` or `features`.
        options: of the verb: topk; normalize and dtype; layers.
        model: the full tag.
        checkpoint: sha256 of the weights.
        preprocessing: size, crop, interpolation, mean, std, the limit of pixels, whether JPEGs are reduced.
        engine: `onnxruntime` or `openvino`.
        shard_size: inputs in a shard.
        weevit: the version that wrote the rows.
    """

    verb: str
    options: dict[str, Any]
    model: str
    checkpoint: str
    preprocessing: dict[str, Any]
    engine: str
    shard_size: int
    weevit: str = __version__

    def preprocessing_hash(self) -> str:
        """sha256 of the preprocessing, 64 hex digits."""
        return hashlib.sha256(json.dumps(self.preprocessing, sort_keys=True).encode()).hexdigest()

    def metadata(self, columns: list[Column]) -> dict[str, str]:
        """What stands in the schema of every shard."""
        return {
            "weevit.verb": self.verb,
            "weevit.model": self.model,
            "weevit.checkpoint_sha256": self.checkpoint,
            "weevit.preprocessing": json.dumps(self.preprocessing, sort_keys=True),
            "weevit.preprocessing_sha256": self.preprocessing_hash(),
            "weevit.engine": self.engine,
            "weevit.version": self.weevit,
            "weevit.options": json.dumps(self.options, sort_keys=True),
            "weevit.normalized": json.dumps(bool(self.options.get("normalize", False))),
            "weevit.shapes": json.dumps({column.name: list(column.shape) for column in columns if column.shape}),
        }


def settings_of(predictor: Predictor, verb: str, options: dict[str, Any], shard_size: int) -> Settings:
    """The settings of a job with this predictor.

    Raises:
        UsageError: no such verb or option, or an empty shard.
    """
    if verb not in VERBS:
        raise UsageError(f"No job {verb!r}; there are {', '.join(VERBS)}.")
    whole(
        "shard_size", shard_size, 1, MAX_SHARD_SIZE, "a shard has at least one row", f"Default: {DEFAULT_SHARD_SIZE}."
    )
    checkpoint = predictor.checkpoint
    return Settings(
        verb=verb,
        options=VERBS[verb].checked(options, predictor),
        model=checkpoint.name,
        checkpoint=checkpoint.sha256,
        preprocessing=json.loads(json.dumps(predictor.pixels_depend_on())),  # as it is read back: tuples are lists
        engine=predictor.engine,
        shard_size=shard_size,
    )


def read_settings(folder: Path) -> Settings:
    """The settings of a folder.

    Raises:
        JobError: no job, or one of another schema.
    """
    path = folder / JOB
    if not path.is_file():
        raise JobError(
            f"{folder} holds no job: there is no {JOB} in it.", "weevit embed photos/ -o FOLDER   starts one"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        return Settings(**content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise JobError(f"{path} is not a job of the kind {SCHEMA}: {error}.") from error


def write_settings(folder: Path, settings: Settings) -> None:
    """Start a job."""
    text = json.dumps({"schema": SCHEMA, **asdict(settings)}, indent=2) + "\n"
    replace_file(folder / JOB, lambda tmp: tmp.write_text(text, encoding="utf-8"))


def refuse_other(folder: Path, asked: Settings) -> None:
    """Compare with what stands in the folder.

    Raises:
        JobError: something differs; the message says what.
    """
    there, wanted = _flat(asdict(read_settings(folder))), _flat(asdict(asked))
    lines = [
        f"  {name}: {_short(there.get(name))} there, {_short(wanted.get(name))} asked for"
        for name in {**wanted, **there}
        if there.get(name) != wanted.get(name)
    ]
    if lines:
        raise JobError(
            f"{folder} holds another job; the answers of two would be mixed:\n" + "\n".join(lines),
            "Give the same settings as before, or another --output.",
        )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Values of options and preprocessing by their own names, so that only what differs is shown."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= {f"{name}.{own}": inner for own, inner in value.items()} if isinstance(value, dict) else {name: value}
    return found


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 300 else text[:300] + "..."

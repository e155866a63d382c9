"""Options that mean the same in every verb, written once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import click

from weevit.arguments import MAX_BATCH, MAX_SEED, MAX_THREADS, one_of, parsed, whole
from weevit.errors import UsageError
from weevit.store.outputs import is_address, local

Verb = TypeVar("Verb", bound=Callable[..., Any])

DEFAULT_MODEL = "vit_pwee_patch16_reg1_gap_256.sbb_in1k"
"""`weevit.zoo.weights.DEFAULT_MODEL`, here so that --help need not read the zoo (a test compares them)."""

ENGINES, PRECISIONS = ("onnxruntime", "openvino", "torch"), ("fp32", "bf16")
DEVICES = ("cpu", "cuda", "auto")
"""Of `weevit.engine.choice`, for the same reason."""

DEFAULT_MAX_PIXELS, DEFAULT_SHARD_SIZE = 64_000_000, 512
"""Of `weevit.images.decode.Limits` and `weevit.jobs.settings`, for the same reason."""


class Whole(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click
    """A whole number within bounds; what is not one is our error, with a next thing to type."""

    name = "integer"

    def __init__(self, low: int, high: int | None = None, why: str = "") -> None:
        self.low, self.high, self.why = low, high, why

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        del ctx
        return whole(_name(param), parsed(value), self.low, self.high, self.why)


class OneOf(click.Choice[str]):
    """One of a few words, which --help lists; another is our error, with the nearest of them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word."""
        del ctx
        return one_of(_name(param), value, self.choices)


class Output(click.Path):
    """A file or folder on this machine."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; an address is refused before anything is loaded."""
        del ctx
        return local(value, _name(param))


class Answers(Output):
    """A file or folder on this machine, or the address of a folder in a bucket."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, or the address as it was given; a file is written on this machine."""
        text = str(value)
        return text if is_address(text) and not PurePosixPath(text).suffix else super().convert(value, param, ctx)


def _name(param: click.Parameter | None) -> str:
    return param.opts[0] if param is not None else "value"


def _permission(allowed: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    """What a flag does: allow addresses of a kind, in this process and in those that it starts."""

    def allow(_context: click.Context, _option: click.Parameter, given: bool) -> None:
        if given and os.environ.get("WEEVIT_ALLOW_URLS") != "private":  # the wider permission holds
            os.environ["WEEVIT_ALLOW_URLS"] = allowed  # `weevit.images.remote.ALLOW_URLS`

    return allow


_ALLOW_URLS = (
    click.option(
        "--allow-urls", is_flag=True, expose_value=False, callback=_permission("public"),
        help="Fetch the addresses that stand in lists and tables, from public hosts.",
    ),
    click.option(
        "--allow-private-urls", is_flag=True, expose_value=False, callback=_permission("private"),
        help="Fetch addresses from this machine and from private networks too.",
    ),
)  # fmt: skip


def allow_urls(verb: Verb) -> Verb:
    """Give a verb that reads lists or tables the permission to fetch the addresses in them."""
    for option in reversed(_ALLOW_URLS):
        verb = option(verb)
    return verb


def inputs(verb: Verb) -> Verb:
    """Give a verb its inputs: files, folders, lists, tables, archives, addresses."""
    return click.argument("inputs", nargs=-1, required=True, metavar="INPUTS...")(allow_urls(verb))


output = click.option("--output", "-o", type=Output(), help="Where to write the answers.")
answers = click.option(
    "--output", "-o", type=Answers(), help="Where to write the answers: a file, or a folder, here or in a bucket."
)
threads = click.option("--threads", type=Whole(1, MAX_THREADS), help="Threads to compute with; chosen by default.")
json_lines = click.option(
    "--json", "json_lines", is_flag=True, help="One JSON object per line on stdout, nothing else."
)
strict = click.option("--strict", is_flag=True, help="Exit with 3 if any input failed.")
quiet = click.option("--quiet", "-q", is_flag=True, help="No progress and no summary.")
verbose = click.option(
    "--verbose", "-v", is_flag=True, expose_value=False, help="Show the traceback of an error."
)  # read by weevit.cli.app, which is where errors end


@dataclass(frozen=True)
class Loading:
    """What a verb that loads a model was told about it; the fields are options of the same name."""

    image_size: str | None
    batch_size: int | None
    threads: int | None
    engine: str | None
    precision: str | None
    device: str
    max_pixels: int
    model: str = DEFAULT_MODEL
    reduced_jpeg: bool = False


_PRECISION = click.option(
    "--precision", type=OneOf(PRECISIONS),
    help="fp32 for timm's numbers, or bf16; by default fp32 on a CPU and bf16 on a GPU.",
)  # fmt: skip
_PRECISION_TO_FIT = click.option(
    "--precision", type=OneOf((*PRECISIONS, "int8")),
    help="fp32 for timm's numbers, bf16, or int8: the backbone is quantised first; by default fp32 on a CPU.",
)  # fmt: skip

_LOADING = (
    click.option(
        "--model", "-m", default=DEFAULT_MODEL, show_default=True,
        help="Alias, full tag, hf-hub:org/name, folder, run folder or .safetensors file.",
    ),
    click.option("--image-size", help="Input side in pixels, or HEIGHTxWIDTH; multiples of 16."),
    click.option(
        "--batch-size", type=Whole(1, MAX_BATCH, "a batch has at least one image"),
        help="Images in one pass; by default 8 on a CPU and 256 on a GPU.",
    ),
    threads,
    click.option(
        "--engine", type=OneOf(ENGINES),
        help="Engine that computes; by default the one for the precision and the device.",
    ),
    _PRECISION,
    click.option(
        "--device", type=OneOf(DEVICES), default="cpu", show_default=True,
        help="Device that computes; auto is CUDA where there is some.",
    ),
    click.option(
        "--max-pixels", type=Whole(1), default=DEFAULT_MAX_PIXELS, show_default=True,
        help="Refuse larger images before decoding them.",
    ),
)  # fmt: skip

_MODEL_OF_INDEX = click.option(
    "--model", "-m", default="",
    help="Alias, full tag, hf-hub:org/name, folder, run folder or .safetensors file; by default that of the index, or "
    f"{DEFAULT_MODEL}.",
)  # fmt: skip

_REDUCED = click.option(
    "--reduced-jpeg", is_flag=True,
    help="Decode large JPEGs at 1/2, 1/4 or 1/8 of their size: faster, slightly other pixels; says what that changes.",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What a verb was told about a folder of results; the fields are options of the same name."""

    shard: str
    shard_size: int
    retry_failed: bool
    on: str | None


_JOB = (
    click.option("--shard", default="1/1", help="With a folder as --output: do this share of the work, as in 3/16."),
    click.option(
        "--shard-size",
        type=Whole(1, 1_000_000),
        default=DEFAULT_SHARD_SIZE,
        show_default=True,
        help="Rows per file, with a folder as --output.",
    ),
    click.option(
        "--retry-failed", is_flag=True, help="Ask again for rows without an answer, with a folder as --output."
    ),
    click.option("--on", metavar="ray[=ADDRESS]", help="Answer on a Ray cluster, with a folder as --output."),
)


def seed(default: int | None = 0, help: str = "Seed of every random draw.") -> Callable[[Verb], Verb]:
    """The option --seed."""
    shown = default is not None
    return click.option("--seed", type=Whole(0, MAX_SEED), default=default, show_default=shown, help=help)


def loading(verb: Verb) -> Verb:
    """Give a verb the options of `Loading`, as one argument of that name."""
    return packed(verb, "loading", Loading, _LOADING)


def loading_to_fit(verb: Verb) -> Verb:
    """Give a verb that fits a head the options of `Loading`, with int8 among the precisions."""
    declared = tuple(_PRECISION_TO_FIT if option is _PRECISION else option for option in _LOADING)
    return packed(verb, "loading", Loading, declared)


def loading_to_answer(verb: Verb) -> Verb:
    """Give a verb that answers the options of `Loading`, and --reduced-jpeg: who learns or judges sees whole images."""
    return packed(verb, "loading", Loading, (*_LOADING, _REDUCED))


def loading_to_index(verb: Verb) -> Verb:
    """Give a verb that makes an index the options of `Loading`; an index that is there has a model of its own."""
    return packed(verb, "loading", Loading, (_MODEL_OF_INDEX, *_LOADING[1:]))


def loading_argument(verb: Verb) -> Verb:
    """Give a verb that acts on a model the options of `Loading`; the model is its first argument."""
    return packed(verb, "loading", Loading, (click.argument("model"), *_LOADING[1:]))


def loading_to_serve(verb: Verb) -> Verb:
    """Give a verb that serves several models the options of `Loading`, all but the model: they are its arguments."""
    return packed(verb, "loading", Loading, _LOADING[1:])


def job(verb: Verb) -> Verb:
    """Give a verb the options of `Job`, as one argument of that name."""
    return packed(verb, "job", Job, _JOB)


def packed(verb: Verb, name: str, kind: type[Any], declared: tuple[Any, ...]) -> Verb:
    """Give a verb the declared options, as one argument: a `kind`, whose fields have their names."""

    @wraps(verb)
    def taking(**arguments: Any) -> Any:
        own = [field.name for field in fields(kind) if field.name in arguments]
        arguments[name] = kind(**{field: arguments.pop(field) for field in own})
        return verb(**arguments)

    for option in reversed(declared):
        taking = option(taking)
    return taking  # type: ignore[return-value]  # takes more options than the verb


def refuse_typed(names: Iterable[str], why: str, hint: str) -> None:
    """Refuse options of the verb that runs, by the names of their arguments, where they would be passed over.

    Raises:
        UsageError: one was typed; `why` is what follows it in the message.
    """
    context, own = click.get_current_context(), set(names)
    for param in context.command.params:
        typed = context.get_parameter_source(param.name or "") is click.core.ParameterSource.COMMANDLINE
        if param.name in own and typed:
            raise UsageError(f"{param.opts[0]} {why}.", hint)


def refuse_job(job: Job, output: Path | None, own: Mapping[str, bool] | None = None) -> None:
    """Refuse what means something with a folder as output only, where there is none: else it would be passed over.

    Args:
        job: what was told about the folder.
        output: a file, or None.
        own: options of the verb that are of the kind -> whether they were given.
    """
    given = {"--shard": job.shard != "1/1", "--shard-size": job.shard_size != DEFAULT_SHARD_SIZE}
    given |= {"--retry-failed": job.retry_failed, "--on": job.on is not None} | dict(own or {})
    for name in (name for name, was_given in given.items() if was_given):
        where = "no --output" if output is None else f"the file {str(output)!r}"
        raise UsageError(f"{name} is for a folder as --output; {where} was given.", "-o answers")


_DEEPEST = 999
_NUMBER = re.compile("[0-9]{1,9}")


def parse_shard(text: str) -> tuple[int, int]:
    """`3/16` -> (3, 16)."""
    worker, _, workers = text.partition("/")
    if not (_NUMBER.fullmatch(worker) and _NUMBER.fullmatch(workers)):
        raise UsageError(f"--shard is two numbers, as in 3/16: {text[:60]!r} was given.", "--shard 1/2")
    return int(worker), int(workers)


def parse_image_size(text: str | None) -> int | tuple[int, int] | None:
    """`320` -> 320, `256x320` -> (256, 320): height first."""
    if text is None:
        return None
    from weevit.zoo.fields import check_side

    words = text.lower().split("x")
    if len(words) > 2 or not all(_NUMBER.fullmatch(word) for word in words):
        raise UsageError(
            f"--image-size is a number or HEIGHTxWIDTH: {text[:60]!r} was given.", "For instance 320 or 256x320."
        )
    sides = [check_side(int(word), "--image-size") for word in words]
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def parse_layers(text: str | None) -> list[int] | None:
    """`5,10,15` -> [5, 10, 15]; negative numbers count from the end."""
    if text is None:
        return None
    try:
        return [whole("--layers", parsed(word), -_DEEPEST, _DEEPEST) for word in text.split(",")]
    except UsageError:
        raise UsageError(
            f"--layers is a list of block numbers: {text[:60]!r} was given.", "For instance 5,10,15."
        ) from None

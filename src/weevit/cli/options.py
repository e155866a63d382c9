"""Options that mean the same in every verb, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weevit.errors import UsageError

DEFAULT_MODEL = "vit_pwee_patch16_reg1_gap_256.sbb_in1k"
"""The same as `weevit.zoo.weights.DEFAULT_MODEL`, here so that --help need not read the zoo (a test compares them)."""

DEFAULT_MAX_PIXELS = 64_000_000
"""The same as `weevit.images.decode.Limits`, for the same reason."""

Inputs = Annotated[list[str], typer.Argument(help="Pictures and folders (recursive).", show_default=False)]
Model = Annotated[
    str,
    typer.Option("--model", "-m", help="Alias, full tag, hf-hub:org/name, folder, run folder or .safetensors file."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to write the answers.", show_default=False)]
ImageSize = Annotated[
    str | None,
    typer.Option("--image-size", help="Input side in pixels, or HEIGHTxWIDTH; multiples of 16.", show_default=False),
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Images in one pass.")]
Threads = Annotated[
    int | None, typer.Option("--threads", help="Threads to compute with; chosen by default.", show_default=False)
]
Engine = Annotated[str, typer.Option("--engine", help="onnxruntime, or openvino where it is installed.")]
MaxPixels = Annotated[int, typer.Option("--max-pixels", help="Refuse larger pictures before decoding them.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout, nothing else.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 3 if any input failed.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Answers and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show tracebacks.")]


def parse_image_size(text: str | None) -> int | tuple[int, int] | None:
    """`320` -> 320, `256x320` -> (256, 320): height first."""
    if text is None:
        return None
    words = text.lower().split("x")
    if len(words) > 2 or not all(word.isdecimal() for word in words):
        raise UsageError(
            f"--image-size is a number or HEIGHTxWIDTH: {text!r} was given.", "For instance 320 or 256x320."
        )
    sides = [int(word) for word in words]
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def parse_layers(text: str | None) -> list[int] | None:
    """`5,10,15` -> [5, 10, 15]; negative numbers count from the end."""
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--layers is a list of block numbers: {text!r} was given.", "For instance 5,10,15.") from None

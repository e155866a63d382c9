"""Compare the tensors of a file with those of an architecture: strictly, and all differences at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from weevit.errors import CheckpointError, TensorMismatchError
from weevit.text import signed
from weevit.zoo.architectures import ARCHITECTURES, PATCH, Architecture
from weevit.zoo.config import ModelConfig
from weevit.zoo.labels import imagenet_labels
from weevit.zoo.layout import Shape, from_timm_name, tensor_shapes
from weevit.zoo.quantized import expected_tensors, holds_quantized
from weevit.zoo.safetensors_file import FLOAT_DTYPES, Entry
from weevit.zoo.weights import BY_NAME, find_weight

_SHOWN = 12
"""Lines of each kind in the error: enough to see the pattern on one screen."""


def check_tensors(
    header: Mapping[str, Entry],
    arch: Architecture,
    num_classes: int,
    grid: tuple[int, int],
    in_chans: int,
    where: str,
) -> None:
    """Refuse missing (-), unexpected (+) and different (~) tensors; a TensorMismatchError lists them all."""
    expected: dict[str, tuple[Sequence[str], Shape]]
    if holds_quantized(header):
        own = expected_tensors(header, arch, num_classes, grid, in_chans)
        expected = {name: ((dtype,), shape) for name, (dtype, shape) in own.items()}
    else:
        shapes = tensor_shapes(arch, num_classes, grid, in_chans)
        expected = {name: (FLOAT_DTYPES, shape) for name, shape in shapes.items()}
    found: dict[str, Entry] = {}
    unexpected = []
    for entry in header.values():
        name = from_timm_name(entry.name, arch)
        if name not in expected:
            unexpected.append(f"{entry.name} {list(entry.shape)}")
        elif name in found:
            unexpected.append(f"{entry.name} (a second {name}, beside {found[name].name})")
        else:
            found[name] = entry
    missing = [f"{name} {list(shape)}" for name, (_, shape) in expected.items() if name not in found]
    wrong = [line for name, entry in found.items() for line in _differences(name, entry, *expected[name])]
    differences = {"-": missing, "+": unexpected, "~": wrong}
    if any(differences.values()):
        head = f"head of {num_classes} classes" if num_classes else "no head"
        raise TensorMismatchError(
            f"{where} does not hold {arch.name} ({grid[0]} x {grid[1]} patches, {head}): {len(missing)} tensors are "
            f"missing (-), {len(unexpected)} unexpected (+), {len(wrong)} of another shape or dtype (~).\n"
            + "\n".join([line for sign, names in differences.items() for line in signed(sign, names, _SHOWN)])
        )


def _differences(name: str, entry: Entry, dtypes: Sequence[str], shape: Shape) -> Iterator[str]:
    if entry.shape != shape:
        yield f"{name}: {list(entry.shape)}, expected {list(shape)}"
    if entry.dtype not in dtypes:
        yield f"{name}: {entry.dtype}, expected {'' if len(dtypes) == 1 else 'one of '}{', '.join(dtypes)}"


def tensor_shape(header: Mapping[str, Entry], name: str) -> Shape | None:
    """The shape of a tensor outside the blocks, whose name has one spelling apart from wrapper words, or None."""
    any_row = next(iter(ARCHITECTURES.values()))
    return next((entry.shape for entry in header.values() if from_timm_name(entry.name, any_row) == name), None)


def fitting_grid(
    header: Mapping[str, Entry], arch: Architecture, sizes: Iterable[tuple[int, int]]
) -> tuple[int, int] | None:
    """The patch grid of the first (height, width) in pixels that the learned positions fit; None where none does."""
    grids = [(height // PATCH, width // PATCH) for height, width in sizes]
    shape = tensor_shape(header, "pos_embed")
    if arch.position == "rope" or shape is None or len(shape) != 3:
        return grids[0]  # nothing to fit; if the table is missing where one belongs, `check_tensors` will say so
    patches = shape[1] - (arch.num_prefix if arch.embeds_prefix else 0)
    return next(((rows, columns) for rows, columns in grids if rows * columns == patches), None)


def infer_config(header: Mapping[str, Entry], file: Path) -> ModelConfig:
    """The configuration of a bare `.safetensors` file, from its tensors alone.

    The file's own name counts where it is a full tag (`architecture.tag.safetensors`); otherwise the preprocessing is
    that of the architecture's default weight, and no class names are assumed.

    Raises:
        CheckpointError: no architecture, or several, have these tensors, or none of its weights was published, so that
            the preprocessing is unknown.
    """
    head, patch = tensor_shape(header, "head.weight"), tensor_shape(header, "patch_embed.proj.weight")
    num_classes = head[0] if head else 0
    in_chans = patch[1] if patch and len(patch) == 4 else 3
    matches = [row for row in _variants() if _fits(header, row, num_classes, in_chans)]
    if len(matches) != 1:
        raise _no_match(header, matches, file)
    arch = matches[0]
    named = BY_NAME.get(file.stem)
    weight = named if named and named.architecture.name == arch.name else find_weight(arch.name)
    if weight is None or in_chans not in (1, 3):
        raise CheckpointError(
            f"{file} is a {arch.name}, but without a config.json nothing says how its images are prepared.",
            "Put the config.json of the model beside it.",
        )
    is_published = weight is named and num_classes == weight.num_classes
    return ModelConfig(
        architecture=arch,
        norm=arch.norm,
        weight=weight,
        is_published=is_published,
        num_classes=num_classes,
        in_chans=in_chans,
        img_size=(arch.img_size, arch.img_size),
        preprocessing=weight.preprocessing,
        labels=imagenet_labels(num_classes) if is_published else None,
        license=weight.license if is_published else None,
        notes=(f"no config.json: architecture read off the tensors, preprocessing that of {weight.name}",),
        raw={},
    )


def _variants() -> Iterator[Architecture]:
    """Every row, and each with a class token also with average pooling, which changes a tensor's name."""
    for row in ARCHITECTURES.values():
        yield row
        if row.class_token:
            yield replace(row, pool="avg", norm="after_pool")


def _fits(header: Mapping[str, Entry], arch: Architecture, num_classes: int, in_chans: int) -> bool:
    shapes = {from_timm_name(entry.name, arch): entry.shape for entry in header.values()}
    return shapes == tensor_shapes(arch, num_classes, None, in_chans)


def _no_match(header: Mapping[str, Entry], matches: list[Architecture], file: Path) -> CheckpointError:
    if matches:
        what = f"can be any of {', '.join(row.name for row in matches)}"
    else:
        width = tensor_shape(header, "patch_embed.proj.bias")
        near = [row.name for row in ARCHITECTURES.values() if (row.embed_dim,) == width]
        what = "has the tensors of none of the architectures in their native size"
        what += f"; of the same width are {', '.join(near)}" if near else ", nor the width of one"
    return CheckpointError(
        f"{file} has no config.json beside it, and {what}.",
        "Put the config.json of the model beside it.",
    )

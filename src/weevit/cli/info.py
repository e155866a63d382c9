"""`weevit info`: one model in full."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from weevit.cli import options
from weevit.cli.console import say, say_json


@click.command()
@click.argument("model")
@options.json_lines
def info(model: str, json_lines: bool) -> None:
    """Show one model in full.

    Architecture, costs, preprocessing, classes, licence and published figures.

    MODEL is an alias, a full tag, an architecture, a folder or a .safetensors file.

    A published model is described from weevit's own table: nothing is downloaded.
    """
    facts = describe(model)
    if json_lines:
        say_json(facts)
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            say(f"{key}")
            for name, item in value.items():
                say(f"  {name:<30} {_plain(item)}")
        else:
            say(f"{key:<32} {_plain(value)}")


def describe(model: str) -> dict[str, Any]:
    """Everything known about a model, as plain data."""
    from weevit.zoo.architectures import ARCHITECTURES
    from weevit.zoo.weights import find_weight

    weight = find_weight(model)
    if weight is None and model in ARCHITECTURES:  # the one architecture without published weights
        row = ARCHITECTURES[model]
        return {"name": row.name, "published": "no weights", "architecture": asdict(row), "costs": _costs(row, 1000)}
    if weight is None or weight.embedded:
        return _describe_checkpoint(model)
    return {
        "name": weight.name,
        "alias": weight.alias or None,
        "hub": weight.hub_id,
        "license": weight.license,
        "num_classes": weight.num_classes,
        "architecture": asdict(weight.architecture),
        "costs": _costs(weight.architecture, weight.num_classes),
        "preprocessing": asdict(weight.preprocessing),
        "published_top1": weight.top1,
        "published_top1_top5": {name: list(pair) for name, pair in weight.metrics.items()},
    }


def _describe_checkpoint(model: str) -> dict[str, Any]:
    from weevit.zoo.resolve import resolve

    checkpoint = resolve(model)
    return {
        "name": checkpoint.name,
        "source": checkpoint.source,
        "sha256": checkpoint.sha256,
        "license": checkpoint.license,
        "num_classes": checkpoint.num_classes,
        "class_names": "yes" if checkpoint.labels else "none",
        "architecture": asdict(checkpoint.architecture),
        "costs": _costs(checkpoint.architecture, checkpoint.num_classes, checkpoint.grid),
        "preprocessing": asdict(checkpoint.preprocessing),
        "decision": asdict(checkpoint.decision) if checkpoint.decision else "the likeliest class",
        "quantization": asdict(checkpoint.quantization) if checkpoint.quantization else None,
        "notes": list(checkpoint.notes),
    }


def _costs(architecture: Any, num_classes: int, grid: tuple[int, int] | None = None) -> dict[str, Any]:
    from weevit.zoo.counts import count

    counts = count(architecture, num_classes, grid)
    return {
        "params": counts.params,
        "gmacs": round(counts.gmacs, 3),
        "gmacs_without_attention": round(counts.gmacs_linear, 3),
        "mactivations": round(counts.mactivations, 3),
        "mactivations_without_attention": round(counts.mactivations_linear, 3),
    }


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "none" if value is None else str(value)

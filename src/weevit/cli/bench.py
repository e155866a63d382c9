"""`weevit bench`: how fast a model is on this machine, every engine, precision and device in turn."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from weevit.arguments import MAX_BATCH, parsed, whole
from weevit.cli import options
from weevit.cli.card import bench_search, search_option
from weevit.cli.console import say, say_json, tell
from weevit.cli.load import LoadOptions, bench_server, load_options
from weevit.errors import UsageError
from weevit.text import counted

if TYPE_CHECKING:
    from weevit.engine.bench import Bench, Speed
    from weevit.engine.choice import Way

SCHEMA = "weevit.bench/1"

MODEL, SEARCH, SERVE = "MODEL", "--search", "--serve"
OPTIONS_OF = {
    **dict.fromkeys(("batch", "rounds", "image_size"), (MODEL,)),
    "threads": (MODEL, SEARCH),
    "labelled": (SEARCH,),
    **dict.fromkeys(("clients", "requests", "images", "api_key_file", "allow_remote"), (SERVE,)),
}
"""An option -> the measurements that it is of; what is not here is of all."""


@click.command()
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option("--batch", default="1,8,64", show_default=True, help="Batch sizes, with commas between.")
@click.option("--rounds", type=options.Whole(1, 10_000), default=8, show_default=True, help="Turns of each way.")
@click.option("--image-size", help="Input side in pixels, or HEIGHTxWIDTH; multiples of 16.")
@options.threads
@search_option
@load_options
@options.json_lines
@options.verbose
def bench(
    models: tuple[str, ...],
    batch: str,
    rounds: int,
    image_size: str | None,
    threads: int | None,
    labelled: str | None,
    json_lines: bool,
    load: LoadOptions,
) -> int:
    """Measure MODEL with every engine, precision and device here.

    They are measured in turn, and one is recommended.

    Random pixels, without decoding. Ratios are those of each round to onnxruntime in fp32, by wall and by processor
    seconds. The bound is onnxruntime's fastest matrix product at the model's shapes with as many threads.

    With --search DATA, measure how well each MODEL finds images of the same class instead: mean average precision,
    recall, time and the size of an index, in a row per model.

    With --serve, put a server that runs under load instead, and measure its answers.
    """
    refuse_others(MODEL if load.serve is labelled is None else SEARCH if load.serve is None else SERVE)
    if load.serve is not None:
        if models:
            raise UsageError(
                f"--serve measures a server, whatever model it has: {models[0]} was given too.", "Leave it out."
            )
        return bench_server(load, json_lines)
    if labelled is not None:
        return bench_search(labelled, models, threads, json_lines)
    if len(models) != 1:
        given = f"{len(models)} were given" if models else "none was given"
        raise UsageError(
            f"One model is measured at a time: {given}.",
            "weevit bench pwee, or weevit bench --serve http://127.0.0.1:8000",
        )
    (model,) = models
    from weevit.engine.bench import bench as measure
    from weevit.engine.session import Request
    from weevit.engine.threads import choose_threads
    from weevit.zoo.resolve import resolve

    sizes = parse_batches(batch)
    side = options.parse_image_size(image_size)
    chosen = choose_threads(threads)
    checkpoint = resolve(model)
    spec = checkpoint.preprocessing
    height, width = (spec.height, spec.width) if side is None else (side, side) if isinstance(side, int) else side
    if not json_lines:
        tell(f"measuring {checkpoint.name}: {counted(rounds, 'round')} of each batch size ...")
    found = measure(checkpoint, Request(height, width), sizes, rounds, chosen)
    facts = {"model": checkpoint.name, "sha256": checkpoint.sha256, "height": height, "width": width}
    facts |= {"threads": chosen.count, "threads_reason": chosen.reason}
    if json_lines:
        say_json({"schema": SCHEMA, **facts, **as_json(found)})
        return 0
    plural = "" if chosen.count == 1 else "s"
    size = f"{height}" if height == width else f"{height} x {width}"
    on = f"{found.instruction_set}, {chosen.count} thread{plural} ({chosen.reason})"
    say(f"{checkpoint.name} · {size} px · {on} · {counted(found.rounds, 'round')} · {found.date}", *table(found))
    return 0


def refuse_others(asked: str) -> None:
    """Refuse options of another measurement than the one that is asked for: they would be passed over."""
    for name, of in OPTIONS_OF.items():
        if asked not in of:
            those = " and ".join(f"`bench {kind}`" for kind in of)
            options.refuse_typed([name], f"is for {those}, and `bench {asked}` was asked for", "Leave it out.")


def parse_batches(text: str) -> list[int]:
    """`1,8,64` -> [1, 8, 64], each once, in order.

    Raises:
        UsageError: no such list.
    """
    try:
        sizes = {whole("--batch", parsed(word), 1, MAX_BATCH) for word in text.split(",")}
    except UsageError as error:
        raise UsageError(f"--batch is a list of batch sizes: {error.message}", "--batch 1,8,64") from None
    return sorted(sizes)


def table(found: Bench) -> list[str]:
    """Lines for people; the last one recommends."""
    from weevit.engine.choice import DEFAULT

    lines = [f"{'batch':>5}  {'computed by':<22} {'images/s':>9} {'wall ms':>9} {'CPU ms':>9}  faster: wall, CPU"]
    for bound in found.bounds:
        for one in (speed for speed in found.speeds if speed.batch == bound.batch):
            times = f"{one.images_per_s:>9.1f} {1e3 * one.wall_s:>9.2f} {1e3 * one.cpu_s:>9.2f}"
            faster = "the default" if one.way == DEFAULT else f"{one.wall}, {one.cpu}{_apart(one)}"
            lines.append(f"{one.batch:>5}  {one.way!s:<22} {times}  {faster}")
        said = f"{bound.gflops:.0f} GFLOP/s in onnxruntime's MatMul, {bound.shape}"
        lines.append(f"{'':>5}  {'bound in fp32':<22} {bound.images_per_s:>9.1f}  {said}")
    lines += [f"not here: {way}: {why}" for way, why in found.absent.items()]
    return [*lines, recommendation(found)]


def _apart(one: Speed) -> str:
    if one.way.precision != "fp32":
        return f"; {one.apart:.0e} apart"
    return "" if one.keeps_its_promise else f"; NOT EQUAL: {one.apart:.0e} apart"


def recommendation(found: Bench) -> str:
    """The one line that a measurement ends with."""
    from weevit.engine.choice import DEFAULT

    best = found.recommended
    words = " ".join(filter(None, [best.way.options(), f"--batch-size {best.batch}"]))
    plain = best.way.precision == "fp32"
    numbers = found.numbers if plain else f"{best.way.precision}, {best.apart:.0e} apart from {found.numbers}"
    faster = "" if best.way == DEFAULT else f", {best.wall.median:.2f} times the default"
    return f"recommended: {words}   {best.way}, {best.images_per_s:.1f} images/s{faster}; {numbers}"


def as_json(found: Bench) -> dict[str, Any]:
    """All of it as plain data."""
    best = found.recommended
    return {
        "date": found.date,
        "instruction_set": found.instruction_set,
        "rounds": found.rounds,
        "numbers": found.numbers,
        "speeds": [_plain(one) for one in found.speeds],
        "bounds": [asdict(one) for one in found.bounds],
        "absent": [{**_named(way), "why": why} for way, why in found.absent.items()],
        "recommended": {**_named(best.way), "batch": best.batch, "options": best.way.options()},
    }


def _plain(one: Speed) -> dict[str, Any]:
    values = {name: value for name, value in asdict(one).items() if name != "way"}
    return {**_named(one.way), **values, "keeps_its_promise": one.keeps_its_promise}


def _named(way: Way) -> dict[str, str]:
    return {"engine": way.engine, "precision": way.precision, "device": way.device}

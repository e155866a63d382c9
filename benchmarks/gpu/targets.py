"""What is to be reached on an H100 or better, and whether a record says so."""

from __future__ import annotations

from typing import Any, NamedTuple

FORWARD, STEP = "pwee bf16 compiled 1024", "pwee 256"


class Target(NamedTuple):
    """A figure and the least that it should be; True for what has to hold."""

    name: str
    wanted: float | bool
    section: str
    figure: str
    path: tuple[str, ...]


TARGETS = (
    Target("pwee, bf16, compiled: forward, times timm", 1.2, "inference", FORWARD, ("forward", "times_timm")),
    Target(
        "pwee, bf16, compiled: forward, images/s", 25_000, "inference", FORWARD, ("forward", "weevit", "images_per_s")
    ),
    Target("pwee, training step, times timm", 1.2, "training", STEP, ("times_timm",)),
    Target("pwee, training step, images/s", 8_500, "training", STEP, ("weevit", "images_per_s")),
    Target("a stopped and resumed run has the same bytes", True, "correct", "resume", ("identical",)),
    Target("a compiled run, stopped and resumed, too", True, "correct", "resume compiled", ("identical",)),
)


def judged(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Each target with what was found; `reached` is None where the figure is not there."""
    rows = []
    for target in TARGETS:
        found = content["sections"].get(target.section, {}).get("figures", {}).get(target.figure)
        for key in target.path:
            found = found.get(key) if isinstance(found, dict) else None
        reached = None if found is None else bool(found >= target.wanted)
        rows.append({"target": target.name, "wanted": target.wanted, "found": found, "reached": reached})
    return rows


def lines(content: dict[str, Any]) -> list[str]:
    """For people: how each section ended, what is wrong, and the targets."""
    said = ["", f"sections, {content['seconds']:.0f} s in all"]
    for name, entry in content["sections"].items():
        said.append(
            f"  {name:<10} {entry['status']:<8} {entry['seconds']:6.1f} s  {len(entry['figures'])} figures, "
            f"{len(entry['skipped'])} skipped, {len(entry['failed'])} failed"
        )
        said += [f"      failed: {what}: {found['error'][:160]}" for what, found in entry["failed"].items()]
        figures = entry["figures"].items()
        said += [f"      OUT OF BOUNDS: {what}" for what, found in figures if found.get("within") is False]
    said.append("targets" + (" (a short run does not measure most of them)" if content.get("short") else ""))
    words = {True: "reached", False: "NOT REACHED", None: "not measured"}
    for row in content["targets"]:
        found = "" if row["found"] is None else f": {row['found']:,.4g}" if row["wanted"] is not True else ""
        least = "" if row["wanted"] is True else f", at least {row['wanted']:,}"
        said.append(f"  {words[row['reached']]:<12} {row['target']}{least}{found}")
    return said

"""What a run of the GPU benchmark leaves: one JSON file, written whole after every figure.

    {"schema": ..., "short": ..., "machine": {...},
     "sections": {name: {"status": "ok", "budget_s": ..., "seconds": ...,
                         "figures": {name: {...}}, "skipped": {name: why}, "failed": {name: error}}},
     "targets": [{"target", "wanted", "found", "reached"}]}

A figure is a dict of numbers, texts and truth values. `status` is `running`, `ok`, `failed` (it raised, or one of its
figures did) or `cut off` (its time was up). Sections run one after the other, each in a process of its own, so that
there is one writer at a time, and a crash of the CUDA context ends one section only.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weevit.store.files import replace_file

SCHEMA = "weevit.gpu/1"

Figure = dict[str, Any]


class Record:
    """The file, read and written whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = {"schema": SCHEMA, "sections": {}}
        self.reload()

    def reload(self) -> None:
        """Take in what another process has written."""
        if self.path.exists():
            self.content = json.loads(self.path.read_text(encoding="utf-8"))

    def section(self, name: str) -> dict[str, Any]:
        """A section's entry, made where there is none."""
        empty: dict[str, Any] = {"status": "running", "figures": {}, "skipped": {}, "failed": {}}
        return self.content["sections"].setdefault(name, empty)

    def write(self) -> None:
        """Replace the file, whole or not at all."""
        text = json.dumps(self.content, indent=1, ensure_ascii=False) + "\n"
        replace_file(self.path, lambda tmp: tmp.write_text(text, encoding="utf-8"))


class Section:
    """One section at work: its figures, and what is left of its time.

    Attributes:
        short: in miniature, on any machine.
        device: `cuda` or `cpu`.
        warm: compile what will be needed, and measure and write nothing.
    """

    def __init__(self, record: Record, name: str, budget: float, short: bool, device: str, warm: bool = False) -> None:
        self.record, self.name, self.short, self.device, self.warm = record, name, short, device, warm
        self._start, self._budget = time.monotonic(), budget
        self._entry["budget_s"] = round(budget, 1)

    @property
    def _entry(self) -> dict[str, Any]:
        return self.record.section(self.name)

    def left(self) -> float:
        """Seconds until the section should be done."""
        return self._budget - (time.monotonic() - self._start)

    def seconds(self) -> float:
        """Since the section began."""
        return time.monotonic() - self._start

    def figures_of(self, section: str) -> dict[str, Figure]:
        """What an earlier section found."""
        return self.record.content["sections"].get(section, {}).get("figures", {})

    def figure(self, name: str, **values: Any) -> None:
        """Write a figure, and show it; more values of a figure that is there are added to it."""
        self._entry["figures"].setdefault(name, {}).update(values)
        self._write()
        print(f"{self.name:<9} {self.seconds():6.1f} s  {name}: {_line(values)}", flush=True)

    def attempt(self, name: str, takes: float, measure: Callable[[], None]) -> None:
        """Measure something if there is time for it; what it raises is recorded, and the next one has its turn.

        Args:
            name: of what is measured.
            takes: seconds that it takes at most, as far as one knows.
            measure: calls `figure`.
        """
        if self.left() < takes:
            self._entry["skipped"][name] = f"{self.left():.0f} s were left, and it may take {takes:.0f} s"
            self._write()
            print(f"{self.name:<9} {self.seconds():6.1f} s  {name}: skipped", flush=True)
            return
        try:
            measure()
        except Exception as error:
            self.fail(name, error)

    def fail(self, name: str, error: Exception) -> None:
        """Record what was raised."""
        at = "".join(traceback.format_exception(error))[-4000:]
        said = f"{type(error).__name__}: {error}"
        self._entry["failed"][name] = {"error": said[:2000], "at": at}
        self._write()
        print(f"{self.name:<9} {self.seconds():6.1f} s  {name}: FAILED {said[:300]}", flush=True)

    def finish(self) -> None:
        """Every figure had its turn."""
        self._entry["status"] = "failed" if self._entry["failed"] else "ok"
        self._write()

    def _write(self) -> None:
        if not self.warm:
            self.record.write()


def _line(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return f"({_line(value)})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

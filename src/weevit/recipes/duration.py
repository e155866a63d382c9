"""A length of training: epochs, steps, samples, or a share of the whole."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast

Unit = Literal["epochs", "steps", "samples", "%"]

UNITS: tuple[Unit, ...] = ("epochs", "steps", "samples", "%")

EXPECTED = "a number with its unit, such as 20 epochs, 1000 steps, 1.5M samples or 5 %"

_TEXT = re.compile(r"(\d+(?:[_,]\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?)\s*([kKmM]?)\s*([a-z]*|%)", re.ASCII)
_LONGEST = 60
"""Characters of a duration; longer texts are refused unread."""

_MOST = 1e12
"""Maximum in any unit: a million epochs of ImageNet in samples."""

_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000}
_SPELLINGS: dict[str, Unit] = {unit.removesuffix("s"): unit for unit in UNITS} | {unit: unit for unit in UNITS}


@dataclass(frozen=True)
class Duration:
    """A length of training.

    Attributes:
        value: 0 or more.
        unit: `epochs`, `steps` (updates of the weights), `samples` (images seen, with repetitions) or `%`.
    """

    value: float
    unit: Unit

    @classmethod
    def parse(cls, text: str, bare: Unit | None = None) -> Duration:
        """Read `450 epochs`, `1000 steps`, `1M samples`, `5 %`; `K` and `M` are thousands and millions.

        Args:
            text: the text.
            bare: the unit of a number without one; None requires a unit for every number but 0.

        Raises:
            ValueError: another text; the message gives the allowed form.
        """
        match = _TEXT.fullmatch(text.strip()) if len(text) <= _LONGEST else None
        if match is None:
            raise ValueError(EXPECTED)
        digits, factor, word = match.groups()
        value = float(re.sub("[_,]", "", digits)) * _FACTORS[factor.lower()]
        if not value <= _MOST:
            raise ValueError(f"At most {_MOST:g}, in any unit.")
        unit = _SPELLINGS.get(word) if word else bare or (None if value else "steps")
        if unit is None:
            raise ValueError(f"The units are {', '.join(UNITS)}.")
        return cls(value, unit)

    def steps(self, steps_per_epoch: int, batch: int, total: int | None = None) -> int:
        """The length in updates of the weights, rounded up.

        Args:
            steps_per_epoch: updates in one pass over the training split.
            batch: images in one update.
            total: updates in the whole training, for a share of it; a ValueError where a share has none.
        """
        if self.unit == "%" and total is None:
            raise ValueError("a share of nothing")
        per_unit = {"epochs": steps_per_epoch, "steps": 1, "samples": 1 / batch, "%": (total or 0) / 100}
        return math.ceil(self.value * per_unit[self.unit] - 1e-9)

    def __str__(self) -> str:
        """The spelling in a recipe; `parse` reads it back."""
        unit = cast(str, self.unit)
        for sign, factor in (("M", 1_000_000), ("K", 1_000)):
            if unit == "samples" and self.value and self.value % factor == 0:
                return f"{self.value / factor:.12g}{sign} {unit}"
        count = int(self.value) if self.value == int(self.value) else repr(self.value)
        return f"{count} {unit.removesuffix('s') if self.value == 1 else unit}"

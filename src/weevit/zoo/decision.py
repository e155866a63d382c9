"""The rule from a checkpoint's logits to an answer, where it is not plain softmax: key `weevit` of its `config.json`.

    {"unknown": {"threshold": 0.52, "coverage": 0.95}, "multi_label": false, "label_thresholds": null,
     "temperature": 0.7}

timm and transformers ignore the key: they give the same logits, and name a class at any probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weevit.errors import CheckpointError
from weevit.zoo.fields import NUMBERS, Fields, boolean

KEY = "weevit"


@dataclass(frozen=True)
class Decision:
    """The rule.

    Attributes:
        threshold: the answer is `unknown` where the best probability is below it; None if a class is always named.
        coverage: the share of images of known classes that the threshold was chosen to keep.
        multi_label: probabilities are each label's own (sigmoid), and do not add up to 1.
        label_thresholds: the probability from which each label is answered; 0.5 for all where None.
        temperature: the divisor of the logits for calibrated probabilities. For the record: it is folded into the head.
    """

    threshold: float | None = None
    coverage: float | None = None
    multi_label: bool = False
    label_thresholds: tuple[float, ...] | None = None
    temperature: float = 1.0

    def as_json(self) -> dict[str, object]:
        """The value of the key."""
        unknown = None if self.threshold is None else {"threshold": self.threshold, "coverage": self.coverage}
        return {
            "unknown": unknown,
            "multi_label": self.multi_label,
            "label_thresholds": None if self.label_thresholds is None else list(self.label_thresholds),
            "temperature": self.temperature,
        }


def parse_decision(raw: Mapping[str, Any], num_classes: int, where: str) -> Decision | None:
    """The decision in a `config.json` (`where`: its path), or None; a CheckpointError names the invalid key."""
    if raw.get(KEY) is None:
        return None
    fields = _object(raw[KEY], f"{where}: {KEY}")
    unknown = _object(fields.get("unknown", _anything) or {}, f"{where}: {KEY}.unknown")
    thresholds = fields.get("label_thresholds", NUMBERS["label_thresholds"])
    if thresholds is not None and len(thresholds) != num_classes:
        raise CheckpointError(
            f"{fields.where}.label_thresholds has {len(thresholds)} numbers for {num_classes} classes."
        )
    return Decision(
        threshold=unknown.get("threshold", NUMBERS["threshold"]),
        coverage=unknown.get("coverage", NUMBERS["coverage"]),
        multi_label=fields.get("multi_label", boolean) or False,
        label_thresholds=thresholds,
        temperature=fields.get("temperature", NUMBERS["temperature"]) or 1.0,
    )


def _object(value: Any, where: str) -> Fields:
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{where} is not an object {{...}}.")
    return Fields(value, where)


def _anything(value: Any) -> Any:
    return value

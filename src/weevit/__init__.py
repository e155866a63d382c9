"""timm's small SBB Vision Transformers: answers without PyTorch, numerically equal to timm.

    import weevit
    model = weevit.load("tiny")
    model.classify("photo.jpg").labels

Importing weevit imports nothing else: each name below is fetched when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from weevit._version import __version__

if TYPE_CHECKING:
    from weevit.errors import (
        CheckpointError,
        EngineError,
        HubError,
        ImageError,
        InputsFailedError,
        MissingExtraError,
        ModelError,
        OutputError,
        UnknownModelError,
        UsageError,
        WeevitError,
    )
    from weevit.images.decode import Limits
    from weevit.predict import Predictor, load
    from weevit.results import Prediction, Result

_HOMES = {
    "load": "weevit.predict",
    "Predictor": "weevit.predict",
    "Result": "weevit.results",
    "Prediction": "weevit.results",
    "Limits": "weevit.images.decode",
    "WeevitError": "weevit.errors",
    "UsageError": "weevit.errors",
    "UnknownModelError": "weevit.errors",
    "MissingExtraError": "weevit.errors",
    "ModelError": "weevit.errors",
    "CheckpointError": "weevit.errors",
    "HubError": "weevit.errors",
    "ImageError": "weevit.errors",
    "InputsFailedError": "weevit.errors",
    "EngineError": "weevit.errors",
    "OutputError": "weevit.errors",
}
"""Public name -> the module it lives in."""

__all__ = [
    "CheckpointError",
    "EngineError",
    "HubError",
    "ImageError",
    "InputsFailedError",
    "Limits",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "Prediction",
    "Predictor",
    "Result",
    "UnknownModelError",
    "UsageError",
    "WeevitError",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'weevit' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

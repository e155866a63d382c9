"""timm's small SBB Vision Transformers: answers without PyTorch, numerically equal to timm.

    import weevit
    model = weevit.load("tiny")
    model.classify("photo.jpg").labels

Importing weevit imports nothing else: each name below is fetched when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from weevit import telemetry
from weevit._version import __version__

telemetry.disable()

if TYPE_CHECKING:
    from weevit import data
    from weevit.answers.results import Prediction, Result
    from weevit.checking.check import check_data
    from weevit.duplicates.find import find_duplicates
    from weevit.duplicates.removal import apply_duplicates
    from weevit.duplicates.undoing import undo_duplicates
    from weevit.errors import (
        CheckpointError,
        DatasetError,
        EngineError,
        HubError,
        ImageError,
        InputsFailedError,
        JobError,
        MissingExtraError,
        ModelError,
        OutputError,
        RecipeError,
        TrainingError,
        UnknownModelError,
        UsageError,
        WeevitError,
    )
    from weevit.evaluation.compare import compare
    from weevit.evaluation.evaluate import evaluate
    from weevit.evaluation.suite import evaluate_suite
    from weevit.finetuning.finetune import finetune
    from weevit.fitting.fit import fit
    from weevit.images.decode import Limits
    from weevit.jobs.results import read_results
    from weevit.jobs.run import run_job
    from weevit.nn.create import create_model, list_models
    from weevit.nn.save import save
    from weevit.predict import Predictor, load
    from weevit.quantization.quantize import quantize
    from weevit.reduction import measure_reduction
    from weevit.search.bringing import index_vectors
    from weevit.search.building import index
    from weevit.search.card import measure_search
    from weevit.search.index import Hit, Index, open_index
    from weevit.training.loop import resume, train

_HOMES = {
    "load": "weevit.predict",
    "measure_reduction": "weevit.reduction",
    "measure_search": "weevit.search.card",
    "index": "weevit.search.building",
    "index_vectors": "weevit.search.bringing",
    "open_index": "weevit.search.index",
    "run_job": "weevit.jobs.run",
    "read_results": "weevit.jobs.results",
    "check_data": "weevit.checking.check",
    "find_duplicates": "weevit.duplicates.find",
    "apply_duplicates": "weevit.duplicates.removal",
    "undo_duplicates": "weevit.duplicates.undoing",
    "evaluate": "weevit.evaluation.evaluate",
    "evaluate_suite": "weevit.evaluation.suite",
    "fit": "weevit.fitting.fit",
    "quantize": "weevit.quantization.quantize",
    "compare": "weevit.evaluation.compare",
    "create_model": "weevit.nn.create",
    "list_models": "weevit.nn.create",
    "save": "weevit.nn.save",
    "train": "weevit.training.loop",
    "finetune": "weevit.finetuning.finetune",
    "resume": "weevit.training.loop",
    "data": "weevit",
    "Predictor": "weevit.predict",
    "Result": "weevit.answers.results",
    "Prediction": "weevit.answers.results",
    "Limits": "weevit.images.decode",
    "Index": "weevit.search.index",
    "Hit": "weevit.search.index",
}
"""Public name -> its module (or the package, for a module); the errors are added below."""

__all__ = [
    "CheckpointError",
    "DatasetError",
    "EngineError",
    "Hit",
    "HubError",
    "ImageError",
    "Index",
    "InputsFailedError",
    "JobError",
    "Limits",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "Prediction",
    "Predictor",
    "RecipeError",
    "Result",
    "TrainingError",
    "UnknownModelError",
    "UsageError",
    "WeevitError",
    "__version__",
    "apply_duplicates",
    "check_data",
    "compare",
    "create_model",
    "data",
    "evaluate",
    "evaluate_suite",
    "find_duplicates",
    "finetune",
    "fit",
    "index",
    "index_vectors",
    "list_models",
    "load",
    "measure_reduction",
    "measure_search",
    "open_index",
    "quantize",
    "read_results",
    "resume",
    "run_job",
    "save",
    "train",
    "undo_duplicates",
]

_HOMES.update((name, "weevit.errors") for name in __all__ if name.endswith("Error"))


if not TYPE_CHECKING:  # a type checker knows the names from above, and reports all others

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'weevit' has no attribute {name!r}; it has {', '.join(__all__)}")
        home = _HOMES[name]
        try:
            value = import_module(f"weevit.{name}") if home == "weevit" else getattr(import_module(home), name)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            from weevit.store.extras import missing

            raise missing("train", f"weevit.{name} needs PyTorch.") from error
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""The first answers of a server: ready means that answers come."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from weevit.images.source import Source
from weevit.predict import Predictor
from weevit.serve.models import Models
from weevit.serve.service import Service


def first_answers(service: Service, named: Mapping[str, Predictor]) -> Models:
    """The models, after each has answered an image."""
    observe = service.metrics.observe if service.metrics is not None else lambda model, stage, value: None
    models = Models(dict(named), service.bounds, observe)
    for served in models:
        seen, channels = served.predictor.preprocessing, served.predictor.checkpoint.in_chans
        served.desk.ask((Source("first", _grey(seen.height, seen.width, channels)), 1)).result()
    if service.index is not None:
        from weevit.serve.searching import Searcher  # with an index only

        service.found = Searcher(service.index, named)
    return models


def _grey(height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    return np.full((height, width, channels), 128, dtype=np.uint8)

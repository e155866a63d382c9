"""`weevit.fit`: a classifier of your classes, from a folder of images.

data ── embeddings, computed once ── a head, chosen on the training split ── calibrated, folded, written ── judged
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from weevit._version import __version__
from weevit.arguments import flag
from weevit.datasets import splitting
from weevit.datasets.dataset import TEST, TRAIN, VALIDATION, Dataset, Split, check_classes
from weevit.datasets.read import check_there, read_dataset
from weevit.errors import CheckpointError, DatasetError
from weevit.evaluation.evaluate import describe_data, evaluate
from weevit.evaluation.model import describe, known
from weevit.evaluation.results import Evaluation
from weevit.fitting import calibration
from weevit.fitting.evidence import Judged, answered, out_of_fold
from weevit.fitting.floor import check_floor
from weevit.fitting.folder import (
    FIT,
    MODEL,
    begin_writing,
    discarded_on_error,
    machine,
    write_run,
)
from weevit.fitting.heads import Head, require_sklearn
from weevit.fitting.int8 import in_int8, set_aside
from weevit.fitting.results import Calibration, Fit, Settings
from weevit.fitting.search import Images, Search, final, search
from weevit.predict import Predictor, load
from weevit.quantization.quantize import answering_like
from weevit.reports.page import require_jinja
from weevit.search import embeddings
from weevit.search.embeddings import Embedded, embed_split
from weevit.store.files import replacing_folder, stamped
from weevit.store.folder import held
from weevit.store.outputs import local
from weevit.zoo.checkpoint import read_checkpoint
from weevit.zoo.decision import Decision
from weevit.zoo.labels import Label
from weevit.zoo.weights import DEFAULT_MODEL
from weevit.zoo.writing import write_checkpoint

_ASKED = 8
"""Images that the written checkpoint is asked for, to see that it says what the head says."""


@dataclass(frozen=True)
class Stage:
    """How far a fit is.

    Attributes:
        name: `embedding`, `choosing` or `writing`.
        done, total: images, or candidates.
        words: what else there is to say.
    """

    name: str
    done: int
    total: int
    words: str = ""


Watcher = Callable[[Stage], None]


def fit(
    data: str | Path | Dataset,
    output: str | Path,
    model: str | Path | Predictor = DEFAULT_MODEL,
    *,
    folds: int = 5,
    seed: int = 0,
    class_weights: str = "none",
    coverage: float = 0.95,
    validation_share: float = 0.2,
    calibrate: str = "folds",
    allow_missing: bool = False,
    int8: bool = False,
    cache: str | Path | None = None,
    watch: Watcher = lambda stage: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Fit:
    """Fit a linear head to images with classes, on a backbone that stays as it is.

    Candidates are compared by cross-validation on the training images; those of `validation` and `test` choose
    nothing. The head is calibrated, and says `unknown` below a probability that keeps its class to a stated share of
    images of known classes.

    Args:
        data: as for `weevit.evaluate`: a folder with a folder for each class, with or without `train/`, `validation/`
            and `test/` above; a table; tars; or a data set that was read. A label column with several labels per image
            makes a head that judges each by itself.
        output: the folder of the run. What it holds may be an earlier fit, which is replaced, and nothing else.
        model: as for `weevit.load`, or what that returned (with another image size, for instance).
        folds: of the cross-validation.
        seed: of all draws.
        class_weights: `none`, or `balanced`: every class counts the same, however many images it has.
        coverage: the share of images of known classes that is to keep its class, the others being called unknown.
        validation_share: of the training images, where there is no validation split.
        calibrate: what temperature and threshold are from: `folds`, the training images, each judged by a head that
            did not see it; or `validation`.
        allow_missing: splits may lack classes, and classes may have a single image to learn from; of such ones nothing
            is known but what they look like, and nothing is calibrated where they are more than 2 % of the images.
        int8: quantise the backbone first, calibrated on training images: the head is fitted to its embeddings and the
            model that is written is int8.
        cache: the folder of all caches of embeddings; weevit's own by default.
        watch: told how far it is.
        should_stop: asked while images are embedded.

    Raises:
        DatasetError: classes do not fit, or there is too little to learn from.
        UsageError: an invalid setting, or a folder that holds something else.
        KeyboardInterrupt: `should_stop` said so; embeddings are kept, and the same call resumes.
        MissingExtraError: scikit-learn, filelock or jinja2 is not installed.
        OutputError: the folder cannot be written.
    """
    own = Settings(folds, seed, class_weights, coverage, validation_share, calibrate, allow_missing)
    own.check()
    int8 = flag("int8", int8)
    require_jinja()
    require_sklearn()
    check_there(data)
    output = local(output)
    with held(output, FIT, (model.checkpoint.path if isinstance(model, Predictor) else model, data)):
        predictor = model if isinstance(model, Predictor) else load(model)
        with set_aside(output) if int8 else nullcontext() as backbone:
            return _Run(predictor, output, own, watch).fit(
                data, None if cache is None else Path(cache), should_stop, backbone
            )


class _Run:
    """One fit; each step keeps what the next ones need."""

    def __init__(self, predictor: Predictor, folder: Path, settings: Settings, watch: Watcher) -> None:
        self.predictor, self.folder, self.settings, self.watch = predictor, folder, settings, watch
        self.logged = ""
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []
        self.validation_cut = False

    def log(self, line: str) -> None:
        """Add a line to what will be `log.txt`."""
        self.logged += stamped(line)

    def fit(
        self, data: str | Path | Dataset, cache: Path | None, should_stop: Callable[[], bool], int8: Path | None = None
    ) -> Fit:
        """All of it, one step after another; with a folder for an int8 backbone, that one is made first."""
        with self._timed("total"):
            # ---- images
            dataset = self._read(data)
            if int8 is not None:
                with self._timed("calibrate"):
                    self.predictor = in_int8(self.predictor, dataset, int8)
                self.log(f"backbone in {self.predictor.checkpoint.quantization}")
            with self._timed("embed"):
                embedded = self._embed(dataset, cache, should_stop)
            self._check_leaks(embedded)
            # ---- a head
            images = self._images(dataset, embedded[TRAIN])
            with self._timed("search"):
                found = self._search(dataset, embedded[TRAIN], images)
            with self._timed("fit"):
                plain = final(images, found.linear.settings["strength"])
            # ---- how sure it may be
            split = dataset.split(VALIDATION)
            judged = {
                "folds": out_of_fold(found, images),
                "validation": answered(plain.logits(embedded[VALIDATION].vectors), split, embedded[VALIDATION]),
            }
            tuned = self._calibrate(judged)
            head = plain.cooled(tuned.temperature)
            decision = self._decide(judged[self.settings.calibrate], tuned.temperature)
            # ---- a checkpoint, and how good it is
            model = self.folder / MODEL
            with self._timed("write"), FIT.writing(self.folder), replacing_folder(model) as stage:
                written = self._write(stage, head, decision, dataset, len(images.targets))
                difference = _difference(written, head, split, embedded[VALIDATION])
                evaluations = {
                    name: _judge(written, dataset, dataset.split(name), embedded[name], head)
                    for name in (VALIDATION, TEST)
                    if name in embedded
                }
                begin_writing(self.folder)
            checkpoint = read_checkpoint(model)
        fit = Fit(
            folder=self.folder,
            checkpoint=checkpoint,
            base=self.predictor.checkpoint.name,
            settings=self.settings,
            measure=found.measure,
            candidates=found.candidates,
            chosen=found.linear,
            neighbours=found.neighbours,
            neighbours_better=found.clear,
            calibration=tuned,
            evaluations=evaluations,
            images={name: len(split) for name, split in dataset.splits.items()},
            validation_cut=self.validation_cut,
            failures=tuple((name, *one) for name, own in embedded.items() for one in own.failures),
            computed=sum(own.computed for own in embedded.values()),
            cached=sum(own.cached for own in embedded.values()),
            difference=difference,
            seconds=self.seconds,
            notes=(*dataset.notes, *self.notes, *found.notes),
        )
        with discarded_on_error(self.folder):
            self._report(fit, dataset)
        return fit

    def _read(self, data: str | Path | Dataset) -> Dataset:
        own = self.settings
        dataset = data if isinstance(data, Dataset) else read_dataset(data, allow_missing=own.allow_missing)
        self.validation_cut = VALIDATION not in dataset.splits
        dataset = splitting.with_validation(dataset, own.validation_share, own.seed)
        dataset.split(TRAIN)
        check_classes(dataset)
        if not own.allow_missing:
            check_floor(dataset)  # before anything is computed; once more when it is known what can be read
        self.log(f"{dataset.path}: {dataset.contents()}")
        return dataset

    def _embed(self, dataset: Dataset, cache: Path | None, should_stop: Callable[[], bool]) -> dict[str, Embedded]:
        before, total = 0, len(dataset)
        found: dict[str, Embedded] = {}
        for name, split in dataset.splits.items():

            def moved(progress: embeddings.Progress, start: int = before) -> None:
                words = f"{progress.computed:,} looked at, {progress.cached:,} known, {progress.failed:,} failed"
                self.watch(Stage("embedding", start + progress.done, total, words))

            found[name] = own = embed_split(self.predictor, split, cache, moved, should_stop)
            before += len(split)
            self.notes += own.notes
            self.log(f"{name}: {own.computed:,} embedded, {own.cached:,} cached, {len(own.failures):,} failed")
            if not own.ok.any():
                raise DatasetError(f"No image of {name} could be read. {_first(own)}")
        return found

    def _check_leaks(self, embedded: Mapping[str, Embedded]) -> None:
        seen = set(embedded[TRAIN].hashes) - {None}
        for name in (VALIDATION, TEST):
            leaked = sum(digest in seen for digest in embedded[name].hashes) if name in embedded else 0
            if leaked:
                self.notes.append(
                    f"{leaked:,} images of {name} are in train too, byte for byte: figures on {name} flatter "
                    "(weevit data check lists them)"
                )

    def _images(self, dataset: Dataset, embedded: Embedded) -> Images:
        """What heads are fitted to: the training images that have an embedding."""
        targets = dataset.split(TRAIN).targets[embedded.ok]
        counts = targets.sum(axis=0) if dataset.multi_label else np.bincount(targets, minlength=len(dataset.classes))
        empty = [dataset.classes[place] for place in np.flatnonzero(counts == 0)]
        if empty and not self.settings.allow_missing:
            raise DatasetError(f"No training image of {', '.join(empty[:10])} could be read.")
        indices = np.flatnonzero(embedded.ok)
        hashes = [embedded.hashes[place] for place in indices]
        if not self.settings.allow_missing:
            check_floor(dataset, indices.tolist(), hashes)
        keys = [str(place) if digest is None else digest for place, digest in enumerate(hashes)]
        groups = np.unique(keys, return_inverse=True)[1].astype(np.int64)
        balanced = self.settings.class_weights == "balanced"
        return Images(embedded.vectors[indices], targets, len(dataset.classes), balanced, groups)

    def _search(self, dataset: Dataset, embedded: Embedded, images: Images) -> Search:
        split = dataset.split(TRAIN).take(np.flatnonzero(embedded.ok))
        assert images.groups is not None
        different = int(images.groups.max()) + 1
        k = max(2, min(self.settings.folds, different))
        if k < self.settings.folds:
            self.notes.append(f"{k} folds: there are {different} different training images")
        groups = [digest for digest, ok in zip(embedded.hashes, embedded.ok, strict=True) if ok]
        cuts = splitting.folds(split, k, self.settings.seed, groups)

        def moved(done: int, total: int, last: str) -> None:
            self.watch(Stage("choosing", done, total, last))

        found = search(images, cuts, self.predictor.threads.count, moved)
        for one in found.candidates:
            self.log(f"{one.name}: {found.measure} {one.score:.4f}")
        self.log(f"chosen: {found.linear.name}")
        return found

    def _calibrate(self, judged: Mapping[str, Judged]) -> Calibration:
        by, seed = self.settings.calibrate, self.settings.seed
        own, (logits, targets) = judged[by], (judged["validation"].logits, judged["validation"].targets)
        temperatures = {name: calibration.clear_temperature(one.logits, one.targets) for name, one in judged.items()}
        chosen = temperatures[by]
        self.log(f"temperature {chosen:.4f} by {by}")
        if chosen == 1:
            self.notes.append(f"not calibrated: {own.why_not or 'no temperature is clearly better than none'}")
        error, chance, folds = calibration.calibration_error, calibration.error_by_chance, judged["folds"]
        errors = {
            "before": error(logits, targets),
            "after": error(logits / chosen, targets),
            "with_folds": error(logits / temperatures["folds"], targets),
            "with_validation": error(logits / temperatures["validation"], targets),
            "by_chance": chance(logits / chosen, targets, seed),
            "out_of_fold": error(folds.logits / chosen, folds.targets),
            "out_of_fold_by_chance": chance(folds.logits / chosen, folds.targets, seed),
        }
        if errors["after"] > errors["before"]:
            self.notes.append(
                f"on the {len(targets):,} validation images the calibration error is {errors['after']:.1%}, and "
                f"{errors['before']:.1%} without the temperature; that is from {len(own.targets):,} images of {by}, on "
                "which it is clearly better"
            )
        return Calibration(by, chosen, temperatures, errors)

    def _decide(self, judged: Judged, temperature: float) -> Decision:
        logits, coverage = judged.logits / temperature, self.settings.coverage
        if judged.targets.ndim == 2:
            thresholds = calibration.label_thresholds(logits, judged.targets)
            return Decision(multi_label=True, label_thresholds=thresholds, temperature=temperature)
        threshold = calibration.unknown_threshold(logits, coverage)
        if threshold is None:
            why = judged.why_not or f"{len(logits):,} images cannot promise a coverage of {coverage:g}"
            self.notes.append(f"no answer is called unknown: {why}")
            return Decision(temperature=temperature)
        self.log(f"unknown below {threshold:.4f}, for a coverage of {coverage:g}")
        return Decision(threshold, coverage, temperature=temperature)

    def _write(self, stage: Path, head: Head, decision: Decision, dataset: Dataset, images: int) -> Predictor:
        """The checkpoint, written beside its place, as a predictor under the name that it will have."""
        base = self.predictor.checkpoint
        self.watch(Stage("writing", 0, 1))
        tensors = base.tensors() | {"head.weight": head.weight, "head.bias": head.bias}
        description = (
            f"Linear head of {len(dataset.classes)} classes, fitted by weevit {__version__} to the embeddings of "
            f"{images} images; the backbone is that of {base.name}, unchanged."
        )
        about = {"description": description} | ({"license": base.license} if base.license else {})
        labels = [Label(name, name) for name in dataset.classes]
        seen = self.predictor.preprocessing
        grid = None if base.architecture.position == "rope" else base.grid  # those are computed, for any size
        own = (stage, base.architecture, tensors, seen, labels, about, decision, grid)
        found = write_checkpoint(*own, quantization=base.quantization)
        name = f"{base.architecture.name} ({self.folder.resolve().name})"
        return answering_like(self.predictor, replace(found, name=name, source=str(self.folder / MODEL)))

    def _report(self, fit: Fit, dataset: Dataset) -> None:
        facts = {
            "model": describe(self.predictor),
            "data": describe_data(dataset, dataset.split(TRAIN)) | {"multi_label": dataset.multi_label},
            **machine(),
        }
        for name, value in fit.metrics.items():
            self.log(f"validation {name} {value:.6g}")
        write_run(fit, facts, self.logged)
        self.watch(Stage("writing", 1, 1))

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def _first(embedded: Embedded) -> str:
    return f"The first: {': '.join(embedded.failures[0][::2])}." if embedded.failures else "It has none."


def _difference(written: Predictor, head: Head, split: Split, embedded: Embedded) -> float:
    """The greatest difference of a logit between the checkpoint, read back and run, and the head."""
    indices = np.flatnonzero(embedded.ok)[:_ASKED]
    results = written.stream(split.take(indices).sources, outputs=("logits",), topk=1, steady=True)
    logits = [result.logits for result in results if result.logits is not None]
    vectors = embedded.vectors[indices]
    expected = head.logits(vectors)
    difference = float(np.abs(np.stack(logits) - expected).max()) if len(logits) == len(indices) else float("inf")
    if not difference < head.rounding(vectors, written.precision):
        raise CheckpointError(
            f"{written.checkpoint.source} does not answer as the head that was fitted: {difference:.1e} apart.",
            "Please report it, with what `weevit doctor` says.",
        )
    return difference


def _judge(written: Predictor, dataset: Dataset, split: Split, embedded: Embedded, head: Head) -> Evaluation:
    """The evaluation of a split from embeddings at hand: nothing is asked twice."""
    model = known(written, head.logits(embedded.vectors), embedded.ok, embedded.failures)
    evaluation = evaluate(model, dataset, split=split.name, allow_missing=True)
    return replace(evaluation, seconds=float("nan"))  # which says nothing of the model's speed

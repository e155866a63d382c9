"""Folders of jobs, runs and fits as strangers hand them on: changed anywhere, and hashed anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fakes
import hostile
import labelled
import runs

import weevit
from weevit.jobs.plan import DATA
from weevit.store.files import sha256_file
from weevit.zoo.manifest import MANIFEST

SIZE = 32

ALLOWED = (weevit.WeevitError,)


def _json(path: Path) -> Any:
    if path.is_symlink() or not path.is_file():  # a pipe would wait
        raise ValueError(f"{path} is no plain file")
    return json.loads(path.read_bytes())


# ---- jobs


class Job:
    """A finished job of 14 images, one of them unreadable, in shards of 4."""

    def __init__(self, top: Path) -> None:
        self.predictor = weevit.load(fakes.folder(top / "model"), image_size=SIZE, cache=False)
        self.images = labelled.noise(top / "images", 14)
        (self.images / "3.png").write_bytes(b"no image")
        self.whole = top / "job"
        self.run(self.whole)

    def run(self, folder: Path) -> None:
        """Run it, or resume it."""
        weevit.run_job(self.predictor, self.images, folder, "embed", shard_size=4)

    @staticmethod
    def files(folder: Path) -> list[Path]:
        """All that are read again; a manifest and the plan more often than one of four shards."""
        every = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
        found = [path for path in every if not path.name.startswith(".")]
        return found + [path for path in found if path.suffix in (".json", ".jsonl")] * 2

    @staticmethod
    def seal(folder: Path) -> None:
        """Digests of shards in their lines, and of lines."""
        for path in [*folder.glob("manifest-*.jsonl"), *folder.glob("plan.jsonl")]:
            if path.is_symlink() or not path.is_file():
                continue
            lines = path.read_bytes().splitlines()
            for place, line in enumerate(lines):
                with suppress(ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
                    values = json.loads(line)
                    shard = folder / DATA / values.get("file", "none")
                    if shard.is_file() and shard.parent == folder / DATA:
                        values["bytes"], values["sha256"] = shard.stat().st_size, sha256_file(shard)
                    values.pop("check", None)
                    digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
                    lines[place] = json.dumps({**values, "check": digest}).encode()
            path.write_bytes(b"\n".join(lines) + b"\n")

    def use(self, folder: Path) -> None:
        """Everything that reads it; the first error ends it."""
        problems: list[BaseException] = []
        for ask in (
            lambda: _status(folder),
            lambda: _verify(folder),
            lambda: weevit.read_results(folder, partial=True),
            lambda: self.run(folder),
        ):
            try:
                ask()
            except ALLOWED as error:
                problems.append(error)
        if problems:
            raise problems[0]


def _status(folder: Path) -> object:
    from weevit.jobs.results import job_status

    return job_status(folder)


def _verify(folder: Path) -> object:
    from weevit.jobs.results import verify_job

    return list(verify_job(folder))


# ---- runs


class Run:
    """A training run that was stopped after 7 of 15 updates."""

    def __init__(self, top: Path) -> None:
        from weevit.training import loop
        from weevit.training.watch import Watcher

        at = [0]
        made = runs.recipe(top / "recipe.yaml"), runs.images(top / "data")
        watcher = Watcher(lambda progress: at.__setitem__(0, progress.step), should_stop=lambda: at[0] >= 7)
        self.whole = top / "run"
        loop.train(*made, self.whole, threads=1, report=False, watcher=watcher)

    @staticmethod
    def files(folder: Path) -> list[Path]:
        """What is read again, the newest checkpoint above all."""
        newest = max((folder / "state").iterdir())
        states = [newest / name for name in ("state.json", "clock.json", "metrics.jsonl")]
        tensors = sorted(newest.glob("*.safetensors"))
        return [*states * 3, *tensors, newest / MANIFEST, *[folder / "run.json"] * 4, folder / "recipe.yaml",
                folder / "metrics.jsonl", folder / "log.txt", folder / "model" / "config.json"]  # fmt: skip

    @staticmethod
    def seal(folder: Path) -> None:
        """The recipe in `run.json`, its fingerprint in the states, and the digests of all."""
        from weevit.recipes.recipe import flat, load_recipe
        from weevit.runs.folder import fingerprint

        with suppress(Exception):
            facts = _json(folder / "run.json")
            assert (folder / "recipe.yaml").is_file()
            facts["recipe"] = json.loads(json.dumps(flat(load_recipe(folder / "recipe.yaml"))))
            (folder / "run.json").write_text(json.dumps(facts))
        for state in (folder / "state").iterdir():
            with suppress(Exception):
                content = _json(state / "state.json")
                if content["run"] == _json(folder / "was.json"):
                    content["run"] = fingerprint(_json(folder / "run.json"))
                    (state / "state.json").write_text(json.dumps(content))
        (folder / "was.json").unlink(missing_ok=True)
        for state in (folder / "state").iterdir():
            with suppress(Exception):
                manifest = _json(state / MANIFEST)
                for name in manifest["sha256"]:
                    if (state / name).is_file():
                        manifest["sha256"][name] = sha256_file(state / name)
                (state / MANIFEST).write_text(json.dumps(manifest))

    def use(self, folder: Path) -> None:
        """Resume it for three updates, and load what it has made."""
        from weevit.training import loop
        from weevit.training.watch import Watcher

        moved = [0]
        watcher = Watcher(lambda progress: moved.__setitem__(0, moved[0] + 1), should_stop=lambda: moved[0] >= 3)
        weevit.load(folder, cache=False)
        loop.resume(folder, report=False, watcher=watcher)


# ---- fits


class Fit:
    """A head fitted to small images."""

    def __init__(self, top: Path) -> None:
        counts = {"train/a": 12, "train/b": 12, "val/a": 5, "val/b": 5}
        self.data = labelled.folder(top / "data", counts)
        self.predictor = weevit.load("digits", cache=False)
        self.whole = top / "fit"
        weevit.fit(self.data, self.whole, self.predictor)

    @staticmethod
    def files(folder: Path) -> list[Path]:
        """What is read again: the model, its evaluation, and the record."""
        own = folder / "validation"
        model = [folder / "model" / name for name in ("config.json", "model.safetensors", MANIFEST)]
        return [*model, *[own / "report.json"] * 4, *[own / "predictions.csv"] * 3, *[folder / "run.json"] * 2]

    @staticmethod
    def seal(folder: Path) -> None:
        """The digests of the model."""
        with suppress(Exception):
            manifest = _json(folder / "model" / MANIFEST)
            for name in manifest["sha256"]:
                assert (folder / "model" / name).is_file()
                manifest["sha256"][name] = sha256_file(folder / "model" / name)
            (folder / "model" / MANIFEST).write_text(json.dumps(manifest))

    def use(self, folder: Path) -> None:
        """Classify with it, compare its evaluation with itself, and fit into its folder again."""
        from weevit.fitting.folder import FIT
        from weevit.store.folder import held

        problems: list[BaseException] = []

        def compare() -> None:
            found = weevit.compare(folder / "validation", folder / "validation")
            found.first.per_class, found.first.calibration, found.first.coverage, found.first.worst()

        def again() -> None:
            with held(folder, FIT):
                pass

        for ask in (lambda: weevit.load(folder, cache=False), compare, again):
            try:
                ask()
            except ALLOWED as error:
                problems.append(error)
        if problems:
            raise problems[0]


def attack(whole: Job | Run | Fit, place: Path, seed: int, seconds: float) -> str:
    """One edit of a folder; returns what happened. Raises AssertionError as `hostile.attack`."""
    ready: Callable[[Path], list[Path]] = whole.files

    def files(folder: Path) -> list[Path]:
        if isinstance(whole, Run):  # by it, states that were not themselves changed are known
            run = _json(max((folder / "state").iterdir()) / "state.json")["run"]
            (folder / "was.json").write_text(json.dumps(run))
        return ready(folder)

    return hostile.attack(whole.whole, place, seed, files, whole.seal, whole.use, ALLOWED, seconds)

"""timm's own `tests/test_models.py` against weevit's modules: timm's factory makes ours for the names that we have.

    python benchmarks/timm_tests.py [--archive timm-1.0.31.tar.gz] [--models NAME ...] [--slow] [-- PYTEST OPTIONS]

The tests are in timm's source distribution, which is fetched from PyPI for the installed version (nothing of it is kept
here), or given by `--archive`. The tests are not changed: a plugin replaces `timm.create_model` and `timm.list_models`
before they are collected. Ends with 1 if a test fails. Needs timm, torchvision and pip.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

MODELS = (
    "vit_tiny_patch16_224",
    "vit_dwee_patch16_reg1_gap_256",
    "vit_pwee_patch16_reg1_gap_256",
    "vit_medium_patch16_rope_reg1_gap_256",
)
"""Serial, differential, parallel and rotary."""

NOT_APPLICABLE = {
    "test_model_inference": "fetches timm's `test_*` models from the hub",
    "test_model_forward_torchscript": "TorchScript is not here",
    "test_model_forward_fx_torchscript": "TorchScript is not here",
    "test_model_default_cfgs[": "for models with spatial features; `test_model_default_cfgs_non_std` is ours",
}
"""Start of a test's name -> why it says nothing of these modules; names of timm 1.0.31, November 2026.

Tests with other models' names are not collected.
"""

SLOW = {"test_prune_intermediate_layers_contract": "prunes after each block in turn; timm's CI leaves it out too"}
"""Run with `--slow`."""

ENVIRONMENT, ENVIRONMENT_SLOW = "WEEVIT_TIMM_TESTS_MODELS", "WEEVIT_TIMM_TESTS_SLOW"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, help="timm's source distribution; fetched from PyPI by default")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--slow", action="store_true", help="the test that takes minutes too")
    parser.add_argument("options", nargs="*", help="options for pytest, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tests = unpack(arguments.archive or download(Path(folder)), Path(folder))
        for name, why in left_out(arguments.slow).items():
            print(f"left out: {name.rstrip('[')}: {why}")
        here = Path(__file__).resolve().parent
        command = [sys.executable, "-m", "pytest", "-q", "-p", "timm_tests", "-p", "no:cacheprovider", str(tests)]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(here), str(here.parent / "src")]),
            ENVIRONMENT: " ".join(arguments.models),
            ENVIRONMENT_SLOW: "1" if arguments.slow else "",
        }
        return subprocess.run([*command, *arguments.options], cwd=folder, env=environment, check=False).returncode


def left_out(slow: bool) -> dict[str, str]:
    return NOT_APPLICABLE if slow else NOT_APPLICABLE | SLOW


def download(folder: Path) -> Path:
    wanted = f"timm=={version('timm')}"
    words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "timm", "-d", str(folder)]
    subprocess.run([*words, wanted], check=True)
    return next(folder.glob("timm-*.tar.gz"))


def unpack(archive: Path, folder: Path) -> Path:
    """Only the one file of tests; returns its path."""
    with tarfile.open(archive) as files:
        member = next(item for item in files.getmembers() if item.name.endswith("/tests/test_models.py"))
        source = files.extractfile(member)
        assert source is not None
        path = folder / "test_models.py"
        path.write_bytes(source.read())
    return path


# ---- the plugin, in the process that runs the tests


def pytest_configure(config: Any) -> None:
    """Replace timm's factory before its tests import it."""
    for mark in (
        "base",
        "cfg",
        "cfg_nonstd",
        "features",
        "forward",
        "backward",
        "fxforward",
        "fxbackward",
        "torchscript",
    ):
        config.addinivalue_line("markers", f"{mark}: timm's")
    config.addinivalue_line("markers", "timeout: seconds")
    names = os.environ.get(ENVIRONMENT, "").split()
    if names:
        replace_factory(names)


def replace_factory(names: list[str]) -> None:
    import timm

    import weevit

    list_theirs, create_theirs = timm.list_models, timm.create_model

    def list_models(filter: Any = "", *_: Any, **options: Any) -> list[str]:
        options.pop("include_tags", None)
        found = list_theirs(filter, **options)
        return [name for name in names if name in found]

    def create_model(name: str, pretrained: bool = False, **options: Any) -> Any:
        if name.partition(".")[0] not in names:
            return create_theirs(name, pretrained, **options)
        if options.pop("feature_cls", "getter") != "getter":
            raise TypeError("feature_cls is 'getter'")
        options = {key: value for key, value in options.items() if value is not None}
        try:
            return weevit.create_model(name, pretrained, **options)
        except weevit.UsageError as error:  # timm's tests want the error that a call with a wrong argument has
            raise TypeError(str(error)) from error

    timm.list_models, timm.create_model = list_models, create_model


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Keep the tests of our models."""
    names = os.environ.get(ENVIRONMENT, "").split()
    kept = [item for item in items if any(name in item.name for name in names)]
    kept = [item for item in kept if not item.name.startswith(tuple(left_out(bool(os.environ.get(ENVIRONMENT_SLOW)))))]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


if __name__ == "__main__":
    sys.exit(main())

"""Every Python block of the documentation runs, and every command in it parses and does what it says.

The models come from a hub on loopback; their numbers are random, so what is said about the pictures is not looked at.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click
import fakes
import pytest
from loopback_hub import LoopbackHub
from served import serving

import weevit
from weevit.cli.app import VERBS
from weevit.zoo.weights import DEFAULT_MODEL

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for number, block in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)):
            found.append((f"{page.name}-{number}", block))
    return found


@pytest.fixture(scope="module")
def hub(fake_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    raw = fakes.config(DEFAULT_MODEL)
    pwee = fakes.folder(tmp_path_factory.mktemp("models") / DEFAULT_MODEL, raw)
    with LoopbackHub() as hub:
        for name, folder in ((fakes.TINY_TAG, fake_tiny), (DEFAULT_MODEL, pwee)):
            hub.add(f"timm/{name}", {path.name: path.read_bytes() for path in folder.iterdir()})
        yield hub


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, fake_tiny: Path) -> Path:
    """The folder that the documentation is typed in."""
    desk = tmp_path_factory.mktemp("desk") / "examples"
    shutil.copytree(ROOT / "examples", desk)
    fakes.blunt(weevit.load("digits").checkpoint, desk / "digits_blunt")
    (desk / "imagenet" / "val" / "n02124075").mkdir(parents=True)
    shutil.copy(desk / "photos" / "cat.jpg", desk / "imagenet" / "val" / "n02124075" / "ILSVRC2012_val_00000001.JPEG")
    return desk


@pytest.fixture(scope="module")
def environment(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = tmp_path_factory.mktemp("cache")
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache / "hf"), "WEEVIT_CACHE": str(cache / "weevit")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **own, "PATH": path, "PYTHONWARNINGS": "error"}


NEEDS = {
    "sklearn": r"jobs\.md|evaluation\.md|fitting\.md|datasets\.md|weevit (fit|data|eval|compare) |runs/mine",
    "filelock": r"search\.md|weevit (index|search) |bench --search",
    "jinja2": r"quantization\.md|duplicates\.md|weevit (quantize|dedup) |-int8",
    "uvicorn": r"serving\.md|weevit serve|--serve ",
    "mcp": r"weevit mcp",
    "ray": r"scale\.md|--on ray",
    "torch": r"(training|augmentation|fine-tuning)\.md|weevit (train|resume|finetune) |runs/tuned|create_model|torch",
}
"""Module of an extra -> the pages and commands that need it."""


def skip_without_extras(name: str, text: str) -> None:
    for module, pattern in NEEDS.items():
        if re.search(pattern, f"{name} {text}"):
            pytest.importorskip(module)


@pytest.mark.parametrize(("name", "block"), blocks("python"), ids=[name for name, _ in blocks("python")])
def test_python_blocks_run(name: str, block: str, desk: Path, environment: dict[str, str]) -> None:
    skip_without_extras(name, block)
    own = {"PYTHONWARNINGS": "default"} if "import ray" in block else {}  # Ray Data warns of itself
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=desk, env=environment | own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{name}:\n{done.stderr}"


def commands() -> list[tuple[str, str]]:
    found = []
    for language, prefix in (("sh", "weevit "), ("console", "$ weevit ")):
        for name, block in blocks(language):
            for line in block.splitlines():
                if line.startswith(prefix):
                    found.append((name, line.removeprefix("$ ")))
    return found


@pytest.mark.parametrize(("name", "command"), commands(), ids=[line for _, line in commands()])
def test_commands_do_what_they_say(name: str, command: str, desk: Path, environment: dict[str, str]) -> None:
    skip_without_extras(name, command)
    if command.startswith("weevit serve"):
        with serving(*shlex.split(command)[2:], cwd=desk, **environment) as server:
            assert server.ask("GET", "/readyz").status == 200
            assert server.stop() == 0
        return
    with ExitStack() as held:
        if "--serve http" in command:  # of a server that runs already
            server = held.enter_context(serving("digits", cwd=desk, **environment))
            command = command.replace("http://127.0.0.1:8000", server.url)
        done = subprocess.run(
            command, shell=True, cwd=desk, env=environment, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    expected = 0 if shlex.split(command)[1] in VERBS else 2  # the documentation shows one misspelt verb
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr


def test_links_and_paths_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
        for script in re.findall(r"python (benchmarks/\S+\.py)", page.read_text()):
            assert (ROOT / script).exists(), f"{page.name}: {script}"


def rows(text: str, column: str) -> list[dict[str, str]]:
    """The rows of all tables that have that column, as a dict from the column's name to the cell."""
    found, names = [], []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells or not names:
            names = cells
        elif column in names and not set(line) <= set("|-"):
            found.append(dict(zip(names, cells, strict=True)))
    return found


OLD = r"pictures?|(?:go|goes|gone|going) on with|cannot be meant|one's own|The same command goes on"
"""Words that have one term now: image, resume, invalid, your."""


def test_one_thing_has_one_term() -> None:
    said = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
    for verb in VERBS:
        command = getattr(importlib.import_module(f"weevit.cli.{verb}"), verb)
        context = click.Context(command, info_name=verb)
        subcommands = getattr(command, "commands", {}).values()
        said[verb] = "\n".join(one.get_help(context) for one in (command, *subcommands))
    for where, text in said.items():
        prose = re.sub(r"```python.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
        found = re.search(OLD, " ".join(prose.split()), re.IGNORECASE)
        assert not found, f"{where}: ... {prose[max(0, found.start() - 40) : found.end() + 40]} ..."


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_figure_names_its_machine_its_date_and_its_command() -> None:
    figures = rows((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"), "command")
    assert len(figures) > 35
    for row in figures:
        assert re.fullmatch(r"2\d{3}-\d\d-\d\d", row["date"]), row
        assert re.search(r"`(python benchmarks/|weevit )|^the same command", row["command"]), row
        assert re.search(r"AVX|any|not noted", row.get("machine", "not noted")), row


def test_the_readme_quotes_figures_that_stand_in_the_benchmarks() -> None:
    figures = rows((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"), "machine")
    quoted = rows((ROOT / "README.md").read_text(encoding="utf-8"), "ratio")
    assert len([row for row in quoted if row["what"]]) == 6
    for row in quoted:
        values = re.findall(r"\d[\d.]*(?:e-\d+)?(?: (?:s|MB|GB|images/s|%))?", f"{row['weevit']} {row['timm']}")
        machine, date = row["instruction set, date"].rpartition(", ")[::2]
        assert values
        assert any(
            all(value in f"{figure['weevit']} {figure.get('against')}" for value in values)
            and (date, machine) == (figure["date"], figure["machine"].rpartition(", ")[2].replace("any", ""))
            for figure in figures
        ), row


def test_every_promise_has_the_test_that_it_names() -> None:
    text = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+)| -k \w+)?`", text)
    assert len(named) > 25
    for path, name in named:
        assert not name or f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"
        assert (ROOT / path).is_file(), path

"""Advice leads somewhere: every command that a message names has a verb that is there and options that it takes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from test_arguments import walk

import weevit
from weevit.cli import app

SOURCE = Path(weevit.__file__).parent
COMMAND = re.compile(
    r"\bweevit ((?:[a-z]+)(?: (?:check|status|verify|list|show|diff|apply|undo)\b)?)((?: +[^\s`\"',;]+)*)"
)
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]+|-[a-z])(?![\w-])")
OF_OTHERS = {
    *("--upgrade", "--cpus", "--cpuset-cpus", "--standalone", "--nproc-per-node", "--nnodes", "--max-restarts"),
    *("--rdzv-backend", "--rdzv-endpoint"),
}
PROSE = {
    "weevit",
    "itself",
    "adds",
    "is",
    "was",
    "has",
    "may",
    "does",
    "reads",
    "and",
    "or",
    "did",
    "with",
    "will",
    "goes",
    "knows",
}
"""Words that follow the name in a sentence that is no command."""


def verbs() -> dict[str, click.Command]:
    return dict(walk(app.cli, click.Context(app.cli)))


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every text in a file that is no docstring; whatever is put into one stands there as X."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            silent.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            silent |= {id(part) for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if id(node) in silent:
            continue
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(v.value if isinstance(v, ast.Constant) else "X" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def commands() -> Iterator[tuple[str, str, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        for line, text in texts(path):
            for found in COMMAND.finditer(text):
                if found[1].split()[0] not in PROSE:
                    yield f"{path.relative_to(SOURCE)}:{line}", found[1], found[2].partition("   ")[0]


FOUND = list(commands())


def test_there_are_many() -> None:
    assert len(FOUND) >= 25
    assert {verb.split()[0] for _, verb, _ in FOUND} >= {"classify", "eval", "fit", "resume", "jobs", "models", "train"}


@pytest.mark.parametrize(("place", "verb", "words"), FOUND, ids=[f"{place}-{verb}" for place, verb, _ in FOUND])
def test_a_command_in_a_message_can_be_typed(place: str, verb: str, words: str) -> None:
    known = verbs()
    name = verb if verb in known else verb.split()[0]
    name = f"{name} find" if f"{name} find" in known else name  # which may be left out
    assert name in known, f"{place}: there is no verb {verb!r}"
    own = {option for parameter in known[name].params for option in parameter.opts} | {"--help", "-h"}
    given = set(OPTION.findall(words))
    assert given <= own, f"{place}: weevit {name} takes no {given - own}"


def test_an_option_in_a_message_is_there() -> None:
    known = {option for command in verbs().values() for parameter in command.params for option in parameter.opts}
    for path in sorted(SOURCE.rglob("*.py")):
        for line, text in texts(path):
            if " " in text or text.startswith("--"):
                missing = set(OPTION.findall(text)) - known - OF_OTHERS - {"--help", "-h", "-c", "-e", "-p"}
                assert not missing, f"{path.relative_to(SOURCE)}:{line}: {missing} in {text!r}"


NO_PATHS = {"first", "repo_id", "self.name", "rows[0]['name']", "SCHEMA"}
"""What else may stand in a command: names of ours."""


def test_a_path_in_a_command_is_quoted() -> None:
    """A folder called `my run` would be two words."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.JoinedStr):
                continue
            before = ""
            for part in node.values:
                if isinstance(part, ast.Constant):
                    before += part.value
                    continue
                value = ast.unparse(part.value)  # type: ignore[attr-defined]
                named = re.search(r"\bweevit ([a-z]+)( [^.,;:]*)?$", before.rpartition("   ")[2])
                if named and named[1] not in PROSE:
                    quoted = re.match(r"(typed|shlex\.quote|_command|convert_hint)\(", value)
                    assert quoted or value in NO_PATHS, f"{path.relative_to(SOURCE)}:{node.lineno}: {value}"
                before += "X"


def test_words_of_python_are_no_advice_for_the_command_line() -> None:
    """`allow_missing` is an argument; whoever typed a command needs `--allow-missing`, and where to put it."""
    from weevit.datasets.found import _hint

    hint = _hint([], ["a"])
    assert "--allow-missing" in hint
    for verb in re.findall(r"(eval|compare|fit)\b", hint):
        assert any("--allow-missing" in parameter.opts for parameter in verbs()[verb].params)
    for verb in ("train", "finetune"):
        assert not any("--allow-missing" in parameter.opts for parameter in verbs()[verb].params)

"""The public surface against lists: a change of a name, an option or an exit code is a change of a list.

`python tests/test_frozen.py` writes the lists anew; the diff shows what users will notice.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

import weevit
from weevit import errors
from weevit.cli.app import VERBS, exit_code

FOLDER = Path(__file__).with_name("frozen")


def names() -> Iterator[str]:
    """What `import weevit` offers."""
    yield from weevit.__all__


def options() -> Iterator[str]:
    """Each verb's arguments and options, with kinds and defaults: `classify --topk integer = 5`."""
    for verb in VERBS:
        yield from _options(verb, getattr(importlib.import_module(f"weevit.cli.{verb}"), verb))


def _options(words: str, command: click.Command) -> Iterator[str]:
    for name, one in sorted(getattr(command, "commands", {}).items()):
        yield from _options(f"{words} {name}", one)
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            yield f"{words} {parameter.make_metavar(click.Context(command))}"
        else:
            spelled = ", ".join([*parameter.opts, *parameter.secondary_opts])
            yield f"{words} {spelled} {_kind(parameter)}{_default(parameter)}"


def _kind(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return "flag"
    choices = getattr(parameter.type, "choices", None)
    return "|".join(choices) if choices else parameter.type.name


def _default(parameter: click.Parameter) -> str:
    value = parameter.to_info_dict()["default"]
    return "" if value in (None, False, "", (), []) or callable(value) else f" = {value}"


def error_classes() -> Iterator[str]:
    """The error classes, each with its parents in weevit and the exit code of a command that it ends."""
    for name, value in sorted(vars(errors).items()):
        if inspect.isclass(value) and issubclass(value, errors.WeevitError):
            parents = [base.__name__ for base in value.__mro__[1:] if base is not object]
            yield f"{name}: exit {exit_code(value)}; {', '.join(parents[: parents.index('Exception')]) or 'the base'}"


LISTS: dict[str, Callable[[], Iterator[str]]] = {"names": names, "options": options, "errors": error_classes}


@pytest.mark.parametrize("name", LISTS)
def test_the_surface_is_the_frozen_one(name: str) -> None:
    frozen = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    now = list(LISTS[name]())
    gone, new = sorted(set(frozen) - set(now)), sorted(set(now) - set(frozen))
    assert now == frozen, f"gone: {gone}, new: {new}; if that is meant: python tests/test_frozen.py, and CHANGELOG"


def test_every_name_can_be_listed_and_no_other() -> None:
    assert sorted(weevit.__all__) == sorted(dir(weevit))
    assert len(set(weevit.__all__)) == len(weevit.__all__)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, listed in LISTS.items():
        (FOLDER / f"{name}.txt").write_text("".join(f"{line}\n" for line in listed()), encoding="utf-8")

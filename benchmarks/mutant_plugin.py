"""A pytest plugin of `mutants.py`: notes which test runs which lines, or runs chosen tests in a chosen order.

It reads two variables of the environment, each the path of a JSON file, and does nothing without them:

    WEEVIT_MUTANTS_RECORD   is written: test -> seconds, outcome, and the fixtures that it shares with others
    WEEVIT_MUTANTS_SELECT   is read: the ids of the tests to run, in their order
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RECORD, SELECT, CONTEXT = "WEEVIT_MUTANTS_RECORD", "WEEVIT_MUTANTS_SELECT", "WEEVIT_MUTANTS_CONTEXT"

_tests: dict[str, dict[str, Any]] = {}


def _switch(context: str) -> None:
    """What is run from now on belongs to this test or fixture, in this process and in those that it starts."""
    import coverage

    os.environ[CONTEXT] = context
    if (current := coverage.Coverage.current()) is not None:
        current.switch_context(context)


def _shared_fixtures(item: pytest.Item) -> list[str]:
    info = getattr(item, "_fixtureinfo", None)
    definitions = [found[-1] for found in info.name2fixturedefs.values()] if info else []
    return [_name(one) for one in definitions if one.scope != "function"]


def _name(fixture: Any) -> str:
    return f"fixture {fixture.baseid}::{fixture.argname}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if RECORD in os.environ:
        _tests[item.nodeid] = {"seconds": 0.0, "outcome": "passed", "fixtures": _shared_fixtures(item)}
        _switch(item.nodeid)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Iterator[None]:
    """The lines of a fixture that tests share are theirs all, not only those of the first that asked for it."""
    if RECORD not in os.environ or fixturedef.scope == "function":
        return (yield)
    before = os.environ.get(CONTEXT, "")
    _switch(_name(fixturedef))
    try:
        return (yield)
    finally:
        _switch(before)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if (test := _tests.get(report.nodeid)) is None:
        return
    test["seconds"] += report.duration
    if report.outcome != "passed":
        test["outcome"] = report.outcome


def pytest_sessionfinish() -> None:
    if RECORD in os.environ:
        Path(os.environ[RECORD]).write_text(json.dumps(_tests), encoding="utf-8")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SELECT in os.environ:
        order = {name: place for place, name in enumerate(json.loads(Path(os.environ[SELECT]).read_text("utf-8")))}
        items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])

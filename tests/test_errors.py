"""Errors: what they say with and without a hint, how lists are cut, and that they travel between processes whole."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from weevit import errors
from weevit.errors import InputsFailedError, MissingImageError, UsageError, WeevitError, did_you_mean, nearest

ALL = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, WeevitError)]


def test_a_hint_is_a_line_of_its_own() -> None:
    assert str(UsageError("This is wrong.")) == "This is wrong."
    assert str(UsageError("This is wrong.", "weevit --help")) == "This is wrong.\nweevit --help"
    assert UsageError("This is wrong.", "weevit --help").args == ("This is wrong.",)
    assert (UsageError("a").message, UsageError("a").hint) == ("a", "")


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_survives_pickle_and_copy(kind: type[WeevitError]) -> None:
    """As a pool of processes sends them; one that could not be read there would hang the pool."""
    given = ([("a.png", "missing: gone")], 3) if kind is InputsFailedError else ("What happened.", "What helps.")
    error = kind(*given)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is kind
        assert str(other) == str(error)
        assert vars(other) == vars(error)
        assert other.args == error.args


@pytest.mark.parametrize(("count", "listed"), [(1, 1), (10, 10), (11, 10), (25, 10)])
def test_ten_failures_are_listed_and_the_others_counted(count: int, listed: int) -> None:
    error = InputsFailedError([(f"{place}.png", "missing: gone") for place in range(count)], 99)
    assert error.message.count("missing: gone") == listed
    assert error.message.startswith(f"{count} of 99 inputs have no answer")
    assert ("more" in error.message) == (count > 10)
    if count > 10:
        assert f"... and {count - 10} more" in error.message
    assert len(error.failures) == count


def test_the_nearest_names_stand_first() -> None:
    assert nearest("TINY", ["pwee", "tiny", "small"]) == ["tiny"]
    assert nearest("wee", ["pwee", "weee", "tiny"])[0] in ("pwee", "weee")
    assert nearest("xyzxyz", ["pwee"]) == []
    assert nearest("a1", ["a2", "a3", "a4", "a5"], count=2) == nearest("a1", ["a2", "a3", "a4", "a5"])[:2]
    assert did_you_mean("tinny", ["tiny"]) == "Did you mean 'tiny'?"
    assert did_you_mean("xyzxyz", ["tiny"]) == ""


def test_a_status_is_the_first_word_of_an_error() -> None:
    assert (MissingImageError("gone").status, MissingImageError("gone").kind) == ("missing", "missing")

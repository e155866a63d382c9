"""With what and on what something was made."""

from __future__ import annotations

import json
import platform
import re
from importlib.metadata import version
from pathlib import Path

import pytest

import weevit
from weevit.store.provenance import installed, provenance


def test_versions_are_those_that_are_installed() -> None:
    assert installed("numpy") == version("numpy")
    assert installed("no-such-package") is None
    found = provenance(("numpy", "no-such-package"))
    assert found["versions"] == {
        "weevit": weevit.__version__,
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "no-such-package": None,
    }
    assert found["machine"]["processor"]
    assert json.loads(json.dumps(found)) == found


def test_the_processor_is_named_as_linux_names_it() -> None:
    listed = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", listed.read_text(), re.MULTILINE) if listed.exists() else None
    if named is None:
        pytest.skip("this system does not name its processor there")
    assert provenance(())["machine"]["processor"] == named[1].strip()

"""With what and on what something was made."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version

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

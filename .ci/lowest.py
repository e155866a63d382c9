"""Print the lowest versions that pyproject.toml allows for the core and some extras, as constraints for pip.

python .ci/lowest.py data remote > lowest.txt && pip install -c lowest.txt ".[data,remote]"
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = [project["optional-dependencies"][name] for name in sys.argv[1:]]
for requirement in sum(extras, project["dependencies"]):
    found = re.fullmatch(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", requirement)
    if not found:
        sys.exit(f"no lowest version in {requirement!r}")
    print("==".join(found.groups()))

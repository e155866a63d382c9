"""Hold what a wheel and a source distribution say of themselves against pyproject.toml, and look into them."""

from __future__ import annotations

import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
for path in map(Path, sys.argv[1:]):
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
            (own,) = [name for name in names if name.endswith(".dist-info/METADATA")]
            said = message_from_bytes(wheel.read(own))
        stray = [name for name in names if not name.startswith(("weevit/", "weevit-"))]
        needed = ["weevit/py.typed", "weevit/cli/app.py"]
    else:
        with tarfile.open(path) as archive:
            names = [name.partition("/")[2] for name in archive.getnames()]
            (own,) = [name for name in archive.getnames() if name.count("/") == 1 and name.endswith("/PKG-INFO")]
            content = archive.extractfile(own)
            assert content is not None
            said = message_from_bytes(content.read())
        stray = [name for name in names if "__pycache__" in name or name.startswith((".venv", "runs/"))]
        needed = ["src/weevit/py.typed", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "docs/trust.md"]
    wrong = [f"has {name}" for name in stray] + [f"lacks {name}" for name in needed if name not in names]
    if said.get_all("Classifier") != project["classifiers"]:
        wrong.append("has other classifiers")
    if {line.partition(", ")[2] for line in said.get_all("Project-URL") or []} != set(project["urls"].values()):
        wrong.append("has other project URLs")
    if said["Requires-Python"] != project["requires-python"] or said["License-Expression"] != project["license"]:
        wrong.append("has another licence or allows another Python")
    if wrong:
        sys.exit(f"{path.name} " + ", ".join(wrong))
    print(f"{path.name}: {len(names)} files, {path.stat().st_size / 1e6:.1f} MB")

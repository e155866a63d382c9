"""Print the oldest and the newest Python of this machine that pyproject.toml allows, as `3.11=/path/to/python`."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

requires = tomllib.loads(Path("pyproject.toml").read_text())["project"]["requires-python"]
least = tuple(map(int, requires.removeprefix(">=").split(".")))
folders = [Path(one) for one in os.environ.get("PATH", "").split(os.pathsep) if one]
folders += [folder / "bin" for folder in Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*")]
found: dict[tuple[int, int], Path] = {}
for folder in folders:
    for path in folder.glob("python3*"):
        if not re.fullmatch(r"python3(\.\d+)?", path.name):
            continue
        code = "import sys, ensurepip; print(*sys.version_info[:2], sys.flags.ignore_environment)"
        said = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        if said.returncode == 0:
            major, minor, _ = map(int, said.stdout.split())
            found.setdefault((major, minor), path)
fit = sorted(version for version in found if version >= least)
for version in dict.fromkeys((fit[0], fit[-1])):
    print(f"{version[0]}.{version[1]}={found[version]}")

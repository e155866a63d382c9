"""Installed size of the core in a new environment, pip and setuptools apart.

    python benchmarks/size.py

To reach: 300 MB. Needs a package index.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT

NOT_OURS = ("pip", "setuptools", "_distutils_hack", "pkg_resources", "distutils-precedence")


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        python = Path(place) / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT)], check=True, stderr=subprocess.DEVNULL)
        (packages,) = Path(place).glob("lib/python*/site-packages")
        sizes = {
            folder.name: sum(path.stat().st_size for path in [folder, *folder.rglob("*")] if path.is_file())
            for folder in packages.iterdir()
            if not folder.name.startswith(NOT_OURS)
        }
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:10]:
        print(f"  {size / 1e6:6.1f} MB  {name}")
    print(f"{sum(sizes.values()) / 1e6:.0f} MB in all (to reach: 300 MB)")


if __name__ == "__main__":
    main()

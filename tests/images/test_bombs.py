"""Row J10 of the reliability scorecard, short: in full, `benchmarks/reliability/containers.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import containers
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "reliability" / "containers.py"

SHARES = {
    "tgz, 12 members of 200 MB that begin like images": 0.2,
    "tgz, a map of holes of 2 million blocks": 0.02,
    "parquet, one image of 20 MB 1,000 times": 0.05,
    "parquet, one path of 1 MB 20,000 times": 0.03,
    "parquet, 20,000 images in the list of one cell": 0.1,
    "csv, a quoted cell of 1 GB": 0.3,
}
"""Each takes more than the limit where everything is held."""

LIMIT_MB = 600


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux how much was held")
@pytest.mark.parametrize("name", SHARES)
def test_a_small_container_takes_little_memory(tmp_path: Path, name: str) -> None:
    if name.startswith("parquet"):
        pytest.importorskip("pyarrow")
    ending, make = containers.BOMBS[name]
    (tmp_path / "a.png").write_bytes(containers.png())
    path = make(tmp_path / f"bomb{ending}", SHARES[name])
    words = [sys.executable, str(BENCHMARK), "--read", str(path)]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert found["rows"] > 0
    assert found["mb"] < LIMIT_MB

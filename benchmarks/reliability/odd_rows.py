"""Row J13 in full: one odd row of every kind between 1,000 good ones, in every container that may hold it.

    python benchmarks/reliability/odd_rows.py

Prints how many answers and failed rows each gave; anything but 1,000 and one (none for an empty line) is an error.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from weevit.errors import ImageError
from weevit.images.source import Source, open_image
from weevit.images.sources import expand

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

HALF = 500


def is_answered(source: Source) -> bool:
    try:
        return open_image(source).size == (4, 3)
    except ImageError:
        return False


def main() -> None:
    import containers

    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        place = containers.odd_place(Path(name))
        for kind in containers.CONTAINERS:
            for odd, path in containers.ODD_PATHS.items():
                made = containers.with_odd_row(place, kind, path, HALF)
                if made is None:
                    continue
                answered = [is_answered(source) for source in expand(made)]
                counts = answered.count(True), answered.count(False)
                right = counts == (2 * HALF, 0 if kind == "txt" and not path.strip() else 1)
                wrong += not right
                print(f"{kind:<8} {odd:<26} {counts[0]:,} answers, {counts[1]} failed{'' if right else '   WRONG'}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()

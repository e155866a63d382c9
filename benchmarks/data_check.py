"""What `weevit data check` finds of what was put wrong on purpose in a copy of the photos of clothes, with ViT-Ti.

    python benchmarks/data_check.py [--seeds 3] [--every 1]

To reach, for each seed: 100 of 100 exact copies and 20 of 20 broken files; of 60 labels that were changed, 45 within
the first 120 suspects. Copies that were compressed or scaled anew are counted apart. Nothing but what was put wrong
should be found; what the data itself has wrong (without anything planted) is told first.
Needs the shared data. The first run embeds 3,409 photos; later ones find most embeddings in weevit's cache.
"""

from __future__ import annotations

import argparse
import io
import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from common import shared, vit_tiny
from PIL import Image

import weevit
from weevit.checking.results import DataCheck
from weevit.predict import Predictor

COPIES, LABELS, BROKEN, FIRST = 100, 60, 20, 120


@dataclass
class Planted:
    """What was put wrong: pairs of ids, and ids."""

    exact: list[tuple[str, str]] = field(default_factory=list)
    anew: list[tuple[str, str]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="take every n-th photo only")
    arguments = parser.parse_args()
    model = weevit.load(vit_tiny())
    with tempfile.TemporaryDirectory() as name:
        clean = copy_of(shared("clothing"), Path(name) / "clean", arguments.every)
        before = weevit.check_data(clean, model)
        print(f"as it is       {told(before)}")
        for seed in range(arguments.seeds):
            run(clean, Path(name) / f"seed{seed}", seed, model, before)


def run(clean: Path, folder: Path, seed: int, model: Predictor, before: DataCheck) -> None:
    shutil.copytree(clean, folder)
    planted = plant(folder, random.Random(seed))
    found = weevit.check_data(folder, model)
    groups = [{image.id for image in copies.members} for copies in found.leaks]
    known = {frozenset(image.id for image in copies.members) for copies in before.copies}
    of_planted = {name for pair in planted.exact + planted.anew for name in pair}
    false = [copies for copies in found.copies if not {image.id for image in copies.members} & of_planted]
    false = [copies for copies in false if frozenset(image.id for image in copies.members) not in known]
    broken = {one.image.id for one in found.broken}
    first = [suspect.image.id for suspect in found.suspects[:FIRST]]
    exact, anew = (
        f"{sum(any({*pair} <= group for group in groups) for pair in own)}/{len(own)}"
        for own in (planted.exact, planted.anew)
    )
    print(
        f"seed {seed}         exact copies {exact} · compressed or scaled {anew} "
        f"· copies that are none {len(false)} · broken {len(broken & {*planted.broken})}/{len(planted.broken)}, "
        f"{len(broken - {*planted.broken})} that are whole · labels {len({*first} & {*planted.labels})}/"
        f"{len(planted.labels)} in the first {len(first)} of {len(found.suspects)} · {found.seconds:.0f} s",
        flush=True,
    )


def told(found: DataCheck) -> str:
    return (
        f"{len(found.images):,} images · {len(found.copies)} groups of copies · {len(found.broken)} broken · "
        f"{len(found.suspects)} suspects · {len(found.alike)} hardly told apart · {found.seconds:.0f} s"
    )


def copy_of(source: Path, folder: Path, every: int) -> Path:
    for place, path in enumerate(sorted(source.glob("*/*/*.jpg"))):
        if place % every == 0:
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return folder


def plant(folder: Path, draw: random.Random) -> Planted:
    """Each photo is used for one thing only."""
    planted = Planted()
    train, both = sorted(folder.glob("train/*/*.jpg")), sorted(folder.glob("*/*/*.jpg"))
    copies = draw.sample(train, min(2 * COPIES, len(train) // 4))
    others = [path for path in both if path not in set(copies)]
    wrong = draw.sample(others, min(LABELS + BROKEN, len(others) // 4))
    for place, path in enumerate(copies):
        copy = folder / "validation" / path.parent.name / f"copy-{place}.jpg"
        own = planted.exact if place % 2 else planted.anew
        copy.write_bytes(path.read_bytes() if place % 2 else made_anew(path, draw))
        own.append((id_of(path, folder), id_of(copy, folder)))
    for place, path in enumerate(wrong):
        if place % 4 == 0:
            damage(path, place // 4)
            planted.broken.append(id_of(path, folder))
        else:
            classes = [other.name for other in path.parent.parent.iterdir() if other != path.parent]
            target = path.parent.parent / draw.choice(sorted(classes)) / path.name
            path.rename(target)
            planted.labels.append(id_of(target, folder))
    return planted


def id_of(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder))


def made_anew(path: Path, draw: random.Random) -> bytes:
    """Compressed to another quality, scaled, or both; sometimes as another format."""
    image = Image.open(path)
    scale = draw.choice((1, 1, 0.4, 0.7, 1.5))
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, draw.choice(("JPEG", "JPEG", "WEBP")), quality=draw.randint(30, 92))
    return stream.getvalue()


def damage(path: Path, way: int) -> None:
    data = path.read_bytes()
    ways = (data[: len(data) // 2], b"", b"<html>not found</html>", data[:20], b"\0" * len(data), data[:-400])
    path.write_bytes(ways[way % len(ways)])


if __name__ == "__main__":
    main()

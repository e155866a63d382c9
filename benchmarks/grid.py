"""How fast the page of `weevit dedup` is with 5,000 thumbnails, in Chromium: files beside it, or images inside it.

    python benchmarks/grid.py [--images 5000] [--runs 3]

For each way and width: bytes, seconds until the page is painted first and until it is loaded, and, while 40 screens are
scrolled through as fast as frames come, the 95th percentile of the time of a frame and the share of frames above 50 ms.
To reach: first paint within 1 s; no frame above 200 ms. Needs playwright and the shared data.
"""

from __future__ import annotations

import argparse
import base64
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import ROOT, instruction_set, shared
from PIL import Image

from weevit.reports.grid import Group, Item, Section, grid_page
from weevit.reports.thumbnails import jpeg

sys.path.insert(0, str(ROOT / "tests" / "support"))

SCROLL = """async (screens) => {
  const frames = [];
  let last = performance.now();
  const height = innerHeight;
  for (let at = 0; at < screens * 4; at++) {
    scrollBy(0, height / 4);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - last);
    last = now;
  }
  return frames;
}"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime / 1000"


def page(folder: Path, thumbs: list[bytes], inside: bool) -> Path:
    """A page of groups of two and three images, with its thumbnails in it or beside it."""
    folder.mkdir()
    (folder / "thumbs").mkdir()
    groups: list[Group] = []
    items: list[Item] = []
    for place, data in enumerate(thumbs):
        address = f"thumbs/{place:05d}.jpg"
        if inside:
            address = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
        else:
            (folder / address).write_bytes(data)
        facts = {"what": "copy", "pixels": "256 × 341", "bytes": "17.5 kB", "format": "JPEG", "taken": "no EXIF time"}
        items.append(Item(f"photos/{place}.jpg", address, f"{place}.jpg", facts, ("what", "pixels", "bytes")))
        if len(items) == 2 + len(groups) % 2:
            groups.append(Group("the same image, compressed or scaled again", items))
            items = []
    html = grid_page("weevit dedup", f"{len(groups)} groups", "", [Section("copies", "Copies", "Certain.", groups)])
    (folder / "report.html").write_text(html, encoding="utf-8")
    return folder / "report.html"


def look(chromium: Any, path: Path, width: int) -> tuple[float, float, list[float]]:
    """Seconds until first paint and load, and milliseconds of frames."""
    context = chromium.new_context(viewport={"width": width, "height": 844})
    tab = context.new_page()
    start = time.perf_counter()
    tab.goto(path.as_uri(), wait_until="load")
    loaded = time.perf_counter() - start
    tab.wait_for_timeout(300)
    painted, frames = tab.evaluate(PAINT), tab.evaluate(SCROLL, 40)
    context.close()
    return painted, loaded, frames


def main() -> None:
    from browsing import CHROMIUM, DESKTOP, PHONE
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    photos = sorted(shared("clothing").glob("*/*/*.jpg"))
    made = [jpeg(Image.open(path).convert("RGB"), 288) for path in photos[: arguments.images]]
    thumbs = (made * (1 + arguments.images // len(made)))[: arguments.images]
    print(instruction_set(), time.strftime("%Y-%m-%d"), f"{arguments.images:,} thumbnails")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        ways = {way: page(Path(name) / way, thumbs, way == "inside") for way in ("files", "inside")}
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        seen: dict[tuple[str, int], list[tuple[float, float, list[float]]]] = {}
        for _ in range(arguments.runs):
            for way, path in ways.items():
                for width in (DESKTOP, PHONE):
                    seen.setdefault((way, width), []).append(look(chromium, path, width))
        for (way, width), runs in seen.items():
            frames = sorted(frame for *_, own in runs for frame in own)
            slow = sum(frame > 50 for frame in frames) / len(frames)
            print(
                f"{way:7} {width:5} px   page {ways[way].stat().st_size / 1e6:.1f} MB   "
                f"first paint {statistics.median(run[0] for run in runs):.2f} s   "
                f"loaded {statistics.median(run[1] for run in runs):.2f} s   "
                f"frames: p95 {frames[int(0.95 * len(frames))]:.0f} ms, above 50 ms {slow:.1%}, "
                f"longest {frames[-1]:.0f} ms"
            )
        chromium.close()


if __name__ == "__main__":
    main()

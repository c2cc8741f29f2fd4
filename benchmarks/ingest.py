"""Taking in phone-size photographs: ``python -m benchmarks.ingest``.

Upscales some photographs to 2560 x 1920 JPEG files, then times, in turn and in one thread, what
others do (decode the whole picture with Pillow, resize it) and what Espalier does (read, hash,
check and decode at the scale that is needed, write into the store), and reading the store.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from benchmarks.measure import Timing, circumstances, load_average, short, spread, timed
from espalier.data.sources import inspect_files
from espalier.data.store import DiskStore, look_at
from espalier.files import write_text

HERE = Path(__file__).resolve().parent
PHOTOS = HERE.parents[1] / "shared" / "datasets" / "trashnet6"
LONG, SHORT = 2560, 1920
QUALITY = 90
# What 128 and 224 pixels with the crops of the light policy lead to.
SIDES = {"128 px": 190, "224 px": 333}
TARGET, STRETCH = 6.0, 7.5


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        record = measure(options, Path(folder))
    write_text(options.out / "ingest.json", json.dumps(record, indent=1) + "\n")
    for result in record["results"]["cases"]:
        sys.stdout.write(line(result) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument("--data", type=Path, default=PHOTOS, help="folder of JPEG photographs")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--quick", action="store_true", help="few images and repeats")
    options = parser.parse_args()
    if options.quick:
        options.images, options.repeats = 16, 3
    return options


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All cases: two kinds of photographs, and the sides for two resolutions."""
    cv2.setNumThreads(1)
    before, began = load_average(), time.perf_counter()
    cases = []
    for kind, grain in (("smooth", 0.0), ("grainy", 3.0)):
        files = phone_photos(options.data, folder / kind, options.images, grain)
        for resolution, side in SIDES.items():
            about = {"photographs": kind, "resolution": resolution, "side": side}
            cases.append({**about, **compare(files, side, options.repeats, folder)})
    return {
        "format": 1,
        "part": "ingest",
        "command": " ".join(["python -m benchmarks.ingest", *sys.argv[1:]]),
        "quick": options.quick,
        **circumstances(),
        "load_average": {"before": before, "after": load_average()},
        "took_seconds": round(time.perf_counter() - began),
        "settings": {
            "data": options.data.name,
            "images": options.images,
            "pixels": [LONG, SHORT],
            "jpeg_quality": QUALITY,
            "threads": 1,
        },
        "results": {"target": TARGET, "stretch": STRETCH, "cases": cases},
    }


def phone_photos(source: Path, folder: Path, count: int, grain: float) -> list[str]:
    """Photographs as large as a phone's, upscaled; ``grain`` is the noise of a sensor."""
    found = sorted(source.rglob("*.jpg"))
    if len(found) < count:
        raise SystemExit(f"{source} has {len(found)} JPEG photographs, {count} are needed")
    folder.mkdir()
    noise = np.random.default_rng(0)
    files = []
    for number, path in enumerate(found[:: len(found) // count][:count]):
        image = Image.open(path).convert("RGB")
        size = (LONG, SHORT) if image.width >= image.height else (SHORT, LONG)
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        # The same in all channels: a phone smooths the noise of colours away.
        pixels = pixels + grain * noise.standard_normal((*pixels.shape[:2], 1), dtype=np.float32)
        large = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
        large.save(folder / f"{number}.jpg", quality=QUALITY)
        files.append(str(folder / f"{number}.jpg"))
    return files


def compare(files: Sequence[str], side: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Both ways in turn, each first every other time, and reading back what was stored."""
    ways: dict[str, Callable[[], object]] = {
        "pillow": lambda: [decode_whole(path, side) for path in files],
        "ingest": lambda: take_in(files, side, folder / "store"),
    }
    found: dict[str, list[Timing]] = {name: [] for name in (*ways, "read")}
    for turn in range(repeats):
        for name in sorted(ways, reverse=turn % 2 == 1):
            shutil.rmtree(folder / "store", ignore_errors=True)
            found[name].append(timed(ways[name]))
        shutil.rmtree(folder / "store", ignore_errors=True)
        take_in(files, side, folder / "store")
        found["read"].append(read_back(files, side, folder / "store"))
    return {"kilobytes": short(mean_size(files)), **summary(len(files), found)}


def decode_whole(path: str, side: int) -> object:
    """A photograph as a data set of Pillow images gives it, resized to the store's side."""
    with Image.open(path) as image:
        whole = image.convert("RGB")
    scale = side / min(whole.size)
    size = round(whole.width * scale), round(whole.height * scale)
    return np.asarray(whole.resize(size, Image.Resampling.BILINEAR))


def take_in(files: Sequence[str], side: int, folder: Path) -> None:
    """What building a catalog does with each file, in this thread."""
    store = DiskStore(folder, side, 2**40, required=True)
    for path in files:
        seen, picture = look_at(path, store)
        assert picture is not None, seen.reason
        store.put(picture)
    store.close()


def read_back(files: Sequence[str], side: int, folder: Path) -> Timing:
    """Every photograph once from the published store, as in the first epoch."""
    contents = [sample.content for sample in inspect_files(files)]
    store = DiskStore(folder, side, 2**40, required=True)

    def read() -> None:
        for content in contents:
            assert store.get(content) is not None

    return timed(read)


def mean_size(files: Sequence[str]) -> float:
    return sum(Path(path).stat().st_size for path in files) / len(files) / 1000


def summary(count: int, found: dict[str, list[Timing]]) -> dict[str, Any]:
    """Images per second and CPU-milliseconds of each way, and how many times faster ours is."""
    pairs = list(zip(found["pillow"], found["ingest"], strict=True))
    return {
        "ratio": spread([other.wall / ours.wall for other, ours in pairs]),
        "cpu_ratio": spread([other.cpu / ours.cpu for other, ours in pairs]),
        "images_per_second": {
            name: spread([count / one.wall for one in timings]) for name, timings in found.items()
        },
        "cpu_ms_per_image": {
            name: spread([1000 * one.cpu / count for one in timings])
            for name, timings in found.items()
        },
    }


def line(case: dict[str, Any]) -> str:
    speeds = {name: value["median"] for name, value in case["images_per_second"].items()}
    return (
        f"{case['photographs']}, {case['kilobytes']:.0f} kB, {case['resolution']}: "
        f"pillow {speeds['pillow']:.1f} img/s, ingest {speeds['ingest']:.1f} img/s, "
        f"{case['ratio']['median']:.1f} x (CPU {case['cpu_ratio']['median']:.1f} x); "
        f"read {speeds['read']:,.0f} img/s"
    )


if __name__ == "__main__":
    main()

"""How time and memory grow with the number of images: ``python -m benchmarks.audit.scale``.

Distinct tiles of larger photographs stand for many small ones: no two show the same place. Each
size is audited in a process of its own, with nothing kept, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.audit.plant import QUALITY, photographs, read
from benchmarks.audit.sets import DATASETS, MODEL, ROOT, WEIGHTS
from benchmarks.measure import short

TILE = 64
SIZES = (4000, 8000, 16000)
QUICK_SIZES = (500, 1000)
IMAGES = 100_000
MOST_GB = 24
PHASES = ("read", "look", "embed", "compare", "judge")
SOURCES = ("trashnet6", "plant_seedlings12")


def measure(work: Path, weights: Path, sizes: Sequence[int]) -> dict[str, Any]:
    """All sizes, and what they say of 100,000 images."""
    runs = []
    for size in sizes:
        folder = make_tiles(work / f"tiles-{size}", size)
        runs.append(in_own_process(folder, weights, work / f"cache-{size}"))
    return {
        "tile": TILE,
        "sources": list(SOURCES),
        "runs": runs,
        "extrapolated": extrapolated(runs, IMAGES),
    }


def make_tiles(folder: Path, count: int) -> Path:
    """So many tiles, as ``train/photo class/file``, equally many of each photograph."""
    made = 0
    for turn in range(60):
        for source in SOURCES:
            for name in photographs(DATASETS / source):
                pixels = read(DATASETS / source / name)
                down, across = (side // TILE for side in pixels.shape[:2])
                if turn >= down * across:
                    continue
                top, left = (TILE * place for place in divmod(turn, across))
                place = folder / "train" / name.split("/")[1]
                place.mkdir(parents=True, exist_ok=True)
                tile = np.ascontiguousarray(pixels[top : top + TILE, left : left + TILE])
                options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
                cv2.imwrite(str(place / f"{made:06d}.jpg"), tile, options)
                made += 1
                if made == count:
                    return folder
    raise SystemExit(f"the photographs give {made:,} tiles, {count:,} are needed")


def in_own_process(folder: Path, weights: Path, cache: Path) -> dict[str, Any]:
    """One audit from nothing, as another process sees it."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.audit.scale", str(folder), str(weights)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ESPALIER_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the audit of {folder.name} failed:\n{done.stderr}")
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def one_audit(folder: Path, weights: Path) -> dict[str, Any]:
    """CPU-seconds of each phase, candidates that were compared, and the peak of memory."""
    from espalier.auditing.gather import audit_photos
    from espalier.recipe.load import load_recipe

    recipe = load_recipe(
        flags={"source": str(folder), "model": MODEL, "weights": str(weights), "imgsz": str(TILE)},
        sets=["training.threads=1", "data.workers=1"],
    )
    seen: dict[str, tuple[float, float, int]] = {}
    before, began = time.process_time(), time.perf_counter()
    progress = {name: watcher(seen, name) for name in ("read", "look", "compare")}
    audit = audit_photos(recipe, progress=progress)
    end = time.process_time()
    return {
        "images": len(audit.audited.catalog.samples),
        "cpu_seconds": by_phase(seen, before, end),
        "total_cpu_seconds": short(end - before),
        "seconds": short(time.perf_counter() - began),
        "compared": seen.get("compare", (0, 0, 0))[2],
        "pairs": len(audit.audited.pairs or ()),
        "peak_mb": round(peak_bytes() / 1e6),
    }


def peak_bytes() -> int:
    """Most memory that this process has held, as Linux counts it.

    Not ``ru_maxrss``: a child starts with that of its parent, which has audited larger sets.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def watcher(seen: dict[str, tuple[float, float, int]], name: str) -> Callable[[int, int], None]:
    """Notes when a phase was first and last heard of, and how much it has to do."""

    def watch(done: int, total: int) -> None:
        now = time.process_time()
        seen[name] = (seen[name][0] if name in seen else now, now, total)

    return watch


def by_phase(
    seen: dict[str, tuple[float, float, int]], began: float, ended: float
) -> dict[str, float]:
    """CPU-seconds between the last words of one phase and the last of the next.

    Features are made between the last look and the first comparison, keys of copies too.
    """
    read, look, compare = (seen[name] for name in ("read", "look", "compare"))
    marks = (began, read[1], look[1], compare[0], compare[1], ended)
    return {
        phase: short(marks[i + 1] - marks[i]) for i, phase in enumerate(PHASES)
    }  # fmt: skip


def extrapolated(runs: Sequence[dict[str, Any]], images: int) -> dict[str, Any]:
    """Each phase by its own measured exponent, from the largest size that was measured."""
    largest = max(runs, key=lambda run: run["images"])
    growth = images / largest["images"]
    exponents = {phase: exponent(runs, phase) for phase in PHASES}
    seconds = {
        phase: largest["cpu_seconds"][phase] * growth ** exponents[phase] for phase in PHASES
    }
    sizes = [run["images"] for run in runs]
    slope, base = np.polyfit(sizes, [run["peak_mb"] for run in runs], 1)
    return {
        "images": images,
        "exponents": {phase: round(value, 2) for phase, value in exponents.items()},
        "cpu_seconds": {phase: short(value) for phase, value in seconds.items()},
        "total_cpu_minutes": short(sum(seconds.values()) / 60),
        "peak_gb": short((base + slope * images) / 1000),
        "most_gb": MOST_GB,
    }


def exponent(runs: Sequence[dict[str, Any]], phase: str) -> float:
    """By how much the logarithm of the time grows with that of the number."""
    points = [(run["images"], max(0.01, run["cpu_seconds"][phase])) for run in runs]
    if len(points) < 2:
        return 1.0
    slope, _ = np.polyfit(*np.log(np.array(points)).T, 1)
    return max(0.0, float(slope)) if math.isfinite(slope) else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit.scale", description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("weights", type=Path, nargs="?", default=WEIGHTS)
    asked = parser.parse_args()
    sys.stdout.write(json.dumps(one_audit(asked.photos, asked.weights)) + "\n")


if __name__ == "__main__":
    main()

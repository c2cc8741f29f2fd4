"""Measure training: speed from files and from memory, cost of records, CPU-seconds to a score.

python -m benchmarks.training            # all of it; the results are meant to be committed
python -m benchmarks.training --quick    # a few minutes; figures to look at
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.convergence import measure_convergence, run_threads
from benchmarks.keeping import StepClock, measure_keeping
from benchmarks.measure import circumstances, load_average
from benchmarks.report import write_page
from benchmarks.settings import Settings, described, open_job, prepare
from benchmarks.throughput import measure_throughput
from espalier.errors import EspalierError

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("throughput", "keeping", "convergence")
FORMAT = 1


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    asked = parse(words)
    settings = settings_of(asked)
    folder = asked.out or ROOT / ("runs/bench" if settings.quick else "benchmarks")
    try:
        with tempfile.TemporaryDirectory(prefix="espalier-bench-") as work:
            run(settings, asked.only or PARTS, words, folder, Path(work))
    except EspalierError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code
    print(f"the page: {os.path.relpath(write_page(folder))}")
    return 0


def run(
    settings: Settings, parts: Sequence[str], words: Sequence[str], folder: Path, work: Path
) -> None:
    """Measure the parts one after the other; each is written as soon as it is there."""
    prepared = prepare(settings, work)
    clock = StepClock()
    job = open_job(prepared, clock)
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "throughput": lambda: measure_throughput(settings, job),
        "keeping": lambda: measure_keeping(settings, job, clock, work / "curves.png"),
        "convergence": lambda: measure_convergence(settings, prepared.catalog, work),
    }
    about = described(settings, prepared)
    for part in parts:
        own = {**about, "threads": run_threads(settings)} if part == "convergence" else about
        started, before = time.perf_counter(), load_average()
        measured = measures[part]()
        record = {
            "format": FORMAT,
            "part": part,
            "command": shlex.join(["python", "-m", "benchmarks.training", *map(portable, words)]),
            "quick": settings.quick,
            **circumstances(),
            "load_average": {"before": before, "after": load_average()},
            "took_seconds": round(time.perf_counter() - started),
            "settings": own,
            "results": measured,
        }
        print(f"{part}: {os.path.relpath(write_result(folder / 'results', part, record))}")


def write_result(folder: Path, part: str, record: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{part}.json"
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def portable(word: str) -> str:
    """A word of the command line without the folders of this machine."""
    return Path(word).name if Path(word).is_absolute() else word


def parse(words: Sequence[str]) -> argparse.Namespace:
    shared = Path("..") / "shared"
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description="Measure training on photographs; paths are relative to the repository.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="minutes; one stage, few images and batches")
    add("--only", nargs="+", choices=PARTS, help="parts to measure")
    add("--data", default=str(shared / "datasets" / "plant_seedlings12"), help="photographs")
    add("--model", default="mobilenetv2_100", help="as in espalier train")
    add(
        "--weights",
        default=str(shared / "weights" / "mobilenetv2_100.timm.safetensors"),
        help="file, pretrained or none",
    )
    add("--imgsz", type=int, default=128, help="pixels")
    add("--preset", default="standard", help="recipe")
    add("--threads", type=int, help="of arithmetic; default: as chosen, but 1 in convergence")
    add("--workers", type=int, help="threads that read images; default: as chosen")
    add("--repeats", type=int, help="of each pair of timings; default: 3, quick 2")
    add("--runs", type=int, help="trainings to their end, one seed each; default: 3, quick 1")
    add("--out", type=Path, help="folder; default: benchmarks, quick runs/bench")
    return parser.parse_args(words)


def settings_of(asked: argparse.Namespace) -> Settings:
    return Settings(
        data=place(asked.data),
        weights=place(asked.weights),
        model=asked.model,
        imgsz=asked.imgsz,
        preset=asked.preset,
        threads=asked.threads,
        workers=asked.workers,
        repeats=asked.repeats or (2 if asked.quick else 3),
        runs=asked.runs or (1 if asked.quick else 3),
        quick=asked.quick,
    )


def place(word: str) -> str:
    """An existing path under the repository root as an absolute one; anything else as it is."""
    path = ROOT / word
    return str(path.resolve()) if path.exists() else word


if __name__ == "__main__":
    sys.exit(main())

"""Whole trainings as a person starts them: CPU-seconds to a score, peak memory, final scores.

The clock starts with the process: imports, reading the photographs and every choice count.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import short, spread
from benchmarks.settings import QUICK_IMAGES, Settings
from espalier import runs, usage
from espalier.records import Catalog
from espalier.runs import RunDir

# 0.889 and 0.911: what a hand-written loop and Ultralytics reach in short runs on the seedlings.
SCORES = (0.80, 0.889, 0.911)
LOOK_EVERY = 0.1


@dataclass
class Watched:
    """What was seen of a training process while it lived.

    Attributes:
        epochs: One entry per row of ``results.csv``, when the row appeared.
        ready: Seconds and CPU-seconds until the first step could begin.
        seconds: Until it ended.
        cpu_seconds: Of all its threads and children.
        peak_bytes: Largest resident memory.
    """

    epochs: list[dict[str, Any]]
    ready: dict[str, float] | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def measure_convergence(settings: Settings, catalog: Catalog, work: Path) -> dict[str, Any]:
    """One training per seed, each in a process of its own, and what they have in common."""
    if settings.quick:
        settings = replace(settings, data=some_of(catalog, settings.data, work))
    trainings = [train_once(settings, seed, work / f"seed{seed}") for seed in range(settings.runs)]
    return {"runs": trainings, **summed_up(trainings)}


def some_of(catalog: Catalog, source: str, work: Path) -> str:
    """A manifest of every so-manieth image; the source itself where it is small already."""
    step = math.ceil(len(catalog.in_split("train")) / QUICK_IMAGES)
    if step == 1:
        return source
    manifest = work / "some.csv"
    usage.write_manifest(replace(catalog, samples=catalog.samples[::step]), manifest)
    return str(manifest)


def train_once(settings: Settings, seed: int, work: Path) -> dict[str, Any]:
    """``espalier train`` with one seed.

    Raises:
        RuntimeError: The training failed; with the end of what it said.
    """
    work.mkdir(parents=True)
    with (work / "out").open("w+b") as out, (work / "err").open("w+b") as err:
        process = psutil.Popen(command(settings, seed, work), stdout=out, stderr=err)
        seen = watch(process, RunDir(work / "bench"))
        if process.returncode != 0:
            said = (work / "err").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"the training with seed {seed} failed:\n{said[-2000:]}")
    result = json.loads((work / "out").read_text(encoding="utf-8"))
    return {
        "seed": seed,
        "ended": result["ended"],
        "seconds": short(seen.seconds),
        "cpu_seconds": short(seen.cpu_seconds),
        "peak_mb": round(seen.peak_bytes / 1e6),
        "ready": seen.ready,
        "val": result["val"],
        "test": result["test"],
        "to_score": {f"{score:.3f}": first_above(score, seen.epochs) for score in SCORES},
        "epochs": seen.epochs,
    }


def command(settings: Settings, seed: int, work: Path) -> list[str]:
    """The words of the command line."""
    flags = settings.flags()
    words = ["train", flags.pop("source"), "--preset", settings.preset]
    for key, value in flags.items():
        words += [f"--{key}", str(value)]
    for value in settings.sets(run_threads(settings)):
        words += ["--set", value]
    if settings.run_epochs is not None:
        words += ["--epochs", str(settings.run_epochs)]
    words += ["--seed", str(seed), "--out", str(work), "--name", "bench", "--json"]
    return [sys.executable, "-c", "from espalier.cli import main; main()", *words]


def run_threads(settings: Settings) -> int:
    """One thread of arithmetic unless asked otherwise: more are faster but use more CPU-seconds."""
    return settings.threads or 1


def watch(process: psutil.Popen, run: RunDir) -> Watched:
    """Look at a training process until it ends."""
    started = time.perf_counter()
    seen = Watched([])
    while process.poll() is None:
        look(process, run, seen, started)
        time.sleep(LOOK_EVERY)
    return seen


def look(process: psutil.Popen, run: RunDir, seen: Watched, started: float) -> None:
    """Note its CPU time and memory, and the epochs that finished since the last look."""
    try:
        times = process.cpu_times()
        peak = peak_bytes(process)
    except psutil.Error:
        # It ended between two looks.
        return
    seen.seconds = time.perf_counter() - started
    seen.cpu_seconds = times.user + times.system + times.children_user + times.children_system
    seen.peak_bytes = max(seen.peak_bytes, peak)
    clock = {"seconds": short(seen.seconds), "cpu_seconds": short(seen.cpu_seconds)}
    # Written before the first step, so that a run can be resumed from there.
    if seen.ready is None and run.last.exists():
        seen.ready = clock
    for row in runs.read_results(run.results_file)[len(seen.epochs) :]:
        scores = {"val_accuracy": row.val_accuracy, "val_macro_f1": row.val_macro_f1}
        rounded = {name: round(value, 6) for name, value in scores.items()}
        seen.epochs.append({"epoch": row.epoch, "stage": row.stage, **clock, **rounded})


def peak_bytes(process: psutil.Process) -> int:
    """Largest resident memory so far: as the kernel keeps it, else as it is at this moment.

    Not ``ru_maxrss``: on Linux a child starts with that of its parent.
    """
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return process.memory_info().rss


def first_above(score: float, epochs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first epoch whose validation macro-F1 is as high; None if none was."""
    reached = (row for row in epochs if row["val_macro_f1"] >= score)
    row = next(reached, None)
    return row and {key: row[key] for key in ("epoch", "seconds", "cpu_seconds")}


def summed_up(trainings: list[dict[str, Any]]) -> dict[str, Any]:
    """Spreads over the seeds; a score counts only in the runs that reached it."""
    to_score = {}
    for score in trainings[0]["to_score"]:
        found = [run["to_score"][score] for run in trainings if run["to_score"][score]]
        to_score[score] = {
            "reached": len(found),
            "cpu_seconds": spread([row["cpu_seconds"] for row in found]) if found else None,
        }
    judged = [run["test"]["macro_f1"] for run in trainings if run["test"]]
    return {
        "cpu_seconds_to_val_macro_f1": to_score,
        "test_macro_f1": spread(judged) if judged else None,
        "peak_mb": spread([run["peak_mb"] for run in trainings]),
        "cpu_seconds": spread([run["cpu_seconds"] for run in trainings]),
        "seconds": spread([run["seconds"] for run in trainings]),
    }

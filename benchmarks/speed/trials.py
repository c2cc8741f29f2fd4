"""One contender on one data set with one seed: from its start to a record of how it went."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.speed.contenders import Contender, Trial, surroundings
from benchmarks.speed.followed import Followed
from benchmarks.speed.processes import Clock, Used, watch

ROOT = Path(__file__).resolve().parents[2]
Record = dict[str, Any]


def run_trial(contender: Contender, trial: Trial, seed: int) -> Record:
    """Train, and say what it took and what came of it; a failure is a record as well."""
    with tempfile.TemporaryDirectory(prefix="espalier-speed-") as place:
        folder = Path(place)
        followed = Followed(folder / "run")
        look = followed.look if contender.is_espalier else _nothing
        before = os.getloadavg()[0]
        words = contender.command(trial, seed, folder)
        used = watch(words, surroundings(folder), folder, look)
        record = {
            "contender": contender.name,
            "data": trial.data.name,
            "model": trial.model,
            "seed": seed,
            "load": [round(before, 2), round(os.getloadavg()[0], 2)],
        }
        if used.exit_code:
            said = (folder / "err").read_text("utf-8", errors="replace").strip()
            return {**record, "failed": hide(said[-1500:], folder)}
        result = (
            espalier_result(folder, used, followed)
            if contender.is_espalier
            else peer_result(folder, used)
        )
        # After so few batches a score would say nothing.
        unjudged = dict.fromkeys(("val_macro_f1", "test_macro_f1"))
        return {**record, **result, **(unjudged if trial.max_batches is not None else {})}


def _nothing(clock: Clock) -> None:
    """A peer keeps its own log."""


def hide(text: str, folder: Path) -> str:
    """Without the places of this machine."""
    for path in (str(folder), str(ROOT), str(ROOT.parent), str(Path.home())):
        text = text.replace(path, "...")
    return text


def espalier_result(folder: Path, used: Used, followed: Followed) -> Record:
    """From the run folder and what the command printed."""
    followed.look(used.clock)
    said = json.loads((folder / "out").read_text("utf-8"))
    return {
        **costs(used),
        "val_macro_f1": said["val"]["macro_f1"],
        "test_macro_f1": said["test"]["macro_f1"],
        "first_score": followed.first_score,
        "speed": speeds(followed.speed()),
        "epochs": followed.epochs,
    }


def peer_result(folder: Path, used: Used) -> Record:
    """From the peer's log; its test score is that of the epoch that validation likes best."""
    lines = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    *epochs, end = lines
    left_out = end["left_out"]
    clock = Clock(used.clock.cpu - left_out["cpu_seconds"], used.clock.wall - left_out["seconds"])
    best = max(epochs, key=lambda row: row["val_macro_f1"] or 0.0)
    kept = ("phase", "cpu_seconds", "seconds", "val_macro_f1", "test_macro_f1")
    return {
        **costs(replace(used, clock=clock)),
        "val_macro_f1": best["val_macro_f1"],
        "test_macro_f1": best["test_macro_f1"],
        "first_score": None,
        "speed": speeds(summed([row for row in epochs if row["phase"] == "full"])),
        "epochs": [{key: rounded(row[key]) for key in kept} for row in epochs],
    }


def costs(used: Used) -> Record:
    return {
        "cpu_seconds": round(used.clock.cpu, 2),
        "seconds": round(used.clock.wall, 2),
        "peak_mb": round(used.peak_bytes / 1e6),
    }


def summed(rows: list[Record]) -> Record:
    return {name: sum(row[name] for row in rows) for name in TRAINED}


TRAINED = ("images", "train_cpu_seconds", "train_seconds")


def speeds(trained: Record) -> Record | None:
    """Images per CPU-second and per second while everything trains; None where too few were seen.

    The first step of an epoch, which warms up, is no part of it, nor is validation.
    """
    images, cpu, wall = (trained[name] for name in TRAINED)
    if not images or cpu <= 0 or wall <= 0:
        return None
    return {"per_cpu_second": round(images / cpu, 2), "per_second": round(images / wall, 2)}


def rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def where_and_what() -> Record:
    """Hardware, versions, commit and time, looked up by another process.

    Asking needs torch, and a torch in this process would be shared with, and charged to nobody.
    """
    words = "import json; from benchmarks.measure import circumstances as c; print(json.dumps(c()))"
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=ROOT, check=True, capture_output=True, text=True
    )
    record: Record = json.loads(done.stdout.splitlines()[-1])
    return record

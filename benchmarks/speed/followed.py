"""What is seen of an Espalier training from outside: its epochs, its steps, its first score."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.processes import Clock
from espalier import runs
from espalier.runs import RunDir

Row = dict[str, Any]


@dataclass(frozen=True)
class Mark:
    """Where the clock stood when a row of ``steps.jsonl`` was first seen."""

    stage: str
    epoch: int
    step: int
    clock: Clock


class Followed:
    """A run folder that grows; ``look`` notes what is new in it."""

    def __init__(self, folder: Path) -> None:
        self.run = RunDir(folder)
        self.epochs: list[Row] = []
        self.marks: list[Mark] = []
        self.first_score: Row | None = None

    def look(self, clock: Clock) -> None:
        """Note the epochs, the steps and the baseline that came since the last look."""
        self.see_epochs(clock)
        self.see_steps(clock)
        self.see_baseline(clock)

    def see_epochs(self, clock: Clock) -> None:
        """Note the epochs that ended."""
        for row in runs.read_results(self.run.results_file)[len(self.epochs) :]:
            # The run's own count where it has one: it is exact, ours is up to one look late.
            own = getattr(row, "cpu_seconds", math.nan)
            self.epochs.append(
                {
                    "phase": row.stage,
                    "cpu_seconds": round(clock.cpu if math.isnan(own) else own, 3),
                    "seconds": round(clock.wall, 3),
                    "val_macro_f1": row.val_macro_f1,
                    "test_macro_f1": None,
                }
            )

    def see_steps(self, clock: Clock) -> None:
        """Note the newest step, once."""
        line = last_line(self.run.path / "diagnostics" / "steps.jsonl")
        if line is None:
            return
        mark = Mark(line["stage"], line["epoch"], line["step"], clock)
        if not self.marks or self.marks[-1].step != mark.step:
            self.marks.append(mark)

    def see_baseline(self, clock: Clock) -> None:
        """Note what a head on the frozen backbone scores, when it is first known."""
        path = self.run.path / "baseline.json"
        if self.first_score is None and path.exists():
            said = json.loads(path.read_text("utf-8"))
            self.first_score = {
                "cpu_seconds": round(clock.cpu, 3),
                "seconds": round(clock.wall, 3),
                "macro_f1": said["macro_f1"],
            }

    def speed(self) -> Row:
        """Images, CPU-seconds and seconds between the first and the last mark of an epoch.

        Summed over the epochs of the last stage, so that validation is no part of it.
        """
        batch = batch_of(self.run)
        total = {"images": 0, "train_cpu_seconds": 0.0, "train_seconds": 0.0}
        last = self.marks[-1].stage if self.marks else None
        for epoch in sorted({mark.epoch for mark in self.marks if mark.stage == last}):
            marks = [mark for mark in self.marks if mark.epoch == epoch]
            total["images"] += (marks[-1].step - marks[0].step) * batch
            total["train_cpu_seconds"] += marks[-1].clock.cpu - marks[0].clock.cpu
            total["train_seconds"] += marks[-1].clock.wall - marks[0].clock.wall
        return total


def batch_of(run: RunDir) -> int:
    """Images per step, as the run decided."""
    return int(run.recipe().training.batch)


def last_line(path: Path) -> Row | None:
    """The last whole line of a file that is being appended to; None where there is none yet."""
    try:
        whole, _, _ = path.read_text("utf-8").rpartition("\n")
    except OSError:
        return None
    if not whole:
        return None
    line: Row = json.loads(whole.rpartition("\n")[2])
    return line

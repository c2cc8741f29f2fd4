"""Runs that take a second: a small network, tiny pictures, everything decided beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from espalier import pipeline
from espalier.data.synthetic.tiny import write_tiny
from espalier.recipe.load import load_recipe
from espalier.recipe.schema import Recipe
from espalier.records import EpochRow, History
from espalier.train.job import Job
from espalier.train.state import State, stopper_for
from espalier.train.watch import Unwatched, Watch

# Nothing is left open, so that nothing is measured and every run is the same.
FIXED = (
    "model.name=small-cnn", "model.weights=none", "training.imgsz=32", "training.batch=4",
    "training.device=cpu", "training.precision=fp32", "training.threads=1",
    "training.channels_last=false", "data.workers=0", "augment.policy=none", "logging.curves=false",
    "features.keep=off", "features.precision=fp32", "features.baseline=false", "data.store=off",
    "training.grouped_fp32=false", "features.engine=eager", "adjustment.method=none",
)  # fmt: skip
HEAD_THEN_ALL = (
    "stages=[{name: head, train: head, epochs: 2, lr: 1e-2},"
    " {name: all, train: all, epochs: 2, lr: 5e-3}]"
)
ALL = "stages=[{name: all, train: all, epochs: 2, lr: 5e-3}]"


def uneven_photos(folder: Path) -> Path:
    """Three classes of 18, 12 and 6 pictures."""
    write_tiny(folder, classes=3, per_class=18, imgsz=36, seed=0)
    for number, kept in enumerate((18, 12, 6)):
        for picture in sorted((folder / f"class_{number}").iterdir())[kept:]:
            picture.unlink()
    return folder


def small_recipe(photos: Path, out: Path, *values: str, stages: str = HEAD_THEN_ALL) -> Recipe:
    """A recipe for them; ``values`` as behind ``--set``, over the fixed ones."""
    given = {text.partition("=")[0]: text for text in (*FIXED, stages, *values)}
    return load_recipe(
        preset="baseline", sets=list(given.values()), flags={"source": str(photos), "out": str(out)}
    )


def open_job(recipe: Recipe, watch: Watch | None = None) -> tuple[Job, State]:
    """A new run up to its first batch."""
    prepared = pipeline.prepare(recipe)
    model, report = pipeline.start_model(prepared)
    run = pipeline.open_run(prepared)
    job = pipeline.make_job(prepared, run, model, watch or Unwatched())
    pipeline.write_what_is_known(job, prepared, report)
    return job, State(stopper_for(job.stages[0], job.recipe.early_stopping))


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The model in a checkpoint."""
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return found


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two models are equal, bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def but_seconds(row: EpochRow) -> dict[str, Any]:
    """What of an epoch two equal runs have in common."""
    return {k: v for k, v in vars(row).items() if k not in ("seconds", "cpu_seconds")}


class Seen(Unwatched):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[str] = []
        self.steps: list[tuple[int, int]] = []
        self.rows: list[EpochRow] = []

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_stage(self, name: str, index: int, count: int, summary: str) -> None:
        self.stages.append(name)

    def on_step(self, done: int, total: int, loss: float | None) -> None:
        self.steps.append((done, total))

    def on_epoch(self, row: EpochRow, history: History) -> None:
        self.rows.append(row)

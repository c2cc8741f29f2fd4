"""What is measured, on which photographs, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier import pipeline
from espalier.pipeline import Prepared
from espalier.recipe.load import load_recipe
from espalier.recipe.schema import Stage
from espalier.train.job import Job
from espalier.train.session import Session, open_session
from espalier.train.state import State, stopper_for
from espalier.train.vitals import EVERY_STEP_UNTIL
from espalier.train.watch import Watch

QUICK_IMAGES = 600


@dataclass(frozen=True)
class Settings:
    """One benchmark, as asked for.

    Attributes:
        data: As ``espalier train`` takes it.
        weights: The same.
        model: The same.
        imgsz: Pixels across and down.
        preset: Recipe that everything else is laid over.
        threads: Of the arithmetic; None: what the recipe chooses.
        workers: Threads that read images; None: what the recipe chooses.
        repeats: Of each pair of timings.
        runs: Whole trainings, each with a seed of its own.
        quick: Fewer images, batches and epochs: figures to look at, not to publish.
    """

    data: str
    weights: str
    model: str
    imgsz: int
    preset: str
    threads: int | None
    workers: int | None
    repeats: int
    runs: int
    quick: bool

    @property
    def batches(self) -> int | None:
        """Batches of one timing; None: a whole epoch."""
        return 8 if self.quick else None

    @property
    def steps(self) -> int:
        """Steps over which measured and unmeasured ones alternate."""
        return 20 if self.quick else 80

    @property
    def run_epochs(self) -> int | None:
        """Epochs of a whole training; None: as the preset plans."""
        return 4 if self.quick else None

    def stages(self, job: Job) -> list[int]:
        """Indices of the stages to measure: the last one is the longest; none that is solved."""
        every = [index for index, stage in enumerate(job.stages) if not stage.solve]
        return every[-1:] if self.quick else every

    def flags(self) -> dict[str, Any]:
        """The values as the command line would give them."""
        given = {
            "source": self.data,
            "model": self.model,
            "weights": self.weights,
            "imgsz": str(self.imgsz),
            "workers": self.workers,
        }
        return {key: value for key, value in given.items() if value is not None}

    def sets(self, threads: int | None) -> list[str]:
        """The same for values without a flag."""
        return [] if threads is None else [f"training.threads={threads}"]


def prepare(settings: Settings, work: Path) -> Prepared:
    """Catalog and resolved recipe, as ``espalier train`` would have them."""
    recipe = load_recipe(
        preset=settings.preset,
        flags={**settings.flags(), "out": str(work)},
        sets=settings.sets(settings.threads),
    )
    return pipeline.prepare(recipe)


def open_job(prepared: Prepared, watch: Watch) -> Job:
    """A run folder and a model with its weights, ready for the training loop."""
    model, _ = pipeline.start_model(prepared)
    return pipeline.make_job(prepared, pipeline.open_run(prepared), model, watch)


def open_stage(job: Job, index: int) -> tuple[Session, State]:
    """One stage, past the first steps, which are all measured for ``steps.jsonl``."""
    stage = job.stages[index]
    state = State(stopper_for(stage, job.recipe.early_stopping), step=EVERY_STEP_UNTIL)
    state.begin_stage(index, state.stopper)
    return open_session(job, state), state


def planned(stage: Stage, session: Session) -> int:
    """Optimizer steps of a stage that is not stopped early; one where it is solved for."""
    return 1 if stage.solve else stage.epochs * session.steps_per_epoch


def described(settings: Settings, prepared: Prepared) -> dict[str, Any]:
    """The settings as a results file holds them: names, no places."""
    recipe, catalog = prepared.recipe, prepared.catalog
    training = recipe.training
    return {
        "data": Path(settings.data).name,
        "images": {s: sum(catalog.counts(s).values()) for s in ("train", "val", "test")},
        "preset": settings.preset,
        "model": recipe.model.name,
        "weights": Path(recipe.model.weights).name,
        "imgsz": settings.imgsz,
        "batch": training.batch,
        "precision": training.precision,
        "channels_last": training.channels_last,
        "threads": training.threads,
        "workers": recipe.data.workers,
    }

"""The plan of a run before it is made: data, stages, planned rates, and what it will cost."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espalier import runs
from espalier.data.store_choice import side_for
from espalier.evaluate.probe import SHRINKAGES
from espalier.models.build import build_model, model_facts
from espalier.models.grouped import keep_grouped_in_fp32
from espalier.preparation import Prepared, Progress, largest_imgsz, prepare
from espalier.recipe.schema import Recipe, Stage
from espalier.records import SPLITS, Catalog
from espalier.report.demo_curves import demo_curves
from espalier.report.schedule import draw_schedule
from espalier.runs import RunDir
from espalier.train.devices import open_fabric
from espalier.train.estimate import (
    StageEstimate,
    estimate_features,
    estimate_scores,
    estimate_stages,
    typical,
)
from espalier.train.job import Job
from espalier.train.schedules import StagePlan, planned_rates, stage_plan
from espalier.train.watch import Unwatched, Watch

FOLDS = 5


@dataclass(frozen=True)
class Plan:
    """What a recipe would do: data, stages, cost. Nothing was trained, no run folder made.

    Attributes:
        recipe: Resolved.
        catalog: The photographs, split.
        stages: One estimate each.
        baseline_seconds: Of the linear head on the frozen backbone, before the first stage.
        scores_seconds: Of pictures and final scores.
        picture: Where the planned learning rates were drawn.
        device: Its name.
    """

    recipe: Recipe
    catalog: Catalog
    stages: tuple[StageEstimate, ...]
    baseline_seconds: float
    scores_seconds: float
    picture: Path
    device: str

    @property
    def seconds(self) -> float:
        """Of everything, as estimated."""
        stages = sum(stage.seconds for stage in self.stages)
        return self.baseline_seconds + stages + self.scores_seconds

    def to_json(self) -> dict[str, Any]:
        """The object that ``train --dry-run --json`` prints."""
        return {
            "counts": {split: self.catalog.counts(split) for split in SPLITS},
            "unreadable": len(self.catalog.unreadable),
            "dropped": len(self.catalog.dropped),
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
            "baseline_seconds": round(self.baseline_seconds, 1),
            "scores_seconds": round(self.scores_seconds, 1),
            "seconds": round(self.seconds, 1),
            "picture": str(self.picture),
            "recipe": self.recipe.model_dump(mode="json"),
        }


def plan(
    recipe: Recipe,
    picture: Path,
    *,
    watch: Watch | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Decide everything, draw the planned learning rates, and time what each stage does."""
    watch = watch or Unwatched()
    prepared = prepare(recipe, note=watch.on_note, progress=progress)
    resolved = prepared.recipe
    job = imagined_job(prepared)
    estimates = estimate_stages(job)
    plans = [
        rate_plan(resolved, stage, estimate.steps // stage.epochs)
        for stage, estimate in zip(resolved.stages, estimates, strict=True)
    ]
    draw_schedule(planned_rates(plans), runs.stage_spans(resolved), picture)
    return Plan(
        resolved,
        prepared.catalog,
        tuple(estimates),
        baseline_seconds(job),
        estimate_scores(job) + pictures_seconds(resolved),
        picture,
        prepared.machine.device_name,
    )


def rate_plan(recipe: Recipe, stage: Stage, steps_per_epoch: int) -> StagePlan:
    """The rates of a stage; none where its head is solved for."""
    found = stage_plan(recipe, stage, steps_per_epoch)
    return dataclasses.replace(found, head_peak=0.0, backbone_peak=0.0) if stage.solve else found


def imagined_job(prepared: Prepared) -> Job:
    """A job as it would train, with made-up weights and a run folder that is never made."""
    recipe, catalog = prepared.recipe, prepared.catalog
    section = recipe.model.model_copy(update={"weights": "none"})
    model, _ = build_model(section, len(catalog.classes), imgsz=largest_imgsz(recipe))
    keep_grouped_in_fp32(model, recipe.training.grouped_fp32 is True)
    return Job(
        recipe,
        catalog,
        RunDir(Path(recipe.logging.out) / recipe.logging.name),
        model,
        np.ones(len(catalog.classes)),
        open_fabric(recipe),
        Unwatched(),
        side=side_for(recipe),
        store=prepared.store,
    )


def baseline_seconds(job: Job) -> float:
    """What the instant baseline will take; 0 where there is none."""
    if not job.recipe.features.baseline or job.recipe.model.weights == "none":
        return 0.0
    return estimate_features(job) + probe_seconds(
        len(job.train), model_facts(job.model.name).features
    )


def probe_seconds(images: int, features: int) -> float:
    """Of the cross-validation: sums of squares once, then a factorisation for every head.

    Heads without one fold, and without two for each choice of shrinkage.
    """
    width = min(images, features)
    rows = torch.randn(2 * width, width)
    gram = rows.T @ rows / len(rows) + torch.eye(width)
    pairs = FOLDS * (FOLDS - 1) // 2
    cpu = torch.device("cpu")
    heads = (pairs * len(SHRINKAGES) + FOLDS) * typical(lambda: torch.linalg.cholesky(gram), cpu)
    return heads + typical(lambda: rows.T @ rows, cpu) * images / len(rows)


def pictures_seconds(recipe: Recipe) -> float:
    """At most, of ``curves.png``, drawn after every epoch; timed on the example curves."""
    if not recipe.logging.curves:
        return 0.0
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        pictures = demo_curves(Path(folder))
        spent = time.perf_counter() - started
    return spent / len(pictures) * sum(stage.epochs for stage in recipe.stages)

"""The plan of a run before it is made: data, stages, planned rates, and what it will cost."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier import runs
from espalier.models.build import build_model
from espalier.pipeline import Progress, largest_imgsz, prepare
from espalier.recipe.schema import Recipe
from espalier.records import SPLITS, Catalog
from espalier.report.schedule import draw_schedule
from espalier.train.estimate import StageEstimate, estimate_stages
from espalier.train.schedules import planned_rates, stage_plan
from espalier.train.session import probe_size
from espalier.train.watch import Unwatched, Watch


@dataclass(frozen=True)
class Plan:
    """What a recipe would do: data, stages, cost. Nothing was trained, no run folder made."""

    recipe: Recipe
    catalog: Catalog
    stages: tuple[StageEstimate, ...]
    picture: Path
    device: str

    @property
    def seconds(self) -> float:
        """Of all stages, as estimated."""
        return sum(stage.seconds for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """The object that ``train --dry-run --json`` prints."""
        return {
            "counts": {split: self.catalog.counts(split) for split in SPLITS},
            "unreadable": len(self.catalog.unreadable),
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
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
    """Decide everything, draw the planned learning rates, and time two steps of each stage."""
    watch = watch or Unwatched()
    prepared = prepare(recipe, note=watch.on_note, progress=progress)
    resolved, catalog = prepared.recipe, prepared.catalog
    section = resolved.model.model_copy(update={"weights": "none"})
    model, _ = build_model(section, len(catalog.classes), imgsz=largest_imgsz(resolved))
    images = len(catalog.in_split("train"))
    estimates = estimate_stages(
        resolved,
        model,
        train_images=images,
        judged_images=len(catalog.in_split("val")) + probe_size(images),
    )
    plans = [
        stage_plan(resolved, stage, estimate.steps // stage.epochs)
        for stage, estimate in zip(resolved.stages, estimates, strict=True)
    ]
    draw_schedule(planned_rates(plans), runs.stage_spans(resolved), picture)
    return Plan(resolved, catalog, tuple(estimates), picture, prepared.machine.device_name)

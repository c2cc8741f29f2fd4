"""Learning rates as pure functions of the step: nothing to save, nothing to step twice.

A stage has steps 0 to T - 1. ``warmup_steps`` W of them rise in a straight line from
``warmup_start`` x peak at step 0 to the peak at step W; only then does the schedule begin, and at
step T - 1 cosine, warmup-cosine and one-cycle are at ``min_lr`` exactly. Every parameter group has
a peak of its own; ``min_lr`` is the same absolute rate for all, and never lifts a group above its
peak.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from espalier.errors import RecipeError
from espalier.recipe.schema import Recipe, Schedule, Stage

# The share of a cycle that rises, as in torch's OneCycleLR and fastai, where no warmup is given:
# without a rise it would be no cycle.
ONE_CYCLE_RISE = 0.3


@dataclass(frozen=True)
class StagePlan:
    """What the learning rates of one stage depend on.

    Attributes:
        name: Of the stage.
        epochs: Of the stage, as planned.
        steps_per_epoch: Optimizer steps.
        schedule: Its name.
        warmup_steps: Optimizer steps before the peak is reached.
        warmup_start: First rate of the warmup, as a share of the peak.
        min_lr: Lowest rate after the warmup, of every group.
        step_epochs: ``step``: epochs between drops, counted from the end of the warmup.
        gamma: ``step``, ``plateau``: the rate is multiplied by this at a drop.
        plateau_patience: ``plateau``: epochs in a row without gain that make a drop.
        head_peak: Peak rate of the head.
        backbone_peak: Highest peak rate of the backbone; 0 while it is frozen.

    Raises:
        RecipeError: The warmup is as long as the stage, or longer.
    """

    name: str
    epochs: int
    steps_per_epoch: int
    schedule: Schedule
    warmup_steps: int
    warmup_start: float
    min_lr: float
    step_epochs: int
    gamma: float
    plateau_patience: int
    head_peak: float
    backbone_peak: float

    def __post_init__(self) -> None:
        if self.warmup_steps >= self.steps:
            raise RecipeError(
                f"stage {self.name}: a warmup of {self.warmup_steps} optimizer steps leaves "
                f"nothing of the {self.steps} steps of the stage; it must be shorter",
                hint=f"schedule.warmup_epochs={self.epochs / 10:g}",
            )

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole stage."""
        return self.epochs * self.steps_per_epoch

    @property
    def rise(self) -> int:
        """Steps before the peak: the warmup, or what a cycle rises where there is none."""
        if self.schedule == "one-cycle" and self.warmup_steps == 0:
            return int(ONE_CYCLE_RISE * (self.steps - 1))
        return self.warmup_steps


class PlannedRate(NamedTuple):
    """The rates of one optimizer step; steps count from 0 over the run, epochs from 1."""

    step: int
    epoch: int
    head_rate: float
    backbone_rate: float


def stage_plan(recipe: Recipe, stage: Stage, steps_per_epoch: int) -> StagePlan:
    """The plan of one stage of a recipe; what the stage leaves open is the recipe's schedule.

    Raises:
        RecipeError: The warmup is as long as the stage, or longer.
    """
    section = recipe.schedule
    warmup = section.warmup_epochs if stage.warmup_epochs is None else stage.warmup_epochs
    backbone = stage.lr if stage.backbone_lr is None else stage.backbone_lr
    return StagePlan(
        name=stage.name,
        epochs=stage.epochs,
        steps_per_epoch=steps_per_epoch,
        schedule=stage.schedule or section.name,
        warmup_steps=round(warmup * steps_per_epoch),
        warmup_start=section.warmup_start,
        min_lr=section.min_lr,
        step_epochs=section.step_epochs,
        gamma=section.gamma,
        plateau_patience=section.plateau_patience,
        head_peak=stage.lr,
        backbone_peak=0.0 if stage.train == "head" else backbone,
    )


def rate(plan: StagePlan, peak: float, step: int, scores: Sequence[float] = ()) -> float:
    """The learning rate of a group with this peak at one step of a stage.

    The shapes are those of Goyal et al. 2017 (arXiv:1706.02677, linear warmup), Loshchilov and
    Hutter 2017 (arXiv:1608.03983, cosine without restarts) and Smith and Topin 2018
    (arXiv:1708.07120, one-cycle; both slopes are cosines as in torch, momentum stays as it is).

    Args:
        plan: Of the stage.
        peak: Per optimizer step; 0 for frozen parts gives 0.
        step: Optimizer step of the stage, from 0; beyond its end the last rate holds.
        scores: ``plateau``: one validation score per finished epoch of the stage, higher is
            better. Later ones than ``step`` could have seen are ignored.
    """
    rise = plan.rise
    if step < rise:
        return peak * _rising(plan, step / rise)
    floor = min(plan.min_lr, peak)
    if plan.schedule in ("warmup-cosine", "cosine", "one-cycle"):
        # A rise that ends at the last step leaves no step to fall in.
        progress = min(1.0, (step - rise) / max(1, plan.steps - 1 - rise))
        return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    return max(floor, peak * plan.gamma ** _drops(plan, step, scores))


def _rising(plan: StagePlan, progress: float) -> float:
    if plan.schedule == "one-cycle":
        progress = 0.5 * (1 - math.cos(math.pi * progress))
    return plan.warmup_start + (1 - plan.warmup_start) * progress


def _drops(plan: StagePlan, step: int, scores: Sequence[float]) -> int:
    if plan.schedule == "step":
        return (step - plan.rise) // (plan.step_epochs * plan.steps_per_epoch)
    if plan.schedule == "plateau":
        finished = step // plan.steps_per_epoch
        warm = plan.rise // plan.steps_per_epoch
        return plateau_drops(scores[warm:finished], plan.plateau_patience)
    return 0


def plateau_drops(scores: Sequence[float], patience: int) -> int:
    """How often a plateau has cut the rate after these epochs; higher scores are better.

    A cut comes after ``patience`` epochs in a row without gain, as early stopping counts them:
    torch's ReduceLROnPlateau waits one epoch more for the same number. NaN is no gain.
    """
    best, idle, drops = -math.inf, 0, 0
    for score in scores:
        if score > best:
            best, idle = score, 0
        else:
            idle += 1
        if idle >= patience:
            drops, idle = drops + 1, 0
    return drops


def planned_rates(plans: Sequence[StagePlan]) -> list[PlannedRate]:
    """The rates of every step of a run, as planned: no early stop, no gain missed on a plateau."""
    return list(_planned(plans))


def _planned(plans: Sequence[StagePlan]) -> Iterator[PlannedRate]:
    first_step, first_epoch = 0, 1
    for plan in plans:
        for step in range(plan.steps):
            yield PlannedRate(
                first_step + step,
                first_epoch + step // plan.steps_per_epoch,
                rate(plan, plan.head_peak, step),
                rate(plan, plan.backbone_peak, step),
            )
        first_step += plan.steps
        first_epoch += plan.epochs

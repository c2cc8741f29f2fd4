"""Why accuracy may stay low, from what is known before training: shape, counts, size, rate."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import cast

from espalier.checking.trial import Trial
from espalier.models.build import model_facts
from espalier.recipe.schema import Stage
from espalier.report.numbers import millions, rate_text
from espalier.train.session import batches_of

RARE = 50
UNEQUAL = 5.0
FEW_VALIDATION = 400
FROM_SCRATCH_IMAGES = 500
FINE_DETAIL, ENLARGED = 1.5, 0.75
MODEST_IMGSZ = 224
WIDE = 1.5
# By AdamW a weight moves by at most the rate in a step; weights of a backbone are about 0.05.
SHORT_PATH = 0.01
FAST_HEAD, FAST_BACKBONE = 1e-2, 2e-3
FEW_STEPS = 100


def suggest(trial: Trial) -> tuple[str, ...]:
    """Plain sentences with a figure and a value to try; none where nothing stands out."""
    return (*of_shape(trial), *of_counts(trial), *of_size(trial), *of_rate(trial))


def of_shape(trial: Trial) -> Iterator[str]:
    """What the photographs lose on their way to the square that is trained on."""
    sizes = [(s.width, s.height) for s in trial.job.train if s.width and s.height]
    if not sizes:
        return
    short = statistics.median(min(size) for size in sizes)
    aspect = statistics.median(max(size) / min(size) for size in sizes)
    imgsz = max(cast(int, stage.imgsz) for stage in trial.recipe.stages)
    if short >= FINE_DETAIL * imgsz and imgsz < MODEST_IMGSZ:
        yield (
            f"photographs have {short:g} px on their short side and are seen at {imgsz} px: "
            f"fine detail is lost (--imgsz {min(MODEST_IMGSZ, int(short) // 32 * 32)})"
        )
    if short < ENLARGED * imgsz:
        yield (
            f"photographs have {short:g} px on their short side and are enlarged to {imgsz} px: "
            "that costs time and shows nothing more"
        )
    if trial.recipe.data.fit == "crop" and aspect >= WIDE:
        yield (
            f"photographs are {aspect:.1f} times as long as wide: validation sees the central "
            f"{1 / aspect:.0%} of them (--fit pad)"
        )


def of_counts(trial: Trial) -> Iterator[str]:
    """Rare classes, unequal ones, and how much validation can tell."""
    counts = {name: count for name, count in trial.counts.items() if count}
    rare = [name for name, count in counts.items() if count < RARE]
    if rare:
        yield (
            f"{len(rare)} of {len(counts)} classes have fewer than {RARE} training images: "
            "more photographs of these help most"
        )
    ratio = max(counts.values()) / min(counts.values())
    if ratio >= UNEQUAL and not helped(trial):
        yield (
            f"classes are unequal, {ratio:.0f} : 1, and nothing in training answers it "
            "(--set class_weighting.strategy=sqrt, or loss.name=logit-adjusted; judge by macro-F1)"
        )
    judged = len(trial.job.catalog.in_split("val"))
    if judged == 0:
        yield "there are no validation images: no score of a run says anything about new ones"
    if 0 < judged < FEW_VALIDATION:
        yield (
            f"{judged} validation images know an accuracy to within about "
            f"{98 / math.sqrt(judged):.0f} points: smaller gains are noise"
        )


def helped(trial: Trial) -> bool:
    """Whether weights, a sampler or the loss answer unequal classes."""
    section, loss = trial.recipe.class_weighting, trial.recipe.loss.name
    weighted = section.strategy != "none" or section.sampler != "none"
    return weighted or loss in ("balanced-softmax", "logit-adjusted")


def of_size(trial: Trial) -> Iterator[str]:
    """The model against the number of images it learns from."""
    recipe, images = trial.recipe, len(trial.job.train)
    size = millions(sum(parameter.numel() for parameter in trial.job.model.parameters()))
    per_class = images / max(1, sum(count > 0 for count in trial.counts.values()))
    if recipe.model.weights == "none" and per_class < FROM_SCRATCH_IMAGES:
        ready = model_facts(recipe.model.name).has_pretrained
        what = "--weights pretrained" if ready else "--model mobilenetv3_small_100"
        yield (
            f"{size} parameters learn from scratch on {per_class:.0f} images a class: trained "
            f"weights are worth more than any other change ({what})"
        )
    if recipe.model.weights != "none" and all(s.train == "head" for s in recipe.stages):
        yield "only the head learns: let some of the backbone follow (--preset standard)"


def of_rate(trial: Trial) -> Iterator[str]:
    """Rates that are far from what is usual, and runs of few steps."""
    stages, optimizer = trial.recipe.stages, trial.recipe.optimizer.name
    steps = {stage.name: steps_of(trial, stage) for stage in stages}
    if sum(steps.values()) < FEW_STEPS:
        yield (
            f"{sum(steps.values())} optimizer steps in all are few (more epochs, or a smaller "
            "batch)"
        )
    if optimizer == "sgd":
        return
    head = max(stage.lr for stage in stages)
    if head > FAST_HEAD:
        yield f"{optimizer} with a rate of {rate_text(head)} is fast: 1e-3 is usual (lr=1e-3)"
    moving = [stage for stage in stages if stage.train != "head"]
    if trial.recipe.model.weights == "none" or not moving:
        return
    fastest = max(backbone_rate(stage) for stage in moving)
    if fastest > FAST_BACKBONE:
        yield (
            f"a backbone rate of {rate_text(fastest)} soon unlearns trained weights: 5e-4 or "
            "less is usual (stages.NAME.backbone_lr)"
        )
    path = sum(backbone_rate(stage) * steps[stage.name] for stage in moving)
    if path < SHORT_PATH:
        yield (
            f"the backbone hardly moves: rates of {rate_text(fastest)} and less for "
            f"{sum(steps[stage.name] for stage in moving)} steps (a higher lr, or more epochs)"
        )


def backbone_rate(stage: Stage) -> float:
    """Peak rate of the backbone in a stage."""
    return stage.lr if stage.backbone_lr is None else stage.backbone_lr


def steps_of(trial: Trial, stage: Stage) -> int:
    """Optimizer steps that a stage has at most."""
    accumulate = trial.recipe.training.accumulate
    return stage.epochs * math.ceil(batches_of(trial.job, stage) / accumulate)

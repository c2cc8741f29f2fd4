"""What a stage trains on: pixels, or what the frozen layers made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import psutil
from torch import Tensor, nn

from espalier import cache
from espalier.models.cut import Learning, cut_model
from espalier.models.frozen import FrozenLayers
from espalier.recipe.schema import Stage
from espalier.train.features import Batches, Widen
from espalier.train.job import Job
from espalier.train.keeping import Demand, Keeping, plan_keeping
from espalier.train.kept import Keeper, fixed_loader, frozen_layers, keep_backbone
from espalier.train.loaders import build_loaders, build_normalizer, by_size


@dataclass(frozen=True)
class Inputs:
    """A stage's batches, and the module that turns them into logits.

    Attributes:
        model: The whole network, or its learning part where ``keeping`` keeps features.
        normalizer: Between a batch and ``model``.
        train: Epoch of the stage, from 0 -> what it trains on.
        val: Validation images; those of the probe where there are none.
        probe: Some training images in their fixed view.
        keeping: Whether frozen layers run once, and why, or why not.
        before: Name of the first piece that learns; empty where the network is not cut.
    """

    model: nn.Module
    normalizer: nn.Module
    train: Callable[[int], Batches]
    val: Batches
    probe: Batches
    keeping: Keeping
    before: str


class CutClassifier(nn.Module):
    """Frozen layers run as fast as they can, then the layers that learn."""

    def __init__(self, frozen: FrozenLayers, learning: nn.Module) -> None:
        super().__init__()
        self.frozen = frozen
        self.learning = learning

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, H, W]."""
        logits: Tensor = self.learning(self.frozen(images))
        return logits


def open_inputs(job: Job, stage: Stage, *, views: int | None, pause: Callable[[], None]) -> Inputs:
    """Decide what of a stage is computed once, and build its loaders.

    Args:
        job: Its model must be in the stage's modes, with the stage's parameters thawed.
        stage: The stage.
        views: What was decided before, for a run that is taken up again; None: decide.
        pause: Called between batches while features are made; may raise.
    """
    if stage.solve:
        return solved_inputs(job, stage, pause)
    normalizer = build_normalizer(job.recipe).to(job.fabric.device)
    train, val, probe = build_loaders(job, stage)
    cut = cut_model(job.model)
    if cut is None:
        keeping = Keeping("off", 0, "all layers learn, or the model has no plain order of blocks")
        return Inputs(job.model, normalizer, by_size(job, stage), val, probe, keeping, "")
    frozen = frozen_layers(job, cut.frozen)
    keeping = decide(job, stage, frozen, views, len(val.samples) + len(probe.samples))
    if keeping.where == "off":
        model = CutClassifier(frozen, cut.learning)
        return Inputs(model, normalizer, by_size(job, stage), val, probe, keeping, cut.before)

    keeper = Keeper(job, cut.frozen, on_disk=keeping.where == "disk", pause=pause)
    features, kept_val, kept_probe = keeper(train, keeping.views), keeper(val, 0), keeper(probe, 0)
    return Inputs(
        cut.learning, Widen(), lambda _: features, kept_val, kept_probe, keeping, cut.before
    )


def solved_inputs(job: Job, stage: Stage, pause: Callable[[], None]) -> Inputs:
    """The pooled features of the backbone, which a head is solved on: one unaugmented view."""
    _, val, probe = build_loaders(job, stage)
    keeper = keep_backbone(job, pause)
    features = keeper(fixed_loader(job, stage), 0)
    where = "disk" if keeper.on_disk else "memory"
    keeping = Keeping(where, 1, "one unaugmented view of each image")
    head = Learning([], job.model.head)
    return Inputs(
        head, Widen(), lambda _: features, keeper(val, 0), keeper(probe, 0), keeping, "head"
    )


def decide(job: Job, stage: Stage, frozen: FrozenLayers, views: int | None, others: int) -> Keeping:
    """Whether the stage keeps features; as before where ``views`` says what was decided then."""
    section = job.recipe.features
    if views == 0:
        return Keeping("off", 0, "as when the run was started")
    if views is not None:
        section = section.model_copy(update={"views": views})
    keeping = plan_keeping(
        section,
        demand_of(job, stage, frozen, others),
        free_memory=psutil.virtual_memory().available,
        free_disk=cache.free_bytes(cache.cache_folder("features")),
    )
    if views is not None and keeping.where == "off":
        # Other views would make it another run than the one that is taken up.
        return Keeping("memory", views, f"as when the run was started, although {keeping.reason}")
    return keeping


def demand_of(job: Job, stage: Stage, frozen: FrozenLayers, others: int) -> Demand:
    """What keeping the features of a stage would take."""
    side = cast(int, stage.imgsz)
    shape = frozen.shape(side)
    width = 4 if job.recipe.features.stored == "fp32" else 2
    training, images = job.recipe.training, len(job.train)
    per_epoch = images
    if training.max_batches is not None:
        per_epoch = min(images, training.max_batches * cast(int, training.batch))
    obstacle = ""
    if job.recipe.augment.cutmix > 0:
        obstacle = "CutMix exchanges pixels, so the frozen layers run live"
    elif stage.imgsz_from is not None:
        obstacle = "the resolution rises within the stage, so the frozen layers run live"
    return Demand(
        images=images,
        other_images=others,
        image_bytes=width * int(np.prod(shape)),
        draws=per_epoch * stage.epochs,
        epochs=stage.epochs,
        obstacle=obstacle,
    )

"""What one stage trains with: its trainable parts, optimizer, loaders, loss and planned rates.

Built anew for every stage: a wrapper such as DDP fixes its parameter list when it wraps, and would
silently not synchronise layers that thaw later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import nn

from espalier.data.balance import drawn_counts, epoch_order
from espalier.data.loader import Loader, batch_count
from espalier.data.transforms import transform_for
from espalier.models.build import Classifier, set_image_size
from espalier.models.inference import Normalizer, judging_batch, memory_format
from espalier.models.stages import model_parts, parameter_groups, set_mode, set_trainable
from espalier.recipe.schema import Recipe, Stage
from espalier.records import Catalog, Sample, Split
from espalier.runs import RunDir
from espalier.train.losses import build_loss
from espalier.train.optimizers import build_optimizer
from espalier.train.schedules import StagePlan, stage_plan
from espalier.train.state import State
from espalier.train.vitals import Vitals
from espalier.train.watch import Watch

PROBE_IMAGES = 512
MIN_PROBE_IMAGES = 50


@dataclass(frozen=True)
class Job:
    """All that training needs and does not change, except for the model's own weights."""

    recipe: Recipe
    catalog: Catalog
    run: RunDir
    model: Classifier
    class_weights: npt.NDArray[np.float64]
    fabric: Fabric
    watch: Watch

    @property
    def train(self) -> tuple[Sample, ...]:
        """Training samples, in catalog order."""
        return self.catalog.in_split("train")

    @property
    def class_index(self) -> Mapping[str, int]:
        """Class name -> index."""
        return {name: index for index, name in enumerate(self.catalog.classes)}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the recipe."""
        return self.recipe.stages


@dataclass(frozen=True)
class Session:
    """One stage, ready to train."""

    stage: Stage
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: nn.Module
    train: Loader
    val: Loader
    probe: Loader
    labels: npt.NDArray[np.int64]
    normalizer: Normalizer
    vitals: Vitals
    plan: StagePlan
    batches_per_epoch: int
    steps_per_epoch: int


def open_session(job: Job, state: State) -> Session:
    """Thaw what the stage trains, and build everything around it."""
    recipe, stage = job.recipe, job.stages[state.stage_index]
    # The wrapper of the stage before must not be wrapped again, nor its gradients kept.
    job.model.zero_grad(set_to_none=True)
    set_image_size(job.model, cast(int, stage.imgsz))
    counts = set_trainable(job.model, stage)
    layout = memory_format(cast(bool, recipe.training.channels_last))
    job.model.to(job.fabric.device, memory_format=layout)  # type: ignore[call-overload]
    groups = parameter_groups(job.model, stage, recipe.optimizer.weight_decay)
    optimizer = build_optimizer(groups, recipe.optimizer)
    model, optimizer = job.fabric.setup(job.model, optimizer)
    train, val, probe = build_loaders(job, stage)
    batches = batch_count(len(job.train), cast(int, recipe.training.batch))
    if recipe.training.max_batches is not None:
        batches = min(batches, recipe.training.max_batches)
    steps_per_epoch = math.ceil(batches / recipe.training.accumulate)
    parts = {
        name: [tensor for tensor in tensors if tensor.requires_grad]
        for name, tensors in model_parts(job.model).items()
    }
    job.watch.on_stage(stage.name, state.stage_index, len(job.stages), str(counts))
    return Session(
        stage=stage,
        model=model,
        optimizer=cast(torch.optim.Optimizer, optimizer),
        loss=build_loss(
            recipe.loss,
            class_weights=job.class_weights,
            class_counts=drawn_counts(
                list(job.catalog.counts("train").values()), recipe.class_weighting.sampler
            ),
        ).to(job.fabric.device),
        train=train,
        val=val,
        probe=probe,
        labels=np.array([job.class_index[cast(str, s.label)] for s in job.train], dtype=np.int64),
        normalizer=build_normalizer(recipe).to(job.fabric.device),
        vitals=Vitals(parts, recipe.logging.step_every),
        plan=stage_plan(recipe, stage, steps_per_epoch),
        batches_per_epoch=batches,
        steps_per_epoch=steps_per_epoch,
    )


def build_normalizer(recipe: Recipe) -> Normalizer:
    """The normalisation of a resolved recipe."""
    return Normalizer(
        cast(Sequence[float], recipe.data.mean), cast(Sequence[float], recipe.data.std)
    )


def build_loaders(job: Job, stage: Stage) -> tuple[Loader, Loader, Loader]:
    """Loaders of training, validation and the clean-train probe at the stage's resolution."""
    imgsz = cast(int, stage.imgsz)

    def loader(samples: Sequence[Sample], split: Split, batch: int) -> Loader:
        return Loader(
            samples,
            job.class_index,
            transform_for(split, job.recipe, imgsz),
            batch=batch,
            workers=cast(int, job.recipe.data.workers),
            seed=job.recipe.training.seed,
        )

    probe = probe_samples(job)
    return (
        loader(job.train, "train", cast(int, job.recipe.training.batch)),
        loader(job.catalog.in_split("val") or probe, "val", judging_batch(imgsz)),
        loader(probe, "val", judging_batch(imgsz)),
    )


def probe_samples(job: Job) -> tuple[Sample, ...]:
    """Up to 512 fixed training images, but no more than an eighth of a large training set.

    Seen in evaluation mode with the validation transform, they separate overfitting from what
    augmentation, dropout and label smoothing do to the training curve.
    """
    samples = job.train
    count = probe_size(len(samples))
    chosen = np.random.default_rng(job.recipe.training.seed).permutation(len(samples))[:count]
    return tuple(samples[index] for index in sorted(chosen))


def probe_size(images: int) -> int:
    """How many of so many training images the probe looks at."""
    return min(images, max(MIN_PROBE_IMAGES, min(PROBE_IMAGES, images // 8)))


def batch_order(job: Job, session: Session, epoch: int) -> npt.NDArray[np.int64]:
    """The order of the samples in one epoch; depends on seed and epoch alone."""
    return epoch_order(
        session.labels,
        job.recipe.class_weighting.sampler,
        seed=job.recipe.training.seed,
        epoch=epoch,
    )


def enter_training_mode(job: Job, session: Session) -> None:
    """Training mode where parts train; frozen parts, BatchNorm above all, stay in evaluation."""
    session.model.train()
    set_mode(job.model, session.stage)

"""What one stage trains with: its trainable parts, optimizer, loaders, loss and planned rates.

Built anew for every stage: a wrapper such as DDP fixes its parameter list when it wraps, and would
silently not synchronise layers that thaw later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from espalier.data.balance import drawn_counts, epoch_order
from espalier.data.loader import batch_count
from espalier.models.build import set_image_size
from espalier.models.inference import memory_format
from espalier.models.stages import model_parts, parameter_groups, set_mode, set_trainable
from espalier.recipe.schema import Stage
from espalier.train.decisions import record_keeping
from espalier.train.features import Batches
from espalier.train.inputs import Inputs, open_inputs
from espalier.train.job import Job
from espalier.train.loaders import rendering
from espalier.train.losses import build_loss
from espalier.train.optimizers import build_optimizer
from espalier.train.schedules import StagePlan, stage_plan
from espalier.train.state import State
from espalier.vitals.steps import StepGauge


@dataclass(frozen=True)
class Session:
    """One stage, ready to train.

    Attributes:
        stage: The stage.
        model: What is trained, as Fabric wraps it.
        judged: The same without the wrapper.
        train: Epoch of the stage, from 0 -> what it trains on.
        normalizer: Between a batch and the model.
    """

    stage: Stage
    model: nn.Module
    judged: nn.Module
    optimizer: torch.optim.Optimizer
    loss: nn.Module
    train: Callable[[int], Batches]
    val: Batches
    probe: Batches
    labels: npt.NDArray[np.int64]
    normalizer: nn.Module
    vitals: StepGauge
    plan: StagePlan
    batches_per_epoch: int
    steps_per_epoch: int


def go_on() -> None:
    """Nothing asks for a stop."""


def open_session(job: Job, state: State, pause: Callable[[], None] = go_on) -> Session:
    """Thaw what the stage trains, and build everything around it.

    Args:
        job: What trains.
        state: Where the run stands; what is decided about kept features goes into it.
        pause: Called between batches where frozen layers run ahead of training; may raise.
    """
    recipe, stage = job.recipe, job.stages[state.stage_index]
    # The wrapper of the stage before must not be wrapped again, nor its gradients kept.
    job.model.zero_grad(set_to_none=True)
    set_image_size(job.model, cast(int, stage.imgsz))
    counts = set_trainable(job.model, stage)
    layout = memory_format(cast(bool, recipe.training.channels_last))
    job.model.to(job.fabric.device, memory_format=layout)  # type: ignore[call-overload]
    groups = parameter_groups(job.model, stage, recipe.optimizer.weight_decay)
    optimizer = build_optimizer(groups, recipe.optimizer)
    job.model.train()
    set_mode(job.model, stage)
    job.watch.on_stage(stage.name, state.stage_index, len(job.stages), str(counts))
    inputs = open_inputs(job, stage, views=state.views, pause=pause)
    if state.views is None:
        note_keeping(job, inputs)
        if words := rendering(job, stage):
            job.watch.on_note(words)
    if state.views != 0:
        # Taken up again, a stage that keeps nothing has no other reason than it had.
        record_keeping(job, stage.name, inputs.keeping)
    state.views = inputs.keeping.views
    model, optimizer = job.fabric.setup(inputs.model, optimizer)
    batches = batches_of(job, stage)
    steps_per_epoch = math.ceil(batches / recipe.training.accumulate)
    parts = {
        name: [tensor for tensor in tensors if tensor.requires_grad]
        for name, tensors in model_parts(job.model).items()
    }
    return Session(
        stage=stage,
        model=model,
        judged=inputs.model,
        optimizer=cast(torch.optim.Optimizer, optimizer),
        loss=build_loss(
            recipe.loss,
            class_weights=job.class_weights,
            class_counts=drawn_counts(
                list(job.catalog.counts("train").values()), recipe.class_weighting.sampler
            ),
        ).to(job.fabric.device),
        train=inputs.train,
        val=inputs.val,
        probe=inputs.probe,
        labels=np.array([job.class_index[cast(str, s.label)] for s in job.train], dtype=np.int64),
        normalizer=inputs.normalizer,
        vitals=StepGauge(parts, recipe.logging.step_every),
        plan=stage_plan(recipe, stage, steps_per_epoch),
        batches_per_epoch=batches,
        steps_per_epoch=steps_per_epoch,
    )


def batches_of(job: Job, stage: Stage) -> int:
    """Micro-batches of an epoch; a stage that is solved has one step, over everything."""
    training = job.recipe.training
    batches = 1 if stage.solve else batch_count(len(job.train), cast(int, training.batch))
    return min(batches, training.max_batches or batches)


def note_keeping(job: Job, inputs: Inputs) -> None:
    """Say whether frozen layers run once, where that was a question."""
    if not inputs.before:
        return
    what = "the backbone" if inputs.before == "head" else f"what lies before {inputs.before}"
    if inputs.keeping.where == "off":
        job.watch.on_note(f"{what} is frozen and runs live: {inputs.keeping.reason}")
    else:
        job.watch.on_note(f"{what} is frozen and runs once: {inputs.keeping.reason}")


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

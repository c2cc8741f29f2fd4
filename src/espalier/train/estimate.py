"""How long a recipe will take here, by timing two steps of each stage on made-up pixels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch

from espalier.data.loader import batch_count
from espalier.models.build import Classifier, set_image_size
from espalier.models.inference import autocast, keep_freed_memory, memory_format
from espalier.models.stages import set_mode, set_trainable
from espalier.recipe.schema import Recipe, Stage

REPEATS = 2


@dataclass(frozen=True)
class StageEstimate:
    """What one stage will do and how long that should take.

    Attributes:
        name: Of the stage.
        epochs: As planned; early stopping may make them fewer.
        steps: Optimizer steps in all.
        imgsz: Pixels across and down.
        trainable: Parameters that learn.
        frozen: Parameters that do not.
        lr: Peak rate of the head.
        backbone_lr: Peak rate of the backbone.
        seconds: Training, validation and probe, without reading photographs.
    """

    name: str
    epochs: int
    steps: int
    imgsz: int
    trainable: int
    frozen: int
    lr: float
    backbone_lr: float
    seconds: float


def estimate_stages(
    recipe: Recipe, model: Classifier, *, train_images: int, judged_images: int
) -> list[StageEstimate]:
    """One estimate per stage; the model's BatchNorm statistics are spoiled by the timing.

    Args:
        recipe: Resolved.
        model: On any device; moved to the recipe's.
        train_images: Images of the training split.
        judged_images: Images of validation and of the probe together.
    """
    keep_freed_memory()
    torch.set_num_threads(cast(int, recipe.training.threads))
    batch = min(cast(int, recipe.training.batch), train_images)
    batches = batch_count(train_images, batch)
    if recipe.training.max_batches is not None:
        batches = min(batches, recipe.training.max_batches)
    found = []
    for stage in recipe.stages:
        # As in training, before anything is thawed: other sizes can mean other parameters.
        set_image_size(model, cast(int, stage.imgsz))
        counts = set_trainable(model, stage)
        step, look = seconds_per_image(recipe, model, stage, batch)
        per_epoch = min(train_images, batches * batch) * step + judged_images * look
        found.append(
            StageEstimate(
                name=stage.name,
                epochs=stage.epochs,
                steps=math.ceil(batches / recipe.training.accumulate) * stage.epochs,
                imgsz=cast(int, stage.imgsz),
                trainable=counts.trainable,
                frozen=counts.frozen,
                lr=stage.lr,
                backbone_lr=cast(float, stage.backbone_lr) if counts.blocks else 0.0,
                seconds=stage.epochs * per_epoch,
            )
        )
    return found


def seconds_per_image(
    recipe: Recipe, model: Classifier, stage: Stage, batch: int
) -> tuple[float, float]:
    """Seconds per image of a training step, and of a look in evaluation."""
    device = torch.device(recipe.training.device)
    layout = memory_format(cast(bool, recipe.training.channels_last))
    side = cast(int, stage.imgsz)
    model.to(device, memory_format=layout)  # type: ignore[call-overload]
    images = torch.randn(batch, 3, side, side, device=device).contiguous(memory_format=layout)
    model.train()
    set_mode(model, stage)

    def step() -> None:
        with autocast(device, recipe.training.precision):
            loss = model(images).float().square().mean()
        loss.backward()
        model.zero_grad(set_to_none=True)

    def look() -> None:
        with torch.inference_mode(), autocast(device, recipe.training.precision):
            model(images)

    training = fastest(step, device)
    model.eval()
    return training / batch, fastest(look, device) / batch


def fastest(work: Callable[[], None], device: torch.device) -> float:
    """The shortest of a few timings, after one that does not count."""
    best = math.inf
    for repeat in range(REPEATS + 1):
        started = time.perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        spent = time.perf_counter() - started
        if repeat > 0:
            best = min(best, spent)
    return best

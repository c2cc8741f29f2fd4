"""The loaders of a stage: training at its resolution, validation and the probe at the test's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch

from espalier.data.augment_device import DeviceAugment
from espalier.data.loader import Loader
from espalier.data.transforms import EvalTransform, TrainTransform, transform_for
from espalier.models.inference import Normalizer, judging_batch
from espalier.recipe.schema import Recipe, Stage
from espalier.records import Sample, Split
from espalier.train.job import Job

PROBE_IMAGES = 512
MIN_PROBE_IMAGES = 50
# Resolutions that rise within a stage do so in steps that every usual backbone accepts.
SIZE_STEP = 32
# Kinds of devices that render the training views of a batch better than threads of the host do.
RENDERING = ("cuda",)


def by_size(job: Job, stage: Stage) -> Callable[[int], Loader]:
    """The training loader of each epoch of a stage, at the resolution of that epoch."""
    loaders: dict[int, Loader] = {}

    def loader(stage_epoch: int) -> Loader:
        size = epoch_imgsz(stage, stage_epoch)
        if size not in loaders:
            loaders[size] = build_loaders(job, stage.model_copy(update={"imgsz": size}))[0]
        return loaders[size]

    return loader


def epoch_imgsz(stage: Stage, stage_epoch: int) -> int:
    """Pixels in one epoch of a stage: from ``imgsz_from`` in the first to ``imgsz`` in the last."""
    last = cast(int, stage.imgsz)
    if stage.imgsz_from is None or stage_epoch >= stage.epochs - 1:
        return last
    share = stage_epoch / (stage.epochs - 1)
    size = stage.imgsz_from + share * (last - stage.imgsz_from)
    return min(last, max(stage.imgsz_from, round(size / SIZE_STEP) * SIZE_STEP))


def build_normalizer(recipe: Recipe) -> Normalizer:
    """The normalisation of a resolved recipe."""
    return Normalizer(
        cast(Sequence[float], recipe.data.mean), cast(Sequence[float], recipe.data.std)
    )


def judged_imgsz(recipe: Recipe, stage: Stage) -> int:
    """Pixels at which a stage is judged."""
    return recipe.training.test_imgsz or cast(int, stage.imgsz)


def build_loaders(job: Job, stage: Stage) -> tuple[Loader, Loader, Loader]:
    """Loaders of training at the stage's resolution; of validation and the probe at the test's."""
    judged = judged_imgsz(job.recipe, stage)
    probe = probe_samples(job)
    return (
        build_loader(
            job, job.train, "train", cast(int, stage.imgsz), cast(int, job.recipe.training.batch)
        ),
        build_loader(
            job, job.catalog.in_split("val") or probe, "val", judged, judging_batch(judged)
        ),
        build_loader(job, probe, "val", judged, judging_batch(judged)),
    )


def build_loader(
    job: Job, samples: Sequence[Sample], split: Split, imgsz: int, batch: int
) -> Loader:
    """A loader of the job's photographs, seen as a split sees them."""
    transform = transform_for(split, job.recipe, imgsz)
    return Loader(
        samples,
        job.class_index,
        transform,
        batch=batch,
        workers=cast(int, job.recipe.data.workers),
        seed=job.recipe.training.seed,
        store=job.store,
        side=job.side,
        augment=device_augment(transform, job.fabric.device),
    )


def device_augment(
    transform: TrainTransform | EvalTransform, device: torch.device
) -> DeviceAugment | None:
    """What renders the views of a transform on the device that trains; None: threads make them.

    Training views, on a device made for it, of a policy all of whose steps take a batch. The fixed
    view of validation is the same in every run, whatever it computes on.
    """
    if not isinstance(transform, TrainTransform) or device.type not in RENDERING:
        return None
    return None if transform.one_by_one else DeviceAugment(transform, device)


def rendering(job: Job, stage: Stage) -> str:
    """Where the training views of a stage are made, for the log; empty where only threads can."""
    device = job.fabric.device
    if device.type not in RENDERING or stage.solve:
        return ""
    transform = cast(TrainTransform, transform_for("train", job.recipe, cast(int, stage.imgsz)))
    if transform.one_by_one:
        return f"training views are made on the CPU: {transform.one_by_one} takes one at a time"
    return f"training views are rendered on {device}, a batch at a time"


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

"""What training and validation images are when they reach the network, looked at once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from espalier.data.loader import Loader
from espalier.errors import DataError
from espalier.models.inference import Normalizer
from espalier.recipe.schema import Stage
from espalier.records import Sample
from espalier.run_record import DataFacts, SplitPixels
from espalier.train.job import Job
from espalier.train.loaders import build_loaders, build_normalizer
from espalier.vitals.pixels import (
    DRAWS,
    PIXEL_IMAGES,
    REDRAWN_IMAGES,
    split_pixels,
    spread_positions,
)


def data_facts(job: Job) -> DataFacts:
    """Up to 256 images of both splits as the loaders of training give them, and exact copies."""
    val_samples = job.catalog.in_split("val")
    train, val, _ = build_loaders(job, first_stepped(job))
    normalizer = build_normalizer(job.recipe)
    known = Counter(sample.content for sample in job.train)
    return DataFacts(
        train=pixels(train, normalizer),
        val=pixels(val, normalizer) if val_samples else None,
        overlap=shared(known, val_samples),
        val_images=len(val_samples),
        train_copies=sum(known.values()) - len(known),
        train_images=len(job.train),
    )


def first_stepped(job: Job) -> Stage:
    """The first stage that draws views of its images; where all are solved for, the first."""
    return next((stage for stage in job.stages if not stage.solve), job.stages[0])


def shared(known: Counter[str], samples: tuple[Sample, ...]) -> int:
    """How many samples have the bytes of a training image."""
    return sum(sample.content in known for sample in samples)


def pixels(loader: Loader, normalizer: Normalizer) -> SplitPixels | None:
    """Images of a loader as one epoch draws them; None where one cannot be read."""

    def seen(images: Tensor) -> Tensor:
        normalised: Tensor = normalizer(images.cpu())
        return normalised

    few = np.array(spread_positions(len(loader.samples), REDRAWN_IMAGES), dtype=np.int64)
    many = np.array(spread_positions(len(loader.samples), PIXEL_IMAGES), dtype=np.int64)
    try:
        draws = [
            torch.cat([batch.images for batch in loader.epoch(few, epoch)])
            for epoch in range(DRAWS)
        ]
        batches = (batch.images for batch in loader.epoch(many, 0))
        return split_pixels(batches, draws, seen=seen, raw=lambda images: images.cpu() / 255)
    except DataError:
        # Training will say which one, when it comes to it.
        return None
